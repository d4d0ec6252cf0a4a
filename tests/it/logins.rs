//! The ways to be known to a registry.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::any_registry::goes_there_and_back;
use crate::support::artifact::{Artifact, LAYOUT, REPOSITORY, log_in, run_with_input};
use crate::support::registry::{Auth, Fault, Lifetime, Options, Registry};
use crate::support::tool::{Place, run};

fn let_in(registry: &Registry, artifact: &Artifact, what: &str) {
    goes_there_and_back(artifact, registry, what);
    let seen = registry.requests();
    assert!(seen.iter().any(|r| r.authorized.is_some()), "{what}");
}

/// A registry that lets in `me` with `secret`, or the token `identity`.
fn closed(kind: &str) -> Registry {
    let auth = if kind == "basic" {
        Auth::basic("me", "secret")
    } else {
        let mut auth = Auth::bearer("me", "secret", Lifetime::Forever);
        if let Auth::Bearer { identity_token, .. } = &mut auth {
            *identity_token = Some("identity".to_owned());
        }
        auth
    };
    Registry::with(Options {
        auth,
        ..Options::default()
    })
}

#[test]
fn credentials_from_the_files_of_docker_and_podman() {
    for kind in ["basic", "bearer"] {
        let registry = closed(kind);
        let artifact = Artifact::new(1000);
        artifact
            .publish(&registry.host(), &[])
            .exits(6)
            .says("login");
        log_in(&artifact.place, &registry.host(), "me", "secret");
        let_in(&registry, &artifact, "docker's");

        let registry = closed(kind);
        let artifact = Artifact::new(1000);
        let file = log_in(&artifact.place, &registry.host(), "me", "secret");
        let podman = artifact.place.join(".home/run/containers/auth.json");
        fs::create_dir_all(podman.parent().unwrap()).unwrap();
        fs::rename(&file, &podman).unwrap();
        let_in(&registry, &artifact, "podman's");

        // The nearer of two entries is the one that counts.
        let registry = closed(kind);
        let artifact = Artifact::new(1000);
        let host = registry.host();
        let file = log_in(&artifact.place, &host, "me", "guess");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        fs::rename(&file, artifact.place.join("other.json")).unwrap();
        let right = log_in(&artifact.place, &host, "me", "secret");
        let nearer: Value = serde_json::from_slice(&fs::read(right).unwrap()).unwrap();
        let wrong = config["auths"][&host].clone();
        config["auths"] = json!({&host: wrong, format!("{host}/acme"): nearer["auths"][&host]});
        let auth_file = artifact.place.write("auth.json", config.to_string());
        fs::remove_file(artifact.place.join(".home/.docker/config.json")).unwrap();
        run(artifact
            .publish_command(&host, &[])
            .env("REGISTRY_AUTH_FILE", auth_file))
        .exits(0);
    }
}

#[test]
fn an_identity_token() {
    let registry = closed("bearer");
    let artifact = Artifact::new(1000);
    let host = registry.host();
    let config = json!({"auths": {&host: {"auth": "AAAA", "identitytoken": "identity"}}});
    artifact
        .place
        .write(".home/.docker/config.json", config.to_string());
    let_in(&registry, &artifact, "identity token");
    let posted = registry
        .requests()
        .iter()
        .any(|r| r.method == "POST" && r.path == "/token");
    assert!(posted);
}

/// A token for the registry itself goes there as it is, and nowhere else.
#[test]
fn a_registry_token() {
    let registry = closed("bearer");
    let artifact = Artifact::new(1000);
    let host = registry.host();
    let write = |token: &str| {
        let config = json!({"auths": {&host: {"registrytoken": token}}});
        let file = ".home/.docker/config.json";
        artifact.place.write(file, config.to_string());
    };
    write(&registry.token(REPOSITORY));
    let_in(&registry, &artifact, "registry token");
    let asked = |registry: &Registry| registry.requests().iter().any(|r| r.path == "/token");
    assert!(!asked(&registry));
    write("s3cret-one");
    registry.clear_requests();
    artifact
        .publish(&host, &["--tag", "2"])
        .exits(6)
        .says("were refused")
        .says_not("s3cret-one");
    assert!(!asked(&registry));
    assert!(registry.requests().len() < 10);
}

/// A helper as docker has them, which logs how it was called.
fn helper(place: &Place, name: &str, secret: &str) {
    let script = format!(
        "#!/bin/sh\nread host\necho \"$1 $host\" >>\"$HELPER_LOG\"\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"{secret}\"}}'\n"
    );
    let file = place.write(&format!(".home/bin/docker-credential-{name}"), script);
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn credential_helpers() {
    for key in ["credHelpers", "credsStore"] {
        let registry = closed("bearer");
        let artifact = Artifact::new(1000);
        let host = registry.host();
        helper(&artifact.place, "mine", "secret");
        let config = if key == "credsStore" {
            json!({key: "mine", "auths": {&host: {}}})
        } else {
            json!({key: {&host: "mine"}})
        };
        artifact
            .place
            .write(".home/.docker/config.json", config.to_string());
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", artifact.place.join(".home/bin").display());
        let log = artifact.place.join(".home/log");
        let done = run(artifact
            .publish_command(&host, &[])
            .env("PATH", path)
            .env("HELPER_LOG", &log));
        assert_eq!(done.code, 0, "{key}: {}", done.stderr);
        assert!(!done.stderr.contains("secret"));
        let log = fs::read_to_string(log).unwrap();
        assert!(log.starts_with("get ") && log.contains(&host), "{log}");
        // One that is not there.
        artifact
            .publish(&host, &["--force"])
            .exits(6)
            .says("docker-credential-mine");
    }
}

#[test]
fn to_log_in_and_out() {
    let registry = closed("bearer");
    let artifact = Artifact::new(1000);
    let host = registry.host();
    let log_in = ["login", &host, "--username", "me", "--password-stdin"];
    let wrong = run_with_input(&mut artifact.place.command(log_in), "wr0ng-one\n").exits(6);
    wrong
        .says("check the name and the password")
        .says_not("log in with")
        .says_not("wr0ng-one");
    artifact.publish(&host, &[]).exits(6);
    let done = run_with_input(&mut artifact.place.command(log_in), "secret\n").exits(0);
    assert!(!done.stderr.contains("lets anybody in"), "{}", done.stderr);
    assert!(!(done.stderr + &done.stdout).contains("secret"));
    let_in(&registry, &artifact, "login");
    artifact.place.run(["logout", &host]).exits(0);
    registry.clear_requests();
    artifact.publish(&host, &["--tag", "2"]).exits(6);
    assert!(registry.requests().iter().all(|r| r.authorized.is_none()));
    // Where nobody asks for it, a password is not known to be right.
    let open = Registry::start();
    let log_in = [
        "login",
        &open.host(),
        "--username",
        "me",
        "--password-stdin",
    ];
    run_with_input(&mut artifact.place.command(log_in), "x\n")
        .exits(0)
        .says("lets anybody in");
}

/// A registry that gives what it has to anybody, and something that is published there;
/// and the file that let it in.
fn open_to_pull() -> (Registry, Artifact, PathBuf) {
    let mut auth = Auth::bearer("me", "secret", Lifetime::Forever);
    if let Auth::Bearer { anonymous_pull, .. } = &mut auth {
        *anonymous_pull = true;
    }
    let registry = Registry::with(Options {
        auth,
        ..Options::default()
    });
    let artifact = Artifact::new(1000);
    let host = registry.host();
    let file = log_in(&artifact.place, &host, "me", "secret");
    artifact.publish(&host, &[]).exits(0);
    (registry, artifact, file)
}

#[test]
fn anybody_may_pull() {
    let (registry, artifact, file) = open_to_pull();
    let host = registry.host();
    fs::remove_file(file).unwrap();
    artifact.pull(&host).exits(0);
    artifact.publish(&host, &["--tag", "2"]).exits(6);
}

/// As small servers do that know one answer for all that is not allowed.
#[test]
fn a_challenge_at_the_root_alone() {
    for auth in [
        Auth::basic("me", "secret"),
        Auth::bearer("me", "secret", Lifetime::Forever),
    ] {
        let registry = Registry::with(Options {
            auth,
            challenge_at_root: true,
            ..Options::default()
        });
        let artifact = Artifact::new(1000);
        let host = registry.host();
        artifact.publish(&host, &[]).exits(6).says("login");
        log_in(&artifact.place, &host, "me", "secret");
        let_in(&registry, &artifact, "the challenge is at /v2/");
    }
}

/// Some helpers answer so where they have nothing.
#[test]
fn a_helper_that_has_nothing() {
    let (registry, artifact, file) = open_to_pull();
    let host = registry.host();
    fs::write(file, json!({"credsStore": "empty"}).to_string()).unwrap();
    for answer in [
        json!({"username": "", "secret": ""}),
        json!({"ServerURL": null, "Username": null, "Secret": null}),
    ] {
        let script = format!("#!/bin/sh\necho '{answer}'\n");
        let helper = ".home/bin/docker-credential-empty";
        let helper = artifact.place.write(helper, script);
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", helper.parent().unwrap().display());
        registry.clear_requests();
        run(artifact.pull_command(&host).env("PATH", path)).exits(0);
        let mut asked = registry.requests().into_iter();
        let anonymous = asked.find(|r| r.path == "/token").unwrap();
        assert!(anonymous.authorized.is_none());
    }
}

#[test]
fn a_helper_that_answers_by_half() {
    let (registry, artifact, file) = open_to_pull();
    let host = registry.host();
    fs::write(file, json!({"credsStore": "half"}).to_string()).unwrap();
    for (answer, why) in [
        (
            json!({"Username": "me", "Secret": ""}),
            "a name and no secret",
        ),
        (json!({"Username": "<token>"}), "a name and no secret"),
        (json!({"Secret": "secret"}), "a secret and no name"),
        (json!(["me", "secret"]), "makes no sense"),
        (json!(null), "makes no sense"),
    ] {
        let script = format!("#!/bin/sh\necho '{answer}'\n");
        let helper = ".home/bin/docker-credential-half";
        let helper = artifact.place.write(helper, script);
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", helper.parent().unwrap().display());
        registry.clear_requests();
        run(artifact.pull_command(&host).env("PATH", path))
            .exits(6)
            .says("docker-credential-half")
            .says(why);
        assert!(registry.requests().is_empty(), "{answer}");
    }
    // It can be logged out of.
    let script = "#!/bin/sh\n[ $1 = erase ] && echo >erased\necho '{\"Username\": \"me\"}'\n";
    let helper = ".home/bin/docker-credential-half";
    let helper = artifact.place.write(helper, script);
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", helper.parent().unwrap().display());
    let mut logout = artifact.place.command(["logout", &host]);
    run(logout.env("PATH", path)).exits(0);
    assert!(artifact.place.join("erased").exists());
}

/// What wkg knows of a registry lets us in there, and nowhere else.
#[test]
fn credentials_in_wkgs_configuration() {
    let registry = closed("basic");
    let artifact = Artifact::new(1000);
    let host = registry.host();
    let repository = format!("{host}/acme/tool");
    let publish = [
        "publish",
        LAYOUT,
        "--tag",
        "1.0.0",
        "--repository",
        &repository,
    ];
    let publish = [&publish[..], &["-u", "me", "--password-stdin"]].concat();
    run_with_input(&mut artifact.place.command(publish), "secret\n").exits(0);
    let metadata = json!({"preferredProtocol": "oci", "oci": {"registry": &host}});
    let path = "/.well-known/wasm-pkg/registry.json".to_owned();
    let front = Registry::with(Options {
        files: [(path, metadata.to_string().into_bytes())].into(),
        ..Options::default()
    });
    let front = front.host();
    let local =
        format!("{{ registry = \"x.example\", metadata = {{ ociRegistry = \"{host}\" }} }}");
    let mapped = format!("\"{host}\"");
    let table = "{ username = \"me\", password = \"secret\" }";
    let encoded = "\"bWU6c2VjcmV0\"";
    for (registry, named, auth, code) in [
        (&mapped, host.as_str(), table, 0),
        (&mapped, &host, encoded, 0),
        (&local, "x.example", table, 0),
        (&mapped, "other.example", table, 6),
        (&mapped, &host, "\"c2VjcmV0\"", 2),
        // It names another by itself: that gets nothing.
        (&format!("\"{front}\""), &front, table, 6),
        (&format!("\"{front}\""), &host, table, 0),
    ] {
        let config = format!(
            "[namespace_registries]\nacme = {registry}\n[registry.\"{named}\".oci]\nauth = {auth}\n"
        );
        let file = artifact.place.write("wkg.toml", config);
        artifact.unpull();
        let pull = ["pull", "--package", "acme:tool@1.0.0", "-o", "out.wasm"];
        let mut pull = artifact.place.command(pull);
        let done = run(pull.env("WKG_CONFIG_FILE", &file));
        assert_eq!(
            done.code, code,
            "{registry} {named} {auth}: {}",
            done.stderr
        );
        assert!(!done.stderr.contains("secret"), "{}", done.stderr);
    }
    // One that guards all it has.
    let config = format!(
        "[namespace_registries]\nacme = {mapped}\n[registry.\"{host}\".oci]\nauth = {table}\n"
    );
    let file = artifact.place.write("wkg.toml", config);
    for status in [401, 403] {
        registry.fault(move |request| {
            let known = request.path.starts_with("/.well-known/");
            known.then(|| Fault::status(status))
        });
        let pull = ["pull", "--package", "acme:tool@1.0.0", "-o", "out.wasm"];
        let mut pull = artifact.place.command(pull);
        run(pull.env("WKG_CONFIG_FILE", &file)).exits(0);
    }
    registry.heal();
    // One registry for all.
    let config = format!("[registry.\"{host}\".oci]\nauth = {table}\n");
    let file = artifact.place.write("wkg.toml", config);
    let pull = ["pull", "--package", "acme:tool@1.0.0", "-o", "out.wasm"];
    let mut pull = artifact.place.command(pull);
    run(pull.env("WKG_CONFIG_FILE", file).env("WKG_REGISTRY", &host)).exits(0);
}

#[test]
fn waiting_for_a_password_can_be_ended() {
    let place = Place::new();
    let args = [
        "login",
        "localhost:1",
        "--username",
        "me",
        "--password-stdin",
    ];
    let mut child = place
        .command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The pipe stays open, and nothing comes; the handler of the signal is there soon.
    let stdin = child.stdin.take();
    std::thread::sleep(Duration::from_millis(500));
    let started = Instant::now();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("it waits on");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stdin);
}

#[test]
fn names_and_entries_that_stand_in_the_way() {
    let registry = closed("basic");
    let place = Place::new();
    let host = registry.host();
    let wrong = ["login", &host, "--username", "me:too", "--password-stdin"];
    run_with_input(&mut place.command(wrong), "secret\n")
        .exits(2)
        .says("no `:`");
    let nobody = ["login", &host, "--username", "", "--password-stdin"];
    run_with_input(&mut place.command(nobody), "secret\n")
        .exits(2)
        .says("the name of the user is empty");
    assert!(registry.requests().is_empty());
    // An older entry for a part of the registry counts before that for all of it.
    let narrow = format!("{host}/acme");
    let file = log_in(&place, &narrow, "old", "guess");
    let right = ["login", &host, "--username", "me", "--password-stdin"];
    run_with_input(&mut place.command(right), "secret\n")
        .exits(0)
        .says(&narrow)
        .says(file.to_str().unwrap())
        .says_not("guess");
    place.run(["logout", &host]).exits(0).says(&narrow);
}
