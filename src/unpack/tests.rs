use std::io::{Read, Write};

use serde_json::{Value, json};

use super::*;
use crate::oci::Digest;

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

/// An archive under construction, which need not be a sound one.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(mut self, kind: u8, path: &[u8], size: u64) -> Self {
        let mut header = tar::Header::new_ustar();
        // Not `set_path`: it would refuse what has to be tried.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self
    }

    fn entry(self, kind: u8, path: &[u8], contents: &[u8]) -> Self {
        let mut tar = self.header(kind, path, contents.len() as u64);
        tar.0.extend(contents);
        tar.0.resize(tar.0.len().next_multiple_of(512), 0);
        tar
    }

    fn file(self, path: &str, contents: &[u8]) -> Self {
        self.entry(b'0', path.as_bytes(), contents)
    }

    fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut contents = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length != rest.len() + length.to_string().len() {
                length += 1;
            }
            contents.push_str(&length.to_string());
            contents.push_str(&rest);
        }
        self.entry(b'x', b"pax", contents.as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn take(archive: &[u8], wanted: &Wanted) -> Result<Option<Vec<u8>>, UnpackError> {
    let mut out = Vec::new();
    let length = extract(archive, wanted, &mut Deleted::default(), &mut out, ENOUGH)?;
    assert_eq!(length.unwrap_or_default(), out.len() as u64);
    Ok(length.map(|_| out))
}

#[test]
fn takes_the_file_out() {
    let path = |p: &str| Wanted::Path(p.to_owned());
    let name = Wanted::Name("plugin.wasm".into());
    let long = format!("{}/plugin.wasm", "d/".repeat(100));
    let odd = [MODULE, &[7; 600]].concat();
    for (archive, wanted, expected) in [
        (
            Tar::default().file("plugin.wasm", MODULE).end(),
            path("plugin.wasm"),
            Some(MODULE),
        ),
        // As docker, buildah and `tar -C` write it, with other files around it.
        (
            Tar::default()
                .entry(b'5', b"./", b"")
                .file("./etc/passwd", &[1; 700])
                .file("./plugin.wasm", &odd)
                .file("runtime-config.json", b"{}")
                .end(),
            name.clone(),
            Some(&odd),
        ),
        (
            Tar::default().file("srv/a.wasm", MODULE).end(),
            Wanted::Only,
            Some(MODULE),
        ),
        // Long names, GNU's way and pax's.
        (
            Tar::default()
                .entry(b'L', b"././@LongLink", &[long.as_bytes(), b"\0"].concat())
                .file("d/d/d", MODULE)
                .end(),
            name.clone(),
            Some(MODULE),
        ),
        (
            Tar::default()
                .entry(b'g', b"global", b"")
                .pax(&[("mtime", "1.5"), ("path", &long), ("comment", "a\nb=c")])
                .file("short", MODULE)
                .end(),
            name.clone(),
            Some(MODULE),
        ),
        // Without an end, which some writers leave out.
        (
            Tar::default().file("plugin.wasm", MODULE).0,
            name.clone(),
            Some(MODULE),
        ),
        // Not there: another layer may have it.
        (
            Tar::default().file("x.wasm", MODULE).end(),
            name.clone(),
            None,
        ),
        (
            Tar::default().file(".wh.a.wasm", b"").end(),
            Wanted::Only,
            None,
        ),
        (
            Tar::default().entry(b'5', b"a.wasm/", b"").end(),
            Wanted::Only,
            None,
        ),
        // A trick elsewhere in the archive is not ours to mind.
        (
            Tar::default()
                .entry(b'2', b"../../etc/passwd", b"")
                .file("plugin.wasm", MODULE)
                .end(),
            name,
            Some(MODULE),
        ),
        (Vec::new(), Wanted::Only, None),
    ] {
        for archive in [gzip(&archive), archive] {
            assert_eq!(take(&archive, &wanted).unwrap().as_deref(), expected);
        }
    }
}

#[test]
fn gzip_in_several_members_is_one_stream() {
    let archive = Tar::default().file("plugin.wasm", MODULE).end();
    let (one, two) = archive.split_at(300);
    let archive = [gzip(one), gzip(two)].concat();
    assert_eq!(
        take(&archive, &Wanted::Only).unwrap().as_deref(),
        Some(MODULE)
    );
}

#[test]
fn refuses_what_is_not_to_be_trusted() {
    let name = Wanted::Name("plugin.wasm".into());
    for (archive, text) in [
        (
            Tar::default().file("../plugin.wasm", MODULE).end(),
            "outside",
        ),
        (
            Tar::default().file("a/../../plugin.wasm", MODULE).end(),
            "outside",
        ),
        (
            Tar::default().entry(b'2', b"plugin.wasm", b"").end(),
            "link",
        ),
        (
            Tar::default().entry(b'1', b"plugin.wasm", b"").end(),
            "link",
        ),
        (
            Tar::default().entry(b'3', b"plugin.wasm", b"").end(),
            "no plain file",
        ),
        (
            Tar::default().entry(b'S', b"plugin.wasm", b"").end(),
            "no plain file",
        ),
        (
            Tar::default()
                .pax(&[("GNU.sparse.major", "1")])
                .file("plugin.wasm", MODULE)
                .end(),
            "no plain file",
        ),
        (
            Tar::default()
                .file("plugin.wasm", MODULE)
                .file("./plugin.wasm", b"other")
                .end(),
            "twice",
        ),
        (
            Tar::default()
                .file("a/plugin.wasm", MODULE)
                .file("b/plugin.wasm", MODULE)
                .end(),
            "several",
        ),
        (
            Tar::default().header(b'x', b"pax", 1 << 32).end(),
            "too long",
        ),
        (
            Tar::default().header(b'L', b"long", 1 << 32).end(),
            "too long",
        ),
        (
            Tar::default().entry(b'x', b"pax", b"9999 path=x\n").end(),
            "broken",
        ),
        (
            Tar::default().pax(&[("size", "-1")]).file("a", b"").end(),
            "no number",
        ),
        (
            (0..20)
                .fold(Tar::default(), |tar, _| tar.pax(&[("a", "b")]))
                .file("plugin.wasm", MODULE)
                .end(),
            "too many",
        ),
        (
            Tar::default().pax(&[("path", "plugin.wasm")]).end(),
            "behind",
        ),
        (vec![b'x'; 2048], "no tar archive"),
        (b"\x28\xb5\x2f\xfd and more".to_vec(), "zstd"),
        (MODULE.to_vec(), "no tar archive"),
    ] {
        let error = take(&archive, &name).unwrap_err();
        assert!(error.to_string().contains(text), "{error} lacks {text}");
    }
}

#[test]
fn refuses_damage_wherever_it_is() {
    let archive = Tar::default()
        .file("a", &[1; 600])
        .file("plugin.wasm", &[2; 1000])
        .end();
    let wanted = Wanted::Name("plugin.wasm".into());
    // Up to the end of the file itself; behind it there is only the end mark.
    for length in 1..archive.len() - 1024 {
        let cut = &archive[..length];
        if length % 512 == 0 && take(cut, &wanted).is_ok_and(|found| found.is_none()) {
            continue;
        }
        take(cut, &wanted).unwrap_err();
    }
    let packed = gzip(&archive);
    for length in 3..packed.len() {
        take(&packed[..length], &wanted).unwrap_err();
    }
    for at in 10..packed.len() {
        let mut packed = packed.clone();
        packed[at] ^= 0x10;
        assert_ne!(
            take(&packed, &wanted).ok().flatten().as_deref(),
            Some(&[3; 1000][..])
        );
    }
}

#[test]
fn bombs_end_at_the_limit() {
    let wanted = Wanted::Name("plugin.wasm".into());
    let big = vec![0; 8 << 20];
    for archive in [
        Tar::default().file("plugin.wasm", &big).end(),
        Tar::default()
            .file("other", &big)
            .file("plugin.wasm", MODULE)
            .end(),
        [
            Tar::default().file("plugin.wasm", MODULE).end(),
            big.clone(),
        ]
        .concat(),
        Tar::default()
            .header(b'0', b"plugin.wasm", u64::from(u32::MAX))
            .end(),
    ] {
        let packed = gzip(&archive);
        let mut out = Vec::new();
        let error = extract(
            &packed[..],
            &wanted,
            &mut Deleted::default(),
            &mut out,
            ENOUGH,
        )
        .unwrap_err();
        assert!(error.to_string().contains("limit"), "{error}");
        assert!(out.len() as u64 <= ENOUGH);
    }
    // Sizes that no sum holds.
    let archive = Tar::default()
        .pax(&[("size", &u64::MAX.to_string())])
        .file("a", b"")
        .end();
    take(&archive, &wanted).unwrap_err();
}

#[test]
fn a_reader_that_fails_and_a_writer_that_fails_are_told_apart() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no line"))
        }
    }
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let archive = Tar::default().file("plugin.wasm", MODULE).end();
    assert!(matches!(
        extract(
            &archive[..],
            &Wanted::Only,
            &mut Deleted::default(),
            Broken,
            ENOUGH
        ),
        Err(UnpackError::Write(_))
    ));
    assert!(matches!(
        extract(
            archive[..600].chain(Broken),
            &Wanted::Only,
            &mut Deleted::default(),
            Vec::new(),
            ENOUGH
        ),
        Err(UnpackError::Read(_))
    ));
}
