//! What `build --variant` packs, judged by the rules of those who pull it.
//!
//! Each function below says what one puller does with an artifact, step by step and
//! with nothing of ours: which fields it reads, what it refuses. They were written
//! after reading
//!
//! - Istio: `pkg/wasm/imagefetcher.go` of istio/istio (`PrepareFetch`,
//!   `extractOCIStandardImage`, `extractWasmPluginBinary`, `extractOCIArtifactImage`);
//! - runwasi: `crates/containerd-shim-wasm/src/containerd/client.rs` (`load_modules`),
//!   `src/shim/context.rs` (`entrypoint`) and `src/shim/shim.rs`
//!   (`supported_layers_types`, `can_handle`) of containerd/runwasi;
//! - crun: `src/libcrun/handlers/handler-utils.c` (`wasm_can_handle_container`,
//!   `wasm_interpret_header`) and `src/libcrun/utils.c` (`find_executable`,
//!   `check_access`) of containers/crun;
//! - podman: `PlatformToOCIRuntime` in `pkg/config/default.go` of containers/common;
//! - Kubewarden: `src/registry/mod.rs` of kubewarden/policy-fetcher (`fetch`), and
//!   `pull` with `validate_layers` in `src/client.rs` of oras-project/rust-oci-client,
//!   which it calls;
//! - wkg: `crates/wasm-pkg-client/src/oci/loader.rs` of bytecodealliance/wasm-pkg-tools,
//!   and what it calls, `src/client.rs` and `src/config.rs` of bytecodealliance/rust-oci-wasm.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::tool::{Place, run};

const MODULE: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "some data that the module has")
  (func (export "_start") i32.const 0 call 0))"#;

/// An artifact as a registry would serve it.
struct Image {
    layout: PathBuf,
    manifest: Value,
}

struct Layer {
    media_type: String,
    bytes: Vec<u8>,
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

impl Image {
    fn open(layout: &Path, tag: &str) -> Self {
        let index: Value =
            serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let entries = index["manifests"].as_array().unwrap();
        let named = |e: &&Value| {
            e["annotations"]["org.opencontainers.image.ref.name"].as_str() == Some(tag)
        };
        let entry = entries
            .iter()
            .find(named)
            .unwrap_or_else(|| panic!("{index}"));
        assert_eq!(
            entry["mediaType"], "application/vnd.oci.image.manifest.v1+json",
            "no index"
        );
        let bytes = read(layout, entry);
        Image {
            layout: layout.to_owned(),
            manifest: serde_json::from_slice(&bytes).unwrap(),
        }
    }

    fn layers(&self) -> Vec<Layer> {
        let layers = self.manifest["layers"].as_array().unwrap().iter();
        layers
            .map(|descriptor| Layer {
                media_type: descriptor["mediaType"].as_str().unwrap().to_owned(),
                bytes: read(&self.layout, descriptor),
            })
            .collect()
    }

    fn config(&self) -> Value {
        serde_json::from_slice(&read(&self.layout, &self.manifest["config"])).unwrap()
    }
}

fn read(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let path = layout.join("blobs").join(digest.replace(':', "/"));
    let bytes = fs::read(path).unwrap();
    assert_eq!(sha256(&bytes), digest);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

/// Istio's agent. Its errors, of both attempts, in the order of its own.
fn istio(image: &Image) -> Result<Vec<u8>, String> {
    assert_ne!(
        image.manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json",
        "that way is for Docker's own manifests"
    );
    istio_compat(image).or_else(|compat| {
        istio_oci(image).map_err(|oci| format!("compat variant: {compat}; oci variant: {oci}"))
    })
}

fn istio_compat(image: &Image) -> Result<Vec<u8>, String> {
    let layers = image.layers();
    let layer = layers.last().ok_or("no layers")?;
    if layer.media_type != "application/vnd.oci.image.layer.v1.tar+gzip" {
        return Err(format!("invalid media type {}", layer.media_type));
    }
    // Go's gzip reader goes on over members, as this one does.
    let plain = flate2::read::MultiGzDecoder::new(&layer.bytes[..]);
    let mut archive = tar::Archive::new(plain);
    for entry in archive.entries().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| e.to_string())?;
        let name = entry.path().unwrap().into_owned();
        if name.file_name().is_some_and(|base| base == "plugin.wasm") {
            let mut module = Vec::new();
            entry.read_to_end(&mut module).map_err(|e| e.to_string())?;
            return Ok(module);
        }
    }
    Err("plugin.wasm not found in the archive".into())
}

fn istio_oci(image: &Image) -> Result<Vec<u8>, String> {
    let layers = image.layers();
    if layers.len() != 2 {
        return Err(format!(
            "number of layers must be 2 but got {}",
            layers.len()
        ));
    }
    let wanted = "application/vnd.module.wasm.content.layer.v1+wasm";
    let layer = layers.into_iter().find(|l| l.media_type == wanted);
    Ok(layer.ok_or("no layer of that type")?.bytes)
}

/// A container's root file system and what is started in it.
struct Container {
    files: BTreeMap<String, (u32, Vec<u8>)>,
    args: Vec<String>,
    annotations: Value,
    platform: String,
}

/// What containerd and containers/storage make of an image: every layer must be an
/// archive, and its diff id must be right.
fn unpack(image: &Image) -> Container {
    let config = image.config();
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    assert_eq!(config["rootfs"]["type"], "layers");
    let layers = image.layers();
    assert_eq!(diff_ids.len(), layers.len());
    let history = config["history"].as_array().unwrap();
    let filled = history.iter().filter(|h| h["empty_layer"] != true).count();
    assert_eq!(
        filled,
        layers.len(),
        "skopeo holds history and layers together"
    );
    let mut files = BTreeMap::new();
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        assert_eq!(
            layer.media_type,
            "application/vnd.oci.image.layer.v1.tar+gzip"
        );
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&layer.bytes[..])
            .read_to_end(&mut plain)
            .unwrap();
        assert_eq!(sha256(&plain), diff_id.as_str().unwrap());
        for entry in tar::Archive::new(&plain[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            assert!(entry.header().entry_type().is_file());
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let path = format!("/{}", entry.path().unwrap().display());
            files.insert(path, (entry.header().mode().unwrap(), bytes));
        }
    }
    let words = |key: &str| {
        let words = config["config"][key]
            .as_array()
            .cloned()
            .unwrap_or_default();
        words.into_iter().map(|w| w.as_str().unwrap().to_owned())
    };
    Container {
        files,
        args: words("Entrypoint").chain(words("Cmd")).collect(),
        annotations: image.manifest["annotations"].clone(),
        platform: format!(
            "{}/{}",
            config["os"].as_str().unwrap(),
            config["architecture"].as_str().unwrap()
        ),
    }
}

/// A runwasi shim: the Wasm layers if there are any, else the entrypoint's file.
fn runwasi(image: &Image) -> Result<Vec<u8>, String> {
    let supported = [
        "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
        "application/wasm",
    ];
    let config = image.config();
    // `Platform` of oci-spec: both are required.
    let architecture = config["architecture"].as_str().ok_or("no architecture")?;
    config["os"].as_str().ok_or("no os")?;
    let mut modules = Vec::new();
    if architecture == "wasm" {
        let layers = image.layers().into_iter();
        modules.extend(layers.filter(|l| supported.contains(&l.media_type.as_str())));
    }
    match modules.len() {
        0 => {}
        1 => return Ok(modules.remove(0).bytes),
        _ => return Err("only a single module is supported".into()),
    }
    let container = unpack(image);
    let arg0 = container.args.first().ok_or("no entrypoint")?;
    let (path, function) = arg0.split_once('#').unwrap_or((arg0, "_start"));
    assert_eq!(function, "_start");
    let (_, module) = container.files.get(path).ok_or("module not found")?;
    if module.starts_with(b"\0asm") {
        Ok(module.clone())
    } else {
        Err("no Wasm".into())
    }
}

/// crun, given the annotations of the image, as CRI-O and older podmans do.
fn crun(container: &Container) -> Result<Vec<u8>, String> {
    let arg0 = container.args.first().ok_or("no arguments")?;
    let (mode, module) = container.files.get(arg0).ok_or("no such file")?;
    if mode & 0o111 == 0 {
        return Err(format!("{arg0} may not be executed"));
    }
    let wasm_name = [".wat", ".wasm"].iter().any(|suffix| {
        let from = arg0.len().saturating_sub(suffix.len());
        arg0[from..].eq_ignore_ascii_case(suffix)
    });
    let handled = match container.annotations["module.wasm.image/variant"].as_str() {
        Some("compat-smart") => wasm_name,
        Some("compat") => true,
        _ => false,
    };
    if !handled {
        return Err("not handled as Wasm".into());
    }
    if module.len() < 8 || !module.starts_with(b"\0asm") || module[6..8] != [0, 0] {
        return Err("no core module".into());
    }
    Ok(module.clone())
}

/// Kubewarden's fetcher: an index is an error, and so is any layer of another type;
/// the first is the policy.
fn kubewarden(image: &Image) -> Result<Vec<u8>, String> {
    if image.manifest["mediaType"] != "application/vnd.oci.image.manifest.v1+json" {
        return Err("no image manifest".into());
    }
    let accepted = "application/vnd.wasm.content.layer.v1+wasm";
    let layers = image.layers();
    if let Some(other) = layers.iter().find(|l| l.media_type != accepted) {
        return Err(format!(
            "incompatible layer media type: {}",
            other.media_type
        ));
    }
    let first = layers.into_iter().next().ok_or("no layers")?;
    Ok(first.bytes)
}

/// wkg: `pull_manifest_and_config`, then `pull`.
fn wkg(image: &Image) -> Result<Vec<u8>, String> {
    let mut layers = image.layers();
    if layers.len() != 1 {
        return Err("exactly one layer".into());
    }
    if image.manifest["mediaType"] != "application/vnd.oci.image.manifest.v1+json" {
        return Err("manifest media type".into());
    }
    if image.manifest["config"]["mediaType"] != "application/vnd.wasm.config.v0+json" {
        return Err("config media type".into());
    }
    let config = image.config();
    for field in ["created", "architecture", "os"] {
        config[field].as_str().ok_or(field)?;
    }
    config["layerDigests"].as_array().ok_or("layerDigests")?;
    if layers[0].media_type != "application/wasm" {
        return Err("layer media type".into());
    }
    Ok(layers.remove(0).bytes)
}

fn build(place: &Place, variants: &str) -> Value {
    place.write("demo.wasm", wat::parse_str(MODULE).unwrap());
    place
        .run(
            ["build", "demo.wasm", "--as-version", "1.2.3+b", "--variant"]
                .into_iter()
                .chain([variants, "--message-format=json"]),
        )
        .exits(0)
        .json()
}

#[test]
fn each_puller_gets_the_module_from_its_variant() {
    let place = Place::new();
    build(&place, "wasm,compat,kubewarden");
    let module = fs::read(place.join("target/edgepack/demo.wasm")).unwrap();
    let layout = place.join("target/edgepack/oci");
    let wasm = Image::open(&layout, "demo:1.2.3_b");
    let compat = Image::open(&layout, "demo-compat:1.2.3_b");
    let policy = Image::open(&layout, "demo-kubewarden:1.2.3_b");

    assert_eq!(wkg(&wasm).unwrap(), module);
    assert_eq!(runwasi(&wasm).unwrap(), module);
    assert_eq!(istio(&compat).unwrap(), module);
    assert_eq!(runwasi(&compat).unwrap(), module);
    assert_eq!(crun(&unpack(&compat)).unwrap(), module);
    assert_eq!(kubewarden(&policy).unwrap(), module);

    // podman chooses crun-wasm by the platform.
    let platforms = ["wasi/wasm", "wasi/wasm32", "wasi/wasm64"];
    assert!(platforms.contains(&unpack(&compat).platform.as_str()));

    // The rules do tell the forms apart.
    istio(&wasm).unwrap_err();
    istio(&policy).unwrap_err();
    kubewarden(&wasm).unwrap_err();
    kubewarden(&compat).unwrap_err();
    wkg(&compat).unwrap_err();
    wkg(&policy).unwrap_err();
}

#[test]
fn the_report_lists_them_in_the_order_that_was_asked_for() {
    let place = Place::new();
    let report = build(&place, "compat,wasm,compat");
    let package = &report["packages"][0];
    let artifacts = package["artifacts"].as_array().unwrap();
    let names: Vec<_> = artifacts
        .iter()
        .map(|a| a["variant"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["compat", "wasm"]);
    assert_eq!(artifacts[0], package["oci"]);
    assert_eq!(artifacts[0]["tag"], "demo-compat:1.2.3_b");
    assert_eq!(artifacts[1]["tag"], "demo:1.2.3_b");
    let schema = place.run(["schema", "report"]).exits(0).json();
    let schema = jsonschema::validator_for(&schema).unwrap();
    assert!(schema.is_valid(&report), "{report}");
    // The manifest of the default does not depend on what else is packed.
    let alone = Place::new();
    assert_eq!(
        build(&alone, "wasm")["packages"][0]["oci"]["manifest_digest"],
        artifacts[1]["manifest_digest"]
    );
}

#[test]
fn digests_are_the_same_everywhere() {
    let digests = || {
        let place = Place::new();
        let report = build(&place, "wasm,compat,kubewarden");
        let artifacts = report["packages"][0]["artifacts"]
            .as_array()
            .unwrap()
            .iter();
        artifacts
            .map(|a| a["manifest_digest"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let one = digests();
    assert_eq!(one.len(), 3);
    assert_eq!(one, digests());
}

#[test]
fn components_are_refused_where_they_cannot_run() {
    let place = Place::new();
    place.write("c.wasm", wat::parse_str("(component)").unwrap());
    let done = place
        .run([
            "build",
            "c.wasm",
            "--variant=wasm,compat",
            "--variant=kubewarden",
        ])
        .exits(3)
        .says("error[variant-needs-module]: c: the variant `compat` is for core modules")
        .says("the variant `kubewarden` is for core modules")
        .says("hint: ");
    assert_eq!(done.stdout, "");
    let report = fs::read(place.join("target/edgepack/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["packages"][0]["oci"], Value::Null);
    assert_eq!(report["packages"][0]["artifacts"], serde_json::json!([]));
    assert!(!place.join("target/edgepack/oci").exists());
    place.run(["build", "c.wasm"]).exits(0);
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_manifest() {
    let place = Place::new();
    let folder = place.fixture("plugin");
    let manifest = folder.join("Cargo.toml");
    let mut text = fs::read_to_string(&manifest).unwrap();
    text += "\n[package.metadata.edgepack.publish]\nvariants = [\"kubewarden\"]\n";
    fs::write(&manifest, text).unwrap();
    let variant = |flag: &[&str], variable: &str| {
        let report = run(place
            .command(["build", "--message-format=json"])
            .args(flag)
            .env("EDGEPACK_PUBLISH_VARIANTS", variable)
            .current_dir(&folder))
        .exits(0)
        .json();
        report["packages"][0]["oci"]["variant"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(variant(&[], ""), "kubewarden");
    assert_eq!(variant(&[], "compat, wasm"), "compat");
    assert_eq!(variant(&["--variant", "wasm"], "compat"), "wasm");
}

#[test]
fn names_that_a_variant_makes_equal_are_refused() {
    let place = Place::new();
    place.write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"demo\", \"demo-compat\"]\nresolver = \"2\"\n",
    );
    for name in ["demo", "demo-compat"] {
        let manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        place.write(&format!("{name}/Cargo.toml"), manifest);
        place.write(&format!("{name}/src/main.rs"), "fn main() {}\n");
    }
    place
        .run(["build", "--workspace", "--variant", "wasm,compat"])
        .exits(2)
        .says("two artifacts are called `demo-compat`");
}

#[test]
fn a_variant_that_there_is_not_is_named() {
    let place = Place::new();
    place.write("demo.wasm", wat::parse_str(MODULE).unwrap());
    place
        .run(["build", "demo.wasm", "--variant", "comapt"])
        .exits(2)
        .says("did you mean `compat`?");
    run(place
        .command(["build", "demo.wasm"])
        .env("EDGEPACK_PUBLISH_VARIANTS", "wasm,"))
    .exits(2)
    .says("EDGEPACK_PUBLISH_VARIANTS");
}
