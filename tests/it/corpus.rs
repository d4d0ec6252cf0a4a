//! Modules that others built go through `build FILE`: they validate, are smaller,
//! use no new proposals, and do the same as before.
//!
//! `tests/run` fetches them and names their folder in `EDGEPACK_CORPUS`. In CI a
//! missing corpus fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::engine::{Engine, run_component_cli, run_wasip1};
use crate::support::tool::{Place, repository};

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("EDGEPACK_CORPUS").map(PathBuf::from);
    assert!(
        folder.is_some() || std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "EDGEPACK_CORPUS is not set: run tests/run"
    );
    folder
}

/// Builds a module of the corpus and returns what the optimiser was given, what
/// came of it, and the report's package.
fn shrunk(place: &Place, name: &str) -> Option<(PathBuf, PathBuf, Value)> {
    let original = folder()?.join(format!("{name}.wasm"));
    let done = place
        .run([
            "build",
            original.to_str().unwrap(),
            "--message-format",
            "json",
        ])
        .exits(0);
    let package = done.json()["packages"][0].clone();
    let made = place.join(format!("target/edgepack/{name}.wasm"));
    assert!(
        fs::metadata(&made).unwrap().len() < fs::metadata(&original).unwrap().len(),
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

fn the_same_through_javascript(name: &str) {
    let place = Place::new();
    let Some((original, made, _)) = shrunk(&place, name) else {
        return;
    };
    let before = drive(name, &original);
    assert!(!before.trim().is_empty());
    assert_eq!(before, drive(name, &made), "{name}");
}

#[test]
fn as_sha256() {
    the_same_through_javascript("as-sha256");
}

#[test]
fn argon2() {
    the_same_through_javascript("argon2");
}

#[test]
fn sql_js() {
    the_same_through_javascript("sql.js");
}

#[test]
fn sh_syntax() {
    the_same_through_javascript("sh-syntax");
}

#[test]
fn oxc_parser() {
    the_same_through_javascript("oxc-parser");
}

#[test]
fn resvg() {
    the_same_through_javascript("resvg");
}

#[test]
fn arcjet_component() {
    the_same_through_javascript("arcjet-component");
}

const TEXT: &[u8] = b"the quick brown fox\njumps over\nthe lazy dog\n";

#[test]
fn ripgrep_core() {
    let place = Place::new();
    let Some((original, made, _)) = shrunk(&place, "ripgrep-wasip1") else {
        return;
    };
    let (original, made) = (fs::read(original).unwrap(), fs::read(made).unwrap());
    for args in [
        &["-n", "o[vw]", "-"][..],
        &["--column", "-o", "-i", "THE (?P<word>\\w+)", "-"],
        &["["],
    ] {
        let engine = Engine::Wasmi;
        assert_eq!(
            run_wasip1(engine, &original, args, TEXT),
            run_wasip1(engine, &made, args, TEXT)
        );
    }
    let args = ["-c", "the", "-"];
    let one = run_wasip1(Engine::Wasmtime, &original, &args, TEXT);
    assert_eq!(one, run_wasip1(Engine::Wasmtime, &made, &args, TEXT));
    assert_eq!(one.stdout, b"2\n");
}

#[test]
fn ripgrep_component() {
    let place = Place::new();
    let Some((original, made, package)) = shrunk(&place, "ripgrep-wasip2") else {
        return;
    };
    assert_eq!(package["kind"], "component");
    let (original, made) = (fs::read(original).unwrap(), fs::read(made).unwrap());
    let args = ["-n", "o[vw]", "-"];
    let one = run_component_cli(&original, &args, TEXT);
    assert_eq!(one, run_component_cli(&made, &args, TEXT));
    assert!(String::from_utf8_lossy(&one.stdout).contains("1:the quick brown fox"));
}
