//! The action's script, run without a runner: what `act` cannot show, such as the folders
//! of a Windows runner and tools that are not ours.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::support::artifact::sha256;
use crate::support::registry::{Options, Registry};
use crate::support::tool::{Place, Run, copy, repository, run};

/// A folder with a copy of the action in it.
fn place() -> Place {
    let place = Place::new();
    copy(&repository().join("action"), &place.join("action"));
    fs::create_dir_all(place.join("project")).unwrap();
    place
}

/// A program of a few lines.
fn program(place: &Place, name: &str, script: &str) -> PathBuf {
    let path = place.write(name, format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The step in the folder `project`, with these inputs, as the runner starts it.
fn step(place: &Place, inputs: &[(&str, &str)]) -> Command {
    let text = fs::read_to_string(repository().join("action/action.yml")).unwrap();
    let (text, _) = text.split_once("\noutputs:\n").unwrap();
    let mut command = Command::new("bash");
    command
        .args(["--noprofile", "--norc"])
        .arg(place.join("action/main.sh"))
        .current_dir(place.join("project"))
        .env("RUNNER_TEMP", place.path())
        .env("GITHUB_OUTPUT", place.join("output"))
        .env("EDGEPACK_CACHE_DIR", place.join(".cache"))
        .env_remove("RUNNER_TOOL_CACHE")
        .env_remove("GITHUB_STEP_SUMMARY");
    place.away_from_home(&mut command);
    let variable = |input: &str| format!("INPUT_{}", input.replace('-', "_").to_uppercase());
    let mut name = "";
    for line in text.split_once("\ninputs:\n").unwrap().1.lines() {
        if let Some(default) = line.strip_prefix("    default: ") {
            command.env(variable(name), default.trim_matches('"'));
        } else if let Some(key) = line.strip_prefix("  ").and_then(|l| l.strip_suffix(':')) {
            name = key;
        }
    }
    for (name, value) in inputs {
        command.env(variable(name), value);
    }
    command
}

const TOOL: &str = env!("CARGO_BIN_EXE_cargo-edgepack");

/// A tool that tells its words and what comes through stdin; of `plan`, it says this.
fn stub(place: &Place, plan: &str) -> String {
    let script = format!(
        "if [ \"$2\" = plan ]; then cat <<'END'\n{plan}\nEND\nelse\necho \"words: $*\" >&2; echo \"stdin: <$(cat)>\" >&2\nfi"
    );
    program(place, "stub", &script).display().to_string()
}

#[test]
fn a_release_is_unpacked_in_the_folders_of_windows() {
    let place = place();
    let script = format!("echo the release runs >&2\nexec '{TOOL}' \"$@\"");
    program(&place, "release/cargo-edgepack", &script);
    place.write("release/README.md", "");
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let name = format!("cargo-edgepack-9.9.9-{target}.tar.gz");
    // An `ldd` that is not glibc's: the archive has one name everywhere.
    program(&place, "bin/ldd", "echo musl");
    let mut tar = Command::new("tar");
    // As somebody else packed it, in a folder that is nobody else's.
    tar.args([
        "-czf",
        &name,
        "--owner=4321",
        "--group=4321",
        "-C",
        "release",
        ".",
    ])
    .current_dir(place.path());
    run(&mut tar).exits(0);
    let archive = fs::read(place.join(&name)).unwrap();
    let sum = sha256(&archive).replace("sha256:", "");
    place.write("action/checksums.txt", format!("{sum}  {name}\n"));
    let server = Registry::with(Options {
        files: [(format!("/r/{name}"), archive)].into(),
        ..Options::default()
    });
    place.write("project/m.wasm", wat::parse_str("(module)").unwrap());
    // To a Unix these are names in the folder where the step begins.
    let (tools, temporary) = (r"C:\hostedtoolcache\windows", r"D:\a\_temp");
    fs::create_dir(place.join("project").join(temporary)).unwrap();
    let url = format!("http://{}/r", server.host());
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", place.join("bin").display());
    for _ in 0..2 {
        let mut step = step(
            &place,
            &[
                ("version", "9.9.9"),
                ("download-url", &url),
                ("file", "m.wasm"),
            ],
        );
        step.env("PATH", &path)
            .env("RUNNER_TOOL_CACHE", tools)
            .env("RUNNER_TEMP", temporary);
        run(&mut step).exits(0).says("the release runs");
    }
    // The second time it was there, and nothing is left behind.
    assert_eq!(server.requests().len(), 1);
    let temporary = place.join("project").join(temporary);
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
}

#[test]
fn a_checkout_on_windows_has_the_same_bytes() {
    let place = place();
    fs::copy(
        repository().join(".gitattributes"),
        place.join(".gitattributes"),
    )
    .unwrap();
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@localhost",
            "-c",
            "core.autocrlf=true",
        ])
        .args(args)
        .current_dir(place.path());
        run(&mut git).exits(0)
    };
    git(&["init", "-q"]);
    git(&["add", "action", ".gitattributes"]);
    git(&["commit", "-q", "-m", "all"]);
    git(&["clone", "-q", ".", "clone"]);
    for name in ["main.sh", "install.sh", "version", "checksums.txt"] {
        let cloned = fs::read(place.join("clone/action").join(name)).unwrap();
        assert!(
            cloned == fs::read(place.join("action").join(name)).unwrap(),
            "{name}"
        );
    }
}

/// Publishes with the token of the job, and no other password.
fn with_token(place: &Place, plan: &str, inputs: &[(&str, &str)]) -> Run {
    let stub = stub(place, plan);
    let all = [&[("binary", stub.as_str()), ("publish", "true")], inputs].concat();
    let mut step = step(place, &all);
    step.env("INPUT_TOKEN", "t0ken")
        .env("GITHUB_ACTOR", "somebody");
    run(&mut step).exits(0)
}

#[test]
fn the_token_of_the_job_is_for_ghcr_wherever_it_is_named() {
    let place = place();
    // What the tool itself says of a project.
    let plan = |repository: &str| {
        let metadata = format!(
            "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\
             [package.metadata.edgepack.publish]\nrepository = \"{repository}\"\n"
        );
        place.write("project/Cargo.toml", metadata);
        place.write("project/src/main.rs", "fn main() {}\n");
        let args = [
            "plan",
            "--message-format=json",
            "--manifest-path",
            "project/Cargo.toml",
        ];
        place.run(args).exits(0).stdout
    };
    let ours = plan("ghcr.io/acme/app");
    with_token(&place, &ours, &[])
        .says("--username=somebody --password-stdin")
        .says("stdin: <t0ken>");
    with_token(&place, "", &[("repository", "ghcr.io/acme/app")]).says("stdin: <t0ken>");
    let others = plan("registry.example/ghcr.io/app");
    let both = format!("{ours}{others}");
    for (plan, inputs) in [
        (others.as_str(), &[][..]),
        (&both, &[]),
        ("{\"repository\":null}", &[]),
        (&ours, &[("args", "--repository=registry.example/app")]),
        (&ours, &[("repository", "registry.example/app")]),
    ] {
        with_token(&place, plan, inputs)
            .says("stdin: <>")
            .says_not("--password-stdin");
    }
    // A cache there gets it, also where another registry gets another password.
    let elsewhere = [
        ("repository", "registry.example/app"),
        ("username", "ci"),
        ("password", "an0ther"),
        ("cache", "ghcr.io/acme/cache:main"),
    ];
    let said = with_token(&place, &ours, &elsewhere).stderr;
    let shared = said.split("words: ").filter(|w| w.contains(" cache "));
    let shared: Vec<&str> = shared.collect();
    assert_eq!(shared.len(), 2, "{said}");
    for words in shared {
        assert!(words.contains("stdin: <t0ken>"), "{said}");
    }
    assert_eq!(said.matches("stdin: <an0ther>").count(), 1, "{said}");
    // Where somebody has logged in before, that counts.
    let logins = [
        ".home/.docker/config.json",
        ".home/run/containers/auth.json",
    ];
    for name in logins {
        let login = place.write(name, "{\"auths\": {\"ghcr.io\": {}}}");
        with_token(&place, &ours, &[]).says("stdin: <>");
        fs::remove_file(login).unwrap();
    }
}

#[test]
fn inputs_that_do_not_fit_are_told() {
    let place = place();
    let stub = stub(&place, "");
    for (inputs, said) in [
        (
            &[("publish", "true"), ("registry", "localhost:1")][..],
            "the input registry goes before the input repository, which is empty",
        ),
        (
            &[("locked", "maybe")],
            "the input locked is true, false or auto, and not: maybe",
        ),
    ] {
        let all = [inputs, &[("binary", stub.as_str())]].concat();
        let done = run(&mut step(&place, &all)).exits(2);
        assert!(done.stdout.contains(said), "{}", done.stdout);
    }
}

#[test]
fn findings_are_copied_into_folders_that_are_made() {
    let place = place();
    let module = wat::parse_str("(module (import \"env\" \"x\" (func)))").unwrap();
    place.write("project/m.wasm", module);
    let with = |sarif: &str, more: &[(&str, &str)]| {
        let inputs = [("binary", TOOL), ("file", "m.wasm"), ("sarif", sarif)];
        run(&mut step(&place, &[&inputs, more].concat()))
    };
    with("no/such/x.sarif", &[]).exits(0);
    assert!(place.join("project/no/such/x.sarif").is_file());
    // Nothing can be made below a file; what failed before it stays what is told.
    let done = with("m.wasm/x.sarif", &[]).exits(1);
    let said = "::error title=cargo edgepack::the findings could not be copied to m.wasm/x.sarif";
    assert!(done.stdout.contains(said), "{}", done.stdout);
    let done = with("m.wasm/x.sarif", &[("budget-raw", "1")]).exits(4);
    assert!(done.stdout.contains(said), "{}", done.stdout);
}

#[test]
fn a_checkout_of_another_user() {
    let place = place();
    let project = place.join("project");
    place.write(
        "project/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2024\"\n",
    );
    place.write("project/src/main.rs", "fn main() {}\n");
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
        let mut git = Command::new("git");
        git.args(who).args(args).current_dir(&project);
        run(&mut git).exits(0).stdout.trim().to_owned()
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "all"]);
    let commit = git(&["rev-parse", "HEAD"]);
    // Git's own way to try it.
    let other = ("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1");
    let stub = program(&place, "tool", "git rev-parse HEAD >&2");
    let mut step = step(&place, &[("binary", stub.to_str().unwrap())]);
    step.env(other.0, other.1).env("GITHUB_WORKSPACE", &project);
    run(&mut step).exits(0).says(&commit);
    // Without the action it is said.
    let mut build = place.command(["build", "--manifest-path", "project/Cargo.toml"]);
    run(build.env(other.0, other.1))
        .exits(0)
        .says("since another user owns it");
}
