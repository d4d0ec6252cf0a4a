//! The cache: what it says of itself, and what clearing it does.

use crate::support::tool::Place;

#[test]
fn is_shown_and_cleared() {
    let place = Place::new();
    let module = wat::parse_str(r#"(module (func (export "f") (result i32) i32.const 1))"#);
    place.write("m.wasm", module.unwrap());
    let shown = |args: &[&str]| {
        let args = [&["cache", "--message-format", "json"], args].concat();
        place.run(args).exits(0).json()
    };
    let empty = shown(&[]);
    assert_eq!((&empty["entries"], &empty["bytes"]), (&0.into(), &0.into()));
    assert_eq!(
        empty["folder"].as_str().unwrap(),
        place.join(".cache").to_str().unwrap()
    );
    let shrink = || {
        let args = [
            "shrink",
            "m.wasm",
            "-o",
            "o.wasm",
            "--message-format",
            "json",
        ];
        let report = place.run(args).exits(0).json();
        report["packages"][0]["stages"][1]["cached"]
            .as_bool()
            .unwrap()
    };
    assert!(!shrink());
    assert!(shrink());
    let held = shown(&[]);
    assert!(held["entries"].as_u64().unwrap() >= 1);
    assert!(held["bytes"].as_u64() < held["limit"].as_u64());
    let people = place.run(["cache"]).exits(0).stdout;
    assert!(people.contains(&format!("entries  {}", held["entries"])));

    // What is removed is told; afterwards there is nothing.
    assert_eq!(shown(&["--clear"])["entries"], held["entries"]);
    assert_eq!(shown(&[])["entries"], 0);
    assert!(!shrink());
}
