//! Registries that lie, and that never end: one clear error, no file, little memory.

use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::artifact::{Artifact, REPOSITORY, TAG, log_in, module, sha256};
use crate::support::peak;
use crate::support::registry::{Auth, Fault, Lifetime, Options, Registry, RequestInfo, Tls};
use crate::support::tool::{Place, Run};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// In KiB: what the program itself takes, and a little more.
const MOST_MEMORY: u64 = 160 << 10;

/// Exit code 6, one error, nothing written, no time and no memory lost.
#[track_caller]
fn refuses(place: &Place, command: &mut Command, what: &str) -> Run {
    let before = place.files();
    let started = Instant::now();
    let (done, peak) = peak::run(command);
    let time = started.elapsed();
    let Run {
        code,
        stdout,
        stderr,
    } = &done;
    assert_eq!(*code, 6, "{what}: {stdout}{stderr}");
    assert_eq!(stdout, "", "{what}");
    let errors = stderr.lines().filter(|l| l.starts_with("error")).count();
    assert_eq!(errors, 1, "{what}: {stderr}");
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
    assert!(stderr.len() < 4000, "{what}: {stderr}");
    assert!(!stderr.contains('\x1b'), "{what}: {stderr:?}");
    assert_eq!(place.files(), before, "{what}");
    assert!(time < Duration::from_secs(30), "{what}: {time:?}");
    assert!(peak < MOST_MEMORY, "{what}: {peak} KiB");
    done
}

/// A registry that holds the artifact.
fn holding(artifact: &Artifact, options: Options) -> Registry {
    let registry = Registry::with(options);
    artifact.publish(&registry.host(), &[]).exits(0);
    registry
}

/// Spoils each answer to such a request.
fn spoil(
    registry: &Registry,
    which: impl Fn(&RequestInfo) -> bool + Send + Sync + 'static,
    fault: Fault,
) {
    registry.fault(move |request| which(request).then(|| fault.clone()));
}

fn nested() -> Vec<u8> {
    let mut text = String::from(r#"{"schemaVersion":2,"manifests":[],"token":"x","errors":"#);
    text += &"[".repeat(10_000);
    text += &"]".repeat(10_000);
    text.push('}');
    text.into_bytes()
}

/// Puts a manifest with one layer there, as it is.
fn put(registry: &Registry, config: &[u8], layer_type: &str, layer: &[u8]) -> Value {
    let config_digest = registry.put_blob(REPOSITORY, config);
    let layer_digest = registry.put_blob(REPOSITORY, layer);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.wasm.config.v0+json",
            "digest": config_digest,
            "size": config.len(),
        },
        "layers": [{"mediaType": layer_type, "digest": layer_digest, "size": layer.len()}],
    });
    put_manifest(registry, &manifest);
    manifest
}

fn put_manifest(registry: &Registry, manifest: &Value) {
    registry.put_manifest(REPOSITORY, TAG, MANIFEST, manifest.to_string());
}

#[test]
fn manifests_that_are_not_what_they_should_be() {
    let artifact = Artifact::new(100_000);
    let registry = holding(&artifact, Options::default());
    let mut other: Value =
        serde_json::from_slice(&registry.manifest(REPOSITORY, TAG).unwrap()).unwrap();
    other["annotations"]["more"] = json!("than before");
    let host = registry.host();
    for (what, fault) in [
        (
            "another manifest",
            Fault::Body(other.to_string().into_bytes()),
        ),
        ("100 MB", Fault::Body(vec![b' '; 100 << 20])),
        ("no end", Fault::Endless),
        ("nested", Fault::Body(nested())),
        ("no JSON", Fault::Body(b"<html>\x1b[2J</html>".to_vec())),
        ("nothing", Fault::Body(Vec::new())),
        ("always cut", Fault::Truncate(20)),
        (
            "no HTTP",
            Fault::Raw(b"\x16\x03\x01 nonsense\r\n\r\n".to_vec()),
        ),
        (
            "many headers",
            Fault::Raw([b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(100_000)].concat()),
        ),
    ] {
        spoil(&registry, |r| r.path.contains("/manifests/"), fault);
        for version in [format!(":{TAG}"), format!("@{}", artifact.digest)] {
            let reference = format!("{host}/{REPOSITORY}{version}");
            let args = ["pull", &reference, "-o", "out.wasm"];
            let what = format!("{what} at {version}");
            refuses(&artifact.place, &mut artifact.place.command(args), &what);
            let mut inspect = artifact.place.command(["inspect", &reference]);
            refuses(&artifact.place, &mut inspect, &what);
        }
    }
}

#[test]
fn blobs_that_are_not_what_they_should_be() {
    let artifact = Artifact::new(100_000);
    let registry = holding(&artifact, Options::default());
    let host = registry.host();
    let layer = sha256(&artifact.wasm);
    let mut same_length = artifact.wasm.clone();
    *same_length.last_mut().unwrap() ^= 1;
    let longer = [&artifact.wasm[..], b"x"].concat();
    let shorter = artifact.wasm[1..].to_vec();
    for (what, bytes) in [
        ("the same length", same_length),
        ("longer", longer),
        ("shorter", shorter),
        ("empty", Vec::new()),
    ] {
        registry.put_blob_as(REPOSITORY, &layer, bytes);
        refuses(&artifact.place, &mut artifact.pull_command(&host), what);
    }
    registry.put_blob_as(REPOSITORY, &layer, artifact.wasm.clone());
    for (what, fault) in [
        ("no end", Fault::Endless),
        ("always cut", Fault::Truncate(0)),
        ("crumbs", Fault::Truncate(1000)),
        ("gone", Fault::status(404)),
        ("forbidden", Fault::status(403)),
    ] {
        let path = format!("/blobs/{layer}");
        spoil(&registry, move |r| r.path.ends_with(&path), fault);
        refuses(&artifact.place, &mut artifact.pull_command(&host), what);
    }
    registry.heal();
    artifact.pull(&host).exits(0);
}

#[test]
fn manifests_that_lie_about_blobs() {
    let registry = Registry::start();
    let place = Place::new();
    let wasm = module(1000, 1);
    let reference = registry.reference(&format!("{REPOSITORY}:{TAG}"));
    let right = put(&registry, b"{}", "application/wasm", &wasm);
    let pull = || place.command(["pull", &reference, "-o", "out.wasm"]);
    for (what, path, value) in [
        ("5 TB", "/layers/0/size", json!(5_u64 << 40)),
        ("below nothing", "/layers/0/size", json!(-1)),
        ("one byte less", "/layers/0/size", json!(wasm.len() - 1)),
        ("one byte more", "/layers/0/size", json!(wasm.len() + 1)),
        (
            "no digest",
            "/layers/0/digest",
            json!("sha256:../../../../etc/passwd"),
        ),
        (
            "a weak digest",
            "/layers/0/digest",
            json!("md5:d41d8cd98f00b204e9800998ecf8427e"),
        ),
        ("no layers", "/layers", json!([])),
        ("layers of another kind", "/layers", json!({"0": 1})),
        ("a config of 5 TB", "/config/size", json!(5_u64 << 40)),
        ("a future schema", "/schemaVersion", json!(3)),
    ] {
        let mut wrong = right.clone();
        *wrong.pointer_mut(path).unwrap() = value;
        put_manifest(&registry, &wrong);
        // An unread config may be anything.
        if path.starts_with("/config") {
            let done = crate::support::tool::run(&mut pull());
            assert!(matches!(done.code, 0 | 6), "{what}: {}", done.stderr);
            let _ = std::fs::remove_file(place.join("out.wasm"));
        } else {
            refuses(&place, &mut pull(), what);
        }
    }
    let deep = put(&registry, &nested(), "application/wasm", &wasm);
    put_manifest(&registry, &deep);
    let done = crate::support::tool::run(&mut place.command(["inspect", &reference]));
    assert!(matches!(done.code, 0 | 6), "{}", done.stderr);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
}

/// A tar with these entries, packed.
fn packed(fill: impl FnOnce(&mut tar::Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    fill(&mut builder);
    builder.into_inner().unwrap().finish().unwrap()
}

fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header
}

#[test]
fn archives_that_are_traps() {
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    let registry = Registry::start();
    let place = Place::new();
    let reference = registry.reference(&format!("{REPOSITORY}:{TAG}"));
    let pull = || place.command(["pull", &reference, "-o", "out.wasm"]);
    let file = tar::EntryType::Regular;
    let link = packed(|tar| {
        let mut header = header(tar::EntryType::Symlink, 0);
        tar.append_link(&mut header, "plugin.wasm", "/etc/passwd")
            .unwrap();
    });
    let nothing = packed(|tar| {
        tar.append_data(&mut header(file, 3), "other.txt", &b"abc"[..])
            .unwrap();
    });
    let mut cut = packed(|tar| {
        let wasm = module(1000, 1);
        tar.append_data(
            &mut header(file, wasm.len() as u64),
            "plugin.wasm",
            &wasm[..],
        )
        .unwrap();
    });
    cut.truncate(cut.len() / 2);
    let claims = {
        let mut head = header(file, 1 << 40);
        head.set_path("plugin.wasm").unwrap();
        head.set_cksum();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(head.as_bytes()).unwrap();
        gzip.write_all(&[0; 4096]).unwrap();
        gzip.finish().unwrap()
    };
    for (what, layer) in [
        ("a link", link),
        ("another file", nothing),
        ("cut", cut),
        ("1 TB", claims),
        ("no gzip", b"plain".to_vec()),
    ] {
        put(&registry, b"{}", LAYER, &layer);
        refuses(&place, &mut pull(), what);
    }
    // 2 GiB in 9 MB, before the module and as the module.
    for name in ["filler", "plugin.wasm"] {
        let bomb = packed(|tar| {
            let zeros = std::io::Read::take(std::io::repeat(0), 2 << 30);
            tar.append_data(&mut header(file, 2 << 30), name, zeros)
                .unwrap();
        });
        put(&registry, b"{}", LAYER, &bomb);
        refuses(&place, &mut pull(), name);
    }
}

#[test]
fn token_realms_elsewhere() {
    let artifact = Artifact::new(1000);
    for tls in [None, Some(Tls::new())] {
        let elsewhere = Registry::with(Options {
            auth: Auth::bearer("me", "secret", Lifetime::Forever),
            ..Options::default()
        });
        let plain = format!("http://{}/token", elsewhere.host());
        let mut realms = vec![
            "ftp://127.0.0.1/token",
            "file:///etc/passwd",
            "http://192.0.2.1/token",
            "javascript:alert(1)",
            "/token",
            "",
            "http://",
        ];
        if tls.is_some() {
            // Credentials that came by TLS do not leave without it.
            realms.push(&plain);
        }
        for realm in realms {
            let mut auth = Auth::bearer("me", "secret", Lifetime::Forever);
            if let Auth::Bearer { realm: named, .. } = &mut auth {
                *named = Some(realm.to_owned());
            }
            let registry = Registry::with(Options {
                auth,
                tls: tls.clone(),
                ..Options::default()
            });
            let host = registry.host();
            log_in(&artifact.place, &host, "me", "secret");
            let mut more = Vec::new();
            if let Some(tls) = &tls {
                artifact.place.write(".home/ca.pem", tls.ca_pem());
                more = vec!["--ca-file", ".home/ca.pem"];
            }
            let mut push = artifact.publish_command(&host, &more);
            let done = refuses(&artifact.place, &mut push, realm);
            assert!(!done.stderr.contains("secret"), "{}", done.stderr);
            let mut pull = artifact.pull_command(&host);
            pull.args(&more);
            refuses(&artifact.place, &mut pull, realm);
            let seen = registry.requests();
            assert!(seen.iter().all(|r| r.authorized.is_none()), "{realm}");
        }
        assert_eq!(elsewhere.requests().len(), 0);
    }
}

#[test]
fn token_replies_that_are_no_tokens() {
    let artifact = Artifact::new(1000);
    let registry = Registry::with(Options {
        auth: Auth::bearer("me", "secret", Lifetime::Forever),
        ..Options::default()
    });
    let host = registry.host();
    log_in(&artifact.place, &host, "me", "secret");
    let token = |r: &RequestInfo| r.path == "/token";
    for (what, fault) in [
        ("no end", Fault::Endless),
        ("nested", Fault::Body(nested())),
        ("100 MB", Fault::Body(vec![b' '; 100 << 20])),
        ("no token", Fault::Body(b"{}".to_vec())),
        ("an empty token", Fault::Body(br#"{"token":""}"#.to_vec())),
        (
            "lines in it",
            Fault::Body(br#"{"token":"a\r\nX-Evil: b"}"#.to_vec()),
        ),
        (
            "a wrong token",
            Fault::Body(br#"{"token":"wrong"}"#.to_vec()),
        ),
        ("not let in", Fault::status(401)),
        ("redirected", Fault::redirect(307, "/token")),
        (
            "redirected to a file",
            Fault::redirect(302, "file:///etc/passwd"),
        ),
    ] {
        spoil(&registry, token, fault);
        let done = refuses(
            &artifact.place,
            &mut artifact.publish_command(&host, &[]),
            what,
        );
        assert!(!done.stderr.contains("secret"), "{what}: {}", done.stderr);
        assert!(registry.requests().len() < 100, "{what}");
    }
}

#[test]
fn redirects_without_an_end() {
    let artifact = Artifact::new(1000);
    let registry = holding(&artifact, Options::default());
    let host = registry.host();
    for part in ["/blobs/", "/manifests/"] {
        for to in [
            "",
            "ftp://127.0.0.1/x",
            "file:///etc/passwd",
            "http://",
            "http://192.0.2.1:99999/",
        ] {
            registry.fault(move |request| {
                let to = if to.is_empty() {
                    request.path.clone()
                } else {
                    to.to_owned()
                };
                request
                    .path
                    .contains(part)
                    .then(|| Fault::redirect(307, to))
            });
            let what = format!("{part} to `{to}`");
            refuses(&artifact.place, &mut artifact.pull_command(&host), &what);
            assert!(registry.requests().len() < 100, "{what}");
        }
    }
}

/// Blobs often come from elsewhere; who asks there is nobody's business.
#[test]
fn credentials_stay_with_their_registry() {
    let artifact = Artifact::new(100_000);
    let storage = holding(&artifact, Options::default());
    storage.clear_requests();
    for auth in [
        Auth::basic("me", "secret"),
        Auth::bearer("me", "secret", Lifetime::Forever),
    ] {
        let registry = Registry::with(Options {
            auth,
            redirect_blobs_to: Some(storage.host()),
            ..Options::default()
        });
        let host = registry.host();
        log_in(&artifact.place, &host, "me", "secret");
        artifact.publish(&host, &[]).exits(0);
        artifact.unpull();
        artifact.pull(&host).exits(0);
        assert!(artifact.pulled().as_ref() == Some(&artifact.wasm));
        let seen = storage.requests();
        assert!(!seen.is_empty());
        for request in seen {
            assert_eq!(request.authorized, None, "{}", request.line());
            assert!(!request.headers.contains_key("cookie"));
        }
        storage.clear_requests();

        // An upload that is sent elsewhere.
        let registry = Registry::with(Options {
            auth: Auth::basic("me", "secret"),
            ..Options::default()
        });
        log_in(&artifact.place, &registry.host(), "me", "secret");
        let to = format!(
            "http://{}/v2/{REPOSITORY}/blobs/uploads/x?_state=y",
            storage.host()
        );
        spoil(
            &registry,
            |r| r.method == "POST",
            Fault::Status(202, vec![("Location", to)], String::new()),
        );
        artifact.publish(&registry.host(), &[]).exits(6);
        for request in storage.requests() {
            assert_eq!(request.authorized, None, "{}", request.line());
        }
        storage.clear_requests();
    }
}

#[test]
fn a_tag_that_moves_between_two_requests() {
    let first = Artifact::seeded(100_000, 1);
    let second = Artifact::seeded(100_000, 2);
    let registry = Arc::new(holding(&first, Options::default()));
    second.publish(&registry.host(), &["--force"]).exits(0);
    let manifests = [&first.digest, &second.digest]
        .map(|digest| registry.manifest(REPOSITORY, digest).unwrap());
    for n in 0..6 {
        let weak = Arc::downgrade(&registry);
        let manifests = manifests.clone();
        let asked = AtomicUsize::new(n);
        registry.fault(move |_| {
            let which = asked.fetch_add(1, Ordering::SeqCst) % 2;
            weak.upgrade()?
                .put_manifest(REPOSITORY, TAG, MANIFEST, manifests[which].clone());
            None
        });
        first.unpull();
        let done = first.pull(&registry.host());
        match first.pulled() {
            Some(found) => {
                assert_eq!(done.code, 0, "{}", done.stderr);
                assert!(found == first.wasm || found == second.wasm);
            }
            None => assert_eq!(done.code, 6, "{}", done.stderr),
        }
    }
}

#[test]
fn uploads_that_are_led_astray() {
    let artifact = Artifact::new(20 << 20);
    let location = |to: &str| Fault::Status(202, vec![("Location", to.to_owned())], String::new());
    let ranged = |range: &str| {
        Fault::Status(
            202,
            vec![
                (
                    "Location",
                    format!("/v2/{REPOSITORY}/blobs/uploads/x?_state=y"),
                ),
                ("Range", range.to_owned()),
            ],
            String::new(),
        )
    };
    for (what, method, fault) in [
        ("no address", "POST", Fault::status(202)),
        ("a file", "POST", location("file:///etc/passwd")),
        ("no URL", "POST", location("http://[::")),
        ("more than was sent", "PATCH", ranged("0-99999999999")),
        (
            "more than can be",
            "PATCH",
            ranged("0-99999999999999999999999"),
        ),
        ("nothing of it", "PATCH", ranged("0-0")),
        ("nonsense", "PATCH", ranged("some-more")),
        ("a body without end", "POST", Fault::Endless),
        ("an error without end", "PUT", Fault::Endless),
        (
            "nested",
            "PUT",
            Fault::Status(400, Vec::new(), String::from_utf8(nested()).unwrap()),
        ),
        (
            "colours",
            "PUT",
            Fault::Status(
                400,
                Vec::new(),
                json!({"errors": [{"code": "X", "message": "\x1b[2Jred\nerror: two"}]}).to_string(),
            ),
        ),
        ("a year to wait", "HEAD", Fault::too_many(31_536_000)),
    ] {
        let registry = Registry::start();
        spoil(&registry, move |r| r.method == method, fault);
        let host = registry.host();
        if what.contains("without end") {
            // What stands in the body of a success may be left unread.
            let done = artifact.publish(&host, &[]);
            assert!(matches!(done.code, 0 | 6), "{what}: {}", done.stderr);
            continue;
        }
        refuses(
            &artifact.place,
            &mut artifact.publish_command(&host, &[]),
            what,
        );
        assert!(registry.tags(REPOSITORY).is_empty(), "{what}");
        assert!(registry.requests().len() < 200, "{what}");
    }
}

/// What the registry says about the manifest is not what was sent.
#[test]
fn a_registry_that_changes_manifests() {
    let artifact = Artifact::new(1000);
    let registry = Registry::start();
    let other = sha256(b"other");
    spoil(
        &registry,
        |r| r.method == "PUT" && r.path.contains("/manifests/"),
        Fault::Status(201, vec![("Docker-Content-Digest", other)], String::new()),
    );
    let host = registry.host();
    refuses(
        &artifact.place,
        &mut artifact.publish_command(&host, &[]),
        "another digest",
    );
}
