//! Archives, sound ones and others.

use std::io::{Read, Write};

use super::super::*;
use super::{ENOUGH, MODULE};

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
