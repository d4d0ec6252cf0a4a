//! What was tried for each core module is told, and which size counts is heeded.

use serde_json::Value;

use crate::support::tool::Place;

const MODULE: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "f") (param i32) (result i32)
        (i32.add (i32.add (local.get 0) (i32.const 1234567)) (i32.mul (i32.const 0) (local.get 0))))
    (func $dead (result i32) i32.const 1))"#;

fn place() -> Place {
    let place = Place::new();
    place.write("m.wasm", wat::parse_str(MODULE).unwrap());
    place
}

#[test]
fn are_in_the_report_and_shown_when_asked() {
    for level in ["fast", "default", "max"] {
        let place = place();
        let package = place.shrunk(&["--level", level]);
        let [module] = &package["modules"].as_array().unwrap()[..] else {
            panic!("{package}");
        };
        let candidates = module["candidates"].as_array().unwrap();
        let won: Vec<&Value> = candidates
            .iter()
            .filter(|c| c["outcome"] == "won")
            .collect();
        assert_eq!(won.len(), 1, "{module}");
        assert_eq!(won[0]["size"], module["after"]);
        assert_eq!(won[0]["recipe"], module["recipe"]);
        for candidate in candidates {
            assert!(candidate["producer"].as_str().unwrap().contains("binaryen"));
            assert!(candidate["seconds"].as_f64().unwrap() > 0.0);
            // Where there is nothing to merge there is no result.
            let size = candidate["size"].as_u64();
            assert!(
                size.is_none() || size >= module["after"].as_u64(),
                "{candidate}"
            );
        }
        // From the cache: nothing is tried, and the winner is still known.
        let again = place.shrunk(&["--level", level]);
        assert_eq!(again["modules"][0]["cached"], true);
        assert_eq!(again["modules"][0]["recipe"], module["recipe"]);
        assert_eq!(again["modules"][0]["candidates"], Value::Array(Vec::new()));
    }
    let run = place()
        .run(["shrink", "m.wasm", "-o", "o.wasm", "-v"])
        .exits(0);
    assert!(run.stderr.contains("module 0:"), "{}", run.stderr);
    assert!(run.stderr.contains(" won"), "{}", run.stderr);
    let run = place().run(["shrink", "m.wasm", "-o", "o.wasm"]).exits(0);
    assert!(!run.stderr.contains("module 0:"), "{}", run.stderr);
}

#[test]
fn are_judged_by_the_measure_that_is_named() {
    let place = place();
    let raw = place.shrunk(&[]);
    let gzip = place.shrunk(&["--optimize-for", "gzip"]);
    // Another measure is another search, and its sizes are of that measure.
    assert_eq!(gzip["modules"][0]["cached"], false);
    let size = |package: &Value| package["modules"][0]["candidates"][0]["size"].as_u64();
    assert_eq!(size(&raw), raw["modules"][0]["after"].as_u64());
    assert_ne!(size(&gzip), gzip["modules"][0]["after"].as_u64());
    let mut command = place.command(["shrink", "m.wasm", "-o", "o.wasm"]);
    command.env("EDGEPACK_SHRINK_OPTIMIZE_FOR", "gzpi");
    crate::support::tool::run(&mut command)
        .exits(2)
        .says("EDGEPACK_SHRINK_OPTIMIZE_FOR: unknown measure `gzpi`")
        .says("did you mean `gzip`?");
}
