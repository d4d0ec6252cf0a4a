//! Cargo projects: what is selected, how it is compiled, and how failures end.

use std::fs;

use crate::support::tool::{Place, run};

/// A package with a `main`, or with a library of some crate type.
fn package(place: &Place, folder: &str, name: &str, manifest: &str, main: Option<&str>) {
    place.write(
        &format!("{folder}/Cargo.toml"),
        format!("[package]\nname = \"{name}\"\nversion = \"1.2.3+build.7\"\nedition = \"2021\"\n{manifest}"),
    );
    match main {
        Some(main) => place.write(&format!("{folder}/src/main.rs"), main),
        None => place.write(
            &format!("{folder}/src/lib.rs"),
            "#[unsafe(no_mangle)]\npub extern \"C\" fn answer() -> i32 { 42 }\n",
        ),
    };
}

const HELLO: &str = "fn main() { println!(\"hello\"); }\n";

#[test]
fn a_program_needs_no_configuration() {
    let place = Place::new();
    package(&place, "app", "my-app", "", Some(HELLO));
    let folder = place.join("app");
    let done = run(place.command(["edgepack", "build"]).current_dir(&folder)).exits(0);
    let module = folder.join("target/edgepack/my-app.wasm");
    assert_eq!(done.stdout.trim(), module.to_str().unwrap());
    assert!(module.is_file());
    // The `+` of a version is illegal in a tag.
    let index = fs::read_to_string(folder.join("target/edgepack/oci/index.json")).unwrap();
    assert!(index.contains("\"my-app:1.2.3_build.7\""), "{index}");
}

#[test]
fn a_cdylib_is_a_plain_module_under_its_packages_name() {
    let place = Place::new();
    package(
        &place,
        "lib",
        "my-lib",
        "[lib]\ncrate-type = [\"cdylib\"]\n",
        None,
    );
    let done = place
        .run([
            "build",
            "--manifest-path",
            "lib/Cargo.toml",
            "--message-format=json",
        ])
        .exits(0);
    let report = done.json();
    assert_eq!(report["packages"][0]["target"], "wasm32-unknown-unknown");
    assert_eq!(report["packages"][0]["name"], "my-lib");
    assert!(place.join("lib/target/edgepack/my-lib.wasm").is_file());
}

#[test]
fn bins_examples_features_profiles_and_folders() {
    let place = Place::new();
    let manifest = "[features]\nloud = []\n[[bin]]\nname = \"one\"\npath = \"src/main.rs\"\n[[bin]]\nname = \"two\"\npath = \"src/two.rs\"\n\
                    [profile.tiny]\ninherits = \"release\"\nopt-level = \"z\"\n\
                    [package.metadata.edgepack]\nprofile = \"tiny\"\n";
    let two =
        "fn main() { if cfg!(feature = \"loud\") { println!(\"a text that only loud has\"); } }\n";
    package(&place, "app", "app", manifest, Some(HELLO));
    place.write("app/src/two.rs", two);
    place.write("app/examples/show.rs", HELLO);
    let build = |args: &[&str]| {
        let mut all = vec![
            "build",
            "--manifest-path",
            "app/Cargo.toml",
            "--message-format=json",
        ];
        all.extend(args);
        let done = place.run(all).exits(0);
        let packages = done.json()["packages"].as_array().unwrap().clone();
        packages
            .iter()
            .map(|p| p["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // Two bins: each goes by its own name, whether or not both are built.
    assert_eq!(build(&[]), ["one", "two"]);
    assert!(
        place
            .join("app/target/wasm32-wasip1/tiny/two.wasm")
            .is_file(),
        "the custom profile is used"
    );
    assert_eq!(
        build(&[
            "--bin",
            "two",
            "--features",
            "loud",
            "--target-dir",
            "elsewhere"
        ]),
        ["two"]
    );
    let module = fs::read(place.join("elsewhere/edgepack/two.wasm")).unwrap();
    assert!(
        module.windows(15).any(|w| w == b"text that only "),
        "the feature is on"
    );
    assert_eq!(build(&["--example", "show", "--profile", "dev"]), ["show"]);
    assert!(
        place
            .join("app/target/wasm32-wasip1/debug/examples/show.wasm")
            .is_file()
    );
    assert_eq!(build(&["--bin=one", "--", "--features", "loud"]), ["one"]);
}

#[test]
fn a_workspace_in_which_some_packages_are_no_wasm() {
    let place = Place::new();
    let folder = place.fixture("workspace");
    let build = |args: &[&str], code| {
        let mut all = vec!["build", "--message-format=json"];
        all.extend(args);
        run(place.command(all).current_dir(&folder)).exits(code)
    };
    let names = |done: &crate::support::tool::Run| -> Vec<String> {
        let packages = done.json()["packages"].as_array().unwrap().clone();
        packages
            .iter()
            .map(|p| p["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = build(&["--workspace"], 0).says("`rules` is left out");
    assert_eq!(names(&all), ["filter", "report"]);
    assert_eq!(
        names(&build(&["--workspace", "--exclude", "filter"], 0)),
        ["report"]
    );
    assert_eq!(names(&build(&["-p", "filter"], 0)), ["filter"]);
    build(&["-p", "rules"], 1)
        .says("there is nothing to build")
        .says("crate-type");
    build(&["-p", "filtre"], 2).says("did you mean `filter`?");
    build(&["--exclude", "filter"], 2).says("--exclude goes with --workspace");
    // The table of the workspace holds for its packages, unless they say otherwise.
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)
        .unwrap()
        .replace("2 MiB", "1 KiB");
    fs::write(&manifest, text).unwrap();
    build(&["-p", "report"], 4)
        .says("error[budget-raw]: report: ")
        .says("budget.raw = 1024 bytes");
    build(&["-p", "filter"], 0);
}

#[test]
fn a_skipped_package_is_built_when_it_is_named() {
    let place = Place::new();
    let folder = place.fixture("workspace");
    let member = walk(&folder, "report");
    let text =
        fs::read_to_string(&member).unwrap() + "\n[package.metadata.edgepack]\nskip = true\n";
    fs::write(&member, dedup_table(&text)).unwrap();
    let done = run(place.command(["build", "--workspace"]).current_dir(&folder)).exits(0);
    assert!(
        done.stderr.contains("`report` is left out: skip = true"),
        "{}",
        done.stderr
    );
    run(place
        .command(["build", "-p", "report"])
        .current_dir(&folder))
    .exits(0);
}

/// The manifest of a member.
fn walk(folder: &std::path::Path, name: &str) -> std::path::PathBuf {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().unwrap() != "target" {
            let manifest = path.join("Cargo.toml");
            if fs::read_to_string(&manifest)
                .is_ok_and(|t| t.contains(&format!("name = \"{name}\"")))
            {
                return manifest;
            }
            let inner = walk(&path, name);
            if inner.is_file() {
                return inner;
            }
        }
    }
    std::path::PathBuf::new()
}

/// Joins two tables of the same name, which TOML refuses.
fn dedup_table(text: &str) -> String {
    const TABLE: &str = "[package.metadata.edgepack]\n";
    if text.matches(TABLE).count() < 2 {
        return text.to_owned();
    }
    let text = text.replacen(&format!("\n{TABLE}skip = true\n"), "", 1);
    text.replacen(TABLE, &format!("{TABLE}skip = true\n"), 1)
}

#[test]
fn a_project_that_does_not_compile() {
    let place = Place::new();
    package(
        &place,
        "app",
        "app",
        "",
        Some("fn main() { let x: u32 = \"text\"; }\n"),
    );
    let done = place
        .run([
            "build",
            "--manifest-path",
            "app/Cargo.toml",
            "--color",
            "always",
        ])
        .exits(101)
        .says("mismatched types");
    assert!(
        done.stderr.contains("\u{1b}["),
        "the compiler's colours are kept"
    );
    assert_eq!(done.stdout, "");
    assert!(!place.join("app/target/edgepack/app.wasm").exists());
    assert!(!place.join("app/target/edgepack/oci").exists());
}

#[test]
fn a_missing_target_ends_with_the_command_that_installs_it() {
    let place = Place::new();
    package(&place, "app", "app", "", Some(HELLO));
    // A target that rustc knows and that nobody installs.
    let args = [
        "build",
        "--manifest-path",
        "app/Cargo.toml",
        "--target",
        "wasm64-unknown-unknown",
    ];
    place
        .run([&args[..], &["--offline"]].concat())
        .exits(1)
        .says("the target `wasm64-unknown-unknown` is not installed: this run is offline")
        .says("hint: run: rustup target add wasm64-unknown-unknown");
    place
        .run(args)
        .exits(1)
        .says("rustup target add wasm64-unknown-unknown");
    place
        .run([
            "build",
            "--manifest-path",
            "app/Cargo.toml",
            "--target",
            "wasm32-wasip",
        ])
        .exits(1)
        .says("rustup target add wasm32-wasip");
    place
        .run([
            "build",
            "--manifest-path",
            "app/Cargo.toml",
            "--target",
            "x86_64-unknown-linux-gnu",
        ])
        .exits(2)
        .says("is no Wasm target");
}

#[test]
fn two_artifacts_of_one_name() {
    let place = Place::new();
    package(
        &place,
        "app",
        "app",
        "[lib]\ncrate-type = [\"cdylib\"]\n",
        None,
    );
    place.write("app/src/main.rs", HELLO);
    place
        .run(["build", "--manifest-path", "app/Cargo.toml"])
        .exits(2)
        .says("two artifacts are called `app`")
        .says("hint: ");
    place
        .run(["build", "--manifest-path", "app/Cargo.toml", "--lib"])
        .exits(0);
    // Two packages of one name in a workspace: cargo's own word, and its code.
    place.write(
        "ws/Cargo.toml",
        "[workspace]\nmembers = [\"a\", \"b\"]\nresolver = \"2\"\n",
    );
    package(&place, "ws/a", "same", "", Some(HELLO));
    package(&place, "ws/b", "same", "", Some(HELLO));
    place
        .run(["build", "--manifest-path", "ws/Cargo.toml"])
        .exits(101)
        .says("same");
}

#[test]
fn wrong_configuration() {
    let place = Place::new();
    for (table, key, hint) in [
        (
            "[package.metadata.edgepack]\ntagret = \"x\"\n",
            "unknown key `tagret`",
            "did you mean `target`?",
        ),
        (
            "[package.metadata.edgepack.shrink]\nlevle = \"max\"\n",
            "unknown key `shrink.levle`",
            "did you mean `shrink.level`?",
        ),
        (
            "[package.metadata.edgepack.shrink]\nlevel = \"defualt\"\n",
            "`shrink.level`",
            "did you mean `default`?",
        ),
        (
            "[package.metadata.edgepack.budget]\nraw = \"a lot\"\n",
            "`budget.raw`",
            "is no size",
        ),
    ] {
        package(&place, "app", "app", table, Some(HELLO));
        place
            .run(["build", "--manifest-path", "app/Cargo.toml"])
            .exits(2)
            .says(key)
            .says(hint);
    }
    assert!(!place.join("app/target/edgepack").exists());
}

#[test]
fn flags_come_before_variables_and_those_before_configuration() {
    let place = Place::new();
    package(
        &place,
        "app",
        "app",
        "[package.metadata.edgepack.budget]\nraw = \"1 KiB\"\n",
        Some(HELLO),
    );
    let args = ["build", "--manifest-path", "app/Cargo.toml"];
    place.run(args).exits(4);
    run(place.command(args).env("EDGEPACK_BUDGET_RAW", "1 MiB")).exits(0);
    run(place
        .command([&args[..], &["--budget-raw", "2 KiB"]].concat())
        .env("EDGEPACK_BUDGET_RAW", "1 MiB"))
    .exits(4)
    .says("budget.raw = 2048 bytes");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let place = Place::new();
    package(&place, "app", "app", "", Some(HELLO));
    let mut command = place.command([
        "build",
        "--manifest-path",
        "app/Cargo.toml",
        "--no-shrink",
        "--release",
    ]);
    for name in [
        "EDGEPACK_TARGET",
        "EDGEPACK_PROFILE",
        "EDGEPACK_SHRINK_LEVEL",
        "EDGEPACK_SHRINK_KEEP_SECTIONS",
        "EDGEPACK_CHECK_ALLOW_IMPORTS",
        "EDGEPACK_BUDGET_RAW",
        "EDGEPACK_BUDGET_GZIP",
    ] {
        command.env(name, "");
    }
    run(&mut command).exits(0);
    // A flag wins over a variable, and where nothing is compiled the target's is no matter.
    let module = place.join("app/target/edgepack/app.wasm");
    let mut command = place.command(["build", module.to_str().unwrap(), "--no-shrink"]);
    run(command
        .env("EDGEPACK_SHRINK_LEVEL", "max")
        .env("EDGEPACK_TARGET", "wasm32-wasip2"))
    .exits(0);
    let mut command = place.command(["build", module.to_str().unwrap()]);
    run(command.env("EDGEPACK_SHRINK_LEVEL", "mx"))
        .exits(2)
        .says("EDGEPACK_SHRINK_LEVEL: unknown level `mx`");
}

#[test]
fn a_report_that_no_longer_holds_is_replaced() {
    let place = Place::new();
    package(&place, "app", "app", "", Some(HELLO));
    let args = ["build", "--manifest-path", "app/Cargo.toml"];
    place.run(args).exits(0);
    let report = place.join("app/target/edgepack/report.json");
    assert!(report.is_file());
    place.write("app/src/main.rs", "fn main() { nonsense }\n");
    place.run(args).exits(101);
    let text = std::fs::read_to_string(&report).unwrap();
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["outcome"], "cargo");
    assert_eq!(told["packages"], serde_json::json!([]));
    assert!(place.join("app/target/edgepack/app.wasm").is_file());
    // It is gone where a run ends before it has anything to tell.
    place.write("m.wasm", "no Wasm");
    place
        .run(["build", "m.wasm", "--target-dir", "app/target"])
        .exits(3);
    assert!(!report.exists());
    assert!(
        place.join("app/target/edgepack/app.wasm").is_file(),
        "what was built before is kept"
    );
}

#[test]
fn a_host_program_beside_wasm_packages() {
    let place = Place::new();
    place.write(
        "ws/Cargo.toml",
        "[workspace]\nmembers = [\"edge\", \"plain\", \"host\"]\nresolver = \"2\"\n",
    );
    package(
        &place,
        "ws/edge",
        "edge",
        "[package.metadata.edgepack]\ntarget = \"wasm32-wasip1\"\n",
        Some(HELLO),
    );
    package(&place, "ws/plain", "plain", "", Some(HELLO));
    let host = "use std::os::unix::fs::PermissionsExt;\nfn main() { let _ = std::fs::Permissions::from_mode(0); }\n";
    package(&place, "ws/host", "host", "", Some(host));
    let args = ["build", "--manifest-path", "ws/Cargo.toml"];
    place
        .run(args)
        .exits(0)
        .says("warning: `host` does not compile for wasm32-wasip1 and is left out");
    for (name, there) in [("edge", true), ("plain", true), ("host", false)] {
        assert_eq!(
            place
                .join(format!("ws/target/edgepack/{name}.wasm"))
                .is_file(),
            there,
            "{name}"
        );
    }
    // Named, or with nothing set up anywhere, it has to compile.
    place.run([&args[..], &["-p", "host"]].concat()).exits(101);
    package(&place, "ws/edge", "edge", "", Some(HELLO));
    place.run(args).exits(101).says("skip = true");
}

#[test]
fn words_behind_the_dashes_that_are_ours() {
    let place = Place::new();
    package(&place, "app", "app", "", Some(HELLO));
    for word in [
        "--target=wasm32-wasip2",
        "-p",
        "--profile",
        "--message-format=short",
    ] {
        place
            .run(["build", "--manifest-path", "app/Cargo.toml", "--", word])
            .exits(2)
            .says("cannot stand behind `--`");
    }
    let config = "build.build-dir='elsewhere'";
    let build_app = ["build", "--manifest-path", "app/Cargo.toml", "--"];
    for words in [&["--config", config][..], &[&format!("--config={config}")]] {
        place
            .run([&build_app[..], words].concat())
            .exits(2)
            .says("`build-dir` cannot stand behind `--`");
    }
    place
        .run([&build_app[..], &["--config=more.toml"]].concat())
        .exits(2)
        .says("with a file, which may set");
    place.write("m.wasm", b"\0asm\x01\0\0\0");
    place
        .run(["build", "m.wasm", "--", "--features", "x"])
        .exits(2);
}

#[test]
fn a_file_is_not_compiled() {
    let place = Place::new();
    place.write("m.wasm", b"\0asm\x01\0\0\0");
    for flag in [
        "--features=x",
        "--all-features",
        "--bin=a",
        "--lib",
        "--min-size",
    ] {
        for command in ["build", "publish", "sbom"] {
            place
                .run([command, "m.wasm", flag])
                .exits(2)
                .says("cannot be used with");
        }
    }
    // These say how to look for a project's configuration.
    place
        .run(["build", "m.wasm", "--locked", "--offline", "-j1"])
        .exits(0);
}

#[test]
fn a_binary_that_is_not_there() {
    let place = Place::new();
    package(&place, "app", "app", "", Some(HELLO));
    let args = |flag| ["build", "--manifest-path", "app/Cargo.toml", flag];
    place
        .run(args("--bin=ap"))
        .exits(2)
        .says("there is no binary `ap`")
        .says("did you mean `app`?");
    place
        .run(args("--example=x"))
        .exits(2)
        .says("there is no example `x`");
}

#[test]
fn locked_and_offline_reach_cargo() {
    let place = Place::new();
    let folder = place.fixture("transform");
    let args = |extra: &'static str| ["build", "--manifest-path", "transform/Cargo.toml", extra];
    place.run(args("--frozen")).exits(0);
    fs::remove_file(folder.join("Cargo.lock")).unwrap();
    place.run(args("--locked")).exits(101).says("--locked");
}

#[test]
fn the_users_rustflags_are_kept() {
    let place = Place::new();
    let main = "fn main() { println!(\"{} {}\", cfg!(first), cfg!(second)); if cfg!(wanted) { panic!(\"a text under wanted\"); } }\n";
    package(
        &place,
        "app",
        "app",
        "[lints.rust]\nunexpected_cfgs = \"allow\"\n",
        Some(main),
    );
    let has = || {
        let module = fs::read(place.join("app/target/edgepack/app.wasm")).unwrap();
        module.windows(19).any(|w| w == b"a text under wanted")
    };
    let args = ["build", "--manifest-path", "app/Cargo.toml"];
    run(&mut place.command(args)).exits(0);
    assert!(!has());
    run(place.command(args).env("RUSTFLAGS", "--cfg wanted")).exits(0);
    assert!(has(), "from the environment");
    for table in [
        "build",
        "target.wasm32-wasip1",
        "target.'cfg(target_os = \"wasi\")'",
    ] {
        place.write(
            ".cargo/config.toml",
            format!("[{table}]\nrustflags = [\"--cfg\", \"wanted\"]\n"),
        );
        run(&mut place.command(args)).exits(0);
        assert!(has(), "from {table}");
        fs::remove_file(place.join(".cargo/config.toml")).unwrap();
        run(&mut place.command(args)).exits(0);
        assert!(!has());
    }
}
