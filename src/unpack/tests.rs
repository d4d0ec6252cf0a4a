use serde_json::{Value, json};

use super::*;
use crate::oci::Digest;

mod archives;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const ENOUGH: u64 = 1 << 20;

fn descriptor(media_type: &str, seed: &str) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(seed.as_bytes()), "size": 8})
}

fn titled(media_type: &str, title: &str) -> Value {
    let mut layer = descriptor(media_type, title);
    layer["annotations"] = json!({ annotation::TITLE: title });
    layer
}

fn manifest(config: &str, layers: impl IntoIterator<Item = Value>) -> Manifest {
    serde_json::from_value(json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(config, "config"),
        "layers": layers.into_iter().collect::<Vec<_>>(),
    }))
    .unwrap()
}

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

#[test]
fn finds_what_others_push_as_it_is() {
    for (config, layers, expected) in [
        // wkg and the CNCF.
        (
            "application/vnd.wasm.config.v0+json",
            vec![descriptor("application/wasm", "a")],
            "a",
        ),
        // Kubewarden, and Spin's plain packages.
        (
            "application/vnd.wasm.config.v1+json",
            vec![descriptor(
                "application/vnd.wasm.content.layer.v1+wasm",
                "a",
            )],
            "a",
        ),
        // Solo's and Istio's form of two layers.
        (
            "application/vnd.module.wasm.config.v1+json",
            vec![
                descriptor("application/vnd.module.wasm.config.v1+json", "c"),
                descriptor("application/vnd.module.wasm.content.layer.v1+wasm", "a"),
            ],
            "a",
        ),
        // runwasi.
        (
            OCI_CONFIG,
            vec![descriptor(
                "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
                "a",
            )],
            "a",
        ),
        // A Spin application of one component, with an asset.
        (
            OCI_CONFIG,
            vec![
                descriptor("application/vnd.wasm.content.layer.v1+wasm", "a"),
                descriptor("application/vnd.wasm.content.layer.v1+data", "d"),
                descriptor(SPIN_APPLICATION, "s"),
            ],
            "a",
        ),
        // `oras push REF x.wasm:application/wasm`, and without the type.
        (EMPTY, vec![titled("application/wasm", "x.wasm")], "x.wasm"),
        (
            EMPTY,
            vec![
                titled("application/vnd.oci.image.layer.v1.tar", "README.md"),
                titled("application/vnd.oci.image.layer.v1.tar", "x.wasm"),
            ],
            "x.wasm",
        ),
        // The type decides before the title does.
        (
            EMPTY,
            vec![
                titled("application/octet-stream", "x.wasm"),
                descriptor("Application/Wasm; charset=binary", "a"),
            ],
            "a",
        ),
        // The same blob twice is one module.
        (
            EMPTY,
            vec![
                descriptor("application/wasm", "a"),
                descriptor("application/wasm", "a"),
            ],
            "a",
        ),
    ] {
        let found = locate(&manifest(config, layers.clone())).unwrap();
        let Payload::Raw(layer) = found else {
            panic!("{layers:?}: {found:?}");
        };
        assert_eq!(layer.digest, Digest::of(expected.as_bytes()), "{layers:?}");
    }
}

#[test]
fn a_manifest_need_not_say_its_type() {
    // As buildah writes it, and as Solo's spec shows it.
    let manifest: Manifest = serde_json::from_value(json!({
        "schemaVersion": 2,
        "config": descriptor(OCI_CONFIG, "config"),
        "layers": [descriptor(OCI_LAYER, "a")],
        "annotations": {"module.wasm.image/variant": "compat"},
    }))
    .unwrap();
    assert!(matches!(locate(&manifest), Ok(Payload::Archive(_))));
}

#[test]
fn images_are_searched_from_the_top() {
    for layer in [
        OCI_LAYER,
        DOCKER_LAYER,
        "application/vnd.oci.image.layer.v1.tar",
    ] {
        let image = manifest(
            OCI_CONFIG,
            [descriptor(layer, "below"), descriptor(layer, "above")],
        );
        let Payload::Archive(layers) = locate(&image).unwrap() else {
            panic!("{layer}");
        };
        let digests: Vec<_> = layers.into_iter().map(|l| l.digest).collect();
        assert_eq!(digests, [Digest::of(b"above"), Digest::of(b"below")]);
    }
}

#[test]
fn says_what_there_is_instead_of_a_module() {
    let wasm = |seed| descriptor("application/vnd.wasm.content.layer.v1+wasm", seed);
    for (layers, text, hint) in [
        (vec![], "no layers", ""),
        (
            vec![descriptor(
                "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
                "h",
            )],
            "`application/vnd.cncf.helm.chart.content.v1.tar+gzip`",
            "reference",
        ),
        (
            vec![wasm("a"), wasm("b"), descriptor(SPIN_APPLICATION, "s")],
            "Spin application with 2 modules",
            "spin up",
        ),
        (
            vec![
                titled("application/wasm", "a.wasm"),
                titled("application/wasm", "b.wasm"),
            ],
            "`a.wasm` (sha256:",
            "digest",
        ),
        (
            vec![descriptor(
                "application/vnd.oci.image.layer.v1.tar+zstd",
                "z",
            )],
            "zstd",
            "skopeo",
        ),
        (
            vec![descriptor(
                "application/vnd.dev.sigstore.bundle.v0.3+json",
                "s",
            )],
            "sigstore",
            "signature",
        ),
        (
            vec![descriptor("\u{1b}[2J\n", "x")],
            "`\u{fffd}[2J\u{fffd}`",
            "reference",
        ),
    ] {
        let error = locate(&manifest(EMPTY, layers)).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{error:?}");
    }
    let many = (0..5000).map(|i| descriptor(&format!("x/{i}"), "x"));
    let error = locate(&manifest(EMPTY, many)).unwrap_err().to_string();
    assert!(error.len() < 300, "{error}");
    let many = (0..5000).map(|i| titled("application/wasm", &format!("{i}.wasm")));
    let error = locate(&manifest(EMPTY, many)).unwrap_err().to_string();
    assert!(error.len() < 1500 && error.contains("5000"), "{error}");
}

#[test]
fn the_config_says_which_file() {
    let path = |p: &str| Wanted::Path(p.to_owned());
    let plain = manifest(OCI_CONFIG, []);
    for (config, expected) in [
        (
            json!({"config": {"Entrypoint": ["/plugin.wasm"]}}),
            path("plugin.wasm"),
        ),
        (
            json!({"config": {"Entrypoint": null, "Cmd": ["./bin/App.WASM", "x"]}}),
            path("bin/App.WASM"),
        ),
        (
            json!({"config": {"Cmd": ["app.wasm#main"], "WorkingDir": "/srv/"}}),
            path("srv/app.wasm"),
        ),
        (
            json!({"config": {"Entrypoint": ["/bin/sh"], "Cmd": ["x.wasm"]}}),
            Wanted::Only,
        ),
        (
            json!({"config": {"Entrypoint": ["/../x.wasm"]}}),
            Wanted::Only,
        ),
        (json!({"config": null}), Wanted::Only),
        (json!({}), Wanted::Only),
        (json!([1]), Wanted::Only),
    ] {
        assert_eq!(
            Wanted::of(&plain, config.to_string().as_bytes()),
            expected,
            "{config}"
        );
    }
    assert_eq!(
        Wanted::of(&plain, "[".repeat(10_000).as_bytes()),
        Wanted::Only,
        "deep nesting ends the parser, not the process"
    );
    let mut compat = plain;
    compat
        .annotations
        .insert(annotation::WASM_IMAGE_VARIANT.into(), "compat".into());
    assert_eq!(
        Wanted::of(&compat, b"{}"),
        Wanted::Name("plugin.wasm".into())
    );
}

#[test]
fn our_own_variants_come_back() {
    use crate::pack::{Metadata, Timestamp, Variant, pack};
    let module = crate::wasm::Wasm::new(MODULE.to_vec()).unwrap();
    let module = crate::validate::validate(module).unwrap();
    for variant in Variant::ALL {
        let artifact = pack(&module, &Metadata::default(), Timestamp::default(), variant).unwrap();
        let manifest: Manifest = serde_json::from_slice(&artifact.manifest.bytes).unwrap();
        let blob = |d: &Descriptor| {
            let mut blobs = artifact.blobs.iter();
            &blobs
                .find(|b| b.descriptor.digest == d.digest)
                .unwrap()
                .bytes
        };
        let out = match locate(&manifest).unwrap() {
            Payload::Raw(layer) => blob(&layer).clone(),
            Payload::Archive(layers) => {
                let wanted = Wanted::of(&manifest, blob(&manifest.config));
                let mut out = Vec::new();
                let length = extract(
                    &blob(&layers[0])[..],
                    &wanted,
                    &mut Deleted::default(),
                    &mut out,
                    ENOUGH,
                )
                .unwrap();
                assert_eq!(length, Some(8));
                out
            }
        };
        assert_eq!(out, MODULE, "{variant}");
    }
}
