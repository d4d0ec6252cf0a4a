//! A folder that packages of several versions were compiled in.

use crate::support::tool::Place;

fn set_version(place: &Place, version: &str) {
    place.write(
        "Cargo.toml",
        format!(
            "[package]\nname = \"my-plugin\"\nversion = \"{version}\"\nedition = \"2024\"\n\
             [lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n"
        ),
    );
}

/// Cargo takes the file that the other version left for fresh.
#[test]
fn a_version_that_comes_back_is_compiled_again() {
    let place = Place::new();
    let source = "#[unsafe(no_mangle)]\npub extern \"C\" fn version() -> *const u8 {\n    \
                  env!(\"CARGO_PKG_VERSION\").as_ptr()\n}\n";
    place.write("src/lib.rs", source);
    let build = |version: &str| {
        set_version(&place, version);
        place.run(["build", "--quiet"]).exits(0);
        std::fs::read(place.join("target/edgepack/my-plugin.wasm")).unwrap()
    };
    let holds = |module: &[u8], text: &str| module.windows(5).any(|w| w == text.as_bytes());
    let first = build("0.1.0");
    assert!(holds(&first, "0.1.0"));
    assert!(holds(&build("0.1.1"), "0.1.1"));
    assert!(build("0.1.0") == first);
    assert!(holds(&build("0.1.1"), "0.1.1"));
    // What has not changed is not compiled.
    let done = place.run(["build"]).exits(0);
    assert!(!done.stderr.contains("Compiling"), "{}", done.stderr);
}
