//! `init`: files that a project begins with, and that stay the user's.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::tool::{Place, Run, run};

const ACTION: &str = "acme/edgepack/action@0123456789abcdef0123456789abcdef01234567 # v1.2.3";
const TEMPLATE: &str = "component: $CI_SERVER_FQDN/acme/edgepack/edgepack@1.2.3";
const WORKFLOW: &str = ".github/workflows/edgepack.yml";
const PIPELINE: &str = ".gitlab-ci.yml";

/// A repository with a package, and with the folder of the workspace below it.
fn repository(folder: &str, members: &[&str]) -> Place {
    let place = Place::new();
    let mut git = Command::new("git");
    run(git.args(["init", "-q"]).current_dir(place.path())).exits(0);
    let list: Vec<String> = members.iter().map(|m| format!("\"{m}\"")).collect();
    let workspace = format!(
        "[workspace]\nmembers = [{}]\nresolver = \"2\"\n",
        list.join(", ")
    );
    place.write(&format!("{folder}Cargo.toml"), workspace);
    for member in members {
        let manifest =
            format!("[package]\nname = \"{member}\"\nversion = \"0.1.0\"\nedition = \"2021\"");
        place.write(&format!("{folder}{member}/Cargo.toml"), manifest);
        place.write(&format!("{folder}{member}/src/main.rs"), "fn main() {}\n");
    }
    place
}

fn init(place: &Place, folder: &str, extra: &[&str]) -> Run {
    let ci = [
        "init",
        "--ci",
        "github,gitlab",
        "--action",
        ACTION,
        "--template",
        TEMPLATE,
    ];
    let mut command = place.command([&ci[..], extra].concat());
    run(command.current_dir(place.join(folder)))
}

fn read(place: &Place, name: impl AsRef<Path>) -> String {
    fs::read_to_string(place.join(name)).unwrap()
}

#[test]
fn a_second_run_changes_nothing() {
    let place = repository("", &["app"]);
    let done = init(&place, "", &[]).exits(0).says_not("warning");
    assert_eq!(done.stdout.lines().count(), 2, "{}", done.stdout);
    let workflow = read(&place, WORKFLOW);
    for line in [
        "permissions: {}",
        "      contents: read # to check the code out",
        "          persist-credentials: false",
        "      - uses: acme/edgepack/action@0123456789abcdef0123456789abcdef01234567 # v1.2.3",
        "          publish: true",
        "    if: github.event_name == 'pull_request'",
        "          repository: ghcr.io/${{ github.repository }}",
    ] {
        assert!(workflow.lines().any(|l| l == line), "{line} in\n{workflow}");
    }
    // What builds a stranger's change may do nothing else.
    let (build, publish) = workflow.split_once("\n  publish:\n").unwrap();
    assert!(!build.contains(": write"), "{build}");
    assert!(publish.contains("id-token: write"), "{publish}");
    // Every action is pinned to a commit.
    for uses in workflow
        .lines()
        .filter_map(|l| l.trim().strip_prefix("- uses: "))
    {
        let sha = uses.split(['@', ' ']).nth(1).unwrap();
        assert!(
            sha.len() == 40 && sha.bytes().all(|b| b.is_ascii_hexdigit()),
            "{uses}"
        );
    }
    let pipeline = read(&place, PIPELINE);
    assert!(
        pipeline.ends_with(
            "include:\n  - component: \"$CI_SERVER_FQDN/acme/edgepack/edgepack@1.2.3\"\n    inputs:\n      \
             publish: true\n      repository: \"$CI_REGISTRY_IMAGE\"\n      \
             # A version names one artifact for good; each commit is one.\n      tags: \"$CI_COMMIT_SHA\"\n"
        ),
        "{pipeline}"
    );
    let files = place.files();
    let again = init(&place, "", &[]).exits(0).says("is as it should be");
    assert_eq!(again.stdout, "");
    assert_eq!(place.files(), files);
    assert_eq!(
        (read(&place, WORKFLOW), read(&place, PIPELINE)),
        (workflow, pipeline)
    );
}

#[test]
fn what_was_changed_stays() {
    let place = repository("", &["app"]);
    init(&place, "", &[]).exits(0);
    let workflow = read(&place, WORKFLOW);
    place.write(WORKFLOW, format!("{workflow}# mine\n"));
    let done = init(&place, "", &[])
        .exits(0)
        .says("was changed and is left alone")
        .says("persist-credentials: false");
    assert_eq!(done.stdout, "");
    assert!(read(&place, WORKFLOW).ends_with("# mine\n"));
    init(&place, "", &["--force"]).exits(0);
    assert_eq!(read(&place, WORKFLOW), workflow);
}

#[test]
fn a_pipeline_that_is_there_is_not_touched() {
    let place = repository("", &["app"]);
    let theirs = "test:\n  script: [make]\n";
    place.write(PIPELINE, theirs);
    for force in [&[][..], &["--force"]] {
        init(&place, "", force)
            .exits(0)
            .says("add to its `include`:\n  - local: .gitlab/edgepack.yml");
        assert_eq!(read(&place, PIPELINE), theirs);
    }
    assert!(read(&place, ".gitlab/edgepack.yml").contains("@1.2.3"));
    place.write(
        PIPELINE,
        format!("include:\n  - local: .gitlab/edgepack.yml\n{theirs}"),
    );
    init(&place, "", &[]).exits(0).says_not("add to its");
    let own = "include:\n  - component: $CI_SERVER_FQDN/x/edgepack/edgepack@1\n";
    place.write(PIPELINE, own);
    init(&place, "", &[]).exits(0).says("uses edgepack already");
    assert_eq!(read(&place, PIPELINE), own);

    // A name alone is no use of it, and a job needs a stage that is there.
    let place = repository("", &["app"]);
    let named = "# edgepack-demo, once x/edgepack@1\nstages: [compile, test]\n";
    place.write(PIPELINE, named);
    init(&place, "", &[])
        .exits(0)
        .says("has no stage `build`: the job is in `compile`")
        .says("add to its `include`");
    assert_eq!(read(&place, PIPELINE), named);
    assert!(read(&place, ".gitlab/edgepack.yml").contains("      stage: \"compile\"\n"));
    // An empty one is nobody's.
    place.write(PIPELINE, "\n");
    init(&place, "", &[]).exits(0).says_not("is left alone");
    assert!(read(&place, PIPELINE).contains("@1.2.3"));
}

#[test]
fn several_packages_below_the_repository() {
    let place = repository("sub dir/", &["a", "b"]);
    init(&place, "sub dir", &[]).exits(0);
    let workflow = read(&place, WORKFLOW);
    assert!(
        workflow.contains("          working-directory: \"sub dir\"\n"),
        "{workflow}"
    );
    assert!(
        workflow.contains("          repository: ghcr.io/${{ github.repository }}/{name}\n"),
        "{workflow}"
    );
    // Not each has a new version whenever a tag is pushed.
    assert!(
        workflow.contains("          tags: ${{ github.ref_name }}\n"),
        "{workflow}"
    );
    let pipeline = read(&place, PIPELINE);
    assert!(
        pipeline.contains("repository: \"$CI_REGISTRY_IMAGE/{name}\""),
        "{pipeline}"
    );
}

#[test]
fn what_is_not_pinned_is_refused() {
    let place = repository("", &["app"]);
    for action in [
        "acme/x@v1",
        "acme/x",
        "x\n@0123456789abcdef0123456789abcdef01234567",
    ] {
        place
            .run(["init", "--ci=github", "--action", action])
            .exits(2)
            .says("is no action that is pinned");
    }
    place.run(["init", "--ci=jenkins"]).exits(2);
    place.run(["init", "--action", ACTION]).exits(2);
    assert!(!place.join(".github").exists());
}

#[test]
fn a_table_to_begin_with() {
    let place = repository("", &["app"]);
    let manifest = place.join("app/Cargo.toml");
    let before = read(&place, "app/Cargo.toml");
    let path = manifest.to_str().unwrap();
    let done = place.run(["init", "--manifest-path", path]).exits(0);
    assert!(done.stdout.ends_with("app/Cargo.toml\n"), "{}", done.stdout);
    let after = read(&place, "app/Cargo.toml");
    assert!(after.starts_with(&before), "{after}");
    assert!(
        after.contains("\n[package.metadata.edgepack]\ntarget = \"wasm32-wasip1\"\n"),
        "{after}"
    );
    place
        .run(["init", "--manifest-path", path])
        .exits(0)
        .says("is set up already");
    assert_eq!(read(&place, "app/Cargo.toml"), after);
    // The tool reads what it wrote.
    let plan = place.run(["plan", "--manifest-path", path]).exits(0);
    assert!(
        plan.stdout.starts_with("app 0.1.0 (wasm32-wasip1"),
        "{}",
        plan.stdout
    );

    let many = repository("", &["a", "b"]);
    many.run(["init"]).exits(0);
    assert!(read(&many, "Cargo.toml").contains("\n[workspace.metadata.edgepack]\n"));
    many.run(["init"]).exits(0).says("is set up already");

    let inline = "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\nmetadata = { x = 1 }\n";
    place.write("app/Cargo.toml", inline);
    place
        .run(["init", "--manifest-path", path])
        .exits(2)
        .says("nothing can be added to");
    assert_eq!(read(&place, "app/Cargo.toml"), inline);
}

#[cfg(unix)]
#[test]
fn nothing_is_written_behind_a_link() {
    let place = repository("", &["app"]);
    let elsewhere = Place::new();
    std::os::unix::fs::symlink(elsewhere.path(), place.join(".github")).unwrap();
    init(&place, "", &[]).exits(2).says("is a link");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}
