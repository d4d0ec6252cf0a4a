//! What goes to a registry beside one module: referrers, many at once, layouts; and
//! what comes back by a package's name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::artifact::{Artifact, LAYOUT, REPOSITORY, TAG, log_in, module};
use crate::support::registry::{Auth, Fault, Lifetime, Options, Registry};
use crate::support::tool::{Place, run};

fn without_referrers() -> Options {
    Options {
        referrers_api: false,
        ..Options::default()
    }
}

#[test]
fn referrers_go_along() {
    for options in [Options::default(), without_referrers()] {
        let artifact = Artifact::new(1000);
        let mut wanted = vec![
            artifact.attach("application/vnd.cyclonedx+json", b"{\"bom\": 1}"),
            artifact.attach("application/spdx+json", b"{\"spdx\": 1}"),
        ];
        wanted.sort();
        let registry = Registry::with(options);
        let host = registry.host();
        // Twice: nothing is doubled.
        for _ in 0..2 {
            let done = artifact.publish(&host, &[]).exits(0);
            assert_eq!(done.stdout, artifact.published(&host));
            let mut found = registry.referrers(REPOSITORY, &artifact.digest);
            found.sort();
            assert_eq!(found, wanted);
        }
        // One more, later.
        wanted.push(artifact.attach("application/vnd.dev.sigstore.bundle.v0.3+json", b"{}"));
        wanted.sort();
        artifact.publish(&host, &[]).exits(0);
        let mut found = registry.referrers(REPOSITORY, &artifact.digest);
        found.sort();
        assert_eq!(found, wanted);
        assert_eq!(registry.tags(REPOSITORY)[TAG], artifact.digest);
    }
}

/// The list is one more request; where there is none to be had, it is put there again.
#[test]
fn referrers_without_a_list() {
    for options in [Options::default(), without_referrers()] {
        let artifact = Artifact::new(1000);
        let wanted = artifact.attach("application/spdx+json", b"{}");
        for answer in [
            Fault::status(403),
            Fault::status(500),
            Fault::status(501),
            Fault::Body(b"<html>".to_vec()),
            Fault::Body(b"{\"schemaVersion\":2,\"manifests\":null}".to_vec()),
        ] {
            let registry = Registry::with(options.clone());
            let host = registry.host();
            registry
                .fault(move |request| request.path.contains("/referrers/").then(|| answer.clone()));
            for _ in 0..2 {
                artifact.publish(&host, &[]).exits(0);
            }
            registry.heal();
            let listed = registry.referrers(REPOSITORY, &artifact.digest);
            assert!(listed.len() == 1 && listed[0] == wanted, "{listed:?}");
        }
    }
}

/// The index under the tag is read, changed and written, by many at a time.
#[test]
fn referrers_from_several_clients() {
    for options in [Options::default(), without_referrers()] {
        let registry = Registry::with(options);
        let host = registry.host();
        let artifacts: Vec<_> = (0..3)
            .map(|n| {
                let artifact = Artifact::new(1000);
                let digest = artifact.attach("application/spdx+json", format!("{n}").as_bytes());
                (artifact, digest)
            })
            .collect();
        std::thread::scope(|scope| {
            for (artifact, _) in &artifacts {
                scope.spawn(|| artifact.publish(&host, &[]).exits(0));
            }
        });
        let found = registry.referrers(REPOSITORY, &artifacts[0].0.digest);
        for (_, digest) in &artifacts {
            assert!(found.contains(digest), "{digest} was lost: {found:?}");
        }
    }
}

/// A layout that holds many artifacts, with the digest of each.
fn many(place: &Place, count: u64) -> BTreeMap<String, String> {
    let mut digests = BTreeMap::new();
    for seed in 0..count {
        let name = format!("app{seed}");
        place.write("in.wasm", module(20_000, seed + 1));
        let args = ["build", "in.wasm", "--no-shrink", "--name", &name];
        let more = ["--as-version", TAG, "--message-format=json"];
        let report = place.run([&args[..], &more].concat()).exits(0).json();
        let digest = &report["packages"][0]["oci"]["manifest_digest"];
        digests.insert(name, digest.as_str().unwrap().to_owned());
    }
    digests
}

#[test]
fn two_hundred_in_one_run() {
    let place = Place::new();
    let digests = many(&place, 200);
    let registry = Registry::start();
    let repository = registry.reference("acme/{name}");
    let args = ["publish", LAYOUT, "--repository", &repository];
    let done = place.run(args).exits(0);
    let mut lines: Vec<_> = done.stdout.lines().collect();
    lines.sort_unstable();
    let mut wanted: Vec<_> = digests
        .iter()
        .map(|(name, digest)| registry.reference(&format!("acme/{name}@{digest}")))
        .collect();
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
    for (name, digest) in &digests {
        let repository = format!("acme/{name}");
        assert!(registry.is_complete(&repository, TAG), "{name}");
        assert_eq!(registry.tags(&repository)[TAG], *digest);
    }
    // Eight artifacts with two blobs each.
    assert!(registry.most_at_once() <= 16, "{}", registry.most_at_once());
    assert!(registry.most_at_once() >= 4, "{}", registry.most_at_once());

    // One repository refuses: the others get theirs, and it is named.
    let registry = Registry::start();
    registry.fault(|request| {
        let refused = request.path.contains("/acme/app7/");
        refused.then(|| crate::support::registry::Fault::status(403))
    });
    let repository = registry.reference("acme/{name}");
    let done = place.run(["publish", LAYOUT, "--repository", &repository]);
    let done = done.exits(6).says("acme/app7");
    assert_eq!(done.stdout.lines().count(), 199);
    assert!(registry.tags("acme/app7").is_empty());
    assert!(registry.is_complete("acme/app8", TAG));
}

#[test]
fn several_at_once_are_all_asked_who_they_are() {
    let place = Place::new();
    let digests = many(&place, 6);
    for auth in [
        Auth::basic("me", "secret"),
        Auth::bearer("me", "secret", Lifetime::Forever),
    ] {
        let registry = Registry::with(Options {
            auth,
            ..Options::default()
        });
        log_in(&place, &registry.host(), "me", "secret");
        // The first of all go out before one of them is answered.
        registry
            .fault(|request| (request.n < 6).then_some(Fault::Stall(Duration::from_millis(300))));
        let repository = registry.reference("acme/{name}");
        place
            .run(["publish", LAYOUT, "--repository", &repository])
            .exits(0);
        let asked = registry.requests();
        let unknown = asked.iter().filter(|r| r.status == 401).count();
        assert!(unknown >= 6, "{asked:#?}");
        for name in digests.keys() {
            assert!(registry.is_complete(&format!("acme/{name}"), TAG), "{name}");
        }
        // A password that is wrong is refused once by each, and not for ever.
        log_in(&place, &registry.host(), "me", "wrong");
        let done = place.run(["publish", LAYOUT, "--repository", &repository]);
        done.exits(6).says("were refused");
    }
}

#[test]
fn from_layout_to_layout_and_back() {
    let artifact = Artifact::new(100_000);
    artifact.attach("application/spdx+json", b"{}");
    let place = &artifact.place;
    let args = ["publish", LAYOUT, "--oci-layout", "copy", "--tag", TAG];
    place.run(args).exits(0);
    let index = fs::read(place.join("copy/index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let found = index["manifests"].as_array().unwrap();
    assert!(
        found
            .iter()
            .any(|m| m["digest"] == artifact.digest.as_str()),
        "{index}"
    );

    let name = found
        .iter()
        .find_map(|m| m["annotations"]["org.opencontainers.image.ref.name"].as_str())
        .unwrap();
    let reference = format!("oci:copy:{name}");
    place.run(["pull", &reference, "-o", "out.wasm"]).exits(0);
    assert!(artifact.pulled().as_ref() == Some(&artifact.wasm));
    place.run(["inspect", &reference]).exits(0);

    // A blob that is damaged is not pulled, nor pushed.
    let layer = crate::support::artifact::sha256(&artifact.wasm);
    let name = layer.strip_prefix("sha256:").unwrap();
    let mut bytes = artifact.wasm.clone();
    bytes[50_000] ^= 1;
    fs::write(place.join(Path::new("copy/blobs/sha256").join(name)), bytes).unwrap();
    artifact.unpull();
    let done = place.run(["pull", &reference, "-o", "out.wasm"]);
    assert!(
        done.code != 0 && !done.stderr.contains("panicked"),
        "{}",
        done.stderr
    );
    assert_eq!(artifact.pulled(), None);
    let registry = Registry::start();
    let repository = registry.reference(REPOSITORY);
    let done = place.run([
        "publish",
        &reference,
        "--repository",
        &repository,
        "--tag",
        TAG,
    ]);
    assert!(
        done.code != 0 && !done.stderr.contains("panicked"),
        "{}",
        done.stderr
    );
    assert!(registry.tags(REPOSITORY).is_empty());
}

#[test]
fn packages_by_name() {
    // The address of the registry has to be known before it starts to tell it.
    let storage = Registry::start();
    let host = storage.host();
    let artifact = Artifact::new(1000);
    let publish = |version: &str| {
        let repository = format!("{host}/packages/acme/tool");
        let args = [
            "publish",
            LAYOUT,
            "--repository",
            &repository,
            "--tag",
            version,
        ];
        artifact.place.run(args).exits(0);
    };
    for version in ["1.0.0", "1.2.0", "1.10.0", "2.0.0-rc.1"] {
        publish(version);
    }
    let metadata = json!({
        "preferredProtocol": "oci",
        "oci": {"registry": host, "namespacePrefix": "packages/"},
    });
    let front = Registry::with(Options {
        files: BTreeMap::from([(
            "/.well-known/wasm-pkg/registry.json".to_owned(),
            metadata.to_string().into_bytes(),
        )]),
        ..Options::default()
    });
    let front = front.host();
    let config = format!("[namespace_registries]\nacme = \"{front}\"\n");
    let config = artifact.place.write(".home/wkg.toml", config);
    let pull = |package: &str| {
        artifact.unpull();
        storage.clear_requests();
        let args = ["pull", "--package", package, "-o", "out.wasm"];
        run(artifact.place.command(args).env("WKG_CONFIG_FILE", &config))
    };
    pull("acme:tool@1.2.0").exits(0);
    assert!(artifact.pulled().as_ref() == Some(&artifact.wasm));
    pull("acme:tool").exits(0);
    let asked = storage.requests();
    assert!(
        asked.iter().any(|r| r.path.ends_with("/manifests/1.10.0")),
        "{asked:#?}"
    );
    pull("acme:tool@3.0.0").exits(6).says("3.0.0");
    pull("acme:other@1.0.0").exits(6);
    pull("acme:Tool!").exits(2);
    pull("nobody:tool@1.0.0").exits(2).says("config.toml");
}

#[test]
fn a_workspace_of_packages() {
    let place = Place::new();
    place.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"alpha\", \"beta\"]\n\
         [workspace.metadata.edgepack.publish]\ntags = [\"{version}\", \"{major}.{minor}\"]\n",
    );
    for (name, version) in [("alpha", "1.2.3"), ("beta", "1.2.3")] {
        let manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2024\"\n");
        place.write(&format!("{name}/Cargo.toml"), manifest);
        place.write(&format!("{name}/src/main.rs"), "fn main() {}\n");
    }
    let registry = Registry::start();
    // One tag for two artifacts is refused before anything is sent.
    let same = registry.reference("acme/all");
    let done = place.run(["publish", "--workspace", "--repository", &same]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(registry.requests().is_empty());

    let each = registry.reference("acme/{name}");
    let done = place
        .run(["publish", "--workspace", "--repository", &each])
        .exits(0);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, (name, tags)) in lines
        .iter()
        .zip([("alpha", ["1.2", "1.2.3"]), ("beta", ["1.2", "1.2.3"])])
    {
        let repository = format!("acme/{name}");
        let digest = line
            .strip_prefix(&format!("{}@", registry.reference(&repository)))
            .unwrap();
        for tag in tags {
            assert!(registry.is_complete(&repository, tag), "{name} {tag}");
            assert_eq!(registry.tags(&repository)[tag], digest);
        }
    }
}

#[test]
fn blobs_that_the_registry_forgot_go_up_again() {
    let registry = Registry::start();
    let artifact = Artifact::new(1000);
    // The first manifest only: as after mounts that several clients asked for at once.
    let asked = std::sync::atomic::AtomicUsize::new(0);
    registry.fault(move |request| {
        let first = request.method == "PUT"
            && request.path.contains("/manifests/")
            && asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        let body =
            r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
        first.then(|| Fault::Status(400, Vec::new(), body.to_owned()))
    });
    let host = registry.host();
    let done = artifact.publish(&host, &[]).exits(0);
    assert_eq!(done.stdout, artifact.published(&host));
    assert!(registry.is_complete(REPOSITORY, TAG));
    registry.heal();

    // One that never knows them is an error, and no endless loop.
    let other = Artifact::seeded(1000, 2);
    registry.fault(|request| {
        let body =
            r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
        (request.method == "PUT" && request.path.contains("/manifests/"))
            .then(|| Fault::Status(400, Vec::new(), body.to_owned()))
    });
    other.publish(&host, &["--tag", "2.0.0"]).exits(6);
}
