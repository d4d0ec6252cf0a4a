//! The component for GitLab, run by `gitlab-ci-local` as a runner would.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::support::ci::{Checkout, Log, Tools};
use crate::support::peers::{Peers, Server};
use crate::support::registry::{Auth, Options, Registry};
use crate::support::signed::{PASSWORD, keygen};
use crate::support::tool::{copy, repository};

const LOCAL: &str = "local: gitlab-template/templates/edgepack/template.yml";

/// A job that shows what the job before told it.
const SHOW: &str = "show:\n  stage: test\n  script:\n    - echo \"told <$EDGEPACK_KIND> <$EDGEPACK_DIGEST> <$EDGEPACK_REF>\"\n    \
                    - test -s target/edgepack/app.wasm\n";

/// A project with the template in it.
fn project(tools: &Tools) -> Checkout<'_> {
    let checkout = Checkout::new(tools);
    copy(
        &repository().join("gitlab-template"),
        &checkout.folder().join("gitlab-template"),
    );
    checkout
}

/// Runs a pipeline that includes the template.
fn pipeline(checkout: &Checkout<'_>, include: &str, inputs: &[(&str, &str)], more: &str) -> Log {
    let mut text = format!("include:\n  - {include}\n    inputs:\n      expire-in: 1 day\n");
    for (name, value) in inputs {
        // JSON is YAML.
        let _ = writeln!(text, "      {name}: {}", Value::from(*value));
    }
    checkout.write(".gitlab-ci.yml", text + more);
    run(checkout, &[])
}

fn run(checkout: &Checkout<'_>, more: &[&str]) -> Log {
    checkout.commit();
    let remotes = checkout.git(&["remote"]);
    if remotes.is_empty() {
        checkout.git(&["remote", "add", "origin", "git@gitlab.example:acme/app.git"]);
    }
    let mut command = checkout.tools.command("gitlab-ci-local");
    checkout.at_home(&mut command);
    command
        .args(["--force-shell-executor", "--no-color"])
        .args(more);
    Log::of(&mut command)
}

fn told(log: &Log) -> Vec<String> {
    let line = log.between("> told ", "\n");
    line.split(' ')
        .map(|w| w.trim_matches(['<', '>']).to_owned())
        .collect()
}

#[test]
fn the_three_ways_to_include_it() {
    let Some(tools) = Tools::find() else { return };
    let checkout = project(&tools);
    let first = pipeline(&checkout, LOCAL, &[], SHOW).passes();
    let said = told(&first);
    assert_eq!(said[0], "core");
    assert!(said[1].starts_with("sha256:"), "{said:?}");
    assert_eq!(said[2], "");
    // What GitLab reads is there.
    for name in [
        "junit.xml",
        "gl-code-quality.json",
        "gl-annotations.json",
        "gl-dotenv.env",
    ] {
        let path = checkout.folder().join("target/edgepack").join(name);
        assert!(path.is_file(), "{name}: {}", first.text);
    }
    // A second run is cached, in the folder that GitLab keeps.
    assert!(checkout.folder().join(".edgepack/cache").is_dir());
    pipeline(&checkout, LOCAL, &[], SHOW)
        .passes()
        .has("%), cached");
    // The folder is no change of the project.
    assert_eq!(
        checkout.git(&["status", "--porcelain", "--", ".edgepack"]),
        ""
    );

    let template =
        fs::read(repository().join("gitlab-template/templates/edgepack/template.yml")).unwrap();
    let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/yaml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                template.len()
            );
            let _ = stream.write_all(&template);
        }
    });
    let remote = format!("remote: http://{address}/templates/edgepack/template.yml");
    pipeline(&checkout, &remote, &[], SHOW)
        .passes()
        .has("told <core>");
}

/// A project of components on the same GitLab, which git finds in a folder: its commit.
fn component_project(checkout: &Checkout<'_>) -> String {
    let folder = checkout.place.join("edgepack");
    copy(&repository().join("gitlab-template"), &folder);
    let git = |args: &[&str]| {
        let user = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
        let mut git = Command::new("git");
        git.args(user).args(args).current_dir(&folder);
        Log::of(&mut git).passes().text.trim().to_owned()
    };
    git(&["init", "--quiet"]);
    // As GitLab's own server lets clients do.
    git(&["config", "uploadpack.allowFilter", "true"]);
    git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "all"]);
    git(&["tag", "0.1.0"]);
    let commit = git(&["rev-parse", "HEAD"]);
    // What comes later is not what is pinned.
    fs::remove_dir_all(folder.join("templates")).unwrap();
    git(&["commit", "--quiet", "--all", "--message", "gone"]);
    let config = format!(
        "[url \"file://{}\"]\n\tinsteadOf = https://gitlab.example/OWNER/edgepack.git\n",
        folder.display()
    );
    checkout.place.write("home/.gitconfig", config);
    commit
}

#[test]
fn from_a_project_on_the_same_gitlab() {
    let Some(tools) = Tools::find() else { return };
    let checkout = Checkout::new(&tools);
    let commit = component_project(&checkout);
    checkout.commit();
    let origin = "https://gitlab.example/acme/app.git";
    checkout.git(&["remote", "add", "origin", origin]);
    let file = "file: /templates/edgepack/template.yml";
    for include in [
        format!("project: OWNER/edgepack\n    ref: {commit}\n    {file}"),
        "component: $CI_SERVER_FQDN/OWNER/edgepack/edgepack@0.1.0".to_owned(),
        format!("component: $CI_SERVER_FQDN/OWNER/edgepack/edgepack@{commit}"),
    ] {
        let _ = fs::remove_dir_all(checkout.folder().join(".gitlab-ci-local"));
        pipeline(&checkout, &include, &[("job-prefix", "wasm-")], SHOW)
            .passes()
            .has("downloaded OWNER/edgepack")
            .has("wasm-edgepack")
            .has("told <core>");
        // Inputs are checked there too.
        pipeline(&checkout, &include, &[("sign", "maybe")], "")
            .fails()
            .has("sign");
    }
    // What came later is what the branch names.
    let include = format!("project: OWNER/edgepack\n    {file}");
    pipeline(&checkout, &include, &[], "")
        .fails()
        .has("could not be fetched");
}

#[test]
fn the_component_project_passes_its_own_pipeline() {
    let Some(tools) = Tools::find() else { return };
    let checkout = Checkout::empty(&tools);
    copy(&repository().join("gitlab-template"), &checkout.folder());
    let log = run(&checkout, &[]).passes().has("core module");
    assert!(!log.text.contains("WARN"), "{}", log.text);
}

#[test]
fn what_is_published_and_signed_is_verified_by_cosign() {
    let (Some(tools), Some(peers)) = (Tools::find(), Peers::find()) else {
        return;
    };
    let server = Server::docker(&peers);
    let checkout = project(&tools);
    keygen(&checkout.place, "k");
    let key = fs::read_to_string(checkout.place.join("k.key")).unwrap();
    let variables = format!(
        "global:\n  EDGEPACK_KEY: {}\n  COSIGN_PASSWORD: {PASSWORD}\n",
        Value::from(key)
    );
    checkout
        .place
        .write("home/.gitlab-ci-local/variables.yml", variables);
    let repository = format!("{}/acme/app", server.host());
    let inputs = [
        ("repository", repository.as_str()),
        ("tags", "{version}, latest"),
        ("key", "env:EDGEPACK_KEY"),
    ];
    let more = format!("      publish: true\n{SHOW}");
    let log = pipeline(&checkout, LOCAL, &inputs, &more)
        .passes()
        .lacks(PASSWORD);
    let said = told(&log);
    assert_eq!(said[2], format!("{repository}@{}", said[1]));
    let mut cosign = peers.command("cosign", &checkout.place);
    cosign.args([
        "verify",
        "--key",
        "k.pub",
        "--insecure-ignore-tlog",
        &said[2],
    ]);
    Log::of(&mut cosign).passes();
    let links = fs::read_to_string(
        checkout
            .folder()
            .join("target/edgepack/gl-annotations.json"),
    )
    .unwrap();
    assert!(links.contains(&said[2]), "{links}");
}

#[test]
fn a_budget_and_a_registry_that_refuse_fail_the_job() {
    let Some(tools) = Tools::find() else { return };
    let checkout = project(&tools);
    pipeline(&checkout, LOCAL, &[("budget-raw", "10 kB")], SHOW)
        .fails()
        .has("error[budget-raw]");
    let folder = checkout.folder().join("target/edgepack");
    let quality: Value =
        serde_json::from_slice(&fs::read(folder.join("gl-code-quality.json")).unwrap()).unwrap();
    let said = quality[0]["description"].as_str().unwrap();
    assert!(
        said.contains(" bytes over its budget of 10,000 bytes"),
        "{said}"
    );
    assert_eq!(quality[0]["location"]["path"], "Cargo.toml");
    let junit = fs::read_to_string(folder.join("junit.xml")).unwrap();
    assert!(junit.contains("failures=\"1\""), "{junit}");

    let registry = Registry::with(Options {
        auth: Auth::basic("ci", "right"),
        ..Options::default()
    });
    let secret = "wr0ng-passw0rd";
    let variables =
        format!("global:\n  EDGEPACK_REGISTRY_USER: ci\n  EDGEPACK_REGISTRY_PASSWORD: {secret}\n");
    let file = "home/.gitlab-ci-local/variables.yml";
    checkout.place.write(file, &variables);
    let reference = registry.reference("acme/app");
    let inputs = [("repository", reference.as_str())];
    let more = "      publish: true\n";
    pipeline(&checkout, LOCAL, &inputs, more)
        .fails()
        .lacks(secret);
    assert!(registry.tags("acme/app").is_empty());
    checkout
        .place
        .write(file, variables.replace(secret, "right"));
    pipeline(&checkout, LOCAL, &inputs, more).passes();
    assert!(registry.is_complete("acme/app", "1.2.3"));
    // Where it is published to, the package may say too.
    let manifest = checkout.folder().join("Cargo.toml");
    let plain = fs::read_to_string(&manifest).unwrap();
    let own = registry.reference("acme/own");
    let table = format!("[package.metadata.edgepack.publish]\nrepository = \"{own}\"\n");
    checkout.write("Cargo.toml", format!("{plain}{table}"));
    pipeline(&checkout, LOCAL, &[("repository", "")], more).passes();
    assert!(registry.is_complete("acme/own", "1.2.3"));
    checkout.write("Cargo.toml", plain);
    // What is built is compared with it, with the same password.
    let published = registry.reference("acme/app:1.2.3");
    let compared = [
        ("repository", reference.as_str()),
        ("compare-to", published.as_str()),
    ];
    pipeline(&checkout, LOCAL, &compared, "")
        .passes()
        .has("the same, gzip the same");
    // A cache elsewhere does not get the password, though it asks for one.
    let elsewhere = Registry::with(Options {
        auth: Auth::basic("ci", "right"),
        ..Options::default()
    });
    let cache = elsewhere.reference("acme/cache:main");
    let inputs = [
        ("repository", reference.as_str()),
        ("cache", cache.as_str()),
        ("args", "--force"),
    ];
    pipeline(&checkout, LOCAL, &inputs, more)
        .passes()
        .has("could not be shared");
    let asked = elsewhere.requests();
    assert!(!asked.is_empty() && asked.iter().all(|r| r.authorized.is_none()));
    let mut grep = Command::new("grep");
    grep.args(["-rl", secret, "target", ".edgepack/cache"])
        .current_dir(checkout.folder());
    let found = Log::of(&mut grep);
    assert!(!found.passed, "{}", found.text);
}

#[test]
fn build_scripts_do_not_get_the_passwords_of_the_job() {
    let Some(tools) = Tools::find() else { return };
    let checkout = project(&tools);
    checkout.write(
        "build.rs",
        "fn main() { for (name, value) in std::env::vars() { if value.contains(\"s3cret\") { \
         println!(\"cargo::warning=sees {name}\"); } } }\n",
    );
    let names = [
        "EDGEPACK_REGISTRY_PASSWORD",
        "CI_REGISTRY_PASSWORD",
        "CI_JOB_TOKEN",
        "CI_REPOSITORY_URL",
        "CI_DEPENDENCY_PROXY_PASSWORD",
        "CI_DEPLOY_PASSWORD",
        "MY_TOKEN",
    ];
    let variables = names.map(|name| format!("  {name}: s3cret-{name}\n"));
    let file = "home/.gitlab-ci-local/variables.yml";
    let variables = format!("global:\n{}", variables.concat());
    checkout.place.write(file, variables);
    let mut log = pipeline(&checkout, LOCAL, &[], "").passes();
    for name in names {
        log = match name {
            "MY_TOKEN" => log.has("sees MY_TOKEN"),
            _ => log.lacks(&format!("sees {name}")),
        };
    }
    // What a job before left there is not what this one says.
    let report = checkout.folder().join("target/edgepack/junit.xml");
    assert!(report.is_file());
    pipeline(&checkout, LOCAL, &[("args", "--frobnicate")], "").fails();
    let left = fs::read_to_string(report).unwrap_or_default();
    assert!(!left.contains("failures=\"0\" errors=\"0\""), "{left}");
}

#[test]
fn inputs_are_data() {
    let Some(tools) = Tools::find() else { return };
    let checkout = project(&tools);
    let evil = [
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned",
        "'; touch pwned; '",
        "\"; touch pwned; \"",
        "--dry-run",
        "a\nEDGEPACK_REF=forged\n",
    ];
    let inputs = [
        "package",
        "file",
        "working-directory",
        "features",
        "tags",
        "key",
        "args",
    ];
    for (value, input) in evil.iter().zip(inputs) {
        let more = "      publish: true\n      repository: 127.0.0.1:1/acme/app\n";
        let log = pipeline(&checkout, LOCAL, &[(input, value)], more).fails();
        assert!(!checkout.folder().join("pwned").exists(), "{}", log.text);
        let dotenv = checkout.folder().join("target/edgepack/gl-dotenv.env");
        let dotenv = fs::read_to_string(dotenv).unwrap_or_default();
        assert!(!dotenv.contains("forged"), "{dotenv}");
    }
    // What an input cannot be is refused before anything runs.
    for (input, value) in [
        ("target", "wasm32; touch pwned"),
        ("sign", "maybe"),
        ("level", "most"),
        ("version", "1; touch pwned"),
        ("budget-raw", "$(touch pwned)"),
        ("job-prefix", "$(touch pwned)"),
    ] {
        let log = pipeline(&checkout, LOCAL, &[(input, value)], "").fails();
        assert!(
            log.text.contains(input) && !log.text.contains("starting shell"),
            "{}",
            log.text
        );
    }
    assert!(!checkout.folder().join("pwned").exists());
}

#[test]
fn a_monorepo_becomes_a_child_pipeline() {
    let Some(tools) = Tools::find() else { return };
    let checkout = Checkout::empty(&tools)
        .package("a", "alpha", "")
        .package("b", "beta", "");
    copy(
        &repository().join("gitlab-template"),
        &checkout.folder().join("gitlab-template"),
    );
    checkout.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"b\"]\n",
    );
    let before = checkout.commit();
    checkout.write("b/src/main.rs", "fn main() { println!(\"changed\"); }\n");
    checkout.commit();
    let plan = |since: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-edgepack"));
        checkout.at_home(&mut command);
        command.args([
            "plan",
            "--matrix",
            "gitlab",
            "--since",
            since,
            "--template",
            LOCAL,
        ]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        checkout.write(".gitlab-ci.yml", &output.stdout);
        run(&checkout, &[]).passes()
    };
    let log = plan(&before).has("beta 1.2.3").lacks("alpha 1.2.3");
    assert!(log.text.contains("beta-edgepack"), "{}", log.text);
    plan("").has("alpha 1.2.3").has("beta 1.2.3");
    plan(&checkout.git(&["rev-parse", "HEAD"]))
        .lacks("alpha 1.2.3")
        .lacks("beta 1.2.3");
}

#[test]
fn a_child_pipeline_finds_a_workspace_below() {
    let Some(tools) = Tools::find() else { return };
    let checkout = Checkout::empty(&tools).package("the ws", "gr-öße_x", "");
    copy(
        &repository().join("gitlab-template"),
        &checkout.folder().join("gitlab-template"),
    );
    checkout.commit();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-edgepack"));
    checkout.at_home(&mut command);
    command
        .args(["plan", "--matrix=gitlab", "--template", LOCAL])
        .args(["--manifest-path", "the ws/Cargo.toml"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    checkout.write(".gitlab-ci.yml", &output.stdout);
    run(&checkout, &[]).passes().has("gr-öße_x 1.2.3");
}
