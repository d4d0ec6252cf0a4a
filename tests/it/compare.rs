//! `--compare-to`: what is built beside what was there before.

use std::fs;

use serde_json::{Value, json};

use crate::support::registry::{Auth, Options, Registry};
use crate::support::tool::{Place, Run, run};

/// A module with these imports of `env`, and some bytes of data.
fn module(imports: &[&str], data: usize) -> Vec<u8> {
    let import = |name: &&str| format!("(import \"env\" \"{name}\" (func))");
    let imports: Vec<String> = imports.iter().map(import).collect();
    let imports = imports.concat();
    let data = "x".repeat(data);
    let text =
        format!("(module {imports} (memory (export \"m\") 1) (data (i32.const 0) \"{data}\"))");
    wat::parse_str(text).unwrap()
}

const PLAIN: [&str; 2] = ["--no-shrink", "--message-format=json"];

fn build(place: &Place, args: &[&str]) -> Run {
    place.run([&["build", "app.wasm"], &PLAIN[..], args].concat())
}

fn comparison(run: Run) -> Value {
    run.exits(0).json()["packages"][0]["comparison"].clone()
}

#[test]
fn with_a_file_and_with_a_report() {
    let place = Place::new();
    let old = module(&["a", "b"], 100);
    let new = module(&["b", "c"], 150);
    place.write("old.wasm", &old);
    place.write("app.wasm", &old);
    let none = comparison(build(&place, &[]));
    assert_eq!(none, Value::Null);
    fs::copy(
        place.join("target/edgepack/report.json"),
        place.join("old.json"),
    )
    .unwrap();
    place.write("app.wasm", &new);
    let found = comparison(build(&place, &["--compare-to", "old.wasm"]));
    assert_eq!(found["with"], "old.wasm");
    assert_eq!(found["size"]["raw"], old.len());
    assert_eq!(found["raw_change"], new.len() - old.len());
    assert_eq!(
        found["imports"],
        json!({"added": ["env.c"], "removed": ["env.a"]})
    );
    assert_eq!(found["exports"], json!({"added": [], "removed": []}));
    let beside = fs::read_to_string(place.join("target/edgepack/summary.md")).unwrap();
    assert!(
        beside.contains("asks its host for more: `env.c`")
            && beside.contains(&format!("+{} bytes (", new.len() - old.len())),
        "{beside}"
    );
    // A report knows the same.
    let with_report = comparison(build(&place, &["--compare-to", "old.json"]));
    assert_eq!(with_report["with"], "old.json");
    for key in ["size", "raw_change", "gzip_change", "imports"] {
        assert_eq!(with_report[key], found[key], "{key}");
    }
    // And with the report and the file that the build itself replaces.
    place.write("app.wasm", module(&["b"], 10));
    for other in ["target/edgepack/report.json", "target/edgepack/app.wasm"] {
        place.write("app.wasm", &new);
        build(&place, &[]).exits(0);
        place.write("app.wasm", module(&["b"], 10));
        let found = comparison(build(&place, &["--compare-to", other]));
        assert_eq!(found["size"]["raw"], new.len());
        let less = new.len() - module(&["b"], 10).len();
        assert_eq!(found["raw_change"], json!(-i64::try_from(less).unwrap()));
    }
    // For people.
    let less = old.len() - module(&["b"], 10).len();
    place
        .run([
            "build",
            "app.wasm",
            "--no-shrink",
            "--compare-to",
            "old.wasm",
        ])
        .exits(0)
        .says(&format!("compared     -{less} bytes (-"))
        .says("gone import  env.a")
        .says_not("new import");
    build(&place, &["--compare-to", "app.wasm"])
        .exits(0)
        .says("the same, gzip the same");
    place.write("app.wasm", &new);
    build(&place, &["--compare-to", "old.wasm"])
        .exits(0)
        .says("note[imports-added]: app: it asks its host for what old.wasm did not: `env.c`");
}

#[test]
fn with_what_is_published_and_with_a_layout() {
    let registry = Registry::start();
    let place = Place::new();
    let name = registry.reference("acme/app:latest");
    let layout = "oci:published:latest";
    let publish = |more: &[&str]| {
        let args = ["publish", "app.wasm", "--force", "--tag=latest"];
        place.run([&args[..], &PLAIN, more].concat())
    };
    let repository = registry.reference("acme/app");
    let to_registry = ["--repository", &repository, "--compare-to", &name];
    let to_layout = ["--oci-layout", "published", "--compare-to", layout];
    for (more, name) in [(to_registry, name.as_str()), (to_layout, layout)] {
        place.write("app.wasm", module(&["a"], 100));
        // Nothing is there the first time.
        let first = publish(&more)
            .exits(0)
            .says(&format!("there is no {name} yet: nothing is compared"));
        assert_eq!(first.json()["packages"][0]["comparison"], Value::Null);
        let digest = first.json()["published"][0]["reference"].clone();
        // The new one is compared with what the tag named before.
        place.write("app.wasm", module(&["a", "b"], 100));
        let found = comparison(publish(&more));
        assert_eq!(found["with"], digest);
        assert_eq!(found["imports"]["added"], json!(["env.b"]));
        let found = comparison(build(&place, &["--compare-to", name]));
        assert_eq!(
            (&found["raw_change"], &found["gzip_change"]),
            (&json!(0), &json!(0))
        );
    }
    // The image of a runtime holds the module in an archive.
    let more = [&to_registry[..2], &["--variant=compat", "--tag=compat"]].concat();
    publish(&more).exits(0);
    let name = registry.reference("acme/app:compat");
    assert_eq!(
        comparison(build(&place, &["--compare-to", &name]))["raw_change"],
        0
    );
    // A digest that is gone is not a first time.
    let gone = registry.reference(&format!("acme/app@sha256:{}", "0".repeat(64)));
    build(&place, &["--compare-to", &gone])
        .exits(6)
        .says("to compare with");
}

#[test]
fn several_packages_are_told_apart_by_their_names() {
    let place = Place::new();
    for name in ["alpha", "beta"] {
        let manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2024\"\n");
        place.write(&format!("{name}/Cargo.toml"), manifest);
        place.write(
            &format!("{name}/src/main.rs"),
            "fn main() { println!(\"hello\"); }\n",
        );
    }
    place.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"alpha\", \"beta\"]\n",
    );
    let args = ["build", "--level=fast", "--message-format=json"];
    let first = place
        .run([&args[..], &["-p", "alpha"]].concat())
        .exits(0)
        .json();
    place.write("old.json", first.to_string());
    fs::copy(
        place.join("target/edgepack/alpha.wasm"),
        place.join("alpha.wasm"),
    )
    .unwrap();
    let run = place
        .run([&args[..], &["--compare-to", "old.json"]].concat())
        .exits(0)
        .says("`beta` is not in old.json: it is not compared");
    let report = run.json();
    let of = |name: &str| {
        let packages = report["packages"].as_array().unwrap();
        packages.iter().find(|p| p["name"] == name).unwrap()["comparison"].clone()
    };
    assert_eq!(of("alpha")["raw_change"], 0);
    assert_eq!(of("beta"), Value::Null);
    // One file is compared with one package, and that is said before anything is built.
    fs::remove_dir_all(place.join("target")).unwrap();
    place
        .run([&args[..], &["--compare-to", "alpha.wasm"]].concat())
        .exits(2)
        .says("is one module, and 2 are built")
        .says("--package");
    assert!(!place.join("target").exists());
    place
        .run([&args[..], &["--compare-to", "alpha.wasm", "-p", "beta"]].concat())
        .exits(0);
}

#[test]
fn what_cannot_be_compared_with_is_one_error() {
    let place = Place::new();
    place.write("app.wasm", module(&[], 1));
    place.write("text.wasm", "hello");
    place.write("broken.wasm", b"\0asm\x01\0\0\0\x01\x7f");
    place.write("other.json", "{\"packages\": []}");
    place.write("newer.json", "{\"schema_version\": 99, \"packages\": []}");
    place.write("dir.wasm/x", "");
    for (other, code, said) in [
        ("missing.wasm", 2, "failed to read `missing.wasm`"),
        ("artifacts/report.json", 2, "failed to read"),
        ("my.dir/old.wasm", 2, "failed to read"),
        ("", 2, ""),
        ("text.wasm", 2, "neither a .wasm file nor a report.json"),
        ("broken.wasm", 2, "does not validate"),
        ("other.json", 2, "missing field `schema_version`"),
        ("newer.json", 2, "the schema_version 99"),
        ("dir.wasm", 2, "nothing to compare with"),
        ("127.0.0.1:1/acme/app:1", 6, "127.0.0.1:1"),
    ] {
        let run = build(&place, &["--compare-to", other])
            .exits(code)
            .says(said);
        let errors = run.stderr.lines().filter(|l| l.starts_with("error"));
        assert_eq!(errors.count(), 1, "{}", run.stderr);
        assert!(!place.join("target/edgepack/app.wasm").exists());
    }
    place
        .run([
            "publish",
            "oci:x:1",
            "--compare-to=app.wasm",
            "--repository=localhost:1/a",
        ])
        .exits(2);
    build(&place, &["--username=x", "--password-stdin"])
        .exits(2)
        .says("--compare-to");
}

#[test]
fn a_password_goes_to_the_registry_that_it_is_for() {
    let guarded = || {
        Registry::with(Options {
            auth: Auth::basic("ci", "right"),
            ..Options::default()
        })
    };
    let (registry, elsewhere) = (guarded(), guarded());
    let place = Place::new();
    place.write("app.wasm", module(&["a"], 100));
    place.write("password", "right");
    let with = |args: &[&str], more: &[&str]| {
        let login = ["--username=ci", "--password-stdin"];
        let mut command = place.command([args, &PLAIN, &login, more].concat());
        command.stdin(fs::File::open(place.join("password")).unwrap());
        run(&mut command)
    };
    let repository = registry.reference("acme/app");
    let publish = [
        "publish",
        "app.wasm",
        "--tag=1",
        "--repository",
        &repository,
    ];
    let same = format!("--compare-to={repository}:1");
    let other = format!("--compare-to={}", elsewhere.reference("acme/app:1"));
    with(&publish, &[&same])
        .exits(0)
        .says("nothing is compared");
    with(&publish, &[&same]).exits(0);
    with(&publish, &[&other]).exits(6);
    let asked = elsewhere.requests();
    assert!(!asked.is_empty() && asked.iter().all(|r| r.authorized.is_none()));
    // For build it is for nobody else.
    let found = comparison(with(&["build", "app.wasm"], &[&same]));
    assert_eq!(found["raw_change"], 0);
}
