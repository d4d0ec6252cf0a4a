//! Attestations: what `publish` and `sign` attest, and what `verify` tells of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::artifact::{REPOSITORY, module};
use crate::support::registry::{Registry, Seen};
use crate::support::signed::{Case, PASSWORD, keygen, tool, without_referrers};
use crate::support::tool::{Place, Run, run};

const SBOM: &str = "https://cyclonedx.org/bom";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

/// What is stated about an artifact: types and predicates.
fn statements(registry: &Registry, digest: &str) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = registry
        .referrers(REPOSITORY, digest)
        .iter()
        .map(|referrer| {
            let manifest = registry.manifest(REPOSITORY, referrer).unwrap();
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            let layer = manifest["layers"][0]["digest"].as_str().unwrap();
            let bundle: Value =
                serde_json::from_slice(&registry.blob(REPOSITORY, layer).unwrap()).unwrap();
            let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
            let statement: Value =
                serde_json::from_slice(&STANDARD.decode(payload).unwrap()).unwrap();
            let kind = statement["predicateType"].as_str().unwrap();
            assert_eq!(
                manifest["annotations"]["dev.sigstore.bundle.predicateType"],
                kind
            );
            let subject = &statement["subject"][0]["digest"]["sha256"];
            assert_eq!(format!("sha256:{}", subject.as_str().unwrap()), digest);
            (kind.to_owned(), statement["predicate"].clone())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn types(statements: &[(String, Value)]) -> Vec<&str> {
    statements.iter().map(|(kind, _)| kind.as_str()).collect()
}

fn git(folder: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    git.current_dir(folder)
        .args(["-c", "user.name=n", "-c", "user.email=e@x.example"]);
    git.env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    run(git.args(args)).exits(0).stdout.trim().to_owned()
}

#[test]
fn what_is_signed_is_attested_and_nothing_is_doubled() {
    const SECRET: &str = "hunter2";
    let place = Place::new();
    keygen(&place, "k");
    let folder = place.fixture("plugin");
    git(&folder, &["init", "-q"]);
    fs::write(folder.join(".gitignore"), "/target\n").unwrap();
    git(&folder, &["add", "-A"]);
    git(&folder, &["commit", "-qm", "x"]);
    let commit = git(&folder, &["rev-parse", "HEAD"]);
    let remote = format!("https://ci:{SECRET}@git.example/acme/plugin.git?{SECRET}");
    git(&folder, &["remote", "add", "origin", &remote]);
    let registry = Registry::start();
    let publish = |more: &[&str]| -> Value {
        let repository = registry.reference(REPOSITORY);
        let args = [
            "publish",
            "--repository",
            &repository,
            "--message-format=json",
        ];
        let mut command = place.command([&args, more].concat());
        command
            .current_dir(&folder)
            .env("COSIGN_PASSWORD", PASSWORD)
            .env(
                "RUSTFLAGS",
                format!("--cfg=mirror=\"https://me:{SECRET}@x.example/a\""),
            )
            .env("SOME_TOKEN", SECRET);
        run(&mut command).exits(0).json()
    };
    let key = ["--key", "../k.key"];
    let mut digest = String::new();
    for state in ["made", "unchanged"] {
        registry.clear_requests();
        let report = publish(&key);
        let published = &report["published"][0];
        assert_eq!(
            published["attestations"],
            json!([
                {"predicate_type": SBOM, "state": state},
                {"predicate_type": PROVENANCE, "state": state},
            ])
        );
        published["digest"]
            .as_str()
            .unwrap()
            .clone_into(&mut digest);
    }
    // Nothing but the tag, the list of referrers, and each signature and what holds it.
    let requests: Vec<_> = registry.requests().iter().map(Seen::line).collect();
    assert_eq!(requests.len(), 1 + 1 + 4 * 2, "{requests:#?}");
    let made = statements(&registry, &digest);
    assert_eq!(types(&made), [SBOM, SIGN, PROVENANCE]);
    for word in [SECRET, place.path().to_str().unwrap()] {
        assert!(!made[2].1.to_string().contains(word), "{word}");
    }
    tells_from_what(&made[2].1, &commit, &folder);
    // The SBOM is the one in the file.
    let file = fs::read(folder.join("target/edgepack/plugin.cdx.json")).unwrap();
    assert_eq!(made[0].1, serde_json::from_slice::<Value>(&file).unwrap());

    // The source differs from the commit, and it is said.
    fs::write(folder.join("untracked"), "").unwrap();
    let report = publish(&key);
    let attested = &report["published"][0]["attestations"];
    assert_eq!(attested[0]["state"], "unchanged");
    assert_eq!(attested[1]["state"], "made");
    let made = statements(&registry, &digest);
    let is_dirty = |(_, predicate): &&(String, Value)| {
        predicate["buildDefinition"]["externalParameters"]["source"]["dirty"] == true
    };
    assert_eq!(made.iter().filter(is_dirty).count(), 1);

    // Verified, and told.
    let reference = published(&registry, &digest);
    let json = tool(
        &place,
        &[
            "verify",
            &reference,
            "--key",
            "k.pub",
            "--require",
            "sbom,provenance",
            "--json",
        ],
    );
    let json = json.exits(0).says("#local").json();
    assert_eq!(json["attestations"][0]["predicate_type"], SBOM);
    assert_eq!(
        json["attestations"][1]["source"],
        "git+https://git.example/acme/plugin.git"
    );
    assert_eq!(json["attestations"][1]["commit"], commit.as_str());
    let pull = [
        "pull",
        &reference,
        "--key",
        "k.pub",
        "--require=sbom",
        "-o",
        "out.wasm",
    ];
    tool(&place, &pull).exits(0);
    assert!(place.join("out.wasm").exists());
}

/// The provenance of the fixture.
fn tells_from_what(provenance: &Value, commit: &str, folder: &Path) {
    let definition = &provenance["buildDefinition"];
    assert!(
        definition["buildType"]
            .as_str()
            .unwrap()
            .ends_with("#cargo-v1")
    );
    let external = &definition["externalParameters"];
    assert_eq!(
        external["source"],
        json!({
            "uri": "git+https://git.example/acme/plugin.git",
            "digest": {"gitCommit": commit},
            "dirty": false,
        })
    );
    for (key, value) in [
        ("package", "plugin"),
        ("target", "wasm32-unknown-unknown"),
        ("profile", "release"),
        ("buildSize", "off"),
    ] {
        assert_eq!(external[key], value);
    }
    assert_eq!(
        external["rustflags"],
        json!(["--cfg=mirror=\"https://x.example/a\""])
    );
    let dependencies = definition["resolvedDependencies"].as_array().unwrap();
    let lock = fs::read(folder.join("Cargo.lock")).unwrap();
    let lock = crate::support::artifact::sha256(&lock);
    assert_eq!(dependencies[0]["digest"]["gitCommit"], commit);
    assert_eq!(
        dependencies[1],
        json!({"name": "Cargo.lock", "digest": {"sha256": lock.strip_prefix("sha256:").unwrap()}})
    );
    assert_eq!(dependencies[2]["name"], "rustc");
    let optimizers = &definition["internalParameters"]["optimizers"];
    assert!(optimizers[0].as_str().unwrap().starts_with("binaryen-"));
    let run = &provenance["runDetails"];
    assert!(run["builder"]["id"].as_str().unwrap().ends_with("#local"));
    assert_eq!(run.get("metadata"), None);
}

fn published(registry: &Registry, digest: &str) -> String {
    registry.reference(&format!("{REPOSITORY}@{digest}"))
}

/// A file is published.
fn publish_file(registry: &Registry, place: &Place, more: &[&str], env: &[(&str, &str)]) -> Run {
    let repository = registry.reference(REPOSITORY);
    let args = [
        "publish",
        "app.wasm",
        "--repository",
        &repository,
        "--message-format=json",
    ];
    let mut command = place.command([&args, more].concat());
    command
        .env("COSIGN_PASSWORD", PASSWORD)
        .envs(env.iter().copied());
    run(&mut command)
}

#[test]
fn switches_decide() {
    for (more, env, expected) in [
        (&[][..], &[][..], &[SBOM, SIGN, PROVENANCE][..]),
        (&["--no-sbom"], &[], &[SIGN, PROVENANCE]),
        (&["--no-provenance"], &[], &[SBOM, SIGN]),
        (&["--no-sbom", "--no-provenance"], &[], &[SIGN]),
        (
            &[],
            &[("EDGEPACK_PUBLISH_SBOM", "false")],
            &[SIGN, PROVENANCE],
        ),
        (
            &["--sbom"],
            &[("EDGEPACK_PUBLISH_SBOM", "false")],
            &[SBOM, SIGN, PROVENANCE],
        ),
        (
            &[],
            &[("EDGEPACK_PUBLISH_PROVENANCE", "false")],
            &[SBOM, SIGN],
        ),
    ] {
        let place = Place::new();
        keygen(&place, "k");
        place.write("app.wasm", module(100, 1));
        let registry = Registry::start();
        let report = publish_file(&registry, &place, &[more, &["--key=k.key"]].concat(), env);
        let digest = report.exits(0).json()["published"][0]["digest"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            types(&statements(&registry, &digest)),
            expected,
            "{more:?} {env:?}"
        );
    }
    let place = Place::new();
    place.write("app.wasm", module(100, 1));
    let registry = Registry::start();
    // Nobody vouches for it: nothing is attested, and that is said.
    let report = publish_file(&registry, &place, &["--sbom"], &[]).exits(0);
    let report = report.says("is not signed, so that no SBOM").json();
    let digest = report["published"][0]["digest"].as_str().unwrap();
    assert!(statements(&registry, digest).is_empty());
    assert!(report["packages"][0]["sbom"].is_string());
    publish_file(
        &registry,
        &place,
        &[],
        &[("EDGEPACK_PUBLISH_SBOM", "maybe")],
    )
    .exits(2)
    .says("neither true nor false");
    // What is planned.
    keygen(&place, "k");
    let planned = publish_file(&registry, &place, &["--dry-run", "--key=k.key"], &[]).exits(0);
    let planned = planned.json()["published"][0]["attestations"].clone();
    assert_eq!(
        planned[1],
        json!({"predicate_type": PROVENANCE, "state": "planned"})
    );
}

#[test]
fn the_builder_is_who_the_ci_says() {
    let place = Place::new();
    keygen(&place, "k");
    place.write("app.wasm", module(100, 1));
    let github = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_REPOSITORY", "acme/demo"),
        (
            "GITHUB_WORKFLOW_REF",
            "acme/demo/.github/workflows/release.yml@refs/heads/main",
        ),
        ("GITHUB_RUN_ID", "42"),
        ("GITHUB_RUN_ATTEMPT", "2"),
        ("GITHUB_TOKEN", "hunter2"),
    ];
    let gitlab = [
        ("GITLAB_CI", "true"),
        ("CI_PROJECT_URL", "https://gitlab.com/acme/demo"),
        ("CI_RUNNER_ID", "7"),
        ("CI_JOB_URL", "https://gitlab.com/acme/demo/-/jobs/9"),
        ("CI_JOB_TOKEN", "hunter2"),
    ];
    for (env, id, invocation) in [
        (
            &github[..],
            "https://github.com/acme/demo/.github/workflows/release.yml@refs/heads/main",
            "https://github.com/acme/demo/actions/runs/42/attempts/2",
        ),
        (
            &gitlab,
            "https://gitlab.com/acme/demo/-/runners/7",
            "https://gitlab.com/acme/demo/-/jobs/9",
        ),
    ] {
        let registry = Registry::start();
        let publish = |env: &[(&str, &str)]| {
            let done = publish_file(&registry, &place, &["--key=k.key", "--no-sbom"], env);
            done.exits(0).json()["published"][0].clone()
        };
        let report = publish(env);
        let digest = report["digest"].as_str().unwrap().to_owned();
        // A run that comes later and says the same of the build adds nothing.
        let later = [
            ("GITHUB_RUN_ID", "43"),
            ("CI_JOB_URL", "https://gitlab.com/x/-/jobs/10"),
        ];
        let again = publish(&[env, &later].concat());
        assert_eq!(again["attestations"][0]["state"], "unchanged");
        let made = statements(&registry, &digest);
        assert_eq!(types(&made), [SIGN, PROVENANCE]);
        let provenance = &made[1].1;
        assert!(!provenance.to_string().contains("hunter2"));
        assert_eq!(provenance["runDetails"]["builder"]["id"], id);
        assert_eq!(
            provenance["runDetails"]["metadata"]["invocationId"],
            invocation
        );
        assert!(
            provenance["buildDefinition"]["buildType"]
                .as_str()
                .unwrap()
                .ends_with("#file-v1")
        );
        let moved = [
            ("GITHUB_WORKFLOW_REF", "acme/demo/o.yml@x"),
            ("CI_RUNNER_ID", "8"),
        ];
        let elsewhere = publish(&[env, &moved].concat());
        assert_eq!(elsewhere["attestations"][0]["state"], "made");
    }
}

#[test]
fn what_is_published_is_attested_later() {
    for options in [
        crate::support::registry::Options::default(),
        without_referrers(),
    ] {
        let case = Case::with(options);
        let place = &case.artifact.place;
        let reference = case.reference();
        case.tool(&["sbom", "app.wasm", "-o", "app.cdx.json"])
            .exits(0);
        place.write("scan.json", r#"{"clean": true}"#);
        let args = [
            "sign",
            &reference,
            "--key=k.key",
            "--sbom=app.cdx.json",
            "--attest=https://scan.example/v1=scan.json",
        ];
        for state in ["(made)", "(was there)"] {
            case.tool(&args).exits(0).says(&format!("{SBOM} {state}"));
            let made = statements(&case.registry, &case.artifact.digest);
            assert_eq!(types(&made), [SBOM, "https://scan.example/v1", SIGN]);
            assert_eq!(made[1].1, json!({"clean": true}));
        }
        case.tool(&["verify", &reference, "--key=k.pub", "--require=sbom"])
            .exits(0);
        case.tool(&["verify", &reference, "--key=k.pub", "--require=provenance"])
            .exits(5)
            .says("has no provenance attestation");
    }
    // A layout is attested too.
    let case = Case::new();
    case.tool(&["sbom", "app.wasm", "-o", "app.cdx.json"])
        .exits(0);
    let layout = "oci:target/edgepack/oci:app:1.0.0";
    case.tool(&["sign", layout, "--key=k.key", "--sbom=app.cdx.json"])
        .exits(0);
    case.tool(&["verify", layout, "--key=k.pub", "--require=sbom"])
        .exits(0);
}

#[test]
fn what_cannot_be_attested() {
    let case = Case::new();
    let place = &case.artifact.place;
    let reference = case.reference();
    place.write("other.wasm", module(200, 9));
    case.tool(&["sbom", "other.wasm", "-o", "other.json"])
        .exits(0);
    case.tool(&["sbom", "app.wasm", "-o", "app.json"]).exits(0);
    let statement = json!({"_type": "https://in-toto.io/Statement/v1", "predicate": {}});
    place.write("statement.json", statement.to_string());
    place.write("text.json", "text");
    place.write("empty.json", "{}");
    place.write("large.json", r#"{"a": 12345678901234567890123}"#);
    place.write("twice.json", r#"{"a": 1, "a": 2}"#);
    let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
    place.write("deep.json", deep);
    // In Base64 it would be more than is read.
    let long = "a".repeat(12 << 20);
    place.write("long.json", json!({ "a": long }).to_string());
    for (attest, code, words) in [
        ("https://x.example/a=large.json", 5, "64 bits"),
        ("https://x.example/a=twice.json", 5, "a name twice"),
        ("https://x.example/a=deep.json", 5, "nested too deeply"),
        (
            "https://x.example/a=long.json",
            5,
            "are read when verifying",
        ),
        ("https://x.example/\u{1b}[31m=app.json", 2, "no type"),
        ("sbom=other.json", 5, "is about another module"),
        ("sbom=empty.json", 5, "its bomFormat is not CycloneDX"),
        ("sbom=text.json", 5, "is no JSON"),
        ("provenance=app.json", 5, "no buildDefinition.buildType"),
        ("https://x.example/a=statement.json", 5, "a whole statement"),
        ("sbom=missing.json", 1, "missing.json"),
        ("nonsense=app.json", 2, "no type of an attestation"),
        (
            "https://sigstore.dev/cosign/sign/v1=app.json",
            2,
            "the type of a signature",
        ),
        ("app.json", 2, "TYPE=FILE"),
    ] {
        case.tool(&["sign", &reference, "--key=k.key", "--attest", attest])
            .exits(code)
            .says(words);
    }
    assert!(statements(&case.registry, &case.artifact.digest).is_empty());
    case.tool(&["sign", "app.wasm", "--key=k.key", "--sbom=app.json"])
        .exits(2);
}
