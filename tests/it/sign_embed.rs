//! Signatures inside modules that `build` and `publish` put there: the last change before
//! the digest is taken.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::artifact::{REPOSITORY, TAG, module, sha256};
use crate::support::peers::Peers;
use crate::support::registry::Registry;
use crate::support::tool::{Place, run};

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
/// What the signature takes.
const SECTION: u64 = 119;

fn place() -> Place {
    let place = Place::new();
    place.run(["keygen", "--embed"]).exits(0);
    place.write("core.wasm", module(2000, 1));
    place.write("component.wasm", COMPONENT);
    place
}

fn build(place: &Place, args: &[&str]) -> serde_json::Value {
    let report = ["--message-format=json"];
    let args = [&["build"][..], args, &report].concat();
    place.run(args).exits(0).json()["packages"][0].clone()
}

#[test]
fn the_same_input_and_key_give_the_same_digest() {
    let place = place();
    for file in ["core.wasm", "component.wasm"] {
        let plain = build(&place, &[file]);
        let bare = fs::read(plain["wasm"].as_str().unwrap()).unwrap();
        assert!(plain["embedded"].is_null());
        let signed = build(&place, &[file, "--embed=ed25519.key"]);
        let path = signed["wasm"].as_str().unwrap();
        let bytes = fs::read(path).unwrap();
        // All that is said is about the bytes that ship.
        let digest = sha256(&bytes).replace("sha256:", "");
        assert_eq!(signed["sha256"], digest.as_str());
        assert_eq!(signed["size"]["after"], bytes.len());
        assert_eq!(bytes.len() as u64, bare.len() as u64 + SECTION);
        assert_eq!(signed["embedded"].as_str().unwrap().len(), 71);
        let shrunk = |package: &serde_json::Value| {
            let stages = package["stages"].as_array().unwrap().clone();
            stages.into_iter().find(|s| s["name"] == "shrink").unwrap()
        };
        if file == "core.wasm" {
            // The cache is about what comes before the signature.
            assert_eq!(shrunk(&signed)["cached"], true);
        }
        place
            .run(["sign", "--detach", path, "-o", "bare.wasm"])
            .exits(0);
        assert!(fs::read(place.join("bare.wasm")).unwrap() == bare);

        let again = build(&place, &[file, "--embed=ed25519.key"]);
        assert_eq!(
            again["oci"]["manifest_digest"],
            signed["oci"]["manifest_digest"]
        );
        // A signature that is there gives way to the new one, and only to that.
        place.write("signed.wasm", &bytes);
        let name = format!("--name={}", file.trim_end_matches(".wasm"));
        for shrinking in [&[][..], &["--no-shrink"]] {
            let args = ["signed.wasm", "--embed=ed25519.key", &name];
            let over = build(&place, &[&args[..], shrinking].concat());
            assert_eq!(over["sha256"], signed["sha256"]);
            assert_eq!(over["findings"].as_array().unwrap().len(), 0);
        }
    }
}

#[test]
fn a_key_in_a_variable() {
    let place = place();
    let signed = build(&place, &["core.wasm", "--embed=ed25519.key"]);
    let key = STANDARD.encode(fs::read(place.join("ed25519.key")).unwrap());
    let (one, two) = key.split_at(40);
    for text in [key.clone(), format!("{one}\n{two}\n")] {
        let args = [
            "build",
            "core.wasm",
            "--embed=env:EMBED_KEY",
            "--message-format=json",
        ];
        let mut command = place.command(args);
        let report = run(command.env("EMBED_KEY", &text)).exits(0);
        assert!(!report.stderr.contains(one));
        assert_eq!(report.json()["packages"][0]["sha256"], signed["sha256"]);
    }
}

#[test]
fn budgets_and_sboms_are_about_the_signed_module() {
    let place = place();
    let plain = build(&place, &["core.wasm"]);
    let limit = plain["size"]["after"].as_u64().unwrap();
    let budget = |bytes: u64| format!("--budget-raw={bytes}");
    let args = ["build", "core.wasm", "--embed=ed25519.key"];
    place.run([&args[..], &[&budget(limit)]].concat()).exits(4);
    place
        .run([&args[..], &[&budget(limit + SECTION), "--sbom"]].concat())
        .exits(0);
    let module = fs::read(place.join("target/edgepack/core.wasm")).unwrap();
    let sbom = fs::read_to_string(place.join("target/edgepack/core.cdx.json")).unwrap();
    let digest = sha256(&module).replace("sha256:", "");
    assert!(sbom.contains(&digest), "{sbom}");
}

#[test]
fn what_is_published_verifies_where_it_runs() {
    let place = place();
    let registry = Registry::start();
    let repository = registry.reference(REPOSITORY);
    let reference = format!("{repository}:{TAG}");
    for file in ["core.wasm", "component.wasm"] {
        let publish = [
            "publish",
            file,
            "--repository",
            &repository,
            "--tag",
            TAG,
            "--force",
            "--embed=ed25519.key",
        ];
        place.run(publish).exits(0);
        place.run(["pull", &reference, "-o", "out.wasm"]).exits(0);
        let verify = ["verify", "--embedded", "--key=ed25519.pub", "out.wasm"];
        place.run(verify).exits(0);
        if let Some(peers) = Peers::find() {
            let mut theirs = peers.command("wasmsign2", &place);
            theirs.args(["verify", "-i", "out.wasm", "-K", "ed25519.pub"]);
            run(&mut theirs).exits(0);
        }
    }
    place.run(["build", "core.wasm"]).exits(0);
    let packed = [
        "publish",
        "oci:target/edgepack/oci",
        "--repository",
        &repository,
    ];
    place
        .run([&packed[..], &["--embed=ed25519.key"]].concat())
        .exits(2)
        .says("is packed already");
}

#[test]
fn a_project_names_its_key() {
    let place = place();
    let project = place.fixture("plugin");
    let manifest = project.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let configure = |key: &str| {
        let table = format!("\n[package.metadata.edgepack.sign]\nembed = \"{key}\"\n");
        fs::write(&manifest, format!("{text}{table}")).unwrap();
    };
    // Said before anything is compiled.
    let named = format!("--manifest-path={}", manifest.display());
    let stops = |code: i32, words: &str| {
        let done = place.run(["build", &named]).exits(code).says(words);
        assert!(!done.stderr.contains("Compiling"), "{}", done.stderr);
    };
    configure("missing.key");
    stops(1, "missing.key");
    configure("env:NO_SUCH_KEY");
    stops(2, "--no-embed");
    fs::copy(place.join("ed25519.pub"), project.join("k.pub")).unwrap();
    configure("k.pub");
    stops(5, "is a public key");
    place.run(["build", &named, "--no-embed"]).exits(0);

    // From the folder of the manifest, wherever the command is run.
    fs::copy(place.join("ed25519.key"), project.join("k.key")).unwrap();
    configure("k.key");
    let package = build(&place, &[&named]);
    let path = package["wasm"].as_str().unwrap();
    place
        .run(["verify", "--embedded", "--key=ed25519.pub", path])
        .exits(0);
    // What comes first wins.
    place
        .run(["keygen", "--embed", "--output-key-prefix=other"])
        .exits(0);
    let package = build(&place, &[&named, "--embed=other.key"]);
    let path = package["wasm"].as_str().unwrap();
    place
        .run(["verify", "--embedded", "--key=other.pub", path])
        .exits(0);
    let mut variable = place.command(["build", &named]);
    variable.env("EDGEPACK_SIGN_EMBED", place.join("other.key"));
    run(&mut variable).exits(0);
    place
        .run(["verify", "--embedded", "--key=other.pub", path])
        .exits(0);
}
