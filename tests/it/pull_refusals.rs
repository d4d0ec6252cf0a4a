//! What cannot be pulled, and what is said about it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::artifact::{Artifact, REPOSITORY, TAG, module};
use crate::support::peers::{Peers, Server};
use crate::support::registry::{Auth, Fault, Options, Registry};
use crate::support::tool::{Place, run};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image whose one layer is this.
fn put(registry: &Registry, layer_type: &str, layer: &[u8]) -> Value {
    let config = registry.put_blob(REPOSITORY, "{}");
    let digest = registry.put_blob(REPOSITORY, layer);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": layer_type, "digest": digest, "size": layer.len()}],
    });
    registry.put_manifest(REPOSITORY, TAG, MANIFEST, manifest.to_string());
    manifest
}

fn image(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, contents) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *contents).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

#[test]
fn the_plugin_among_other_modules() {
    let registry = Registry::start();
    let place = Place::new();
    let reference = registry.reference(&format!("{REPOSITORY}:{TAG}"));
    let (wanted, other) = (module(1000, 1), module(1000, 2));
    for files in [
        [("plugin.wasm", &wanted[..]), ("lib/other.wasm", &other[..])],
        [("other.wasm", &other), ("./plugin.wasm", &wanted)],
    ] {
        put(&registry, TAR_GZIP, &image(&files));
        place.run(["pull", &reference, "-o", "out.wasm"]).exits(0);
        assert_eq!(fs::read(place.join("out.wasm")).unwrap(), wanted);
    }
    put(
        &registry,
        TAR_GZIP,
        &image(&[("a.wasm", &wanted), ("b.wasm", &other)]),
    );
    for command in [
        &["pull", &reference, "-o", "new.wasm"][..],
        &["inspect", &reference],
    ] {
        place
            .run(command)
            .exits(6)
            .says("several modules: `a.wasm` and `b.wasm`")
            .says("`plugin.wasm`, in the root");
    }
    assert!(!place.join("new.wasm").exists());
}

#[test]
fn manifests_that_are_none() {
    let registry = Registry::start();
    let place = Place::new();
    let reference = registry.reference(&format!("{REPOSITORY}:{TAG}"));
    for (manifest, why) in [
        ("null", "it is no JSON object"),
        ("[2, {}]", "it is no JSON object"),
        (
            r#"{"schemaVersion": "2", "config": {}}"#,
            "expected a whole number",
        ),
        (
            r#"{"schemaVersion": 2, "config": [], "layers": 1}"#,
            "expected an object",
        ),
    ] {
        registry.put_manifest(REPOSITORY, TAG, MANIFEST, manifest);
        place
            .run(["pull", &reference, "-o", "out.wasm"])
            .exits(6)
            .says("is no manifest that makes sense")
            .says(why);
    }
}

#[test]
fn layers_that_are_no_archives() {
    let registry = Registry::start();
    let place = Place::new();
    let reference = registry.reference(&format!("{REPOSITORY}:{TAG}"));
    put(&registry, TAR_GZIP, b"read me");
    place
        .run(["pull", &reference, "-o", "out.wasm"])
        .exits(6)
        .says("holds no Wasm module: its layer is `application/vnd.oci.image.layer.v1.tar+gzip`")
        .says("no tar archive");
    let Some(peers) = Peers::find() else { return };
    let server = Server::docker(&peers);
    let reference = server.reference("acme/text:1");
    place.write("readme.txt", "read me");
    let push = ["push", "--plain-http", &reference, "readme.txt"];
    run(peers.command("oras", &place).args(push)).exits(0);
    for command in [
        &["pull", &reference, "-o", "out.wasm"][..],
        &["inspect", &reference],
    ] {
        place
            .run(command)
            .exits(6)
            .says("holds no Wasm")
            .says("`readme.txt` of type `application/vnd.oci.image.layer.v1.tar`")
            .says("app.wasm:application/wasm");
    }
}

#[test]
fn layers_that_no_disk_has_room_for() {
    let registry = Registry::start();
    let place = Place::new();
    let reference = registry.reference(&format!("{REPOSITORY}:{TAG}"));
    for layer_type in ["application/wasm", TAR_GZIP] {
        let mut manifest = put(&registry, layer_type, &module(1000, 1));
        *manifest.pointer_mut("/layers/0/size").unwrap() = json!(1_000_000_000_000_000_u64);
        registry.put_manifest(REPOSITORY, TAG, MANIFEST, manifest.to_string());
        registry.fault(|request| {
            (request.path.contains("/blobs/") && request.n > 1).then_some(Fault::Endless)
        });
        for command in [
            &["pull", &reference, "-o", "out.wasm"][..],
            &["inspect", &reference],
        ] {
            registry.clear_requests();
            place
                .run(command)
                .exits(6)
                .says("has 1000000000000000 bytes, more than a Wasm binary can have");
            let layer = manifest["layers"][0]["digest"].as_str().unwrap();
            let asked = registry.requests().iter().any(|r| r.path.ends_with(layer));
            assert!(!asked, "the layer was fetched");
        }
        registry.heal();
    }
}

#[test]
fn hints_that_fit() {
    let artifact = Artifact::new(1000);
    let registry = Registry::start();
    artifact.publish(&registry.host(), &[]).exits(0);
    let place = &artifact.place;
    let missing = format!("{REPOSITORY}@sha256:{}", "0".repeat(64));
    place
        .run(["pull", &registry.reference(&missing), "-o", "out.wasm"])
        .exits(6)
        .says("check the digest")
        .says_not("check the tag");
    let missing = format!("{REPOSITORY}:none");
    place
        .run(["pull", &registry.reference(&missing), "-o", "out.wasm"])
        .exits(6)
        .says("check the tag");
    // Go's servers at a port for TLS.
    registry.fault(|_| {
        let text = "Client sent an HTTP request to an HTTPS server.\n";
        Some(Fault::Status(400, Vec::new(), text.to_owned()))
    });
    let reference = registry.reference(&format!("{REPOSITORY}:{TAG}"));
    place
        .run(["pull", &reference, "--plain-http", "-o", "out.wasm"])
        .exits(6)
        .says("leave out --plain-http");
    // A typo in a variable.
    let mut pull = place.command(["pull", "registry.invalid/acme/app:1", "-o", "out.wasm"]);
    run(pull.env("HTTPS_PROXY", "http//user:secret@proxy:3128"))
        .exits(6)
        .says("HTTPS_PROXY is no address of a proxy")
        .says_not("secret");
}

/// To open such a pipe lasts for ever, and no signal ends that.
#[test]
fn a_pipe_that_nobody_reads_from() {
    let artifact = Artifact::new(1000);
    let registry = Registry::start();
    artifact.publish(&registry.host(), &[]).exits(0);
    let pipe = artifact.place.join("out.wasm");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let started = Instant::now();
    artifact
        .pull(&registry.host())
        .exits(1)
        .says("nobody reads from this pipe");
    assert!(started.elapsed() < Duration::from_secs(20));
    let reader = std::thread::spawn(move || fs::read(pipe).unwrap());
    artifact.pull(&registry.host()).exits(0);
    assert!(reader.join().unwrap() == artifact.wasm);
    for output in ["/dev/stdout", "-"] {
        let reference = registry.reference(&format!("{REPOSITORY}:{TAG}"));
        let mut pull = artifact.place.command(["pull", &reference, "-o", output]);
        let done = pull.output().unwrap();
        assert!(done.stdout.starts_with(&artifact.wasm), "{output}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("pulled"));
    }
}

/// Publishes where a password is asked for, which this script is to tell.
fn publish_with_helper(artifact: &Artifact, script: &str) -> Command {
    let registry = Registry::with(Options {
        auth: Auth::basic("me", "secret"),
        ..Options::default()
    });
    let place = &artifact.place;
    let file = place.write(".home/bin/docker-credential-slow", script);
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    let config = json!({"credHelpers": {registry.host(): "slow"}});
    place.write(".home/.docker/config.json", config.to_string());
    let mut command = artifact.publish_command(&registry.host(), &[]);
    place.at_home(&mut command);
    let path = std::env::join_paths(
        std::iter::once(place.join(".home/bin"))
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    command.env("PATH", path.unwrap());
    // It is there for as long as the test is.
    std::mem::forget(registry);
    command
}

#[test]
fn a_credential_helper_that_never_answers() {
    let artifact = Artifact::new(1000);
    let place = &artifact.place;
    let script = "#!/bin/sh\ntouch \"$HOME/asked\"\nexec sleep 100\n";
    let mut child = publish_with_helper(&artifact, script)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !place.join(".home/asked").exists() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "nobody asks the helper"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let started = Instant::now();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_credential_helper_that_leaves_a_program_behind() {
    let artifact = Artifact::new(1000);
    let script = "#!/bin/sh\necho '{\"Username\": \"me\", \"Secret\": \"secret\"}'\nsleep 60 &\n\
                  echo $! >>\"$HOME/left\"\n";
    let mut command = publish_with_helper(&artifact, script);
    // Its own pipes would stay open as well.
    let started = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(30));
    let left = fs::read_to_string(artifact.place.join(".home/left")).unwrap();
    for pid in left.lines() {
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        let _ = kill_process(pid, Signal::TERM);
    }
}

#[test]
fn packages_whose_registry_tells_nonsense() {
    let place = Place::new();
    let pull = |front: &Registry| {
        let config = format!("[namespace_registries]\nacme = \"{}\"\n", front.host());
        let config = place.write("wkg.toml", config);
        let args = ["pull", "--package", "acme:tool", "-o", "out.wasm"];
        run(place.command(args).env("WKG_CONFIG_FILE", config)).exits(6)
    };
    let front = |metadata: Value| {
        let path = "/.well-known/wasm-pkg/registry.json".to_owned();
        Registry::with(Options {
            files: [(path, metadata.to_string().into_bytes())].into(),
            ..Options::default()
        })
    };
    pull(&front(
        json!({"preferredProtocol": "oci", "oci": {"namespacePrefix": "../A b\u{1b}[2J"}}),
    ))
    .says("makes no sense");
    // A list of tags that has no end.
    let endless = front(json!({"preferredProtocol": "oci"}));
    let tags: Vec<String> = (0..70_000).map(|n| format!("0.0.{n}")).collect();
    let page = json!({"name": "acme/tool", "tags": tags}).to_string();
    endless.fault(move |request| {
        let next = r#"</v2/acme/tool/tags/list?n=1000&last=x>; rel="next""#;
        let headers = vec![("Link", next.to_owned())];
        request
            .gets("/tags/list")
            .then(|| Fault::Status(200, headers, page.clone()))
    });
    pull(&endless).says("does not end");
    assert!(endless.requests().len() < 10, "{:#?}", endless.requests());
}
