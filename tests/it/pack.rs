//! The artifact: what is in the image layout, and that its digest is the same
//! everywhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::tool::{Place, run};

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// Reads a blob and checks it against the descriptor that names it.
fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let name = descriptor["digest"].as_str().unwrap();
    let bytes = fs::read(
        layout
            .join("blobs/sha256")
            .join(name.strip_prefix("sha256:").unwrap()),
    )
    .unwrap();
    assert_eq!(digest(&bytes), name);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn manifest_digest(report: &Value) -> String {
    report["packages"][0]["oci"]["manifest_digest"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn the_layout_holds_a_cncf_wasm_artifact() {
    let place = Place::new();
    let folder = place.fixture("http");
    let manifest = folder.join("Cargo.toml");
    let args = [
        "build",
        "--manifest-path",
        manifest.to_str().unwrap(),
        "--message-format=json",
    ];
    let report = place.run(args).exits(0).json();
    let layout = folder.join("target/edgepack/oci");
    assert_eq!(
        report["packages"][0]["oci"]["layout"],
        layout.to_str().unwrap()
    );
    assert_eq!(report["packages"][0]["oci"]["variant"], "wasm");

    assert_eq!(
        json(&fs::read(layout.join("oci-layout")).unwrap())["imageLayoutVersion"],
        "1.0.0"
    );
    let index = json(&fs::read(layout.join("index.json")).unwrap());
    assert_eq!(index["schemaVersion"], 2);
    let entry = &index["manifests"][0];
    assert_eq!(
        entry["annotations"]["org.opencontainers.image.ref.name"],
        "http-hello:0.1.0"
    );
    assert_eq!(entry["digest"], manifest_digest(&report));

    let manifest = json(&blob(&layout, entry));
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(manifest.get("artifactType"), None);
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.wasm.config.v0+json"
    );
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1);
    assert_eq!(layers[0]["mediaType"], "application/wasm");
    assert_eq!(
        layers[0]["annotations"]["org.opencontainers.image.title"],
        "http-hello.wasm"
    );
    assert_eq!(
        blob(&layout, &layers[0]),
        fs::read(report["packages"][0]["wasm"].as_str().unwrap()).unwrap()
    );

    let config = json(&blob(&layout, &manifest["config"]));
    assert_eq!(config["architecture"], "wasm");
    assert_eq!(config["os"], "wasip2");
    assert_eq!(config["layerDigests"][0], layers[0]["digest"]);
    assert_eq!(
        config["created"], "1970-01-01T00:00:00Z",
        "there is no commit and no SOURCE_DATE_EPOCH"
    );
    assert_eq!(config["component"]["target"], "wasi:http/proxy");
    assert_eq!(
        config["component"]["imports"],
        report["packages"][0]["imports"]
    );
    assert_eq!(
        config["component"]["exports"],
        report["packages"][0]["exports"]
    );
}

#[test]
fn the_same_source_gives_the_same_digest_at_any_path() {
    let place = Place::new();
    // Longer and shorter paths, so that a path that got in would show.
    let folders = [
        place.fixture_as("transform", "a"),
        place.fixture_as("transform", "a-much/longer/path/to/it"),
    ];
    let mut digests = Vec::new();
    for folder in &folders {
        for _ in 0..2 {
            // No cache: the optimiser has to come to the same bytes each time.
            let done = run(place
                .command(["build", "--message-format=json"])
                .current_dir(folder)
                .env(
                    "EDGEPACK_CACHE_DIR",
                    folder.join(format!("cache-{}", digests.len())),
                ))
            .exits(0);
            digests.push(manifest_digest(&done.json()));
        }
        let module = fs::read(folder.join("target/edgepack/transform.wasm")).unwrap();
        let path = place.path().to_str().unwrap().as_bytes();
        assert!(
            !module.windows(path.len()).any(|w| w == path),
            "the folder's path is in the module"
        );
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
}

#[test]
fn panics_name_no_folder_of_this_machine() {
    let place = Place::new();
    place.write("app/Cargo.toml", "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nhelper = { path = \"../helper\" }\n");
    place.write("app/build.rs", "fn main() { let out = std::env::var(\"OUT_DIR\").unwrap(); std::fs::write(format!(\"{out}/made.rs\"), \"pub fn made(x: &[u8], i: usize) -> u8 { x[i] }\").unwrap(); }\n");
    place.write("app/src/main.rs", "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\nfn main() { let a: Vec<u8> = std::env::args().map(|a| a.len() as u8).collect(); println!(\"{} {}\", made(&a, a[0] as usize), helper::at(&a, a[1] as usize)); }\n");
    place.write(
        "helper/Cargo.toml",
        "[package]\nname = \"helper\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ndistant = { path = \"../distant\" }\n",
    );
    place.write(
        "helper/src/lib.rs",
        "pub fn at(x: &[u8], i: usize) -> u8 { x[i] + distant::at(x, i + 1) }\n",
    );
    place.write(
        "distant/Cargo.toml",
        "[package]\nname = \"distant\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    );
    place.write(
        "distant/src/lib.rs",
        "pub fn at(x: &[u8], i: usize) -> u8 { x[i] }\n",
    );
    place
        .run(["build", "--manifest-path", "app/Cargo.toml"])
        .exits(0);
    let module = fs::read(place.join("app/target/edgepack/app.wasm")).unwrap();
    let holds = |text: &str| module.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(!holds(place.path().to_str().unwrap()));
    assert!(
        holds("/path/helper/src/lib.rs"),
        "the dependency outside the workspace keeps a name"
    );
    assert!(
        holds("/path/distant/src/lib.rs"),
        "and so does one that only that one needs"
    );
    assert!(holds("made.rs"));
}

#[test]
fn the_time_is_the_commits_unless_told() {
    let place = Place::new();
    let folder = place.fixture("plugin");
    let created = |epoch: Option<&str>| {
        let mut command = place.command(["build", "--message-format=json"]);
        command.current_dir(&folder);
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        let report = run(&mut command).exits(0).json();
        let layout = folder.join("target/edgepack/oci");
        let name = manifest_digest(&report);
        let manifest = json(
            &fs::read(
                layout
                    .join("blobs/sha256")
                    .join(name.strip_prefix("sha256:").unwrap()),
            )
            .unwrap(),
        );
        let config = json(&blob(&layout, &manifest["config"]));
        (
            config["created"].as_str().unwrap().to_owned(),
            manifest["annotations"].clone(),
        )
    };
    assert_eq!(created(None).0, "1970-01-01T00:00:00Z");
    let git = |args: &[&str]| {
        let status = Command::new("git")
            .args([
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@example.com",
                "-c",
                "commit.gpgsign=false",
            ])
            .args(args)
            .current_dir(&folder)
            .env("GIT_COMMITTER_DATE", "1700000000 +0000")
            .output()
            .unwrap();
        assert!(status.status.success(), "{status:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "Cargo.toml"]);
    git(&["commit", "-q", "-m", "x"]);
    let (time, annotations) = created(None);
    assert_eq!(time, "2023-11-14T22:13:20Z");
    assert_eq!(
        annotations["org.opencontainers.image.created"],
        "2023-11-14T22:13:20Z"
    );
    assert_eq!(
        annotations["org.opencontainers.image.revision"]
            .as_str()
            .unwrap()
            .len(),
        40
    );
    assert_eq!(created(Some("86400")).0, "1970-01-02T00:00:00Z");
    for wrong in ["yesterday", "-1", "999999999999999"] {
        run(place
            .command(["build"])
            .current_dir(&folder)
            .env("SOURCE_DATE_EPOCH", wrong))
        .exits(2)
        .says("SOURCE_DATE_EPOCH");
    }
}

#[test]
fn a_file_keeps_its_bytes_where_nothing_is_shrunk() {
    let place = Place::new();
    let module = wat::parse_str("(module (func $unused) (func (export \"f\") (result i32) i32.const 1 i32.const 2 i32.add))").unwrap();
    place.write("in.wasm", &module);
    let report = place
        .run(["build", "in.wasm", "--no-shrink", "--message-format=json"])
        .exits(0)
        .json();
    assert_eq!(
        fs::read(place.join("target/edgepack/in.wasm")).unwrap(),
        module
    );
    assert_eq!(report["packages"][0]["target"], Value::Null);
    let one = manifest_digest(&report);
    // Elsewhere, under another clock: the same digest.
    let other = Place::new();
    other.write("in.wasm", &module);
    let report = other
        .run(["build", "in.wasm", "--no-shrink", "--message-format=json"])
        .exits(0)
        .json();
    assert_eq!(manifest_digest(&report), one);
    place
        .run(["build", "in.wasm", "--name", "x", "--as-version", "2.0.0"])
        .exits(0);
    let index = fs::read_to_string(place.join("target/edgepack/oci/index.json")).unwrap();
    assert!(
        index.contains("\"in:0.0.0\"") && index.contains("\"x:2.0.0\""),
        "{index}"
    );
}
