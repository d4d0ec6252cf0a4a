//! The cache, shared through a registry or a folder.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::artifact::sha256;
use crate::support::peers::{Peers, Server};
use crate::support::registry::{Auth, Options, Registry};
use crate::support::tool::{Place, Run, run};

const REPOSITORY: &str = "acme/cache";

/// A module that shrinks to something smaller, another one for each number.
fn module(number: usize) -> Vec<u8> {
    let text = format!(
        "(module (func $unused (export \"f\") (result i32) \
         (local i32) i32.const {number} i32.const 1 i32.add local.set 0 local.get 0))"
    );
    wat::parse_str(text).unwrap()
}

/// A runner that has shrunk these modules.
fn runner(numbers: impl IntoIterator<Item = usize>) -> Place {
    let place = Place::new();
    for number in numbers {
        assert!(!is_cached(&place, number));
    }
    place
}

/// Shrinks a module, and says whether the result was there already.
fn is_cached(place: &Place, number: usize) -> bool {
    let file = format!("m{number}.wasm");
    place.write(&file, module(number));
    let args = ["shrink", &file, "-o", "o.wasm", "--message-format", "json"];
    let report = place.run(args).exits(0).json();
    report["packages"][0]["stages"][1]["cached"]
        .as_bool()
        .unwrap()
}

fn cache(place: &Place, args: &[&str]) -> Run {
    place.run([&["cache"], args].concat())
}

fn shared(place: &Place, args: &[&str]) -> Value {
    cache(place, &[args, &["--message-format=json"]].concat())
        .exits(0)
        .json()
}

#[test]
fn what_one_runner_did_another_does_not_do_again() {
    let registry = Registry::start();
    let name = format!("oci:{}", registry.reference("acme/cache:main"));
    let second = Place::new();
    let none = cache(&second, &["--from", &name])
        .exits(0)
        .says("there is no cache at ");
    assert_eq!(none.stdout, "");

    let first = runner(0..3);
    let sent = shared(&first, &["--to", &name]);
    assert_eq!((&sent["entries"], &sent["moved"]), (&json!(3), &json!(3)));
    let reference = sent["reference"].as_str().unwrap();
    assert!(
        reference.starts_with(&format!("{}/acme/cache@sha256:", registry.host())),
        "{reference}"
    );
    assert!(registry.is_complete(REPOSITORY, "main"));

    let taken = cache(&second, &["--from", &name])
        .exits(0)
        .says("3 of 3 results taken");
    assert_eq!(taken.stdout, format!("{reference}\n"));
    assert!((0..3).all(|n| is_cached(&second, n)));
    assert_eq!(
        fs::read(first.join("o.wasm")).unwrap(),
        fs::read(second.join("o.wasm")).unwrap()
    );

    // What is there is neither fetched nor sent again, and the same has the same digest.
    registry.clear_requests();
    assert_eq!(shared(&second, &["--from", &name])["moved"], 0);
    assert_eq!(shared(&second, &["--to", &name])["reference"], reference);
    assert!(
        registry
            .requests()
            .iter()
            .all(|r| r.path.contains("/manifests/"))
    );

    // Another runner, which knows nothing of these, does not take them away.
    let third = runner([2, 3]);
    let sent = shared(&third, &["--to", &name]);
    assert_eq!((&sent["entries"], &sent["moved"]), (&json!(4), &json!(1)));
    assert_eq!(shared(&first, &["--from", &name])["moved"], 1);
    assert!(is_cached(&first, 3));
}

#[test]
fn what_cannot_be_kept_is_not_taken() {
    let first = runner([1]);
    let name = format!("oci:{}", first.join("shared").display());
    cache(&first, &["--to", &name]).exits(0);
    let second = Place::new();
    let file = second.write("file", "");
    let mut command = second.command(["cache", "--from", &name]);
    let done = run(command.env("EDGEPACK_CACHE_DIR", file)).exits(1);
    assert!(!done.stderr.contains("taken"), "{}", done.stderr);
    done.says("failed to write");
}

#[test]
fn a_folder_takes_the_place_of_a_registry() {
    let place = runner(0..2);
    let sent = shared(&place, &["--to", "oci:./shared/layout:main"]);
    assert_eq!(sent["moved"], 2);
    let folder = place.join("shared/layout");
    let name = format!("oci:{}:main", folder.display());
    let again = runner([1, 0]);
    let same = shared(&again, &["--to", &name]);
    assert_eq!(
        (&same["moved"], &same["reference"]),
        (
            &json!(0),
            &json!(format!(
                "oci:{}@{}",
                folder.display(),
                sent["reference"]
                    .as_str()
                    .unwrap()
                    .rsplit_once('@')
                    .unwrap()
                    .1
            ))
        )
    );
    let other = Place::new();
    assert_eq!(shared(&other, &["--from", &name])["moved"], 2);
    assert_eq!(
        shared(&other, &["--from", &name.replace(":main", ":other")])["reference"],
        Value::Null
    );
    cache(&other, &["--from", "oci:shared/layout:main"])
        .exits(2)
        .says("oci:./DIR:TAG");
    cache(&other, &["--from", &name, "--to", &name]).exits(2);
}

#[test]
fn registries_of_others_take_it() {
    let Some(peers) = Peers::find() else { return };
    for server in [Server::docker(&peers), Server::crane(&peers)] {
        let name = server.reference("acme/cache:main");
        let empty = Place::new();
        cache(&empty, &["--from", &name])
            .exits(0)
            .says("there is no cache");
        let sent = shared(&runner(0..2), &["--to", &name]);
        assert_eq!(sent["moved"], 2);
        assert_eq!(shared(&empty, &["--from", &name])["moved"], 2);
        assert!(is_cached(&empty, 1));
        assert_eq!(shared(&runner(1..3), &["--to", &name])["entries"], 3);
    }
}

/// Nothing but results of shrinking leaves the machine: not where uploads are.
#[test]
fn only_results_are_shared() {
    let registry = Registry::start();
    let place = runner([1]);
    place
        .run([
            "publish",
            "m1.wasm",
            "--repository",
            &registry.reference("acme/m"),
        ])
        .exits(0);
    let held = shared(&place, &[])["entries"].as_u64().unwrap();
    assert!(held > 2, "blobs and sizes are remembered too: {held}");
    let sent = shared(&place, &["--to", &registry.reference("acme/cache:main")]);
    assert_eq!(sent["entries"], 1);
}

#[test]
fn credentials_are_asked_for_as_elsewhere() {
    let registry = Registry::with(Options {
        auth: Auth::basic("ci", "hunter2-secret"),
        ..Options::default()
    });
    let place = runner([1]);
    let name = registry.reference("acme/cache:main");
    cache(&place, &["--to", &name]).exits(6);
    place.write("password", "hunter2-secret\n");
    let mut command = place.command(["cache", "--to", &name, "--username=ci", "--password-stdin"]);
    command.stdin(fs::File::open(place.join("password")).unwrap());
    run(&mut command).exits(0).says_not("hunter2");
}

/// Puts a manifest there with these layers: title and contents.
fn put(registry: &Registry, layers: &[(String, Vec<u8>)]) {
    let config = registry.put_blob(REPOSITORY, "{}");
    let layers: Vec<Value> = layers
        .iter()
        .map(|(title, contents)| {
            json!({
                "mediaType": "application/octet-stream",
                "digest": registry.put_blob(REPOSITORY, contents.clone()),
                "size": contents.len(),
                "annotations": { "org.opencontainers.image.title": title },
            })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
        "layers": layers,
        "annotations": { "org.opencontainers.image.title": "cargo-edgepack cache 1" },
    });
    registry.put_manifest(
        REPOSITORY,
        "main",
        "application/vnd.oci.image.manifest.v1+json",
        serde_json::to_vec(&manifest).unwrap(),
    );
}

#[test]
fn hostile_caches() {
    let registry = Registry::start();
    let name = registry.reference("acme/cache:main");
    let runner = runner([1]);
    cache(&runner, &["--to", &name]).exits(0);
    let manifest: Value =
        serde_json::from_slice(&registry.manifest(REPOSITORY, "main").unwrap()).unwrap();
    let layer = &manifest["layers"][0];
    let title = layer["annotations"]["org.opencontainers.image.title"]
        .as_str()
        .unwrap()
        .to_owned();
    let digest = layer["digest"].as_str().unwrap();
    let good = registry.blob(REPOSITORY, digest).unwrap();
    let header = {
        let ends = good.iter().enumerate().filter(|(_, b)| **b == b'\n');
        good[..=ends.map(|(i, _)| i).nth(2).unwrap()].to_vec()
    };
    let hash = title.rsplit_once(' ').unwrap().1;
    let module = |bytes: &[u8]| [&header, &b"\0\x01r"[..], bytes].concat();

    // None of these is taken, and none of them keeps the good one from it.
    let titled = |title: &str, contents: &[u8]| (title.to_owned(), contents.to_vec());
    for bad in [
        titled(&title, b"nonsense"),
        titled(&title, &module(b"\0asm\x01\0\0\0\x01\x7f")),
        titled(&title, &module(b"\0asm\x0d\0\x01\0")),
        titled(&title.replace(&hash[..4], "0000"), &good),
        titled(&format!("blob-at/1 {hash}"), &good),
        titled("shrink/2 ../../../../etc/passwd", &good),
        titled("", b""),
    ] {
        let other = Place::new();
        put(&registry, std::slice::from_ref(&bad));
        let done = shared(&other, &["--from", &name]);
        assert_eq!(
            (&done["moved"], &done["left_out"]),
            (&json!(0), &json!(1)),
            "{:?}",
            bad.0
        );
        assert_eq!(shared(&other, &[])["entries"], 0);
        assert!(!is_cached(&other, 1));
    }

    // A valid module in place of the right one is found out by what it asks for and
    // offers. One that does something else behind the same exports is not: known, and said
    // in the documentation.
    let text = "(module (import \"env\" \"evil\" (func)))";
    for (text, taken_for_right) in [
        (text, false),
        (
            "(module (func (export \"f\") (result i32) i32.const 666))",
            true,
        ),
    ] {
        let other = Place::new();
        put(
            &registry,
            &[(title.clone(), module(&wat::parse_str(text).unwrap()))],
        );
        assert_eq!(shared(&other, &["--from", &name])["moved"], 1);
        assert_eq!(is_cached(&other, 1), taken_for_right);
        let shipped = fs::read(other.join("o.wasm")).unwrap();
        assert_eq!(
            shipped != fs::read(runner.join("o.wasm")).unwrap(),
            taken_for_right
        );
    }

    // Blobs that are not what their digest says, or far larger, end it.
    let other = Place::new();
    put(&registry, &[(title.clone(), good.clone())]);
    registry.put_blob_as(REPOSITORY, digest, vec![0_u8; good.len()]);
    cache(&other, &["--from", &name]).exits(6);
    assert_eq!(shared(&other, &[])["entries"], 0);

    // What is no cache is neither read nor replaced.
    let place = Place::new();
    place.write("m.wasm", wat::parse_str("(module)").unwrap());
    place
        .run([
            "publish",
            "m.wasm",
            "--repository",
            &registry.reference("acme/app"),
            "--tag=v1",
        ])
        .exits(0);
    let app = registry.reference("acme/app:v1");
    let before = registry.tags("acme/app");
    for flag in ["--to", "--from"] {
        cache(&runner, &[flag, &app])
            .exits(6)
            .says("is no cache of this tool");
    }
    assert_eq!(registry.tags("acme/app"), before);
}

/// Puts another result in the place of the only one that a cache has.
fn poison(place: &Place, module: &[u8]) {
    let contents = [&b"\0\x01r"[..], module].concat();
    let mut found = 0;
    for file in all_files(&place.join(".cache")) {
        if fs::read(&file)
            .unwrap()
            .starts_with(b"edgepack cache 2\nshrink/")
        {
            let digest = sha256(&contents).replace("sha256:", "");
            let head = format!("edgepack cache 2\nshrink/3\n{digest}");
            fs::write(file, [head.as_bytes(), &contents].concat()).unwrap();
            found += 1;
        }
    }
    assert_eq!(found, 1);
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(all_files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn what_cannot_have_come_of_the_module_never_ships() {
    let evil = |text: &str| wat::parse_str(text).unwrap();
    let simd = r#"(module (func (export "f") (result i32) v128.const i32x4 1 2 3 4 i32x4.extract_lane 0))"#;
    let cases = [
        (
            evil(
                r#"(module (import "env" "steal" (func (result i32))) (func (export "f") (result i32) call 0))"#,
            ),
            "it asks for `env.steal`",
        ),
        (evil("(module)"), "it has no export `f`"),
        (
            evil(r#"(module (func (export "f") (result i64) i64.const 1))"#),
            "its export `f` is () -> (i64)",
        ),
        (
            evil(r#"(module (func (export "f") (result i32) i32.const 6) (func $s) (start $s))"#),
            "it runs something as soon as it is instantiated",
        ),
        (evil(simd), "it takes simd"),
        (
            evil(r#"(module (func (export "f") (result i32) i64.const 6))"#),
            "it does not validate",
        ),
        (b"\0asm\x01\0\0\0\x01\x7f".to_vec(), "it does not parse"),
        (evil("(component)"), "it is a component"),
    ];
    let honest = runner([1]);
    let wanted = fs::read(honest.join("o.wasm")).unwrap();
    let registry = Registry::start();
    for (number, (poisoned, said)) in cases.iter().enumerate() {
        let place = runner([1]);
        poison(&place, poisoned);
        // Another runner takes what validates, and nothing that does not.
        let name = registry.reference(&format!("acme/cache:{number}"));
        shared(&place, &["--to", &name]);
        let other = Place::new();
        other.write("m1.wasm", module(1));
        let taken = shared(&other, &["--from", &name])["moved"]
            .as_u64()
            .unwrap();
        assert_eq!(taken == 1, number < 5, "{said}");
        let shrink = ["shrink", "m1.wasm", "-o", "o.wasm"];
        for place in if taken == 1 {
            vec![&place, &other]
        } else {
            vec![&place]
        } {
            place
                .run(shrink)
                .exits(0)
                .says("warning[cache-mismatch]")
                .says(said)
                .says("cargo edgepack cache --clear");
            assert_eq!(fs::read(place.join("o.wasm")).unwrap(), wanted, "{said}");
            // It is gone, and what was made in its place is kept.
            place
                .run(shrink)
                .exits(0)
                .says_not("cache-mismatch")
                .says(", cached");
            assert_eq!(fs::read(place.join("o.wasm")).unwrap(), wanted);
        }
    }
}
