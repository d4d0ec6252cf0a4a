//! Modules that others built go through `build FILE`: they validate, are smaller,
//! use no new proposals, and do the same as before.
//!
//! `tests/run` fetches them and names their folder in `EDGEPACK_CORPUS`. In CI a
//! missing corpus fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::engine::{Engine, Observed, run_component_cli, run_wasip1};
use crate::support::tool::{Place, repository};

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("EDGEPACK_CORPUS").map(PathBuf::from);
    assert!(
        folder.is_some() || std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "EDGEPACK_CORPUS is not set: run tests/run"
    );
    folder
}

/// The levels that a module goes through.
const ALL: [&str; 3] = ["fast", "default", "max"];

/// A search over a large module takes minutes: it is made where `EDGEPACK_LARGE_AT_MAX`
/// is set.
fn for_large() -> &'static [&'static str] {
    let all = std::env::var_os("EDGEPACK_LARGE_AT_MAX").is_some();
    if all { &ALL } else { &ALL[..2] }
}

/// Builds a module of the corpus at a level and returns what the optimiser was given,
/// what came of it, and the report's package.
fn shrunk(place: &Place, name: &str, level: &str) -> Option<(PathBuf, PathBuf, Value)> {
    let original = folder()?.join(format!("{name}.wasm"));
    let done = place
        .run([
            "build",
            original.to_str().unwrap(),
            "--level",
            level,
            "--message-format",
            "json",
        ])
        .exits(0);
    let package = done.json()["packages"][0].clone();
    let made = place.join(format!("target/edgepack/{name}.wasm"));
    let [before, after] = [&original, &made].map(|file| fs::metadata(file).unwrap().len());
    // What is there may be optimised already, and better than by one quick pass.
    assert!(
        after < before || (level == "fast" && after == before),
        "{name} is not smaller"
    );
    let codes: Vec<&str> = package["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["code"].as_str().unwrap())
        .collect();
    assert!(
        codes.iter().all(|c| !c.starts_with("optimizer-")),
        "{name}: {:?}",
        package["findings"]
    );
    let proposals = |file: &Path| -> Vec<String> {
        let found = place
            .run(["inspect", file.to_str().unwrap(), "--json"])
            .exits(0)
            .json();
        found["features"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f.as_str().unwrap().to_owned())
            .collect()
    };
    let before = proposals(&original);
    for proposal in proposals(&made) {
        assert!(
            before.contains(&proposal),
            "{name} uses {proposal} only after shrinking"
        );
    }
    Some((original, made, package))
}

/// Runs a module through its package's own JavaScript.
fn drive(driver: &str, module: &Path) -> String {
    let corpus = folder().unwrap();
    let output = Command::new("node")
        .arg(repository().join(format!("tests/corpus/drive/{driver}.mjs")))
        .arg(corpus.join("node_modules"))
        .arg(module)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{driver}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn the_same_through_javascript(name: &str, levels: &[&str]) {
    let place = Place::new();
    let Some(folder) = folder() else {
        return;
    };
    let before = drive(name, &folder.join(format!("{name}.wasm")));
    assert!(!before.trim().is_empty());
    let mut smallest = u64::MAX;
    for level in levels {
        let Some((_, made, _)) = shrunk(&place, name, level) else {
            return;
        };
        assert_eq!(before, drive(name, &made), "{name} {level}");
        let len = fs::metadata(&made).unwrap().len();
        assert!(
            len <= smallest,
            "{name}: {level} is larger than a lower level"
        );
        smallest = len;
    }
}

#[test]
fn as_sha256() {
    the_same_through_javascript("as-sha256", &ALL);
}

#[test]
fn argon2() {
    the_same_through_javascript("argon2", &ALL);
}

#[test]
fn sql_js() {
    the_same_through_javascript("sql.js", &ALL);
}

#[test]
fn sh_syntax() {
    the_same_through_javascript("sh-syntax", &ALL);
}

#[test]
fn oxc_parser() {
    the_same_through_javascript("oxc-parser", for_large());
}

#[test]
fn resvg() {
    the_same_through_javascript("resvg", for_large());
}

#[test]
fn arcjet_component() {
    the_same_through_javascript("arcjet-component", for_large());
}

const TEXT: &[u8] = b"the quick brown fox\njumps over\nthe lazy dog\n";

#[test]
fn ripgrep_core() {
    let place = Place::new();
    let mut before: Option<Vec<Observed>> = None;
    for level in for_large() {
        let Some((original, made, _)) = shrunk(&place, "ripgrep-wasip1", level) else {
            return;
        };
        // Wasmi 2.0.0 goes wrong on the second of these at `fast`, where V8 and Wasmtime do
        // not; Wasmtime compiles anew for each.
        let runs = |module: &Path| -> Vec<Observed> {
            let bytes = fs::read(module).unwrap();
            [
                (Engine::Wasmi, &["-n", "o[vw]", "-"][..]),
                (
                    Engine::Wasmtime,
                    &["--column", "-o", "-i", "THE (?P<word>\\w+)", "-"],
                ),
                (Engine::Wasmi, &["["]),
                (Engine::Wasmtime, &["-c", "the", "-"]),
            ]
            .map(|(engine, args)| run_wasip1(engine, &bytes, args, TEXT))
            .into()
        };
        let before = before.get_or_insert_with(|| runs(&original));
        assert_eq!(before[3].stdout, b"2\n");
        assert_eq!(*before, runs(&made), "{level}");
    }
}

#[test]
fn ripgrep_component() {
    let place = Place::new();
    let mut before: Option<Observed> = None;
    for level in for_large() {
        let Some((original, made, package)) = shrunk(&place, "ripgrep-wasip2", level) else {
            return;
        };
        assert_eq!(package["kind"], "component");
        let run = |module: &Path| {
            run_component_cli(&fs::read(module).unwrap(), &["-n", "o[vw]", "-"], TEXT)
        };
        let before = before.get_or_insert_with(|| run(&original));
        assert!(String::from_utf8_lossy(&before.stdout).contains("1:the quick brown fox"));
        assert_eq!(*before, run(&made), "{level}");
    }
}
