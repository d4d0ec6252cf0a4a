//! Reports keep to the schema that the tool prints.

use serde_json::Value;

use crate::support::tool::Place;

fn schema(of: &str) -> jsonschema::Validator {
    let schema = Place::new().run(["schema", of]).exits(0).json();
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn a_build_reports_what_the_schema_says() {
    let place = Place::new();
    let folder = place.fixture("http");
    let manifest = folder.join("Cargo.toml");
    let run = place
        .run([
            "build",
            "--message-format",
            "json",
            "--manifest-path",
            manifest.to_str().unwrap(),
        ])
        .exits(0);
    let report = run.json();
    let schema = schema("report");
    assert!(
        schema.is_valid(&report),
        "{:?}",
        schema.iter_errors(&report).collect::<Vec<_>>()
    );
    let written = std::fs::read(folder.join("target/edgepack/report.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), report);

    let package = &report["packages"][0];
    assert_eq!(package["name"], "http-hello");
    assert_eq!(package["kind"], "component");
    assert_eq!(package["target"], "wasm32-wasip2");
    let names = |key: &str| -> Vec<String> {
        package[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect()
    };
    assert!(
        names("imports")
            .iter()
            .any(|i| i.starts_with("wasi:http/types@0.2."))
    );
    assert!(
        names("exports")
            .iter()
            .any(|e| e.starts_with("wasi:http/incoming-handler@0.2."))
    );
    assert!(names("features").contains(&"component-model".to_owned()));
    let stages: Vec<&str> = package["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        stages,
        ["compile", "check", "shrink", "check again", "pack"]
    );
    let shipped = std::fs::read(package["wasm"].as_str().unwrap()).unwrap();
    assert_eq!(package["size"]["after"], shipped.len());
    assert!(package["size"]["gzip"].as_u64() < package["size"]["after"].as_u64());
    assert!(package["size"]["after"].as_u64() < package["size"]["before"].as_u64());
}

#[test]
fn the_schema_is_strict_enough_to_fail() {
    let schema = schema("report");
    assert!(!schema.is_valid(&serde_json::json!({"schema_version": 1})));
    assert!(
        !schema.is_valid(&serde_json::json!({"schema_version": 1, "packages": [{"name": "x"}]}))
    );
    assert!(schema.is_valid(&serde_json::json!({"schema_version": 1, "packages": []})));
}

#[test]
fn inspections_keep_to_theirs() {
    let place = Place::new();
    let module = wat::parse_str(
        r#"(module (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
            (memory (export "memory") 1))"#,
    )
    .unwrap();
    place.write("m.wasm", module);
    let found = place.run(["inspect", "m.wasm", "--json"]).exits(0).json();
    let schema = schema("inspect");
    assert!(
        schema.is_valid(&found),
        "{:?}",
        schema.iter_errors(&found).collect::<Vec<_>>()
    );
    assert_eq!(found["capabilities"][0]["capability"], "randomness");
    let people = place.run(["inspect", "m.wasm"]).exits(0);
    assert!(people.stdout.contains("randomness"), "{}", people.stdout);
}
