//! Registries differ, and so do the ways to be known to them.

use std::sync::Mutex;

use serde_json::json;

use crate::support::artifact::{Artifact, REPOSITORY, TAG, log_in, run_with_input};
use crate::support::peak;
use crate::support::peers::{Peers, Server};
use crate::support::registry::{Auth, Fault, Lifetime, Mount, Options, Registry, Seen, Tls};
use crate::support::tool::{Place, run};

const LARGE: usize = 20 << 20;
const CONFIG: &str = "application/vnd.wasm.config.v0+json";

#[track_caller]
pub fn goes_there_and_back(artifact: &Artifact, registry: &Registry, what: &str) {
    let host = registry.host();
    let done = artifact.publish(&host, &[]);
    assert_eq!(done.code, 0, "{what}: {}", done.stderr);
    assert_eq!(done.stdout, artifact.published(&host), "{what}");
    assert!(registry.is_complete(REPOSITORY, TAG), "{what}");
    artifact.unpull();
    let done = artifact.pull(&host);
    assert_eq!(done.code, 0, "{what}: {}", done.stderr);
    assert!(artifact.pulled().as_ref() == Some(&artifact.wasm), "{what}");
}

#[test]
fn registries_with_ways_of_their_own() {
    let artifacts = [Artifact::new(1000), Artifact::new(LARGE)];
    let usual = Options::default;
    for (what, options) in [
        (
            "no Location",
            Options {
                no_location: true,
                ..usual()
            },
        ),
        (
            "relative Location",
            Options {
                relative_location: true,
                ..usual()
            },
        ),
        (
            "no referrers",
            Options {
                referrers_api: false,
                ..usual()
            },
        ),
        (
            "long chunks only",
            Options {
                chunk_min: Some(18 << 20),
                ..usual()
            },
        ),
        (
            "chunks of 5 MB",
            Options {
                chunk_max: Some(5_000_000),
                ..usual()
            },
        ),
        (
            "chunks of 1 MB",
            Options {
                chunk_max: Some(1 << 20),
                ..usual()
            },
        ),
        (
            "no chunks",
            Options {
                monolithic_only: true,
                ..usual()
            },
        ),
        (
            "no mounts",
            Options {
                mount: Mount::Refused202,
                ..usual()
            },
        ),
        (
            "mounts fail",
            Options {
                mount: Mount::Error,
                ..usual()
            },
        ),
        (
            "no ranges",
            Options {
                ignore_range: true,
                ..usual()
            },
        ),
        (
            "docker-registry 2.8",
            Options {
                like_docker_2_8: true,
                ..usual()
            },
        ),
    ] {
        for artifact in &artifacts {
            let registry = Registry::with(options.clone());
            goes_there_and_back(artifact, &registry, what);
        }
    }
}

#[test]
fn what_is_there_is_not_sent_again() {
    let artifact = Artifact::new(100_000);
    let registry = Registry::start();
    let host = registry.host();
    artifact.publish(&host, &[]).exits(0);
    for more in [&[][..], &["--skip-existing"], &["--force"]] {
        registry.clear_requests();
        let done = artifact.publish(&host, more).exits(0);
        assert_eq!(done.stdout, artifact.published(&host));
        let seen = registry.requests();
        assert!(seen.len() <= 4, "{seen:#?}");
        assert!(!seen.iter().any(Seen::is_upload), "{seen:#?}");
    }
    // Another tag of the same.
    registry.clear_requests();
    artifact.publish(&host, &["--tag", "2"]).exits(0);
    assert!(!registry.requests().iter().any(Seen::is_upload));
    assert_eq!(registry.tags(REPOSITORY)["2"], artifact.digest);
}

/// Registries may answer each mount with an upload, as `crane registry serve` does.
#[test]
fn what_is_there_is_not_sent_again_where_mounts_are_ignored() {
    let artifact = Artifact::new(400_000);
    let sent = |host: &str, tag: &str| {
        let done = artifact.publish(host, &["--tag", tag, "--message-format=json"]);
        let report = done.exits(0).json();
        report["published"][0]["sent"]
            .as_u64()
            .unwrap_or_else(|| panic!("{report:#}"))
    };
    let registry = Registry::with(Options {
        mount: Mount::Refused202,
        ..Options::default()
    });
    let host = registry.host();
    assert!(sent(&host, "1") > 400_000);
    registry.clear_requests();
    assert!(sent(&host, "2") < 10_000, "the config at most");
    assert_eq!(registry.tags(REPOSITORY)["2"], artifact.digest);
    assert_eq!(registry.open_uploads(), 0, "{:#?}", registry.requests());
    if let Some(peers) = Peers::find() {
        let crane = Server::crane(&peers);
        assert!(sent(&crane.host(), "1") > 400_000);
        assert!(sent(&crane.host(), "2") < 10_000, "the config at most");
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let artifact = Artifact::new(100_000);
    let registry = Registry::start();
    artifact.publish(&registry.host(), &["--dry-run"]).exits(0);
    let seen = registry.requests();
    assert!(
        seen.iter().all(|r| r.method == "GET" || r.method == "HEAD"),
        "{seen:#?}"
    );
    assert!(registry.tags(REPOSITORY).is_empty());
}

#[test]
fn tags_that_are_taken() {
    let first = Artifact::seeded(1000, 1);
    let second = Artifact::seeded(1000, 2);
    let registry = Registry::start();
    let host = registry.host();
    first.publish(&host, &[]).exits(0);
    let done = second.publish(&host, &[]).exits(6).says("--force");
    assert!(done.stderr.contains(TAG), "{}", done.stderr);
    assert_eq!(registry.tags(REPOSITORY)[TAG], first.digest);
    second.publish(&host, &["--force"]).exits(0);
    assert_eq!(registry.tags(REPOSITORY)[TAG], second.digest);
}

#[test]
fn a_registry_without_head() {
    let artifact = Artifact::new(1000);
    let registry = Registry::start();
    registry.fault(|request| {
        let head = request.method == "HEAD" && request.path.contains("/manifests/");
        head.then(|| Fault::status(405))
    });
    goes_there_and_back(&artifact, &registry, "no HEAD");
}

#[test]
fn a_private_authority() {
    let tls = Tls::new();
    let registry = Registry::with(Options {
        tls: Some(tls.clone()),
        ..Options::default()
    });
    let artifact = Artifact::new(LARGE);
    let host = registry.host();
    let file = artifact.place.write(".home/ca.pem", tls.ca_pem());
    artifact.publish(&host, &[]).exits(6).says("--ca-file");
    artifact
        .publish(&host, &["--ca-file", file.to_str().unwrap()])
        .exits(0);
    assert!(registry.is_complete(REPOSITORY, TAG));
    let mut pull = artifact.pull_command(&host);
    run(pull.args(["--ca-file", file.to_str().unwrap()])).exits(0);
    assert!(artifact.pulled().as_ref() == Some(&artifact.wasm));
    let other = artifact.place.write(".home/other.pem", Tls::new().ca_pem());
    artifact
        .publish(&host, &["--ca-file", other.to_str().unwrap()])
        .exits(6);
    artifact.place.write(".home/none.pem", "not a certificate");
    let code = artifact
        .publish(&host, &["--ca-file", ".home/none.pem"])
        .code;
    assert!(matches!(code, 1 | 2 | 6), "{code}");
}

/// The certificate itself is named, and not an authority.
#[test]
fn a_certificate_that_signs_itself() {
    let artifact = Artifact::new(1000);
    let named = ["--ca-file", ".home/ca.pem"];
    let publish = |tls: &Tls, pem: &str| {
        let registry = Registry::with(Options {
            tls: Some(tls.clone()),
            ..Options::default()
        });
        artifact.place.write(".home/ca.pem", pem);
        artifact.publish(&registry.host(), &[]).exits(6);
        artifact.publish(&registry.host(), &named)
    };
    let own = || Tls::by_itself(&["127.0.0.1"], false);
    publish(&own(), own().ca_pem()).exits(6).says("--ca-file");
    let tls = own();
    publish(&tls, tls.ca_pem()).exits(0);
    let others = format!("{}{}", own().ca_pem(), tls.ca_pem());
    publish(&tls, &others).exits(0);
    let tls = Tls::by_itself(&["other.example"], false);
    publish(&tls, tls.ca_pem())
        .exits(6)
        .says("a name that its certificate holds");
    let tls = Tls::by_itself(&["127.0.0.1"], true);
    publish(&tls, tls.ca_pem())
        .exits(6)
        .says("has to renew its certificate");
}

/// An authority of one's own is no way out of what else is wrong with a certificate.
#[test]
fn certificates_that_are_wrong() {
    let artifact = Artifact::new(1000);
    for (names, ended, way_out) in [
        (
            &["other.example"][..],
            false,
            "a name that its certificate holds",
        ),
        (&["127.0.0.1"], true, "has to renew its certificate"),
    ] {
        let tls = Tls::of(names, ended);
        let registry = Registry::with(Options {
            tls: Some(tls.clone()),
            ..Options::default()
        });
        artifact.place.write(".home/ca.pem", tls.ca_pem());
        artifact
            .publish(&registry.host(), &["--ca-file", ".home/ca.pem"])
            .exits(6)
            .says(way_out)
            .says_not("--ca-file");
    }
}

#[test]
fn refusals_that_have_a_way_out() {
    let artifact = Artifact::new(1000);
    let registry = Registry::with(Options {
        reject_media_types: vec![CONFIG.to_owned()],
        ..Options::default()
    });
    let done = artifact
        .publish(&registry.host(), &[])
        .exits(6)
        .says("hint: ");
    assert!(
        done.stderr.contains("GitLab") || done.stderr.contains("compat"),
        "{}",
        done.stderr
    );
    assert!(registry.tags(REPOSITORY).is_empty());

    // What is said, however much there is of it, and nothing that turns the text around.
    for (length, says) in [
        (100 << 10, "400 Bad Request (DENIED): no t  so; xxx"),
        (2 << 20, "400 Bad Request"),
    ] {
        let registry = Registry::start();
        registry.fault(move |request| {
            let detail = "x".repeat(length);
            let error =
                json!({"code": "DENIED", "message": "no\u{202e}t \u{200b}so", "detail": detail});
            let text = json!({"errors": [error]}).to_string();
            (request.method == "POST").then(|| Fault::Status(400, Vec::new(), text))
        });
        let done = artifact.publish(&registry.host(), &[]);
        done.exits(6).says(says);
    }

    let registry = Registry::with(Options {
        reject_uppercase: true,
        ..Options::default()
    });
    let repository = registry.reference("Acme/App");
    let args = [
        "publish",
        "oci:target/edgepack/oci",
        "--repository",
        &repository,
        "--tag",
        TAG,
    ];
    let done = artifact.place.run(args).exits(0).says("lower case");
    assert_eq!(done.stdout, artifact.published(&registry.host()));
    assert!(registry.is_complete(REPOSITORY, TAG));
}

#[test]
fn two_hundred_at_once() {
    let registry = Registry::start();
    let host = registry.host();
    let next = Mutex::new(0..200_u64);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some(seed) = next.lock().unwrap().next() else {
                        return;
                    };
                    let artifact = Artifact::seeded(10_000, seed);
                    artifact
                        .publish(&host, &["--tag", &format!("{seed}")])
                        .exits(0);
                }
            });
        }
    });
    let tags = registry.tags(REPOSITORY);
    assert_eq!(tags.len(), 200);
    assert!(tags.keys().all(|tag| registry.is_complete(REPOSITORY, tag)));
}

/// It is streamed: a module fifteen times as large takes no more memory.
#[test]
fn memory_stays_flat() {
    let peaks = [10 << 20, 150 << 20].map(|size| {
        let artifact = Artifact::new(size);
        let registry = Registry::start();
        let host = registry.host();
        let (push, pushing) = peak::run(&mut artifact.publish_command(&host, &[]));
        push.exits(0);
        let (pull, pulling) = peak::run(&mut artifact.pull_command(&host));
        pull.exits(0);
        assert!(artifact.pulled().as_ref() == Some(&artifact.wasm));
        [pushing, pulling]
    });
    for way in 0..2 {
        let more = peaks[1][way].saturating_sub(peaks[0][way]);
        assert!(more < 32 << 10, "{peaks:?} KiB");
    }
}

#[test]
fn behind_a_proxy() {
    // A registry that answers for whatever host it is asked for is a proxy before it.
    let registry = Registry::with(Options {
        relative_location: true,
        auth: Auth::basic("ci", "right"),
        ..Options::default()
    });
    let artifact = Artifact::new(LARGE);
    let host = "registry.invalid";
    log_in(&artifact.place, host, "ci", "right");
    let proxy = format!("http://{}", registry.host());
    let through = |command: &mut std::process::Command| {
        run(command.arg("--plain-http").env("HTTP_PROXY", &proxy))
    };
    through(&mut artifact.publish_command(host, &[])).exits(0);
    assert!(registry.is_complete(REPOSITORY, TAG));
    through(&mut artifact.pull_command(host)).exits(0);
    assert!(artifact.pulled().as_ref() == Some(&artifact.wasm));

    // Not for hosts that are to be asked directly.
    let direct = Artifact::seeded(1000, 2);
    let mut command = direct.publish_command(host, &["--plain-http"]);
    run(command.env("HTTP_PROXY", &proxy).env("NO_PROXY", host)).exits(6);
}

/// As it is usual, a proxy's address has no scheme; one on this machine is for this machine's
/// registries too.
#[test]
fn behind_a_proxy_on_this_machine() {
    let registry = Registry::with(Options {
        relative_location: true,
        ..Options::default()
    });
    let artifact = Artifact::new(1000);
    // Nobody listens there.
    let mut publish = artifact.publish_command("127.0.0.1:1", &["--plain-http"]);
    run(publish.env("HTTP_PROXY", registry.host())).exits(0);
    assert!(registry.is_complete(REPOSITORY, TAG));
}

/// Downloads that come from a second host, both without TLS, and both named.
#[test]
fn storage_that_is_named_for_plain_http() {
    // It answers for both hosts, as the proxy before them.
    let registry = Registry::with(Options {
        relative_location: true,
        ..Options::default()
    });
    let artifact = Artifact::new(1000);
    let host = "registry.invalid:5000";
    let proxy = format!("http://{}", registry.host());
    let mut publish = artifact.publish_command(host, &["--plain-http"]);
    run(publish.env("HTTP_PROXY", &proxy)).exits(0);
    registry.fault(|request| {
        let sent_on = request.gets("/blobs/") && request.query.is_empty();
        let to = format!("http://storage.invalid:9000{}?signed=1", request.path);
        sent_on.then(|| Fault::redirect(307, to))
    });
    let pull = |plain: &str| {
        let mut pull = artifact.pull_command(host);
        pull.env("HTTP_PROXY", &proxy);
        run(pull.env("EDGEPACK_PUBLISH_PLAIN_HTTP", plain))
    };
    pull(host)
        .exits(6)
        .says("not safe to follow")
        .says("where you trust storage.invalid:9000 without TLS too");
    pull(&format!("{host},storage.invalid:9000")).exits(0);
    assert!(artifact.pulled().as_ref() == Some(&artifact.wasm));
}

/// A registry behind a proxy that does not tell it of the TLS in front.
#[test]
fn a_registry_that_does_not_know_of_its_tls() {
    let tls = Tls::new();
    let registry = Registry::with(Options {
        tls: Some(tls.clone()),
        ..Options::default()
    });
    let artifact = Artifact::new(1000);
    let host = registry.host();
    artifact.place.write(".home/ca.pem", tls.ca_pem());
    let to = format!("http://{host}/v2/{REPOSITORY}/blobs/uploads/x?_state=y");
    registry.fault(move |request| {
        let to = to.clone();
        (request.method == "POST")
            .then(|| Fault::Status(202, vec![("Location", to)], String::new()))
    });
    artifact
        .publish(&host, &["--ca-file", ".home/ca.pem"])
        .exits(6)
        .says("not safe to go to")
        .says("X-Forwarded-Proto: https");
}

/// A password is read once, and is never shown.
#[test]
fn a_wrong_password() {
    let artifact = Artifact::new(1000);
    for auth in [
        Auth::basic("me", "right"),
        Auth::bearer("me", "right", Lifetime::Forever),
    ] {
        let registry = Registry::with(Options {
            auth,
            ..Options::default()
        });
        let more = ["--username", "me", "--password-stdin"];
        let host = registry.host();
        let done =
            run_with_input(&mut artifact.publish_command(&host, &more), "wr0ng-one\n").exits(6);
        assert!(!done.stderr.contains("wr0ng-one"), "{}", done.stderr);
        assert!(
            registry.requests().len() < 10,
            "it is not tried again and again"
        );
        run_with_input(&mut artifact.publish_command(&host, &more), "right\n").exits(0);
    }
}

#[test]
fn one_password_is_for_one_registry() {
    let place = Place::new();
    let closed = || {
        Registry::with(Options {
            auth: Auth::basic("me", "secret"),
            ..Options::default()
        })
    };
    let (one, two) = (closed(), closed());
    place.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"b\"]\n",
    );
    for (name, registry) in [("a", &one), ("b", &two)] {
        let repository = registry.reference(&format!("acme/{name}"));
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             [package.metadata.edgepack.publish]\nrepository = \"{repository}\"\n"
        );
        place.write(&format!("{name}/Cargo.toml"), manifest);
        place.write(&format!("{name}/src/main.rs"), "fn main() {}\n");
    }
    let login = ["--username", "me", "--password-stdin"];
    let publish = [&["publish", "--workspace"], &login[..]].concat();
    run_with_input(&mut place.command(publish), "secret\n")
        .exits(2)
        .says("are for one registry");
    assert!(
        !place.join("target").exists(),
        "it is said before the build"
    );
    // A registry that says that its packages are elsewhere.
    let metadata = json!({"preferredProtocol": "oci", "oci": {"registry": two.host()}});
    let path = "/.well-known/wasm-pkg/registry.json".to_owned();
    let front = Registry::with(Options {
        files: [(path, metadata.to_string().into_bytes())].into(),
        ..Options::default()
    });
    let config = format!("[namespace_registries]\nacme = \"{}\"\n", front.host());
    let config = place.write("wkg.toml", config);
    let pull = ["pull", "--package", "acme:b@0.1.0", "-o", "out.wasm"];
    let mut pull = place.command([&pull[..], &login].concat());
    run_with_input(pull.env("WKG_CONFIG_FILE", config), "secret\n")
        .exits(2)
        .says("are for one registry");
    assert!(one.requests().is_empty() && two.requests().is_empty());
}
