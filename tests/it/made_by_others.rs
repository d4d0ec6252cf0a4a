//! Layouts, lists and images that others made: what they say stays, what they mean is
//! understood.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::artifact::{Artifact, LAYOUT, REPOSITORY, TAG, module, sha256};
use crate::support::registry::{Auth, Fault, Lifetime, Options, Registry};
use crate::support::tool::Place;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layout under construction.
struct Layout<'a> {
    place: &'a Place,
    name: &'a str,
    entries: Vec<Value>,
}

impl<'a> Layout<'a> {
    fn new(place: &'a Place, name: &'a str) -> Self {
        let version = json!({"imageLayoutVersion": "1.0.0"});
        place.write(&format!("{name}/oci-layout"), version.to_string());
        Layout {
            place,
            name,
            entries: Vec::new(),
        }
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        self.place.write(
            &format!("{}/blobs/sha256/{}", self.name, &digest[7..]),
            bytes,
        );
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn json(&self, media_type: &str, value: &Value) -> Value {
        self.blob(media_type, value.to_string().as_bytes())
    }

    /// A manifest of one module.
    fn artifact(&self, module: &[u8]) -> Value {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/wasm",
            "config": self.blob("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [self.blob("application/wasm", module)],
        });
        self.json(MANIFEST, &manifest)
    }

    fn index(&self, manifests: &[&Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.json(INDEX, &index)
    }

    fn list(&mut self, entry: &Value, tag: Option<&str>) {
        let mut entry = entry.clone();
        if let Some(tag) = tag {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        }
        self.entries.push(entry);
    }

    fn write(&self) -> PathBuf {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": self.entries,
            "annotations": {"org.example.made-by": "hand"},
        });
        let name = format!("{}/index.json", self.name);
        self.place.write(&name, index.to_string())
    }
}

fn digest(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().to_owned()
}

#[test]
fn what_a_layout_says_stays() {
    let place = Place::new();
    let mut layout = Layout::new(&place, "lay");
    let one = module(1000, 1);
    let mut entry = layout.artifact(&one);
    entry["platform"] = json!({"architecture": "wasm", "os": "wasip1", "variant": "x"});
    entry["urls"] = json!(["https://example.org/one"]);
    layout.list(&entry, Some("1.0.0"));
    let other =
        json!({"mediaType": MANIFEST, "digest": format!("sha512:{}", "0".repeat(128)), "size": 7});
    layout.list(&other, Some("far"));
    // The specification lets a layout list what it does not hold.
    let absent = json!({"mediaType": MANIFEST, "digest": sha256(b"absent"), "size": 6});
    layout.list(&absent, Some("absent"));
    let index = layout.write();
    let before: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();

    let registry = Registry::start();
    let repository = registry.reference(REPOSITORY);
    place
        .run(["publish", "oci:lay:1.0.0", "--repository", &repository])
        .exits(0);
    assert_eq!(registry.tags(REPOSITORY)["1.0.0"], digest(&entry));
    place
        .run(["pull", "oci:lay:1.0.0", "-o", "out.wasm"])
        .exits(0);
    assert!(fs::read(place.join("out.wasm")).unwrap() == one);
    place
        .run(["pull", "oci:lay:absent", "-o", "no.wasm"])
        .exits(6)
        .says("missing");

    place
        .run(["pull", "oci:lay:far", "-o", "no.wasm"])
        .exits(6)
        .says("sha512");
    place.write("two.wasm", module(1000, 2));
    let publish = ["publish", "two.wasm", "--as-version", "2.0.0"];
    place
        .run([&publish[..], &["--oci-layout", "lay", "-t", "far"]].concat())
        .exits(6)
        .says("another digest than sha256");
    place
        .run([&publish[..], &["--oci-layout", "oci:lay"]].concat())
        .exits(0);
    let after: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    assert_eq!(after["annotations"], before["annotations"]);
    let entries = after["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 4);
    for entry in before["manifests"].as_array().unwrap() {
        assert!(entries.contains(entry), "{entry} is not in {after}");
    }
}

#[test]
fn what_a_list_of_referrers_says_stays() {
    let artifact = Artifact::new(1000);
    let ours = artifact.attach("application/spdx+json", b"{}");
    let registry = Registry::with(Options {
        referrers_api: false,
        ..Options::default()
    });
    let tag = artifact.digest.replace(':', "-");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
            "digest": registry.put_blob(REPOSITORY, "{}")},
        "layers": [],
    })
    .to_string();
    let theirs = registry.put_manifest(
        REPOSITORY,
        &sha256(manifest.as_bytes()),
        MANIFEST,
        &*manifest,
    );
    let theirs = json!({
        "mediaType": MANIFEST, "digest": theirs, "size": manifest.len(),
        "platform": {"architecture": "wasm", "os": "wasi"}, "annotations": {"a": "b"},
    });
    let list = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [theirs],
        "annotations": {"c": "d"},
    });
    registry.put_manifest(REPOSITORY, &tag, INDEX, list.to_string());
    artifact.publish(&registry.host(), &[]).exits(0);
    let list: Value =
        serde_json::from_slice(&registry.manifest(REPOSITORY, &tag).unwrap()).unwrap();
    let entries = list["manifests"].as_array().unwrap();
    assert!(entries.contains(&theirs), "{list}");
    assert!(entries.iter().any(|e| e["digest"] == ours), "{list}");
    assert_eq!(list["annotations"], json!({"c": "d"}));
}

#[test]
fn indexes_and_what_is_in_them() {
    let place = Place::new();
    let mut layout = Layout::new(&place, "lay");
    let (wasm, native) = (module(1000, 1), module(1000, 2));
    let mut first = layout.artifact(&native);
    first["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let mut second = layout.artifact(&wasm);
    second["platform"] = json!({"architecture": "wasm", "os": "wasip1"});
    let platforms = layout.index(&[&first, &second]);
    layout.list(&platforms, Some("platforms"));
    layout.list(&layout.index(&[&platforms]), Some("nested"));
    let mut third = layout.artifact(&module(1000, 3));
    third["platform"] = second["platform"].clone();
    layout.list(&layout.index(&[&second, &third]), Some("two"));
    // A referrer that is an index itself.
    let referrer = json!({
        "schemaVersion": 2, "mediaType": INDEX, "artifactType": "application/vnd.example.set",
        "manifests": [], "annotations": {"e": "f"},
        "subject": {"mediaType": INDEX, "digest": platforms["digest"], "size": platforms["size"]},
    });
    let referrer = layout.json(INDEX, &referrer);
    layout.list(&referrer, None);
    layout.write();

    let pull = |version: &str| {
        let _ = fs::remove_file(place.join("out.wasm"));
        place.run(["pull", &format!("oci:lay{version}"), "-o", "out.wasm"])
    };
    for version in [":platforms", ":nested"] {
        pull(version).exits(0);
        assert!(
            fs::read(place.join("out.wasm")).unwrap() == wasm,
            "{version}"
        );
    }
    // One of several is named as the hint says.
    let hint = pull(":two").exits(6).stderr;
    let named = hint.split("such as ").nth(1).unwrap().trim();
    assert_eq!(named, digest(&second));
    pull(&format!("@{named}")).exits(0);
    assert!(fs::read(place.join("out.wasm")).unwrap() == wasm);
    pull(&format!("@{}", sha256(b"nothing"))).exits(6);

    for referrers_api in [true, false] {
        let registry = Registry::with(Options {
            referrers_api,
            ..Options::default()
        });
        let repository = registry.reference(REPOSITORY);
        place
            .run(["publish", "oci:lay:platforms", "--repository", &repository])
            .exits(0);
        assert!(registry.is_complete(REPOSITORY, "platforms"));
        let found = registry.referrers(REPOSITORY, &digest(&platforms));
        assert_eq!(found, [digest(&referrer)]);
    }
}

/// Layers of an image, from the lowest, each of files in an archive.
fn image(registry: &Registry, config: &Value, layers: &[&[(&str, &[u8])]]) -> String {
    let config = config.to_string();
    let layers: Vec<Value> = layers
        .iter()
        .map(|files| {
            let mut archive = GzEncoder::new(Vec::new(), Compression::fast());
            for (path, contents) in *files {
                let mut header = tar::Header::new_ustar();
                // Not by the crate's own way, which takes no absolute ones.
                header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
                header.set_size(contents.len() as u64);
                header.set_mode(0o644);
                header.set_cksum();
                archive.write_all(header.as_bytes()).unwrap();
                archive.write_all(contents).unwrap();
                let padding = contents.len().next_multiple_of(512) - contents.len();
                archive.write_all(&vec![0; padding]).unwrap();
            }
            archive.write_all(&[0; 1024]).unwrap();
            let bytes = archive.finish().unwrap();
            let size = bytes.len();
            json!({"mediaType": TAR_GZIP, "digest": registry.put_blob(REPOSITORY, bytes), "size": size})
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": registry.put_blob(REPOSITORY, config.as_str()),
            "size": config.len(),
        },
        "layers": layers,
    });
    registry.put_manifest(REPOSITORY, TAG, MANIFEST, manifest.to_string());
    registry.reference(&format!("{REPOSITORY}:{TAG}"))
}

#[test]
fn what_an_image_has_deleted_is_gone() {
    let place = Place::new();
    let registry = Registry::start();
    let (a, b) = (&module(1000, 1)[..], &module(1000, 2)[..]);
    let none = json!({});
    let runs = json!({"config": {"Entrypoint": ["/d/a.wasm"]}});
    let program = json!({"architecture": "wasm", "config": {"Entrypoint": ["/wasmtime", "x"]}});
    let files: &[(&str, &[u8])] = &[("plugin.wasm", a), ("d/a.wasm", a)];
    for (config, layers, wanted) in [
        (
            &none,
            vec![
                &[("plugin.wasm", a), ("app.wasm", b)][..],
                &[(".wh.plugin.wasm", b"")],
            ],
            Some(b),
        ),
        (
            &none,
            vec![
                &[("d/plugin.wasm", a)],
                &[("app.wasm", b)],
                &[("d/.wh..wh..opq", b"")],
            ],
            Some(b),
        ),
        (&runs, vec![files, &[("d/.wh.a.wasm", b"")]], None),
        (&runs, vec![files, &[(".wh.d", b"")], &[("x", b"")]], None),
        // The only one is so in all layers; `plugin.wasm` in the root is meant among others.
        (
            &none,
            vec![&[("plugin.wasm", a)][..], &[("extra.wasm", b)]],
            Some(a),
        ),
        (&none, vec![&[("app.wasm", a)], &[("extra.wasm", b)]], None),
        (&none, vec![&[("app.wasm", a)], &[("app.wasm", b)]], Some(b)),
        (
            &none,
            vec![&[("plugin.wasm", a)][..], &[("c.wasm", b), ("d.wasm", b)]],
            Some(a),
        ),
        // A program that is not there runs the only module.
        (&program, vec![&[("d/a.wasm", a)]], Some(a)),
        // What was deleted and came back is there.
        (
            &runs,
            vec![files, &[(".wh.d", b""), ("d/a.wasm", b)]],
            Some(b),
        ),
        (&runs, vec![files, &[(".wh.plugin.wasm", b"")]], Some(a)),
        (
            &none,
            vec![&[("plugin.wasm", a)], &[(".wh.plugin.wasm", b"")]],
            None,
        ),
    ] {
        let reference = image(&registry, config, &layers);
        let _ = fs::remove_file(place.join("out.wasm"));
        let done = place.run(["pull", &reference, "-o", "out.wasm"]);
        let got = fs::read(place.join("out.wasm")).ok();
        assert_eq!(
            done.code,
            if wanted.is_some() { 0 } else { 6 },
            "{}",
            done.stderr
        );
        assert!(got.as_deref() == wanted, "{:?}", layers.len());
    }
}

#[test]
fn names_that_images_give_their_module() {
    let place = Place::new();
    let registry = Registry::start();
    let wasm = module(1000, 1);
    let runs = json!({"architecture": "wasm", "os": "wasip1", "config": {"Entrypoint": ["/prog"]}});
    for (config, file) in [
        (&json!({}), "/plugin.wasm"),
        (&runs, "prog"),
        (&runs, "/prog"),
    ] {
        let reference = image(&registry, config, &[&[(file, &wasm)]]);
        place.run(["pull", &reference, "-o", "out.wasm"]).exits(0);
        assert!(fs::read(place.join("out.wasm")).unwrap() == wasm, "{file}");
        fs::remove_file(place.join("out.wasm")).unwrap();
    }
}

#[test]
fn what_is_packed_already_is_not_built_again() {
    let artifact = Artifact::new(1000);
    let registry = Registry::start();
    for flags in [
        &["--variant", "compat"][..],
        &["--name", "x"],
        &["--as-version", "2.0.0"],
        &["--budget-raw", "1kB"],
        &["--allow-import", "x"],
        &["--level", "max"],
        &["--no-shrink"],
        &["--sbom"],
    ] {
        let done = artifact.publish(&registry.host(), flags).exits(2);
        assert!(done.stderr.contains(flags[0]), "{}", done.stderr);
    }
    assert!(registry.requests().is_empty());
    // The rules for tags are those of a registry.
    let place = &artifact.place;
    let publish = |file: &str, version: &str, more: &[&str]| {
        let args = ["publish", file, "--name", "app", "--as-version", version];
        let tags = [
            "-t",
            "{version}",
            "-t",
            "latest",
            "--oci-layout",
            "out",
            "--message-format=json",
        ];
        let report = place.run([&args, &tags[..], more].concat()).exits(0).json();
        report["published"][0]["tags"].clone()
    };
    place.write("one.wasm", module(1000, 1));
    place.write("two.wasm", module(1000, 2));
    publish("one.wasm", "1.0.0", &[]);
    publish("two.wasm", "2.0.0", &[]);
    let tags = publish("one.wasm", "1.0.0", &["--skip-existing"]);
    assert_eq!(tags[0]["state"], "unchanged", "{tags}");
    assert_eq!(tags[1]["state"], "skipped", "{tags}");
    place
        .run(["pull", "oci:out:latest", "-o", "out.wasm"])
        .exits(0);
    assert!(fs::read(place.join("out.wasm")).unwrap() == fs::read(place.join("two.wasm")).unwrap());
    assert!(!place.join("target/edgepack/oci").join(LAYOUT).exists());
}

#[test]
fn a_token_server_that_sends_on() {
    let artifact = Artifact::new(1000);
    let registry = Registry::with(Options {
        auth: Auth::bearer("me", "secret", Lifetime::Forever),
        ..Options::default()
    });
    crate::support::artifact::log_in(&artifact.place, &registry.host(), "me", "secret");
    let elsewhere = format!("http://{}/token?moved=1&", registry.host());
    registry.fault(move |request| {
        let first = request.path == "/token" && !request.query.contains("moved");
        first.then(|| Fault::redirect(302, format!("{elsewhere}{}", request.query)))
    });
    let done = artifact.publish(&registry.host(), &[]);
    let asked: Vec<_> = registry
        .requests()
        .iter()
        .map(|r| (r.line(), r.authorized.clone()))
        .collect();
    assert_eq!(done.code, 0, "{}\n{asked:#?}", done.stderr);
}
