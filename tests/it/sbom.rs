//! SBOMs: what is in them, and that it is the same everywhere.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::artifact::{module, sha256};
use crate::support::peers::Peers;
use crate::support::tool::{Place, run};

/// Each crate of the workspace: its folder, and its manifest behind `[package]`.
const CRATES: &[(&str, &str)] = &[
    (
        "app",
        r#"
license = "MIT/Apache-2.0"
[features]
extra = ["dep:optional", "always/more"]
[dependencies]
always = { path = "../always" }
optional = { path = "../optional", optional = true }
macros = { path = "../macros" }
[target.'cfg(target_family = "wasm")'.dependencies]
wasm-only = { path = "../wasm-only" }
[target.'cfg(windows)'.dependencies]
windows-only = { path = "../windows-only" }
[build-dependencies]
builder = { path = "../builder" }
[dev-dependencies]
tester = { path = "../tester" }
"#,
    ),
    (
        "always",
        r#"
license = "see the lawyer"
[features]
more = ["renamed"]
[dependencies]
renamed = { package = "deep", path = "../deep", optional = true }
"#,
    ),
    ("optional", "license-file = \"LICENSE\"\n"),
    ("deep", "license = \"MIT\"\n"),
    ("wasm-only", ""),
    ("windows-only", ""),
    (
        "builder",
        "[dependencies]\nhelper = { path = \"../helper\" }\n",
    ),
    ("tester", ""),
    ("helper", ""),
    (
        "macros",
        "[lib]\nproc-macro = true\n[dependencies]\nhelper = { path = \"../helper\" }\n",
    ),
    // Turns on what `app` leaves off, when both are built.
    (
        "other",
        "[dependencies]\nalways = { path = \"../always\", features = [\"more\"] }\noptional = { path = \"../optional\" }\n",
    ),
];

fn workspace(place: &Place, folder: &str) {
    let write = |path: &str, text: &str| place.write(format!("{folder}/{path}").as_str(), text);
    write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"*\"]\nexclude = [\"target\"]\nresolver = \"2\"\n",
    );
    for (name, rest) in CRATES {
        let head =
            format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2024\"\n");
        write(&format!("{name}/Cargo.toml"), &(head + rest));
        let file = match *name {
            "app" | "other" => "main",
            _ => "lib",
        };
        let text = if file == "main" { "fn main() {}" } else { "" };
        write(&format!("{name}/src/{file}.rs"), text);
    }
    write("app/build.rs", "fn main() {}");
    write("optional/LICENSE", "yes");
}

fn sbom_in(place: &Place, folder: &str, args: &[&str]) -> Value {
    let mut command = place.command([&["sbom", "--target=wasm32-wasip1"], args].concat());
    run(command.current_dir(place.join(folder))).exits(0).json()
}

fn names(sbom: &Value) -> BTreeSet<String> {
    let components = sbom["components"].as_array().unwrap();
    components
        .iter()
        .map(|c| c["name"].as_str().unwrap().to_owned())
        .collect()
}

/// What cargo itself says, but for the package.
fn tree(folder: &Path, package: &str, args: &[&str]) -> BTreeSet<String> {
    let mut command = Command::new("cargo");
    command.current_dir(folder).args([
        "tree",
        "--edges=normal,no-proc-macro",
        "--target=wasm32-wasip1",
        "--prefix=none",
        "--package",
        package,
    ]);
    let listed = run(command.args(args)).exits(0).stdout;
    let names = listed
        .lines()
        .map(|line| line.split(' ').next().unwrap().to_owned());
    names.filter(|name| name != package).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn holds_what_is_really_in_the_module() {
    let place = Place::new();
    workspace(&place, "w");
    let folder = place.join("w");
    for (args, expected) in [
        (&[][..], &["always", "wasm-only"][..]),
        (
            &["--features=extra"],
            &["always", "wasm-only", "optional", "deep"],
        ),
        (
            &["--all-features"],
            &["always", "wasm-only", "optional", "deep"],
        ),
    ] {
        let sbom = sbom_in(&place, "w", &[&["-p", "app"], args].concat());
        assert_eq!(names(&sbom), set(expected), "{args:?}");
        assert_eq!(names(&sbom), tree(&folder, "app", args), "{args:?}");
    }
    let sbom = sbom_in(&place, "w", &["-p", "app", "--features=extra"]);
    let of = |name: &str| {
        let components = sbom["components"].as_array().unwrap();
        components
            .iter()
            .find(|c| c["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(
        sbom["metadata"]["component"]["licenses"],
        json!([{"expression": "MIT OR Apache-2.0"}])
    );
    assert_eq!(
        of("always")["licenses"],
        json!([{"license": {"name": "see the lawyer"}}])
    );
    assert_eq!(
        of("optional")["licenses"],
        json!([{"license": {"name": "see LICENSE"}}])
    );
    assert_eq!(of("wasm-only").get("licenses"), None);
    assert_eq!(
        of("deep")["purl"],
        "pkg:cargo/deep@1.0.0?download_url=file://./deep"
    );
    let edges = |name: &str| {
        let all = sbom["dependencies"].as_array().unwrap();
        let found = all
            .iter()
            .find(|d| d["ref"].as_str().unwrap().contains(&format!("/{name}@")));
        found.unwrap()["dependsOn"].clone()
    };
    assert_eq!(
        edges("always"),
        json!(["pkg:cargo/deep@1.0.0?download_url=file://./deep"])
    );
    assert_eq!(edges("app").as_array().unwrap().len(), 3);

    // In one run of cargo features are unified: `always` is built with `more`. What
    // belongs to the other package alone stays out.
    let args = [
        "build",
        "-p",
        "app",
        "-p",
        "other",
        "--target=wasm32-wasip1",
        "--sbom",
    ];
    let mut both = place.command([&args[..], &["--message-format=json"]].concat());
    let report = run(both.current_dir(&folder)).exits(0).json();
    let read = |n: usize| -> Value {
        let path = report["packages"][n]["sbom"].as_str().unwrap();
        assert!(path.ends_with(".cdx.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let (app, other) = (read(0), read(1));
    assert_eq!(app["metadata"]["component"]["name"], "app");
    assert_eq!(names(&app), set(&["always", "wasm-only", "deep"]));
    assert_eq!(names(&other), set(&["always", "optional", "deep"]));
    // It is about the file that ships.
    let wasm = fs::read(report["packages"][0]["wasm"].as_str().unwrap()).unwrap();
    let hash = &app["metadata"]["component"]["hashes"][0];
    assert_eq!(
        format!("sha256:{}", hash["content"].as_str().unwrap()),
        sha256(&wasm)
    );

    let mut two = place.command(["sbom", "-p", "app", "-p", "other"]);
    run(two.current_dir(&folder))
        .exits(2)
        .says("several packages");
    // A build without one takes away what would be about another module.
    let mut without = place.command(["build", "-p", "app", "--target=wasm32-wasip1"]);
    run(without.current_dir(&folder)).exits(0);
    assert!(!folder.join("target/edgepack/app.cdx.json").exists());
    assert!(folder.join("target/edgepack/other.cdx.json").exists());
}

#[test]
fn is_the_same_in_every_folder_and_fits_the_schema() {
    let place = Place::new();
    for folder in ["one", "somewhere/else/two"] {
        place.fixture_as("transform", folder);
    }
    let text = |folder: &str| {
        let mut command = place.command(["sbom", "--no-shrink", "-o", "s.json"]);
        command
            .env("SOURCE_DATE_EPOCH", "1000000000")
            .current_dir(place.join(folder));
        run(&mut command).exits(0);
        fs::read_to_string(place.join(folder).join("s.json")).unwrap()
    };
    let (one, two) = (text("one"), text("somewhere/else/two"));
    assert_eq!(one, two);
    assert!(!one.contains(place.path().to_str().unwrap()));
    let sbom: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(sbom["metadata"]["timestamp"], "2001-09-09T01:46:40Z");
    assert_eq!(names(&sbom), tree(&place.join("one"), "transform", &[]));
    let lock = fs::read_to_string(place.join("one/Cargo.lock")).unwrap();
    for component in sbom["components"].as_array().unwrap() {
        let hash = component["hashes"][0]["content"].as_str().unwrap();
        assert!(
            lock.contains(&format!("checksum = \"{hash}\"")),
            "{component}"
        );
        assert!(
            component["licenses"][0]["expression"].is_string(),
            "{component}"
        );
        let (name, version) = (&component["name"], &component["version"]);
        let purl = format!(
            "pkg:cargo/{}@{}",
            name.as_str().unwrap(),
            version.as_str().unwrap()
        );
        assert_eq!(component["purl"], purl);
    }
    let Some(peers) = Peers::find() else { return };
    let place = Place::new();
    workspace(&place, "w");
    let odd = sbom_in(&place, "w", &["-p", "app", "--features=extra"]);
    place.write("odd.json", odd.to_string());
    place.write("one.json", &one);
    place.write("file.wasm", auditable());
    place.run(["sbom", "file.wasm", "-o", "file.json"]).exits(0);
    for file in ["one.json", "odd.json", "file.json"] {
        assert_eq!(read_by_others(&peers, &place, file), "ok\n", "{file}");
    }
}

/// Validates strictly, and reads it with the library of the format's makers.
fn read_by_others(peers: &Peers, place: &Place, file: &str) -> String {
    const SCRIPT: &str = r#"
import json, sys
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
text = open(sys.argv[1]).read()
error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
assert error is None, error
document = json.loads(text)
bom = Bom.from_json(document)
assert bom.validate()
assert len(bom.components) == len(document["components"])
for theirs in bom.components:
    ours = next(c for c in document["components"] if c["bom-ref"] == theirs.bom_ref.value)
    assert ours.get("purl") == (theirs.purl and theirs.purl.to_string()), ours
assert str(bom.serial_number) == document["serialNumber"].removeprefix("urn:uuid:")
print("ok")
"#;
    let mut python = peers.command("cyclonedx-python", place);
    run(python.args(["-c", SCRIPT, file])).exits(0).stdout
}

/// A module that lists its crates as cargo-auditable does.
fn auditable() -> Vec<u8> {
    let list = json!({"packages": [
        {"name": "deep", "version": "0.3.0", "source": "crates.io"},
        {"name": "builder", "version": "0.1.0", "source": "crates.io", "kind": "build"},
        {"name": "demo", "version": "1.2.3", "source": "local", "dependencies": [1, 3], "root": true},
        {"name": "lib", "version": "0.2.0", "source": "git", "dependencies": [0]},
    ]});
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(list.to_string().as_bytes()).unwrap();
    let data = packed.finish().unwrap();
    let mut bytes = module(100, 1);
    let section = wasm_encoder::CustomSection {
        name: ".dep-v0".into(),
        data: data.into(),
    };
    wasm_encoder::Section::append_to(&section, &mut bytes);
    bytes
}

#[test]
fn a_file_says_what_it_knows_of_itself() {
    let place = Place::new();
    let bytes = auditable();
    place.write("demo.wasm", &bytes);
    let sbom = place
        .run(["sbom", "demo.wasm", "--as-version=1.2.3"])
        .exits(0)
        .json();
    assert_eq!(names(&sbom), set(&["deep", "lib"]));
    let root = &sbom["metadata"]["component"];
    assert_eq!(
        (&root["name"], &root["version"]),
        (&json!("demo"), &json!("1.2.3"))
    );
    let hash = root["hashes"][0]["content"].as_str().unwrap();
    assert_eq!(format!("sha256:{hash}"), sha256(&bytes));
    assert_eq!(
        sbom["dependencies"],
        json!([
            {"ref": "demo@1.2.3", "dependsOn": ["lib@0.2.0"]},
            {"ref": "lib@0.2.0", "dependsOn": ["pkg:cargo/deep@0.3.0"]},
            {"ref": "pkg:cargo/deep@0.3.0", "dependsOn": []},
        ])
    );
    // One that says nothing.
    place.write("plain.wasm", module(100, 1));
    let sbom = place.run(["sbom", "plain.wasm"]).exits(0).json();
    assert_eq!(names(&sbom), set(&[]));
    // One whose list is damaged, and one that would be written over.
    let at = bytes.windows(7).position(|w| w == b".dep-v0").unwrap() + 7;
    let mut damaged = bytes.clone();
    damaged[at..].fill(0);
    place.write("damaged.wasm", damaged);
    let words = "the list of crates in damaged (`.dep-v0`) cannot be read";
    let sbom = place.run(["sbom", "damaged.wasm"]).exits(0).says(words);
    assert_eq!(names(&sbom.json()), set(&[]));
    let build = ["build", "damaged.wasm", "--sbom"];
    place.run(build).exits(0).says(words);
    for output in ["demo.wasm", "./demo.wasm"] {
        place
            .run(["sbom", "demo.wasm", "-o", output])
            .exits(2)
            .says("would take the place of `demo.wasm`, which is read");
    }
    assert_eq!(fs::read(place.join("demo.wasm")).unwrap(), bytes);
    place.run(["sbom", "missing.wasm"]).exits(1);
    place.write("text.wasm", "text");
    place.run(["sbom", "text.wasm"]).exits(3);
    // Built from it, and written beside it.
    let report = place
        .run(["build", "demo.wasm", "--sbom", "--message-format=json"])
        .exits(0)
        .json();
    let path = report["packages"][0]["sbom"].as_str().unwrap();
    let sbom: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(names(&sbom), set(&["deep", "lib"]));
}
