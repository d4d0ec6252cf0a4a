//! The variant `compat`: an ordinary container image whose root file system holds
//! nothing but `plugin.wasm`. It is for those that know images only: Istio and
//! Envoy Gateway, crun with podman and CRI-O, the runwasi shims, Docker.
//!
//! Each byte of the archive is decided here, so that equal modules make equal
//! layers: one entry, no owner, no time. Its mode has the executable bits, since
//! crun looks for an entrypoint that may be executed (`check_access` in its
//! `src/libcrun/utils.c`), whatever then runs it.
//!
//! Specs: <https://github.com/solo-io/wasm/blob/master/spec/spec-compat.md>,
//! <https://github.com/opencontainers/image-spec/blob/main/layer.md>,
//! <https://github.com/opencontainers/image-spec/blob/main/config.md>.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Metadata, Timestamp, annotations, assemble, to_json};
use crate::oci::{
    ARCHITECTURE_WASM, Artifact, Blob, Digest, MEDIA_TYPE_IMAGE_CONFIG, MEDIA_TYPE_LAYER_TAR_GZIP,
    annotation,
};
use crate::validate::Validated;

/// The file in the archive: Istio looks for this very name.
pub const FILE: &str = "plugin.wasm";
/// Where the file is in a container.
const ENTRYPOINT: &str = "/plugin.wasm";
/// Fixed: another level would be another digest.
const GZIP_LEVEL: u32 = 6;
/// "Unknown", RFC 1952: the header must not tell where it was made.
const GZIP_OS_UNKNOWN: u8 = 255;
const TAR_BLOCK: usize = 512;

/// Fields in the order of the spec.
#[derive(Serialize)]
struct ImageConfig<'a> {
    created: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a str>,
    architecture: &'static str,
    os: &'static str,
    config: Execution,
    rootfs: RootFs<'a>,
    history: [History<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Execution {
    entrypoint: [&'static str; 1],
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: [&'a Digest; 1],
}

#[derive(Serialize)]
struct History<'a> {
    created: &'a str,
    created_by: &'static str,
}

/// Packs a core module.
pub(super) fn pack(module: &Validated, metadata: &Metadata, created: Timestamp) -> Artifact {
    let (layer, diff_id) = layer(module.wasm().bytes());
    let time = created.to_rfc3339();
    let config = to_json(&ImageConfig {
        created: &time,
        author: metadata.authors.first().map(String::as_str),
        // The platform `wasi/wasm`: podman and CRI-O choose the runtime by it, and
        // runwasi takes no other architecture.
        architecture: ARCHITECTURE_WASM,
        os: "wasi",
        config: Execution {
            entrypoint: [ENTRYPOINT],
        },
        rootfs: RootFs {
            kind: "layers",
            diff_ids: [&diff_id],
        },
        history: [History {
            created: &time,
            created_by: "cargo edgepack",
        }],
    });
    let mut annotations = annotations(metadata, created);
    annotations.insert(
        annotation::WASM_IMAGE_VARIANT.to_owned(),
        "compat".to_owned(),
    );
    assemble(
        Blob::new(MEDIA_TYPE_IMAGE_CONFIG, config),
        Blob::new(MEDIA_TYPE_LAYER_TAR_GZIP, layer),
        annotations,
    )
}

/// The layer, and the digest of the archive inside it, which is never in memory as
/// a whole.
fn layer(module: &[u8]) -> (Vec<u8>, Digest) {
    let room = Vec::with_capacity(module.len() / 2);
    let gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(GZIP_OS_UNKNOWN)
        .write(room, Compression::new(GZIP_LEVEL));
    let mut archive = Hashed {
        hash: Sha256::new(),
        inner: gzip,
    };
    write_archive(&mut archive, module)
        .and_then(|()| Ok((archive.inner.finish()?, Digest::from_hash(archive.hash))))
        .expect("writing to memory does not fail")
}

/// One file, and the two empty blocks that end an archive.
fn write_archive(to: &mut impl Write, module: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(FILE)?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(module.len() as u64);
    header.set_cksum();
    let padding = module.len().next_multiple_of(TAR_BLOCK) - module.len();
    to.write_all(header.as_bytes())?;
    to.write_all(module)?;
    to.write_all(&[0; 3 * TAR_BLOCK][..padding + 2 * TAR_BLOCK])
}

/// Hashes what passes through.
struct Hashed<W> {
    hash: Sha256,
    inner: W,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::tests::{config, empty, manifest, metadata};
    use super::*;
    use crate::wasm::Kind;

    #[test]
    fn is_an_image_with_one_file() {
        let artifact = pack(&empty(Kind::Core), &metadata(), Timestamp::default());
        let manifest = manifest(&artifact);
        assert_eq!(
            manifest["annotations"]["module.wasm.image/variant"],
            "compat"
        );
        assert_eq!(
            manifest["layers"][0]["mediaType"],
            "application/vnd.oci.image.layer.v1.tar+gzip"
        );
        let config = config(&artifact);
        assert_eq!(config["architecture"], "wasm");
        assert_eq!(config["os"], "wasi");
        assert_eq!(
            config["config"]["Entrypoint"],
            serde_json::json!(["/plugin.wasm"])
        );

        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&artifact.blobs[1].bytes[..])
            .read_to_end(&mut plain)
            .unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            Digest::of(&plain).as_str(),
            "the digest is that of the plain archive"
        );
        let mut archive = tar::Archive::new(&plain[..]);
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        assert_eq!(entry.path_bytes().as_ref(), b"plugin.wasm");
        assert_eq!(entry.header().mode().unwrap(), 0o755);
        assert_eq!(entry.header().mtime().unwrap(), 0);
        let mut module = Vec::new();
        entry.read_to_end(&mut module).unwrap();
        assert_eq!(module, b"\0asm\x01\0\0\0");
        assert!(entries.next().is_none());
    }

    #[test]
    fn the_archive_ends_on_a_block_whatever_the_size() {
        for size in [0, 1, 511, 512, 513, 1024, 1025] {
            let mut archive = Vec::new();
            write_archive(&mut archive, &vec![7; size]).unwrap();
            assert_eq!(
                archive.len(),
                TAR_BLOCK + size.next_multiple_of(TAR_BLOCK) + 2 * TAR_BLOCK
            );
            assert!(archive.ends_with(&[0; 2 * TAR_BLOCK]));
        }
    }

    #[test]
    fn the_compressor_is_the_one_that_it_was() {
        // A feature of `flate2` that some dependency turns on may exchange it, and
        // with it every digest. Long enough, and varied enough, to show.
        let module: Vec<u8> = (0..100_000_u32)
            .map(|i| (i.wrapping_mul(i) / 7 % 251 % (1 + i / 1000)).to_le_bytes()[0])
            .collect();
        let (layer, diff_id) = layer(&module);
        assert_eq!(
            (Digest::of(&layer).as_str(), diff_id.as_str()),
            (
                "sha256:663e16f740e42e6442d74eb06bf54f23c3ef6300a7a2b63ac62362f0798d52f6",
                "sha256:736faa73cc65c84fc10a69a06ad6b4149580e062b10fc1663cd9824d058fa5a9"
            ),
        );
    }

    #[test]
    fn the_layer_says_nothing_about_when_and_where() {
        let (one, _) = layer(b"\0asm\x01\0\0\0");
        // No flags, no time, no extra flags, unknown system.
        assert_eq!(one[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        let now = pack(&empty(Kind::Core), &metadata(), Timestamp(1));
        let then = pack(&empty(Kind::Core), &metadata(), Timestamp(2));
        assert_eq!(
            now.blobs[1].descriptor.digest, then.blobs[1].descriptor.digest,
            "equal modules share their layer across commits"
        );
        assert_ne!(now.digest(), then.digest());
    }
}
