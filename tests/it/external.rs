//! A `wasm-opt` that the user names is tried beside the Binaryen that is built in:
//! it can make the result smaller, and it cannot spoil anything.

use std::fs;
use std::path::PathBuf;

use arbitrary::Unstructured;
use serde_json::Value;
use wasm_smith::{Config, Module};

use crate::support::tool::{Place, Run, run};

const MODULE: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "f") (param i32) (result i32)
        (i32.add (i32.add (local.get 0) (i32.const 1234567)) (i32.mul (i32.const 0) (local.get 0)))))"#;

/// A newer Binaryen's, from the folder that `tests/peers/fetch` prints.
#[expect(clippy::print_stderr, reason = "what was not tested is to be seen")]
fn newer() -> Option<String> {
    let folder = std::env::var_os("EDGEPACK_OPTIMIZERS").map(PathBuf::from);
    match folder.map(|folder| folder.join("wasm-opt")) {
        Some(found) if found.exists() => Some(found.to_str().unwrap().to_owned()),
        _ if std::env::var_os("CI").is_some_and(|ci| ci == "true") => {
            panic!("no wasm-opt: EDGEPACK_OPTIMIZERS=$(tests/peers/fetch), as tests/run does")
        }
        _ => {
            eprintln!("NOT TESTED: no newer wasm-opt; run tests/run");
            None
        }
    }
}

fn shrink(place: &Place, file: &str, args: &[&str]) -> Run {
    let all = ["shrink", file, "-o", "o.wasm", "--message-format", "json"];
    place.run([&all, args].concat()).exits(0)
}

/// What became of the one core module.
fn module(run: &Run) -> Value {
    run.json()["packages"][0]["modules"][0].clone()
}

fn size(module: &Value) -> u64 {
    module["after"].as_u64().unwrap()
}

/// The candidates of the program that was named.
fn theirs(module: &Value) -> Vec<Value> {
    let candidates = module["candidates"].as_array().unwrap().iter();
    let is_theirs = |c: &&Value| c["producer"].as_str().unwrap().starts_with("wasm-opt-");
    candidates.filter(is_theirs).cloned().collect()
}

#[test]
fn makes_nothing_larger_and_is_named() {
    let Some(newer) = newer() else { return };
    let place = Place::new();
    let mut won = 0;
    for seed in 0..12_u8 {
        let bytes: Vec<u8> = (0..6000_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0] ^ seed.wrapping_mul(29))
            .collect();
        let config = Config {
            min_funcs: 10,
            ..Config::default()
        };
        let Ok(made) = Module::new(config, &mut Unstructured::new(&bytes)) else {
            continue;
        };
        place.write("m.wasm", made.to_bytes());
        for level in ["fast", "default", "max"] {
            let alone = module(&shrink(&place, "m.wasm", &["--level", level]));
            let both = module(&shrink(
                &place,
                "m.wasm",
                &["--level", level, "--wasm-opt", &newer],
            ));
            let tried = theirs(&both);
            assert!(!tried.is_empty(), "{both}");
            assert!(
                tried[0]["producer"].as_str().unwrap() >= "wasm-opt-131",
                "{both}"
            );
            assert!(
                level == "max" || size(&both) <= size(&alone),
                "seed {seed}: {alone} {both}"
            );
            won += usize::from(tried.iter().any(|c| c["outcome"] == "won"));
        }
    }
    assert!(won > 0, "a newer one is better now and then");
}

#[test]
fn reads_what_our_own_cannot() {
    let Some(newer) = newer() else { return };
    let place = Place::new();
    let catches = r#"(module
        (tag $e (param i32))
        (func $throws (param i32) (throw $e (local.get 0)))
        (func (export "f") (param i32) (result i32)
            (block $h (result i32)
                (try_table (catch $e $h) (call $throws (i32.add (local.get 0) (i32.const 0))))
                (i32.const 0))))"#;
    place.write("m.wasm", wat::parse_str(catches).unwrap());
    let alone = shrink(&place, "m.wasm", &[]);
    assert!(
        alone.stdout.contains("optimizer-unreadable"),
        "{}",
        alone.stdout
    );
    let both = shrink(&place, "m.wasm", &["--wasm-opt", &newer]);
    assert!(
        !both.stdout.contains("optimizer-unreadable"),
        "{}",
        both.stdout
    );
    let both = module(&both);
    assert_eq!(both["recipe"], "external-oz");
    assert!(size(&both) < size(&module(&alone)), "{both}");
}

#[test]
fn that_is_none_is_refused_before_anything_is_done() {
    let place = Place::new();
    place.write("m.wasm", wat::parse_str(MODULE).unwrap());
    place.write("data", "no program");
    let refused = |run: Run| {
        let run = run
            .exits(2)
            .says("is no wasm-opt: ")
            .says("EDGEPACK_WASM_OPT");
        assert_eq!(run.stderr.matches("error: ").count(), 1, "{}", run.stderr);
        assert_eq!(run.stdout, "");
        assert_eq!(place.files(), ["data", "m.wasm"]);
    };
    let tool = env!("CARGO_BIN_EXE_cargo-edgepack");
    for wrong in ["./missing", "./data", ".", tool] {
        let flag = ["--wasm-opt", wrong];
        refused(place.run([&["shrink", "m.wasm", "-o", "o.wasm"], &flag[..]].concat()));
        refused(place.run([&["build", "m.wasm"], &flag[..]].concat()));
        let to = [
            "publish",
            "m.wasm",
            "--dry-run",
            "--repository",
            "localhost:1/m",
            "--as-version",
            "1.0.0",
        ];
        refused(place.run([&to, &flag[..]].concat()));
    }
    let variable =
        |args: &[&str], value: &str| run(place.command(args).env("EDGEPACK_WASM_OPT", value));
    refused(variable(&["build", "m.wasm"], "./missing"));
    // Commands that do not shrink do not ask for it; nothing is as if it were not set.
    variable(&["check", "m.wasm"], "./missing").exits(0);
    variable(&["shrink", "m.wasm", "-o", "o.wasm"], "").exits(0);
}

#[cfg(unix)]
mod scripts {
    use std::process::Command;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use edgepack::cache::Cache;
    use edgepack::cancel::Cancel;
    use edgepack::shrink::external::WasmOpt;
    use edgepack::shrink::worker::{Limits, Worker};
    use edgepack::shrink::{Options, Outcome, Shrunk};
    use edgepack::wasm::Wasm;

    use super::*;

    /// A program that tells its version as `wasm-opt` does, and then does something
    /// else, with the files in `$in` and `$out`.
    fn script(place: &Place, version: &str, does: &str) -> String {
        let text = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'wasm-opt version {version}'; exit; fi\n\
             in= out=; for word; do [ \"$word\" = -o ] || {{ in=$out; out=$word; }}; done\n{does}\n"
        );
        let source = place.write("script.txt", text);
        let made = place.join(format!("wasm-opt-{version}"));
        // Not by this process: a program that somebody can write to does not start,
        // and what another test starts at this moment could.
        let done = Command::new("install")
            .args(["-m", "755"])
            .args([&source, &made])
            .status();
        assert!(done.unwrap().success());
        made.to_str().unwrap().to_owned()
    }

    /// What the library makes of the module, within limits.
    fn shrunk(place: &Place, does: Option<&str>, time: Duration) -> Shrunk {
        let external = does.map(|does| WasmOpt::find(script(place, "900", does).as_ref()).unwrap());
        let limits = Limits {
            time,
            ..Limits::default()
        };
        let tool = env!("CARGO_BIN_EXE_cargo-edgepack").into();
        let worker = Worker::new(tool, limits, Arc::new(Cancel::default())).with_external(external);
        let wasm = Wasm::new(wat::parse_str(MODULE).unwrap()).unwrap();
        let wasm = edgepack::validate::validate(wasm).unwrap();
        edgepack::shrink::shrink(&wasm, &Options::default(), &worker, &Cache::disabled()).unwrap()
    }

    #[test]
    fn whatever_it_does_costs_its_candidate_only() {
        let place = Place::new();
        let alone = shrunk(&place, None, Duration::from_secs(60));
        for (does, outcome, said) in [
            ("kill -SEGV $$", Outcome::Failed, "signal 11"),
            (
                "echo 'all is lost' >&2; exit 11",
                Outcome::Failed,
                "code 11: all is lost",
            ),
            (
                "echo \"Unknown option '--enable-new'\" >&2; exit 1",
                Outcome::Failed,
                "Unknown option",
            ),
            (
                "echo 'Fatal: error parsing wasm' >&2; exit 1",
                Outcome::Unreadable,
                "parsing",
            ),
            ("kill -KILL $$", Outcome::Limit, "signal 9"),
            ("exit 0", Outcome::Failed, "no result"),
            ("rm \"$in\"; mkdir \"$out\"", Outcome::Failed, "no result"),
            ("echo nonsense > \"$out\"", Outcome::Rejected, ""),
            ("head -c 20 \"$in\" > \"$out\"", Outcome::Rejected, ""),
            ("cat \"$in\" \"$in\" > \"$out\"", Outcome::Rejected, ""),
            ("cp \"$in\" \"$out\"", Outcome::Lost, ""),
        ] {
            let both = shrunk(&place, Some(does), Duration::from_secs(60));
            assert_eq!(both.wasm.bytes(), alone.wasm.bytes(), "{does}");
            assert_eq!(both.findings, alone.findings, "{does}");
            let (own, theirs) = both.modules[0].candidates.split_first().unwrap();
            assert_eq!(own.outcome, Outcome::Won, "{does}");
            // Once on the module, and once on what our own made of it.
            assert_eq!(theirs.len(), 2, "{does}");
            for tried in theirs {
                assert_eq!(tried.producer, "wasm-opt-900/flags-2");
                assert_eq!(tried.outcome, outcome, "{does}");
                let message = tried.message.as_deref().unwrap_or_default();
                assert!(message.contains(said), "{does}: {message}");
            }
        }
    }

    #[test]
    fn one_that_hangs_is_ended_with_all_that_it_started() {
        let place = Place::new();
        let note = place.join("sleeper");
        let does = format!("sleep 1000 & echo $! > '{}'; wait", note.display());
        let started = Instant::now();
        let both = shrunk(&place, Some(&does), Duration::from_secs(2));
        assert!(started.elapsed() < Duration::from_secs(30));
        let (own, theirs) = both.modules[0].candidates.split_first().unwrap();
        assert_eq!(own.outcome, Outcome::Won);
        assert!(theirs.iter().all(|tried| tried.outcome == Outcome::Limit));
        assert!(both.findings.is_empty(), "{:?}", both.findings);
        if cfg!(target_os = "linux") {
            let id = fs::read_to_string(note).unwrap();
            let state = || fs::read_to_string(format!("/proc/{}/stat", id.trim()));
            while state().is_ok_and(|state| !state.contains(") Z ")) {
                assert!(started.elapsed() < Duration::from_secs(60), "it sleeps on");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    #[test]
    fn it_has_the_limits_of_our_own() {
        let place = Place::new();
        let note = place.join("limits");
        let does = format!(
            "(ulimit -v; ulimit -c) > '{}'; cp \"$in\" \"$out\"",
            note.display()
        );
        shrunk(&place, Some(&does), Duration::from_secs(60));
        let limits = fs::read_to_string(note).unwrap();
        let memory = if cfg!(target_os = "linux") {
            (Limits::default().memory >> 10).to_string()
        } else {
            "unlimited".to_owned()
        };
        assert_eq!(limits.lines().collect::<Vec<_>>(), [memory.as_str(), "0"]);
    }

    #[test]
    fn versions_share_no_result() {
        let place = Place::new();
        place.write("m.wasm", wat::parse_str(MODULE).unwrap());
        let copies = "cp \"$in\" \"$out\"";
        let (one, other) = (script(&place, "900", copies), script(&place, "901", copies));
        let cached = |args: &[&str]| module(&shrink(&place, "m.wasm", args))["cached"] == true;
        for args in [&[][..], &["--wasm-opt", &one], &["--wasm-opt", &other]] {
            assert!(!cached(args), "{args:?}");
            assert!(cached(args), "{args:?}");
        }
        // The flag comes before the variable.
        let mut command = place.command(["shrink", "m.wasm", "-o", "o.wasm", "--wasm-opt", &one]);
        run(command.env("EDGEPACK_WASM_OPT", "./missing")).exits(0);
        let found = |program: &str| {
            let mut command =
                place.command(["shrink", "m.wasm", "-o", "o.wasm", "--level", "fast"]);
            command
                .args(["--message-format", "json"])
                .env("EDGEPACK_WASM_OPT", program);
            theirs(&module(&run(&mut command).exits(0)))[0]["producer"].clone()
        };
        assert_eq!(found(&other), "wasm-opt-901/flags-2");
    }
}
