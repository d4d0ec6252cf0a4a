//! Bad input ends with one clear error and the documented code, and loses nothing.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::tool::{Place, run};

const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// Every command refuses the file with this code and text, and writes nothing.
#[track_caller]
fn refused(contents: &[u8], code: i32, text: &str) {
    let place = Place::new();
    place.write("bad.wasm", contents);
    for args in [
        &["build", "bad.wasm"][..],
        &["check", "bad.wasm"],
        &["shrink", "bad.wasm", "-o", "out.wasm"],
        &["inspect", "bad.wasm"],
    ] {
        let done = place.run(args).exits(code).says(text);
        let errors = done
            .stderr
            .lines()
            .filter(|l| l.starts_with("error"))
            .count();
        assert_eq!(errors, 1, "{args:?} printed:\n{}", done.stderr);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    }
    let mut left = place.files();
    left.retain(|f| !is_told(f));
    assert_eq!(left, ["bad.wasm"]);
}

/// Whether a file tells how a run went: all but modules and the layout's folder.
fn is_told(file: &str) -> bool {
    let name = file.strip_prefix("target/edgepack/");
    name.is_some_and(|name| {
        !name.contains('/') && Path::new(name).extension() != Some("wasm".as_ref())
    })
}

#[test]
fn files_that_are_no_wasm() {
    refused(b"", 3, "the file is empty");
    refused(b"just some text\n", 3, "not a Wasm binary");
    refused(b"(module)\n", 3, "text format");
    refused(b"\0asm\x01\0", 3, "truncated");
    refused(b"\0asm\x63\0\0\0", 3, "unknown Wasm version");
    refused(b"PK\x03\x04 a zip file", 3, "not a Wasm binary");
}

#[test]
fn a_large_file_of_zeros() {
    let place = Place::new();
    let file = fs::File::create(place.join("zeros.wasm")).unwrap();
    file.set_len(200 << 20).unwrap();
    let started = Instant::now();
    for args in [
        &["build", "zeros.wasm"][..],
        &["check", "zeros.wasm"],
        &["inspect", "zeros.wasm"],
    ] {
        place.run(args).exits(3).says("not a Wasm binary");
    }
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "it is not read to its end"
    );
}

#[test]
fn binaries_that_are_cut_or_broken() {
    let module = wat(
        "(module (func (export \"f\") (result i32) i32.const 7) (memory 1) (data (i32.const 0) \"abcdef\"))",
    );
    for len in 9..module.len() {
        let place = Place::new();
        place.write("cut.wasm", &module[..len]);
        let done = place.run(["check", "cut.wasm"]);
        // Cut between two sections it may be whole; it is never a panic.
        assert!(done.code == 3 || done.code == 0, "{len}: {}", done.stderr);
    }
    refused(&module[..module.len() - 3], 3, "error[invalid-wasm]");
    refused(
        &[EMPTY, &[1, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat(),
        3,
        "error[invalid-wasm]",
    );
    refused(&[EMPTY, &[0xff, 0]].concat(), 3, "error[invalid-wasm]");
    // A function that returns nothing where it promised a number.
    refused(
        &[
            EMPTY,
            b"\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x0a\x04\x01\x02\0\x0b",
        ]
        .concat(),
        3,
        "error[invalid-wasm]",
    );
}

#[test]
fn all_broken_functions_are_named() {
    let place = Place::new();
    let body: &[u8] = &[2, 0, 0x0b];
    let mut module = [
        EMPTY,
        b"\x01\x05\x01\x60\0\x01\x7f\x03\x04\x03\0\0\0\x0a\x0a\x03",
    ]
    .concat();
    for _ in 0..3 {
        module.extend_from_slice(body);
    }
    place.write("three.wasm", module);
    let done = place.run(["check", "three.wasm"]).exits(3);
    assert_eq!(
        done.stderr.matches("error[invalid-wasm]").count(),
        3,
        "{}",
        done.stderr
    );
}

#[test]
fn a_component_whose_inner_module_is_broken() {
    let whole = wat("(component (core module (func (export \"f\") (result i32) i32.const 7)))");
    let at = whole.windows(2).rposition(|w| w == [0x41, 7]).unwrap();
    let mut broken = whole.clone();
    broken[at] = 0x01;
    broken[at + 1] = 0x01;
    refused(&broken, 3, "error[invalid-wasm]");
    let place = Place::new();
    place.write("whole.wasm", whole);
    place.run(["build", "whole.wasm"]).exits(0);
}

#[test]
fn deep_nesting_takes_nothing_down() {
    let mut body = vec![0];
    body.extend(std::iter::repeat_n([0x02, 0x40], 100_000).flatten());
    body.extend(std::iter::repeat_n(0x0b, 100_001));
    let mut module = wasm_encoder::Module::new();
    let mut types = wasm_encoder::TypeSection::new();
    types.ty().function([], []);
    let mut functions = wasm_encoder::FunctionSection::new();
    functions.function(0);
    let mut exports = wasm_encoder::ExportSection::new();
    exports.export("f", wasm_encoder::ExportKind::Func, 0);
    let mut code = wasm_encoder::CodeSection::new();
    code.raw(&body);
    module
        .section(&types)
        .section(&functions)
        .section(&exports)
        .section(&code);
    let place = Place::new();
    let bytes = module.finish();
    place.write("deep.wasm", &bytes);
    place.run(["check", "deep.wasm"]).exits(0);
    place.run(["build", "deep.wasm"]).exits(0);
    let made = fs::read(place.join("target/edgepack/deep.wasm")).unwrap();
    assert!(made.len() <= bytes.len());
    place.run(["check", "target/edgepack/deep.wasm"]).exits(0);
}

#[test]
fn components_nested_deeply() {
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..3000 {
        let mut outer = wasm_encoder::Component::new();
        outer.section(&wasm_encoder::RawSection {
            id: 4,
            data: &component,
        });
        component = outer.finish();
    }
    let place = Place::new();
    place.write("nested.wasm", component);
    for args in [
        &["check", "nested.wasm"][..],
        &["build", "nested.wasm"],
        &["inspect", "nested.wasm"],
    ] {
        let done = place.run(args);
        assert!(
            done.code == 0 || done.code == 3,
            "{args:?}: {} {}",
            done.code,
            done.stderr
        );
    }
}

#[test]
fn unknown_words() {
    let place = Place::new();
    place.write("m.wasm", EMPTY);
    place
        .run(["build", "m.wasm", "--lvel", "max"])
        .exits(2)
        .says("--level");
    place
        .run(["build", "m.wasm", "--level", "fats"])
        .exits(2)
        .says("did you mean `fast`?");
    place
        .run(["build", "m.wasm", "--budget-raw", "much"])
        .exits(2)
        .says("is no size");
    place.run(["biuld"]).exits(2).says("build");
    place
        .run(["build", "m.wasm", "--name", "../../etc/x"])
        .exits(2)
        .says("a name consists of");
    place
        .run(["build", "m.wasm", "--as-version", "a b/c"])
        .exits(2)
        .says("a version is something like");
    place.run(["build", "m.wasm", "-p", "x"]).exits(2);
    place
        .run(["build", "nowhere.wasm"])
        .exits(1)
        .says("nowhere.wasm")
        .says("hint: check the path");
    place
        .run(["build", "."])
        .exits(2)
        .says("is a folder")
        .says("--manifest-path");
    place.run(["build"]).exits(2).says("there is no Cargo.toml");
    assert_eq!(place.files(), ["m.wasm"]);
}

#[test]
fn outputs_that_cannot_be_written() {
    let place = Place::new();
    place.write("m.wasm", EMPTY);
    // A file where a folder has to be.
    place.write("taken", "in the way");
    place
        .run(["build", "m.wasm", "--target-dir", "taken"])
        .exits(1)
        .says("failed to");
    place
        .run(["shrink", "m.wasm", "-o", "taken/out.wasm"])
        .exits(1)
        .says("failed to");
    fs::create_dir(place.join("folder")).unwrap();
    place
        .run(["shrink", "m.wasm", "-o", "folder"])
        .exits(1)
        .says("failed to write");
    assert_eq!(fs::read(place.join("taken")).unwrap(), b"in the way");
    assert_eq!(place.files(), ["m.wasm", "taken"]);
}

#[cfg(unix)]
#[test]
fn outputs_that_are_no_plain_files() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    let place = Place::new();
    let module = wat("(module (func $named (export \"f\")))");
    place.write("m.wasm", &module);
    // A link goes on pointing where it did, a file keeps its mode.
    let file = place.write("real.wasm", "old");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("real.wasm", place.join("link.wasm")).unwrap();
    place.run(["shrink", "m.wasm", "-o", "link.wasm"]).exits(0);
    assert!(
        fs::symlink_metadata(place.join("link.wasm"))
            .unwrap()
            .is_symlink()
    );
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o755
    );
    assert!(fs::read(&file).unwrap().starts_with(b"\0asm"));
    // A pipe stays one, and is written to.
    let pipe = place.join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    place.run(["shrink", "m.wasm", "-o", "pipe"]).exits(0);
    assert_eq!(reader.join().unwrap(), fs::read(&file).unwrap());
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    let piped = place
        .command(["shrink", "m.wasm", "-o", "-"])
        .output()
        .unwrap();
    assert_eq!(piped.stdout, fs::read(&file).unwrap());
    // A folder that is not there is a slip, not a wish.
    place
        .run(["shrink", "m.wasm", "-o", "nowhere/out.wasm"])
        .exits(1)
        .says("make the folder first");
}

/// To open such a pipe lasts for ever, and no signal ends that.
#[cfg(unix)]
#[test]
fn pipes_to_read_from() {
    let place = Place::new();
    place.write("m.wasm", EMPTY);
    let made = std::process::Command::new("mkfifo")
        .arg(place.join("pipe"))
        .status();
    assert!(made.unwrap().success());
    for args in [
        &["check", "pipe"][..],
        &["sign", "m.wasm", "--key", "pipe"],
        &["sign", "--embed", "m.wasm", "--key", "pipe"],
        &["verify", "127.0.0.1:1/a:1", "--key", "pipe"],
        &["verify", "127.0.0.1:1/a:1", "--policy=./pipe"],
        &["pull", "127.0.0.1:1/a:1", "-o", "a", "--ca-file", "pipe"],
    ] {
        place
            .run(args)
            .exits(1)
            .says("nobody writes into this pipe");
    }
    // Those that somebody writes into are read, whoever was there first.
    for command in [
        r#""$0" check <(cat m.wasm)"#,
        r#"cat m.wasm | "$0" check /dev/stdin"#,
        r#"(sleep 0.3; cat m.wasm) | "$0" check /dev/stdin"#,
        r#"(sleep 0.3; cat m.wasm) > pipe & "$0" check pipe"#,
    ] {
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", command, env!("CARGO_BIN_EXE_cargo-edgepack")])
            .current_dir(place.path())
            .env("EDGEPACK_CACHE_DIR", place.join("cache"));
        run(&mut bash).exits(0);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn streams_that_are_full_or_gone() {
    let place = Place::new();
    place.write("m.wasm", EMPTY);
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    // Nobody reads what people read: the work is done all the same.
    let status = place
        .command(["build", "m.wasm"])
        .stderr(full())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(place.join("target/edgepack/report.json").is_file());
    // Data that is lost is an error.
    for args in [
        &["build", "m.wasm", "--message-format=json"][..],
        &["schema"],
        &["inspect", "m.wasm", "--json"],
    ] {
        let output = place
            .command(args)
            .stdout(full())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("failed to write to `stdout`"));
    }
}

/// The limit on file sizes acts like a full disk: a write stops in the middle.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_no_half_of_a_file() {
    let place = Place::new();
    let data = "x".repeat(300_000);
    let module = wat(&format!(
        "(module (memory (export \"m\") 8) (data (i32.const 0) \"{data}\"))"
    ));
    place.write("m.wasm", module);
    place.write("out.wasm", "what was there before");
    let tool = env!("CARGO_BIN_EXE_cargo-edgepack");
    for args in [
        "shrink m.wasm -o out.wasm --level off",
        "shrink m.wasm -o out.wasm",
        "build m.wasm",
        "build m.wasm --no-shrink",
    ] {
        let mut command = std::process::Command::new("sh");
        // In blocks of 512 bytes or 1 KiB, as the shell has it: below the module either way.
        command.args([
            "-c",
            &format!("trap '' XFSZ; ulimit -f 100; exec {tool} {args}"),
        ]);
        command
            .current_dir(place.path())
            .env("EDGEPACK_CACHE_DIR", place.join(".cache"));
        crate::support::tool::run(&mut command)
            .exits(1)
            .says("error");
        assert_eq!(
            fs::read(place.join("out.wasm")).unwrap(),
            b"what was there before"
        );
        let left: Vec<_> = place
            .files()
            .into_iter()
            .filter(|f| f.contains(".tmp") || f.contains("index.json"))
            .collect();
        assert_eq!(left, Vec::<String>::new(), "{args}");
    }
}

#[cfg(unix)]
#[test]
fn an_interruption_leaves_what_was_there() {
    let Ok(corpus) = std::env::var("EDGEPACK_CORPUS") else {
        return;
    };
    let place = Place::new();
    place.write("out.wasm", "what was there before");
    let module = std::path::Path::new(&corpus).join("resvg.wasm");
    let mut command = place.command(["shrink", module.to_str().unwrap(), "-o", "out.wasm"]);
    command
        .env("TMPDIR", place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The optimiser takes seconds for this one; its folder shows that it has begun.
    let begun = || place.files().iter().any(|f| f.ends_with("in.wasm"));
    let started = Instant::now();
    while !begun() {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    let ended = child.wait().unwrap();
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(ended.code(), Some(130), "{stderr}");
    assert!(stderr.contains("interrupted"), "{stderr}");
    assert_eq!(
        fs::read(place.join("out.wasm")).unwrap(),
        b"what was there before"
    );
    assert_eq!(place.files(), ["out.wasm"], "nothing temporary is left");
}
