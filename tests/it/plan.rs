//! `plan`: what would be built, and what of it changed since a revision.

use std::process::Command;

use serde_json::Value;

use crate::support::tool::{Place, Run, run};

/// A workspace with `a` and `b`, which depend on `shared`, and `c`, which does not.
fn workspace() -> Place {
    let place = Place::new();
    place.write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"a\", \"b\", \"c\", \"shared\"]\nresolver = \"2\"\n\
         [workspace.metadata.edgepack.publish]\nrepository = \"ghcr.io/Acme/{name}\"\n\
         tags = [\"{version}\", \"{major}\"]\n",
    );
    let shared = "[dependencies]\nshared = { path = \"../shared\" }\n";
    for (name, version, extra) in [
        ("a", "1.2.3", shared),
        ("b", "0.2.0", shared),
        (
            "c",
            "0.3.0",
            "[dev-dependencies]\nshared = { path = \"../shared\" }\n",
        ),
    ] {
        place.write(
            &format!("{name}/Cargo.toml"),
            format!(
                "[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n{extra}"
            ),
        );
        place.write(&format!("{name}/src/main.rs"), "fn main() {}\n");
    }
    place.write(
        "shared/Cargo.toml",
        "[package]\nname = \"shared\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    );
    place.write("shared/src/lib.rs", "");
    place.write("README.md", "a workspace\n");
    place.write("wit/world.wit", "package x:y;\n");
    let mut lock = Command::new("cargo");
    lock.args(["generate-lockfile", "--offline"])
        .current_dir(place.path());
    run(&mut lock).exits(0);
    git(&place, &["init", "-q"]);
    commit(&place);
    place
}

fn git(place: &Place, args: &[&str]) -> Run {
    let mut command = Command::new("git");
    command
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@localhost",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(args)
        .current_dir(place.path())
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    run(&mut command).exits(0)
}

fn commit(place: &Place) {
    git(place, &["add", "-A"]);
    git(place, &["commit", "-q", "-m", "a commit"]);
}

fn names(matrix: &Value) -> Vec<&str> {
    let jobs = matrix["include"].as_array().unwrap();
    jobs.iter()
        .map(|j| j["package"].as_str().unwrap())
        .collect()
}

/// What is planned once a file was written.
#[track_caller]
fn after(place: &Place, file: &str, contents: &str, expected: &[&str]) {
    place.write(file, contents);
    let done = place
        .run(["plan", "--since", "HEAD", "--matrix", "github", "--offline"])
        .exits(0);
    assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);
    assert_eq!(names(&done.json()), expected, "{file}: {}", done.stderr);
    git(place, &["checkout", "-q", "."]);
    git(place, &["clean", "-qfd"]);
}

#[test]
fn everything_and_where_it_goes() {
    let place = workspace();
    let done = place
        .run(["plan", "--message-format", "json", "--offline"])
        .exits(0);
    let plan = done.json();
    let schema = place.run(["schema", "plan"]).exits(0).json();
    let schema = jsonschema::validator_for(&schema).unwrap();
    assert!(schema.is_valid(&plan), "{plan}");
    let a = &plan["packages"][0];
    assert_eq!(a["name"], "a");
    assert_eq!(a["target"], "wasm32-wasip1");
    assert_eq!(a["profile"], "release");
    assert_eq!(a["changed"], Value::Null);
    assert_eq!(
        a["artifacts"],
        serde_json::json!([{
            "name": "a",
            "variant": "wasm",
            "repository": "ghcr.io/acme/a",
            "tags": ["1.2.3", "1"],
        }])
    );
    assert_eq!(plan["skipped"][0]["name"], "shared");
    let people = place.run(["plan", "--offline"]).exits(0);
    assert!(
        people.stdout.contains("a: ghcr.io/acme/a:1.2.3,1"),
        "{}",
        people.stdout
    );
    let matrix = place
        .run([
            "plan",
            "--matrix=github",
            "-p",
            "a",
            "--target",
            "wasm32-wasip2",
            "--offline",
        ])
        .exits(0);
    assert_eq!(
        matrix.stdout,
        "{\"include\":[{\"package\":\"a\",\"version\":\"1.2.3\",\"target\":\"wasm32-wasip2\"}]}\n"
    );
}

#[test]
fn what_changed_and_what_depends_on_it() {
    let place = workspace();
    after(&place, "README.md", "another text", &[]);
    after(&place, "a/src/main.rs", "fn main() { }", &["a"]);
    after(&place, "shared/src/lib.rs", "// new", &["a", "b"]);
    after(&place, "wit/world.wit", "package x:z;", &["a", "b", "c"]);
    place.write("rust-toolchain.toml", "# nothing yet\n");
    place.write(".cargo/config.toml", "");
    commit(&place);
    after(
        &place,
        "rust-toolchain.toml",
        "# something\n",
        &["a", "b", "c"],
    );
    after(&place, ".cargo/config.toml", "# new", &["a", "b", "c"]);
    let manifest = std::fs::read_to_string(place.join("Cargo.toml")).unwrap();
    after(
        &place,
        "Cargo.toml",
        &format!("{manifest}\n"),
        &["a", "b", "c"],
    );
    // A package that is new, and files that were committed since.
    git(&place, &["tag", "before"]);
    place.write("c/src/main.rs", "fn main() { }");
    place.write("a/odd \"name\"\n", "");
    commit(&place);
    let plan = place
        .run([
            "plan",
            "--since=before",
            "--message-format=json",
            "--offline",
        ])
        .exits(0)
        .json();
    assert_eq!(plan["packages"][1]["changed"], "c/src/main.rs changed");
    assert_eq!(plan["packages"].as_array().unwrap().len(), 2);
    let all = place
        .run([
            "plan",
            "--since",
            &"0".repeat(40),
            "--matrix=github",
            "--offline",
        ])
        .exits(0)
        .says("everything is planned");
    assert_eq!(names(&all.json()), ["a", "b", "c"]);
}

#[test]
fn a_folder_that_stands_for_a_package_from_elsewhere() {
    let place = workspace();
    place.write(
        "patches/itoa/Cargo.toml",
        "[package]\nname = \"itoa\"\nversion = \"1.0.99\"\nedition = \"2021\"\n",
    );
    place.write("patches/itoa/src/lib.rs", "");
    commit(&place);
    // Nobody uses it yet.
    after(&place, "patches/itoa/src/lib.rs", "// new", &[]);
    for (name, more) in [
        (
            "Cargo.toml",
            "exclude = [\"patches\"]\n[patch.crates-io]\nitoa = { path = \"patches/itoa\" }\n",
        ),
        ("a/Cargo.toml", "itoa = \"1\"\n"),
    ] {
        let manifest = std::fs::read_to_string(place.join(name)).unwrap();
        let manifest = match more.split_once('\n').filter(|(_, rest)| !rest.is_empty()) {
            Some((exclude, patch)) => {
                manifest.replacen("resolver", &format!("{exclude}\nresolver"), 1) + patch
            }
            None => manifest + more,
        };
        place.write(name, manifest);
    }
    let mut lock = Command::new("cargo");
    lock.args(["generate-lockfile", "--offline"])
        .current_dir(place.path());
    run(&mut lock).exits(0);
    commit(&place);
    after(&place, "README.md", "another text", &[]);
    after(
        &place,
        "patches/itoa/src/lib.rs",
        "// new",
        &["a", "b", "c"],
    );
}

#[test]
fn submodules_are_folders_to_git() {
    let place = workspace();
    let elsewhere = Place::new();
    for (name, sources) in [("dep", ""), ("sub/s1", "fn main() {}")] {
        let top = name.split('/').next().unwrap();
        let package = name.split('/').next_back().unwrap();
        elsewhere.write(
            &format!("{name}/Cargo.toml"),
            format!("[package]\nname = \"{package}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
        );
        let file = if sources.is_empty() { "lib" } else { "main" };
        elsewhere.write(&format!("{name}/src/{file}.rs"), sources);
        let at = elsewhere.join(top);
        let in_it = |args: &[&str]| {
            let path = at.to_str().unwrap();
            git(&elsewhere, &[&["-C", path], args].concat())
        };
        in_it(&["init", "-q"]);
        in_it(&["add", "-A"]);
        in_it(&["commit", "-q", "-m", "one"]);
        let url = format!("file://{}", at.display());
        git(
            &place,
            &[
                "-c",
                "protocol.file.allow=always",
                "submodule",
                "--quiet",
                "add",
                &url,
                top,
            ],
        );
    }
    let manifest = std::fs::read_to_string(place.join("Cargo.toml")).unwrap();
    let manifest = manifest.replacen(
        "\"shared\"]",
        "\"shared\", \"sub/s1\"]\nexclude = [\"dep\"]",
        1,
    );
    place.write("Cargo.toml", manifest);
    let lock = |place: &Place| {
        let mut lock = Command::new("cargo");
        lock.args(["generate-lockfile", "--offline"])
            .current_dir(place.path());
        run(&mut lock).exits(0);
        commit(place);
    };
    lock(&place);
    let moved = |top: &str, expected: &[&str]| {
        let at = place.join(top);
        let path = at.to_str().unwrap();
        git(
            &place,
            &["-C", path, "commit", "-q", "--allow-empty", "-m", "two"],
        );
        let done = place
            .run(["plan", "--since", "HEAD", "--matrix", "github", "--offline"])
            .exits(0);
        assert_eq!(names(&done.json()), expected, "{top}: {}", done.stderr);
        commit(&place);
        let done = place
            .run([
                "plan",
                "--since",
                "HEAD~1",
                "--matrix",
                "github",
                "--offline",
            ])
            .exits(0);
        assert_eq!(names(&done.json()), expected, "{top}: {}", done.stderr);
    };
    moved("sub", &["s1"]);
    // What no package has in its folder, any may use.
    moved("dep", &["a", "b", "c", "s1"]);
    let manifest = std::fs::read_to_string(place.join("a/Cargo.toml")).unwrap();
    place.write("a/Cargo.toml", manifest + "dep = { path = \"../dep\" }\n");
    lock(&place);
    moved("sub", &["s1"]);
    moved("dep", &["a", "b", "c", "s1"]);
}

#[test]
fn other_dependencies_in_the_lock_file() {
    let place = workspace();
    let lock = std::fs::read_to_string(place.join("Cargo.lock")).unwrap();
    let other = "name = \"c\"\nversion = \"0.3.0\"\ndependencies = [\n \"shared\",\n \"z\",\n]\n\n\
                 [[package]]\nname = \"z\"\nversion = \"1.0.0\"\n";
    let changed = lock.replace(
        "name = \"c\"\nversion = \"0.3.0\"\ndependencies = [\n \"shared\",\n]\n",
        other,
    );
    assert_ne!(changed, lock);
    // Cargo would take `z` out again: as if it had been there before.
    place.write("Cargo.lock", &changed);
    commit(&place);
    after(&place, "Cargo.lock", &lock, &["c"]);
    after(&place, "Cargo.lock", "version = 4\n", &["a", "b", "c"]);
}

/// How many packages there are.
fn all_of(place: &Place) -> usize {
    let all = place.run(["plan", "--offline", "--matrix=github"]).exits(0);
    all.json()["include"].as_array().unwrap().len()
}

#[test]
fn revisions_that_are_none() {
    let place = workspace();
    for revision in ["nonsense", "HEAD~7", "HEAD..HEAD", "$(touch x)", "a\nb"] {
        place
            .run(["plan", "--since", revision, "--offline"])
            .exits(2)
            .says("there is no commit")
            .says("fetch-depth: 0");
    }
    // What was pushed over is in no clone: everything may have changed.
    let forgotten = "1234567890abcdef1234567890abcdef12345678";
    let plan = ["plan", "--since", forgotten, "--offline", "--matrix=github"];
    let done = place.run(plan).exits(0);
    assert_eq!(
        done.json()["include"].as_array().unwrap().len(),
        all_of(&place)
    );
    for revision in ["-x", "--output=x", "-"] {
        place
            .run(["plan", "--since", revision, "--offline"])
            .exits(2)
            .says("is no revision");
    }
    assert!(!place.join("x").exists());
    let shallow = Place::new();
    place.write("a/src/main.rs", "fn main() { }");
    commit(&place);
    let from = format!("file://{}", place.path().display());
    git(&shallow, &["clone", "-q", "--depth=1", &from, "clone"]);
    let manifest = "clone/Cargo.toml";
    shallow
        .run([
            "plan",
            "--since",
            "HEAD~1",
            "--offline",
            "--manifest-path",
            manifest,
        ])
        .exits(2)
        .says("this clone is shallow");
    let args = [
        "plan",
        "--since",
        forgotten,
        "--offline",
        "--manifest-path",
        manifest,
    ];
    shallow.run(args).exits(2).says("this clone is shallow");
    let bare = Place::new();
    bare.write(
        "Cargo.toml",
        "[package]\nname = \"a\"\nversion = \"0.1.0\"\n",
    );
    bare.write("src/main.rs", "fn main() {}");
    let mut command = bare.command(["plan", "--since", "HEAD", "--offline"]);
    run(command.env("GIT_CEILING_DIRECTORIES", "/"))
        .exits(2)
        .says("is not in a repository");
}

#[test]
fn a_child_pipeline() {
    let place = workspace();
    let none = place
        .run(["plan", "--since=HEAD", "--matrix=gitlab", "--offline"])
        .exits(0)
        .says_not("warning");
    assert!(
        none.stdout.contains("nothing-changed:\n"),
        "{}",
        none.stdout
    );
    let some = place
        .run([
            "plan",
            "--matrix=gitlab",
            "-p=a",
            "--offline",
            "--template",
            "component: $CI_SERVER_FQDN/acme/edgepack/edgepack@1.0.0",
            "--input=publish=true",
            "--input=repository=$CI_REGISTRY_IMAGE",
        ])
        .exits(0);
    let lines: Vec<&str> = some.stdout.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "include:",
            "  - component: \"$CI_SERVER_FQDN/acme/edgepack/edgepack@1.0.0\"",
            "    inputs:",
            "      job-prefix: \"a-\"",
            "      package: \"a\"",
            "      publish: true",
            "      repository: \"$CI_REGISTRY_IMAGE\"",
        ]
    );
    // Below the repository's folder, the jobs have to be told.
    let below = Place::new();
    for name in ["Cargo.toml", "src/main.rs"] {
        let contents = match name {
            "Cargo.toml" => "[package]\nname = \"gr-öße_x\"\nversion = \"0.1.0\"\n",
            _ => "fn main() {}\n",
        };
        below.write(&format!("sub dir/{name}"), contents);
    }
    git(&below, &["init", "-q"]);
    let jobs = |more: &[&str]| {
        let fixed = [
            "plan",
            "--matrix=gitlab",
            "--manifest-path=sub dir/Cargo.toml",
        ];
        below.run([&fixed, more].concat()).exits(0).stdout
    };
    let folder = "      working-directory: \"sub dir\"\n";
    assert!(jobs(&[]).contains(folder));
    assert!(jobs(&[]).contains("      job-prefix: \"gr-_f6__df_e_x-\"\n"));
    assert!(!jobs(&["--input=working-directory=x"]).contains(folder));
    assert!(!jobs(&["--input=manifest-path=x/Cargo.toml"]).contains(folder));
    for args in [
        &["--input=sign=none", "--input=sign=key"][..],
        &["--template", "local: a\nscript: [x]"],
        &["--template", "nonsense"],
        &["--input", "a b=c"],
    ] {
        let mut all = vec!["plan", "--matrix=gitlab", "--offline"];
        all.extend(args);
        place.run(all).exits(2);
    }
}
