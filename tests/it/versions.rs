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
    // What has not changed is not compiled, whatever else cargo did there.
    let mut check = std::process::Command::new("cargo");
    check.args(["check", "--quiet", "--release", "--target", "wasm32-wasip1"]);
    check
        .env_remove("CARGO_TARGET_DIR")
        .current_dir(place.path());
    let target = ["build", "--target", "wasm32-wasip1"];
    place.run(target).exits(0);
    for _ in 0..2 {
        assert!(check.status().unwrap().success());
        let done = place.run(target).exits(0);
        assert!(!done.stderr.contains("Compiling"), "{}", done.stderr);
    }
}

/// As newer versions do that stand on an older one.
#[test]
fn a_package_that_depends_on_its_name() {
    let place = Place::new();
    for (folder, version, more) in [
        ("old", "1.0.0", ""),
        (
            ".",
            "2.0.0",
            "[dependencies]\nold = { package = \"app\", path = \"old\" }\n",
        ),
    ] {
        let workspace = if folder == "." {
            "[workspace]\nexclude = [\"old\"]\n"
        } else {
            ""
        };
        place.write(
            &format!("{folder}/Cargo.toml"),
            format!(
                "[package]\nname = \"app\"\nversion = \"{version}\"\nedition = \"2024\"\n{more}{workspace}"
            ),
        );
    }
    place.write("old/src/lib.rs", "pub fn answer() -> i32 { 42 }\n");
    place.write(
        "src/main.rs",
        "fn main() { println!(\"{}\", old::answer()); }\n",
    );
    for more in [&[][..], &["-p", "app"], &["-p", "app@2.0.0"]] {
        place.run([&["build", "-q"], more].concat()).exits(0);
    }
    assert!(place.join("target/edgepack/app.wasm").is_file());
}
