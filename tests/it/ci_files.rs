//! What CI systems read of a run: annotations, and the files beside the report.

use std::path::Path;

use serde_json::Value;

use crate::support::tool::{Place, Run, run};

const FILES: [&str; 7] = [
    "gl-annotations.json",
    "gl-code-quality.json",
    "gl-dotenv.env",
    "junit.xml",
    "report.json",
    "results.sarif",
    "summary.md",
];

fn project(place: &Place, source: &str) {
    place.write(
        "repo/crates/app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"1.2.3\"\nedition = \"2024\"\n\n\
         [package.metadata.edgepack.budget]\nraw = \"1 kB\"\ngzip = \"1 MiB\"\n\n[workspace]\n",
    );
    place.write("repo/crates/app/src/main.rs", source);
}

/// As a step of a workflow whose checkout is `repo`.
fn in_workflow<const N: usize>(place: &Place, args: [&str; N]) -> Run {
    let mut command = place.command(args);
    command
        .current_dir(place.join("repo/crates/app"))
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_WORKSPACE", place.join("repo"))
        .env_remove("CI_PROJECT_DIR");
    run(&mut command)
}

fn written(place: &Place, name: &str) -> String {
    let folder = place.join("repo/crates/app/target/edgepack");
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn beside_the_report(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.file_type().unwrap().is_file())
        .map(|e| e.file_name().into_string().unwrap())
        .filter(|name| name != "app.wasm")
        .collect();
    names.sort();
    names
}

#[test]
fn a_budget_that_is_exceeded() {
    let place = Place::new();
    project(&place, "fn main() { println!(\"hello\"); }\n");
    let done = in_workflow(&place, ["build", "--message-format", "github"]).exits(4);
    let report = json(&written(&place, "report.json"));
    assert_eq!(report["outcome"], "budget");
    assert_eq!(report["errors"], serde_json::json!([]));
    let package = &report["packages"][0];
    let (raw, gzip) = (&package["budgets"][0], &package["budgets"][1]);
    let size = package["size"]["after"].as_u64().unwrap();
    assert_eq!(
        *raw,
        serde_json::json!({"kind": "raw", "limit": 1000, "actual": size, "excess": size - 1000})
    );
    assert_eq!(gzip["excess"], 0);
    assert_eq!(gzip["actual"], package["size"]["gzip"]);
    assert!(
        package["input"]
            .as_str()
            .unwrap()
            .ends_with("repo/crates/app/Cargo.toml")
    );
    let schema = Place::new().run(["schema", "report"]).exits(0).json();
    assert!(
        jsonschema::validator_for(&schema)
            .unwrap()
            .is_valid(&report)
    );

    let excess: String = {
        let digits = (size - 1000).to_string();
        let (head, tail) = digits.split_at(digits.len() - 3);
        format!("{head},{tail}")
    };
    let line = done.stdout.lines().next().unwrap();
    assert!(
        line.starts_with(
            "::error file=crates/app/Cargo.toml,line=6,title=app%3A budget-raw::app is "
        ),
        "{line}"
    );
    assert!(
        line.contains(&format!(
            "app is {excess} bytes over its budget of 1,000 bytes"
        )),
        "{line}"
    );
    assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);

    let folder = place.join("repo/crates/app/target/edgepack");
    assert_eq!(beside_the_report(&folder), FILES);
    let quality = json(&written(&place, "gl-code-quality.json"));
    assert_eq!(quality[0]["check_name"], "edgepack/budget-raw");
    assert_eq!(quality[0]["severity"], "critical");
    assert_eq!(quality[0]["location"]["path"], "crates/app/Cargo.toml");
    assert_eq!(quality[0]["location"]["lines"]["begin"], 6);
    assert_eq!(quality[0]["fingerprint"].as_str().unwrap().len(), 64);
    let junit = written(&place, "junit.xml");
    assert!(junit.contains("failures=\"1\" errors=\"0\""), "{junit}");
    assert!(
        junit.contains("<testcase name=\"budget gzip\" classname=\"app\""),
        "{junit}"
    );
    let summary = written(&place, "summary.md");
    assert!(
        summary.contains(&format!("**{excess} bytes over 1000 B**")),
        "{summary}"
    );

    let sarif = in_workflow(&place, ["build", "--message-format", "sarif"]).exits(4);
    assert_eq!(sarif.json(), json(&written(&place, "results.sarif")));
    assert_eq!(
        sarif.json()["runs"][0]["results"][0]["ruleId"],
        "budget-raw"
    );
    let gitlab = in_workflow(
        &place,
        [
            "build",
            "--message-format",
            "gitlab",
            "--budget-raw",
            "1 MiB",
        ],
    );
    let gitlab = gitlab.exits(0);
    assert!(gitlab.stdout.ends_with("app.wasm\n"), "{}", gitlab.stdout);
    assert_eq!(
        json(&written(&place, "gl-code-quality.json")),
        serde_json::json!([])
    );
    assert_eq!(json(&written(&place, "report.json"))["outcome"], "passed");
}

#[test]
fn code_that_does_not_compile() {
    let place = Place::new();
    project(&place, "fn main() { nonsense }\n");
    let done = in_workflow(&place, ["build", "--message-format=github"]).exits(101);
    assert!(
        done.stdout
            .starts_with("::error title=cargo edgepack%3A cargo::cargo failed: `cargo build` for "),
        "{}",
        done.stdout
    );
    let report = json(&written(&place, "report.json"));
    assert_eq!(report["outcome"], "cargo");
    assert_eq!(report["errors"][0]["kind"], "cargo");
    assert!(written(&place, "junit.xml").contains("<error message=\"cargo failed: "));
    assert!(written(&place, "summary.md").starts_with("## cargo edgepack: failed (cargo)\n"));
    // Who reads JSON from stdout finds none.
    let done = in_workflow(&place, ["build", "--message-format=json"]).exits(101);
    assert_eq!(done.stdout, "");
}

#[test]
fn what_does_not_parse_is_told_where_it_is_looked_for() {
    let place = Place::new();
    project(&place, "fn main() {}\n");
    let evil = "--level=50%\n::error::forged##[error]x";
    for format in ["--message-format=github", "--message-format"] {
        let mut args = vec!["build", evil, format];
        if format == "--message-format" {
            args.push("github");
        }
        let summary = place.write("summary", "");
        let done = run(place
            .command(&args)
            .current_dir(place.join("repo/crates/app"))
            .env("GITHUB_STEP_SUMMARY", &summary))
        .exits(2);
        assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);
        let begins =
            "::error title=cargo edgepack%3A usage::invalid value '50%25%0A::error::forged";
        assert!(done.stdout.starts_with(begins), "{}", done.stdout);
        assert!(!done.stdout.contains("--help"), "{}", done.stdout);
        assert!(
            done.stderr
                .lines()
                .all(|l| !l.starts_with("::") && !l.contains("##[")),
            "{}",
            done.stderr
        );
        let summary = std::fs::read_to_string(summary).unwrap();
        assert!(summary.contains("unknown level"), "{summary}");
    }
    // What does not start is told too.
    let args = ["build", "--message-format=github", "--wasm-opt=/nowhere"];
    let done = in_workflow(&place, args).exits(2);
    assert!(done.stdout.starts_with("::error "), "{}", done.stdout);
    // Behind `--` the words are cargo's, and people see what they always saw.
    for args in [
        ["build", "--frobnicate", "--"],
        ["build", "--frobnicate", "-v"],
    ] {
        let done = in_workflow(&place, args).exits(2).says("--frobnicate");
        assert_eq!(done.stdout, "");
    }
}

#[test]
fn a_name_that_speaks_to_the_runner() {
    let place = Place::new();
    let module = wat::parse_str(
        "(module (import \"env\" \"x\\0a::error::forged\\0a##[error]forged%0A::set-output name=a::b\" (func)))",
    )
    .unwrap();
    place.write("m.wasm", module);
    let args = |format| {
        [
            "check",
            "m.wasm",
            "--message-format",
            format,
            "--allow-import",
            "none",
        ]
    };
    let done = run(place
        .command(args("github"))
        .env("GITHUB_WORKSPACE", place.path()))
    .exits(3);
    assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);
    assert!(
        done.stdout.starts_with(
            "::error file=m.wasm,line=1,title=m%3A import-not-allowed::m: the import `env.x%0A::error::forged%0A##[error]forged%250A::set-output"
        ),
        "{}",
        done.stdout
    );
    for line in done.stderr.lines() {
        assert!(!line.trim_start().starts_with("::"), "{line}");
        assert!(!line.contains("##["), "{line}");
    }
    // A workflow that asks for nothing special is as safe.
    let mut command = place.command(args("json"));
    let done = run(command.env("GITHUB_ACTIONS", "true")).exits(3);
    assert!(!done.stderr.contains("\n::"), "{}", done.stderr);
    assert!(!done.stdout.contains("##["), "{}", done.stdout);
    assert!(
        done.json()["packages"][0]["imports"][0]
            .as_str()
            .unwrap()
            .contains("##[error]")
    );
    let mut command = place.command(["check", "--\n::error::forged"]);
    let done = run(command.env("GITHUB_ACTIONS", "true"));
    assert!(!done.stderr.contains("\n::"), "{}", done.stderr);
    let mut command = place.command(["check", "no\n::error::forged"]);
    let done = run(command.env("GITHUB_ACTIONS", "true")).exits(1);
    assert!(!done.stderr.contains("\n::"), "{}", done.stderr);
}

#[test]
fn what_is_published_stands_in_the_summary() {
    let place = Place::new();
    place.write("m.wasm", wat::parse_str("(module)").unwrap());
    let done = place
        .run([
            "publish",
            "m.wasm",
            "--oci-layout",
            "out",
            "--tag",
            "a,b",
            "--message-format=gitlab",
        ])
        .exits(0);
    let summary = std::fs::read_to_string(place.join("target/edgepack/summary.md")).unwrap();
    let reference = done.stdout.trim();
    assert!(reference.contains("@sha256:"), "{reference}");
    assert!(
        summary.contains(&format!("| `m` | `{reference}` | `a`, `b` |")),
        "{summary}"
    );
    // A registry that is not there: the report says that much.
    let done = place
        .run([
            "publish",
            "m.wasm",
            "--repository",
            "localhost:1/x",
            "--message-format=github",
        ])
        .exits(6);
    assert!(
        done.stdout
            .starts_with("::error title=cargo edgepack%3A registry::"),
        "{}",
        done.stdout
    );
    let report = std::fs::read(place.join("target/edgepack/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["outcome"], "registry");
    assert_eq!(report["packages"][0]["name"], "m");
}

/// The values of a file that `GITHUB_OUTPUT` names, as the runner reads it.
fn step_outputs(text: &str) -> std::collections::BTreeMap<String, String> {
    let mut values = std::collections::BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (name, end) = line.split_once("<<").unwrap();
        let value: Vec<&str> = lines.by_ref().take_while(|l| *l != end).collect();
        values.insert(name.to_owned(), value.join("\n"));
    }
    values
}

#[test]
fn later_steps_get_values() {
    let place = Place::new();
    project(&place, "fn main() {}\n");
    place.write("output", "before=1\n");
    let folder = place.join("repo/crates/app");
    let mut command = place.command([
        "edgepack",
        "publish",
        "--oci-layout",
        "out\n::set-output name=ref::evil",
        "--budget-raw=10 MB",
        "--message-format=github",
    ]);
    command
        .current_dir(&folder)
        .env("GITHUB_OUTPUT", place.join("output"))
        .env("GITHUB_STEP_SUMMARY", place.join("summary"))
        .env("CI_REGISTRY", "registry.example")
        .env("CI_PROJECT_URL", "https://forge.example/acme/app");
    let done = run(&mut command).exits(0);
    assert_eq!(done.stdout, "");
    let text = std::fs::read_to_string(place.join("output")).unwrap();
    let values = step_outputs(text.strip_prefix("before=1\n").unwrap());
    let report = json(&written(&place, "report.json"));
    let published = &report["published"][0];
    let package = &report["packages"][0];
    assert_eq!(values["digest"], published["digest"].as_str().unwrap());
    assert_eq!(values["sha256"], package["sha256"].as_str().unwrap());
    assert_eq!(values["wasm"], package["wasm"].as_str().unwrap());
    assert_eq!(values["size"], package["size"]["after"].to_string());
    assert_eq!(values["size-before"], package["size"]["before"].to_string());
    assert_eq!(values["kind"], "core");
    assert_eq!(values["tags"], "1.2.3");
    // The folder's name has a line break, and is one line here.
    assert!(values["ref"].ends_with(&values["digest"]), "{values:?}");
    assert!(values["ref"].contains("out ::set-output"), "{values:?}");
    assert!(values["report"].ends_with("report.json"));
    let summary = std::fs::read_to_string(place.join("summary")).unwrap();
    assert_eq!(summary, written(&place, "summary.md"));
    let dotenv = written(&place, "gl-dotenv.env");
    assert!(dotenv.contains(&format!("EDGEPACK_DIGEST={}\n", values["digest"])));
    assert!(!dotenv.contains("set-output"), "{dotenv}");

    // Several in one repository: later steps pair the lines.
    for name in ["a.wasm", "b.wasm"] {
        place.write(name, wat::parse_str("(module)").unwrap());
    }
    let mut command = place.command([
        "publish",
        "a.wasm",
        "b.wasm",
        "--oci-layout=both",
        "--tag=1",
    ]);
    command
        .arg("--message-format=github")
        .env("GITHUB_OUTPUT", place.write("both-output", ""));
    run(&mut command).exits(0);
    let both = step_outputs(&std::fs::read_to_string(place.join("both-output")).unwrap());
    for name in ["ref", "digest", "repository"] {
        assert_eq!(both[name].lines().count(), 2, "{name}: {both:?}");
    }

    // Without being asked, nothing is told.
    let mut command = place.command(["edgepack", "build", "--budget-raw=10 MB"]);
    command
        .current_dir(&folder)
        .env("GITHUB_OUTPUT", place.join("other"));
    run(&mut command).exits(0);
    assert!(!place.join("other").exists());
}

#[test]
fn build_scripts_do_not_get_the_secrets_of_signing() {
    let place = Place::new();
    project(&place, "fn main() {}\n");
    place.write(
        "repo/crates/app/build.rs",
        "fn main() { for (name, value) in std::env::vars() { \
         if value.contains(\"s3cret\") { println!(\"cargo::warning={name}\"); } } }\n",
    );
    // A token that says who, by whom and until when; nobody is asked to believe it.
    let token =
        "e30.eyJpc3MiOiJodHRwczovL2kuZXhhbXBsZSIsInN1YiI6InMiLCJleHAiOjk5OTk5OTk5OTl9.s3cret";
    let build = ["build", "--budget-raw=10 MB", "--no-embed"];
    let publish = [
        "publish",
        "--dry-run",
        "--repository=localhost:1/app",
        "--identity-token=env:MY_TOKEN",
        "--budget-raw=10 MB",
        "--no-embed",
    ];
    for (args, token_is_named) in [(&build[..], false), (&publish[..], true)] {
        // The script runs again.
        place.write("repo/crates/app/src/again.rs", args[0]);
        let mut command = place.command(args);
        command
            .current_dir(place.join("repo/crates/app"))
            .env("EDGEPACK_SIGN_EMBED", "env:INNER_KEY")
            .env("INNER_KEY", "s3cret key")
            .env("EDGEPACK_SIGNING_KEY", "env:MY_KEY")
            .env("MY_KEY", "s3cret key")
            .env("MY_TOKEN", token)
            .env("NO_KEY", "s3cret of somebody else")
            .env("COSIGN_PASSWORD", "s3cret")
            .env("SIGSTORE_ID_TOKEN", "s3cret")
            .env("GITHUB_OUTPUT", place.join("s3cret-output"))
            .env("GITHUB_PATH", place.join("s3cret-path"))
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "s3cret");
        let said = run(&mut command).exits(0).stderr;
        // The script did look.
        assert!(said.contains("NO_KEY"), "{said}");
        assert_eq!(said.contains("MY_TOKEN"), !token_is_named, "{said}");
        for name in [
            "INNER_KEY",
            "MY_KEY",
            "COSIGN_PASSWORD",
            "SIGSTORE_ID_TOKEN",
            "GITHUB_OUTPUT",
            "GITHUB_PATH",
            "ACTIONS_ID",
        ] {
            assert!(!said.contains(name), "{said}");
        }
    }
    // The key itself, where its place is to be named.
    let script = std::fs::read_to_string(place.join("repo/crates/app/build.rs")).unwrap();
    place.write("repo/crates/app/build.rs", format!("{script}// again\n"));
    let mut command = place.command(["edgepack", "build", "--budget-raw=10 MB"]);
    command
        .current_dir(place.join("repo/crates/app"))
        .env("EDGEPACK_SIGNING_KEY", "s3cret itself")
        .env("NO_KEY", "s3cret of somebody else");
    run(&mut command)
        .exits(0)
        .says("NO_KEY")
        .says_not("EDGEPACK_SIGNING_KEY");
}
