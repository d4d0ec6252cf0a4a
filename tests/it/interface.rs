//! Options that change what a module offers and asks for, or the proposals that it
//! takes.

use std::fs;

use serde_json::{Value, json};

use crate::support::engine::call_without;
use crate::support::tool::{Place, run};

const MODULE: &str = r#"(module
    (import "host" "random" (func $random (param i32) (result i32)))
    (import "host" "log" (func $log (param i32)))
    (@custom "producers" "\00")
    (memory (export "memory") 1)
    (data (i32.const 0) "\80\7f")
    (func (export "byte") (param i32) (result i32)
        (i32.extend8_s (i32.load8_u (local.get 0))))
    (func (export "dice") (param i32) (result i32)
        (i32.add (i32.const 1) (call $random (local.get 0))))
    (func (export "talk") (call $log (i32.const 7))))"#;

fn place() -> Place {
    let place = Place::new();
    place.write("m.wasm", wat::parse_str(MODULE).unwrap());
    place
}

fn shrunk(place: &Place, args: &[&str]) -> (Value, Vec<u8>) {
    let report = place.shrunk(args);
    (report, fs::read(place.join("o.wasm")).unwrap())
}

/// Calls a function in an interpreter that has no sign extension and gives no imports.
fn call(module: &[u8], name: &str, argument: i32) -> Result<i32, String> {
    let mut config = wasmi::Config::default();
    config.wasm_sign_extension(false);
    call_without(&config, module, name, argument)
}

#[test]
fn imports_are_answered_and_a_proposal_is_taken_out() {
    let place = place();
    let stubs = ["--stub-import", "host.random=52,host.log"];
    let (report, with_sign_ext) = shrunk(&place, &stubs);
    assert_eq!(report["imports"], json!([]));
    let module = &report["modules"][0];
    assert_eq!(
        module["stubbed_imports"],
        json!(["host.random", "host.log"])
    );
    assert_eq!(report["features"], json!(["sign-extension"]));
    // The interpreter has no such instruction.
    assert!(call(&with_sign_ext, "byte", 0).is_err());

    let (report, lowered) = shrunk(&place, &[&stubs[..], &["--lower", "sign-ext"]].concat());
    assert_eq!(report["features"], json!([]));
    assert_eq!(call(&lowered, "byte", 0), Ok(-128));
    assert_eq!(call(&lowered, "byte", 1), Ok(127));
    assert_eq!(call(&lowered, "dice", 3), Ok(53));
}

#[test]
fn exports_go_with_what_only_they_reach() {
    let place = place();
    let (report, _) = shrunk(&place, &["--keep-export", "memory,byte"]);
    assert_eq!(report["exports"], json!(["memory", "byte"]));
    assert_eq!(report["imports"], json!([]));
    let module = &report["modules"][0];
    assert_eq!(module["removed_exports"], json!(["dice", "talk"]));
    assert_eq!(
        module["removed_imports"],
        json!(["host.log", "host.random"])
    );
    let mut command = place.command(["shrink", "m.wasm", "-o", "o.wasm"]);
    command.env("EDGEPACK_SHRINK_KEEP_EXPORTS", "memroy");
    run(&mut command).exits(2).says("did you mean `memory`?");
}

/// The name that a module has for each exported function, by the export's name.
fn names_of_exports(module: &[u8]) -> Vec<(String, Option<String>)> {
    use wasmparser::{KnownCustom, Name, Parser, Payload};
    let (mut exports, mut names) = (Vec::new(), std::collections::HashMap::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload.unwrap() {
            Payload::ExportSection(section) => {
                exports.extend(section.into_iter().map(Result::unwrap));
            }
            Payload::CustomSection(section) => {
                let KnownCustom::Name(section) = section.as_known() else {
                    continue;
                };
                for part in section {
                    if let Name::Function(map) = part.unwrap() {
                        let all = map.into_iter().map(Result::unwrap);
                        names.extend(all.map(|n| (n.index, n.name.to_owned())));
                    }
                }
            }
            _ => {}
        }
    }
    let functions = exports
        .iter()
        .filter(|e| e.kind == wasmparser::ExternalKind::Func);
    functions
        .map(|e| (e.name.to_owned(), names.get(&e.index).cloned()))
        .collect()
}

#[test]
fn names_that_are_kept_follow_their_functions() {
    let place = Place::new();
    let mut text = r#"(module $test (import "host" "log" (func $log (param i32)))
        (func $unused (call $log (i32.const 3)))
        (func $double (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
        (func $square (param i32) (result i32) (i32.mul (local.get 0) (local.get 0)))"#
        .to_owned();
    // Alike but for what they call, so that they are merged at `max`.
    for (name, callee, by) in [
        ("gamma", "double", 5),
        ("alpha", "square", 5),
        ("beta", "double", 7),
    ] {
        let line = format!(
            "(local.set 0 (i32.xor (call ${callee} (local.get 0)) (i32.rotl (local.get 0) (i32.const {by}))))"
        );
        let body = line.repeat(12);
        let function = format!(
            "(func ${name} (export \"{name}\") (param i32) (result i32) {body} (local.get 0))"
        );
        text.push_str(&function);
    }
    text.push(')');
    let before = wat::parse_str(text).unwrap();
    place.write("m.wasm", &before);
    for (args, kept) in [
        (&["--level", "fast"][..], 3),
        (&["--level", "default"], 3),
        (&["--level", "max"], 3),
        (&["--level", "default", "--keep-export", "alpha,beta"], 2),
        (
            &["--level", "default", "--lower", "sign-ext,bulk-memory"],
            3,
        ),
    ] {
        let (_, after) = shrunk(&place, &[args, &["--keep-section", "name"]].concat());
        let names = names_of_exports(&after);
        assert_eq!(names.len(), kept, "{args:?}");
        for (export, name) in names {
            assert_eq!(name.as_ref(), Some(&export), "{args:?}");
        }
        let (_, without) = shrunk(&place, args);
        assert!(without.len() < after.len());
        assert!(
            names_of_exports(&without)
                .iter()
                .all(|(_, name)| name.is_none())
        );
    }
}

#[test]
fn what_is_about_changed_code_goes_with_it() {
    let place = Place::new();
    let text = r#"(module (@custom ".debug_info" "x") (@custom "producers" "\00")
        (func (export "f") (result i32) (i32.add (i32.const 1) (i32.const 2))))"#;
    place.write("m.wasm", wat::parse_str(text).unwrap());
    let done = place
        .run(["shrink", "m.wasm", "-o", "o.wasm", "--keep-section", "*"])
        .exits(0);
    done.says("`.debug_info`, which is about code that has changed");
    let kept = fs::read(place.join("o.wasm")).unwrap();
    let names: Vec<_> = edgepack::wasm::sections(&kept)
        .unwrap()
        .iter()
        .filter_map(|s| s.name)
        .collect();
    assert_eq!(names, ["producers"]);
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let place = place();
    for (args, text) in [
        (
            &["--level", "off", "--lower", "sign-ext"][..],
            "shrink.level is off",
        ),
        (&["--stub-import", "host.log=3"], "it has no result"),
        (&["--stub-import", "log"], "write MODULE.FIELD"),
        (&["--lower", "gc"], "expected one of sign-ext"),
        (&["--allow-proposal", "smid"], "did you mean `simd`?"),
        (&["--assume", "luck"], "traps-never-happen"),
    ] {
        let all = [&["shrink", "m.wasm", "-o", "o.wasm"], args].concat();
        place.run(all).exits(2).says(text);
        assert!(!place.join("o.wasm").exists(), "{text}");
    }
    for change in [["--lower", "sign-ext"], ["--stub-import", "host.log"]] {
        place
            .run([&["build", "m.wasm", "--no-shrink"], &change[..]].concat())
            .exits(2)
            .says("shrink.level is off");
    }
    place.write(
        "c.wasm",
        wat::parse_str("(component (core module (func (export \"f\"))))").unwrap(),
    );
    place
        .run(["shrink", "c.wasm", "-o", "o.wasm", "--keep-export", "f"])
        .exits(2)
        .says("this is a component");
}

#[test]
fn assumptions_and_proposals_are_the_users_to_name() {
    let place = Place::new();
    let module = r#"(module (func (export "f") (param i32) (result i32)
        (drop (i32.div_s (i32.const 1) (local.get 0)))
        (i32.shr_s (i32.shl (local.get 0) (i32.const 24)) (i32.const 24))))"#;
    place.write("m.wasm", wat::parse_str(module).unwrap());
    let (careful, module) = shrunk(&place, &[]);
    assert_eq!(careful["features"], json!([]));
    assert!(call(&module, "f", 0).is_err(), "it still divides by zero");
    let (_, bold) = shrunk(&place, &["--assume", "traps-never-happen"]);
    assert_eq!(call(&bold, "f", 0), Ok(0));
    let folds = r#"(module (memory (export "m") 1) (func (export "f") (param i32) (result i32)
        (i32.load (i32.add (local.get 0) (i32.const 16)))))"#;
    place.write("folds.wasm", wat::parse_str(folds).unwrap());
    let len = |args: &[&str]| {
        let all = [&["shrink", "folds.wasm", "-o", "folded.wasm"], args].concat();
        place.run(all).exits(0);
        std::fs::read(place.join("folded.wasm")).unwrap().len()
    };
    let plain = len(&[]);
    assert!(len(&["--assume", "low-memory-unused"]) < plain);
    let (newer, _) = shrunk(&place, &["--allow-proposal", "sign-extension"]);
    assert_eq!(newer["features"], json!(["sign-extension"]));
    assert!(newer["size"]["after"].as_u64() < careful["size"]["after"].as_u64());
}
