//! What we push is read by the clients of others, and what they push by us; through
//! registries of others, and through ours.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::support::artifact::{Artifact, REPOSITORY, TAG, module, sha256};
use crate::support::peers::{Peers, Server};
use crate::support::registry::{Options, Registry};
use crate::support::tool::Place;

/// Runs a peer's command, which has to succeed, and gives its stdout.
#[track_caller]
fn ok(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Runs a test with each registry; `None` where there are no peers.
fn with_each_registry(test: impl Fn(&Peers, &str)) {
    let Some(peers) = Peers::find() else { return };
    test(&peers, &Server::docker(&peers).host());
    test(&peers, &Server::crane(&peers).host());
    with_our_registries(&peers, test);
}

/// The same with those only that answer by the letter.
fn with_our_registries(peers: &Peers, test: impl Fn(&Peers, &str)) {
    test(peers, &Registry::start().host());
    let without_referrers = Registry::with(Options {
        referrers_api: false,
        ..Options::default()
    });
    test(peers, &without_referrers.host());
}

fn wkg(peers: &Peers, place: &Place, host: &str) -> Command {
    // In place of a domain that says where its packages are.
    let config = format!(
        "[namespace_registries]\nacme = {{ registry = \"{host}\", metadata = {{ preferredProtocol = \"oci\", \
         oci = {{ registry = \"{host}\", namespacePrefix = \"\" }} }} }}\n\
         [registry.\"{host}\".oci]\nprotocol = \"http\"\n"
    );
    place.write(".home/wkg.toml", config);
    let mut command = peers.command("wkg", place);
    command
        .env("WKG_CONFIG_FILE", place.join(".home/wkg.toml"))
        .env("WKG_CACHE_DIR", place.join(".home/wkg"))
        .env("WKG_OCI_INSECURE", host);
    command
}

#[track_caller]
fn same(found: &Path, wanted: &[u8], what: &str) {
    let found = fs::read(found).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(found == wanted, "{what}: other bytes");
}

#[test]
fn others_read_what_we_published() {
    // One that goes up in one piece, and one that goes up in chunks.
    for size in [100_000, 20 << 20] {
        with_each_registry(|peers, host| {
            let artifact = Artifact::new(size);
            let place = &artifact.place;
            let done = artifact.publish(host, &[]).exits(0);
            assert_eq!(done.stdout, artifact.published(host));
            let reference = format!("{host}/{REPOSITORY}:{TAG}");
            let by_digest = format!("{host}/{REPOSITORY}@{}", artifact.digest);

            for reference in [&reference, &by_digest] {
                let mut oras = peers.command("oras", place);
                ok(oras.args(["pull", "--plain-http", reference, "-o", ".home/oras"]));
                same(&place.join(".home/oras/app.wasm"), &artifact.wasm, "oras");
            }

            let crane = |args: &[&str]| {
                let mut command = peers.command("crane", place);
                ok(command.arg("--insecure").args(args))
            };
            let digest = crane(&["digest", &reference]);
            assert_eq!(String::from_utf8(digest).unwrap().trim(), artifact.digest);
            let manifest = crane(&["manifest", &reference]);
            assert_eq!(sha256(&manifest), artifact.digest);
            let layer = format!("{host}/{REPOSITORY}@{}", sha256(&artifact.wasm));
            assert!(crane(&["blob", &layer]) == artifact.wasm, "crane");
            let tags = crane(&["ls", &format!("{host}/{REPOSITORY}")]);
            assert_eq!(String::from_utf8(tags).unwrap(), format!("{TAG}\n"));

            let skopeo = |args: &[&str]| {
                let mut command = peers.command("skopeo", place);
                ok(command.arg("--insecure-policy").args(args))
            };
            let from = format!("docker://{reference}");
            let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &from]);
            assert_eq!(sha256(&raw), artifact.digest);
            let to = "dir:.home/skopeo";
            let copy = [
                "copy",
                "--preserve-digests",
                "--src-tls-verify=false",
                &from,
                to,
            ];
            skopeo(&copy);
            let copied = place.join(".home/skopeo");
            same(&copied.join("manifest.json"), &manifest, "skopeo");
            let name = sha256(&artifact.wasm);
            let name = name.strip_prefix("sha256:").unwrap();
            same(&copied.join(name), &artifact.wasm, "skopeo");

            ok(wkg(peers, place, host).args(["oci", "pull", &reference, "-o", ".home/wkg.wasm"]));
            same(
                &place.join(".home/wkg.wasm"),
                &artifact.wasm,
                "wkg oci pull",
            );
            let package = format!("acme:app@{TAG}");
            let get = ["get", &package, "--format", "wasm", "--overwrite"];
            ok(wkg(peers, place, host)
                .args(get)
                .args(["-o", "./.home/got.wasm"]));
            same(&place.join(".home/got.wasm"), &artifact.wasm, "wkg get");

            artifact.pull(host).exits(0);
            same(&place.join("out.wasm"), &artifact.wasm, "ours");

            // Again: there is nothing to do. Another one: the tag is taken.
            artifact.publish(host, &[]).exits(0);
            let other = Artifact::seeded(1000, 9);
            other.publish(host, &[]).exits(6);
            other.publish(host, &["--force"]).exits(0);
            let digest = crane(&["digest", &reference]);
            assert_eq!(String::from_utf8(digest).unwrap().trim(), other.digest);
        });
    }
}

/// A component, with what wkg wants to know of one.
#[test]
fn others_read_our_components() {
    with_each_registry(|peers, host| {
        let component = wat::parse_str(
            "(component (core module $m (func (export \"f\") (result i32) i32.const 7)) \
             (core instance $i (instantiate $m)) \
             (func (export \"f\") (result u32) (canon lift (core func $i \"f\"))))",
        )
        .unwrap();
        let artifact = Artifact::of(component);
        artifact.publish(host, &[]).exits(0);
        let get = ["get", "acme:app", "--format", "wasm"];
        let place = &artifact.place;
        ok(wkg(peers, place, host)
            .args(get)
            .args(["-o", "./.home/got.wasm"]));
        same(&place.join(".home/got.wasm"), &artifact.wasm, "wkg get");
    });
}

#[test]
fn we_read_what_others_pushed() {
    with_each_registry(|peers, host| {
        let place = Place::new();
        let wasm = module(300_000, 7);
        place.write("in.wasm", &wasm);
        place.write("config.json", "{}");
        let mut tar = tar::Builder::new(fs::File::create(place.join("in.tar")).unwrap());
        tar.append_path_with_name(place.join("in.wasm"), "plugin.wasm")
            .unwrap();
        tar.finish().unwrap();
        drop(tar);

        let oras = |name: &str, args: &[&str]| {
            let reference = format!("{host}/acme/{name}:1");
            let mut command = peers.command("oras", &place);
            ok(command
                .args(["push", "--plain-http", &reference])
                .args(args));
        };
        oras("oras", &["in.wasm:application/wasm"]);
        // Spin: a plain package with a config in JSON.
        oras(
            "spin",
            &[
                "in.wasm:application/vnd.wasm.content.layer.v1+wasm",
                "--config",
                "config.json:application/vnd.wasm.config.v1+json",
            ],
        );
        // Istio's second form: two layers.
        oras(
            "istio-two",
            &[
                "in.wasm:application/vnd.module.wasm.content.layer.v1+wasm",
                "config.json:application/vnd.module.wasm.config.v1+json",
            ],
        );
        for (name, more) in [("crane", None), ("crane-oci", Some("--oci-empty-base"))] {
            let reference = format!("{host}/acme/{name}:1");
            let mut crane = peers.command("crane", &place);
            let append = ["append", "--insecure", "-f", "in.tar", "-t", &reference];
            ok(crane.args(append).args(more));
        }
        for name in ["oras", "spin", "istio-two", "crane", "crane-oci"] {
            let reference = format!("{host}/acme/{name}:1");
            let out = format!("{name}.wasm");
            let done = place.run(["pull", &reference, "-o", &out]);
            assert_eq!(done.code, 0, "{name}: {}", done.stderr);
            same(&place.join(&out), &wasm, name);
            place.run(["inspect", &reference]).exits(0);
        }
    });
}

#[test]
fn we_read_what_wkg_pushed() {
    let Some(peers) = Peers::find() else { return };
    let test = |peers: &Peers, host: &str| {
        let place = Place::new();
        let wasm = module(300_000, 7);
        place.write("in.wasm", &wasm);
        let reference = format!("{host}/acme/tool:1.2.3");
        ok(wkg(peers, &place, host).args(["oci", "push", &reference, "in.wasm"]));
        place.run(["pull", &reference, "-o", "out.wasm"]).exits(0);
        same(&place.join("out.wasm"), &wasm, "wkg");
        place.run(["inspect", &reference]).exits(0);
    };
    // crane's answers to chunks are not what wkg's library expects.
    test(&peers, &Server::docker(&peers).host());
    with_our_registries(&peers, test);
}

/// The file named `plugin.wasm` in a layer, by the rules that Istio follows: the last
/// layer, a gzipped tar, the first regular file with this base name.
fn as_istio_reads(layer: &[u8]) -> Vec<u8> {
    let mut archive = tar::Archive::new(GzDecoder::new(layer));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        if entry.header().entry_type() == tar::EntryType::Regular
            && path.file_name().is_some_and(|n| n == "plugin.wasm")
        {
            let mut wasm = Vec::new();
            entry.read_to_end(&mut wasm).unwrap();
            return wasm;
        }
    }
    panic!("no plugin.wasm");
}

#[test]
fn images_are_what_container_engines_take() {
    with_each_registry(|peers, host| {
        let artifact = Artifact::new(300_000);
        let place = &artifact.place;
        // From the module: the layout holds another variant.
        let repository = format!("{host}/acme/image");
        let fixed = [
            "publish",
            "app.wasm",
            "--repository",
            &repository,
            "--tag",
            TAG,
        ];
        let more = ["--variant", "compat", "--level", "off"];
        let done = place.run([&fixed[..], &more].concat()).exits(0);
        let again = place.run([&fixed[..], &more].concat()).exits(0);
        assert_eq!(
            done.stdout, again.stdout,
            "it is packed the same way each time"
        );
        let reference = done.stdout.trim().to_owned();

        let raw = {
            let mut crane = peers.command("crane", place);
            ok(crane.args(["manifest", "--insecure", &reference]))
        };
        let manifest: Value = serde_json::from_slice(&raw).unwrap();
        let blob = |descriptor: &Value| {
            let name = format!("{repository}@{}", descriptor["digest"].as_str().unwrap());
            let mut crane = peers.command("crane", place);
            ok(crane.args(["blob", "--insecure", &name]))
        };
        assert_eq!(
            manifest["annotations"]["module.wasm.image/variant"],
            "compat"
        );
        let layer = blob(manifest["layers"].as_array().unwrap().last().unwrap());
        let wasm = as_istio_reads(&layer);
        // runwasi: the file at the entrypoint, in an image for `wasm`.
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(config["architecture"], "wasm");
        assert_eq!(config["os"], "wasi");
        assert_eq!(config["config"]["Entrypoint"], json!(["/plugin.wasm"]));
        let mut tar = Vec::new();
        GzDecoder::new(&layer[..]).read_to_end(&mut tar).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!([sha256(&tar)]));

        let mut skopeo = peers.command("skopeo", place);
        let inspect = ["--insecure-policy", "inspect", "--tls-verify=false"];
        let seen = ok(skopeo.args(inspect).arg(format!("docker://{reference}")));
        let seen: Value = serde_json::from_slice(&seen).unwrap();
        assert_eq!(
            (&seen["Architecture"], &seen["Os"]),
            (&json!("wasm"), &json!("wasi"))
        );

        let mut crane = peers.command("crane", place);
        ok(crane.args(["export", "--insecure", &reference, ".home/export.tar"]));
        let exported = fs::read(place.join(".home/export.tar")).unwrap();
        let mut archive = tar::Archive::new(&exported[..]);
        let mut entries = archive.entries().unwrap();
        let mut found = Vec::new();
        entries
            .next()
            .unwrap()
            .unwrap()
            .read_to_end(&mut found)
            .unwrap();
        assert!(found == wasm, "crane export");
        let mut crane = peers.command("crane", place);
        ok(crane.args(["validate", "--insecure", "--remote", &reference]));

        place.run(["pull", &reference, "-o", "out.wasm"]).exits(0);
        same(&place.join("out.wasm"), &wasm, "ours");
        // Engines keep what they unpack where only root may write.
        if rustix::process::geteuid().is_root() {
            let mounted = as_podman_mounts(peers, place, &reference);
            assert!(mounted == wasm, "podman");
        }
    });
}

/// `podman pull` for `wasi/wasm`, and the module in the file system that it makes.
fn as_podman_mounts(peers: &Peers, place: &Place, reference: &str) -> Vec<u8> {
    let policy = json!({"default": [{"type": "insecureAcceptAnything"}]});
    place.write(".home/policy.json", policy.to_string());
    // Named by a variable, it has to be there.
    place.write(".home/.docker/config.json", "{}");
    let binaries = peers.folder();
    let config = format!(
        "[engine]\nconmon_path = [\"{}\"]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n\
         runtime = \"crun\"\n[engine.runtimes]\ncrun = [\"{}\"]\n",
        binaries.join("conmon").display(),
        binaries.join("crun").display()
    );
    place.write(".home/containers.conf", config);
    let podman = || {
        let mut command = peers.command("podman", place);
        command
            .env("CONTAINERS_CONF", place.join(".home/containers.conf"))
            .arg("--root")
            .arg(place.join(".home/podman"))
            .arg("--runroot")
            .arg(place.join(".home/podman-run"))
            .args(["--storage-driver", "vfs"]);
        command
    };
    let pull = [
        "pull",
        "--os",
        "wasi",
        "--arch",
        "wasm",
        "--tls-verify=false",
    ];
    ok(podman()
        .args(pull)
        .args(["--signature-policy", ".home/policy.json", reference]));
    let folder = ok(podman().args(["image", "mount", reference]));
    let folder = String::from_utf8(folder).unwrap();
    fs::read(Path::new(folder.trim()).join("plugin.wasm")).unwrap()
}

#[test]
fn a_registry_that_is_killed_in_an_upload() {
    let Some(peers) = Peers::find() else { return };
    let artifact = Artifact::new(100 << 20);
    let mut killed = 0;
    for round in 0..5_u64 {
        let mut server = Server::docker(&peers);
        let host = server.host();
        let mut child = artifact
            .publish_command(&host, &[])
            .env("EDGEPACK_RETRY_BASE_MS", "100")
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Somewhere in the upload, later in each round.
        let until = Instant::now() + Duration::from_secs(30);
        let begun = 1 + round * (18 << 20);
        while server.stored() < begun && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        killed += u32::from(child.try_wait().unwrap().is_none());
        server.kill();
        std::thread::sleep(Duration::from_millis(50));
        server.start_again();
        let ended = child.wait().unwrap();
        if !ended.success() {
            assert_eq!(ended.code(), Some(6), "round {round}");
            artifact.publish(&host, &[]).exits(0);
        }
        artifact.unpull();
        artifact.pull(&host).exits(0);
        assert!(
            artifact.pulled().as_ref() == Some(&artifact.wasm),
            "round {round}"
        );
    }
    assert!(killed > 0, "it was always too late");
}
