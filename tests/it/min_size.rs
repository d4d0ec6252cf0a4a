//! Build-time levers: what the compiler is told, for a small binary.

use std::fs;

use crate::support::engine::{Engine, run_wasip1};
use crate::support::tool::{Place, run};

/// What a plain release build and `wasm-opt -Oz` make of it, with the same levers:
/// see docs/performance.md.
const STABLE: usize = 35_023;
const NIGHTLY: usize = 13_190;

fn hello(profile: &str) -> Place {
    let place = Place::new();
    let manifest = format!(
        "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n{profile}"
    );
    place.write("Cargo.toml", manifest);
    place.write(
        "src/main.rs",
        "fn main() { println!(\"Hello, world!\"); }\n",
    );
    place
}

fn built(place: &Place, args: &[&str]) -> Vec<u8> {
    let all = [&["build", "--target", "wasm32-wasip1"], args].concat();
    let mut command = place.command(all);
    // The compiler of the tests takes unstable flags with this.
    command.env("RUSTC_BOOTSTRAP", "1");
    run(&mut command).exits(0);
    let module = fs::read(place.join("target/edgepack/hello.wasm")).unwrap();
    let said = run_wasip1(Engine::Wasmtime, &module, &[], b"");
    assert_eq!(said.stdout, b"Hello, world!\n");
    module
}

#[test]
fn stable_levers_are_set_where_the_profile_says_nothing() {
    let plain = built(&hello(""), &[]);
    let small = built(&hello(""), &["--min-size"]);
    assert!(small.len() <= STABLE, "{}", small.len());
    assert!(small.len() < plain.len());
    // What the manifest says stays: the result is that of a build without them.
    let said = "[profile.release]\nopt-level = 3\nlto = false\ncodegen-units = 16\n\
                panic = \"unwind\"\nstrip = false\n";
    let kept = built(&hello(said), &["--min-size"]);
    assert_eq!(kept.len(), built(&hello(said), &[]).len());
    assert!(kept.len() > small.len());
}

#[test]
fn nightly_levers_rebuild_the_standard_library() {
    let table = "[package.metadata.edgepack.build]\nsize = \"nightly\"\n";
    let small = built(&hello(table), &[]);
    assert!(small.len() <= NIGHTLY, "{}", small.len());
    // A flag comes before the configuration.
    assert!(built(&hello(table), &["--min-size=off"]).len() > STABLE);
}

#[test]
fn values_that_are_wrong_are_refused() {
    let place = hello("");
    place
        .run(["build", "--min-size=nigthly"])
        .exits(2)
        .says("did you mean `nightly`?");
    let mut command = place.command(["build"]);
    command.env("EDGEPACK_BUILD_SIZE", "tiny");
    run(&mut command)
        .exits(2)
        .says("EDGEPACK_BUILD_SIZE: unknown build size `tiny`");
    // Nothing is compiled: there is nothing to be told.
    place.write("m.wasm", b"\0asm\x01\0\0\0");
    let mut command = place.command(["build", "m.wasm"]);
    command.env("EDGEPACK_BUILD_SIZE", "tiny");
    run(&mut command).exits(0);
    place.run(["build", "m.wasm", "--min-size"]).exits(2);
}
