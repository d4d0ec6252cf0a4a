//! What others say about the action, the workflows, the component, and the snippets of
//! the documentation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::ci::{COMMIT, Checkout, Log, Tools};
use crate::support::registry::Registry;
use crate::support::tool::{Place, copy, repository, run};

/// The blocks of YAML in a document of this project.
fn snippets(document: &str) -> Vec<String> {
    let text = fs::read_to_string(repository().join(document)).unwrap();
    let blocks: Vec<String> = text
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().replace("<sha>", COMMIT))
        .collect();
    assert!(!blocks.is_empty(), "{document}");
    blocks
}

/// The first snippet with this in it.
fn snippet(document: &str, part: &str) -> String {
    let mut blocks = snippets(document).into_iter();
    blocks
        .find(|b| b.contains(part))
        .unwrap_or_else(|| panic!("{document} shows no {part}"))
}

fn workflows() -> Vec<PathBuf> {
    let files = fs::read_dir(repository().join(".github/workflows")).unwrap();
    files.map(|f| f.unwrap().path()).collect()
}

fn checked(tools: &Tools, name: &str, args: &[&str], files: &[PathBuf]) -> Log {
    let mut command = tools.command(name);
    command.args(args).args(files).current_dir(repository());
    // actionlint asks for shellcheck.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools.folder().to_owned()).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).unwrap());
    Log::of(&mut command).passes()
}

/// zizmor with nothing to say, but for what is excused in place.
fn zizmor(tools: &Tools, files: &[PathBuf]) {
    checked(tools, "zizmor", &["--offline", "--min-severity=low"], files)
        .has("No findings to report");
}

#[test]
fn the_action_and_the_workflows() {
    let Some(tools) = Tools::find() else { return };
    let action = repository().join("action/action.yml");
    zizmor(&tools, &[vec![action.clone()], workflows()].concat());
    checked(&tools, "actionlint", &["-color=false"], &workflows());
    let schema = |name: &str| format!("--builtin-schema=vendor.github-{name}");
    checked(
        &tools,
        "check-jsonschema",
        &[&schema("actions")],
        std::slice::from_ref(&action),
    );
    checked(
        &tools,
        "check-jsonschema",
        &[&schema("workflows")],
        &workflows(),
    );

    // Each input is handed over, used, and explained; and so is each output.
    let text = fs::read_to_string(action).unwrap();
    let scripts = ["main.sh", "install.sh"]
        .map(|name| fs::read_to_string(repository().join("action").join(name)).unwrap())
        .concat();
    let docs = fs::read_to_string(repository().join("docs/ci.md")).unwrap();
    let (inputs, outputs) = text.split_once("\noutputs:\n").unwrap();
    let (outputs, steps) = outputs.split_once("\nruns:\n").unwrap();
    let keys = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|l| l.strip_prefix("  ")?.strip_suffix(':'))
            .filter(|l| !l.starts_with(' '))
            .map(str::to_owned)
            .collect()
    };
    let inputs = keys(inputs.split_once("\ninputs:\n").unwrap().1);
    assert!(inputs.len() > 30, "{inputs:?}");
    for input in &inputs {
        let variable = format!("INPUT_{}", input.replace('-', "_").to_uppercase());
        assert!(
            steps.contains(&format!("{variable}: ${{{{ inputs.{input} }}}}")),
            "{input}"
        );
        let short = variable.trim_start_matches("INPUT_");
        let used = [
            format!("${variable}"),
            format!("{{{variable}"),
            format!("switch {short}"),
            format!("is {short}"),
        ];
        assert!(
            used.iter().any(|u| scripts.contains(u)),
            "{input} is not used"
        );
        assert!(
            docs.contains(&format!("`{input}`")),
            "{input} is not explained"
        );
    }
    for output in keys(outputs) {
        assert!(
            docs.contains(&format!("`{output}`")),
            "{output} is not explained"
        );
    }
    let version = fs::read_to_string(repository().join("action/version")).unwrap();
    assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_component() {
    let Some(tools) = Tools::find() else { return };
    let checkout = Checkout::new(&tools);
    copy(&repository().join("gitlab-template"), &checkout.folder());
    checkout.commit();
    checkout.git(&[
        "remote",
        "add",
        "origin",
        "git@gitlab.example:acme/edgepack.git",
    ]);
    let mut command = tools.command("gitlab-ci-local");
    checkout.at_home(&mut command);
    let output = command.arg("--preview").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let expanded = checkout.place.join("expanded.yml");
    fs::write(&expanded, &output.stdout).unwrap();
    let schema = "--builtin-schema=vendor.gitlab-ci";
    checked(&tools, "check-jsonschema", &[schema], &[expanded]);

    let template =
        fs::read_to_string(repository().join("gitlab-template/templates/edgepack/template.yml"))
            .unwrap();
    // The script, for whoever checks scripts.
    let (_, script) = template.split_once("\n    - |\n").unwrap();
    let script: Vec<&str> = script
        .lines()
        .take_while(|l| l.is_empty() || l.starts_with("      "))
        .map(|l| l.strip_prefix("      ").unwrap_or_default())
        .collect();
    let script = script.join("\n") + "\n";
    assert!(!script.contains("$[["), "an input is a part of the script");
    assert!(script.lines().count() > 50);
    let file = checkout.place.write("script.sh", script);
    checked(&tools, "shellcheck", &["--shell=sh"], &[file]);
    let readme = fs::read_to_string(repository().join("gitlab-template/README.md")).unwrap();
    let inputs = template
        .split_once("\n  inputs:\n")
        .unwrap()
        .1
        .split_once("\n---\n")
        .unwrap()
        .0;
    for line in inputs
        .lines()
        .filter(|l| l.starts_with("    ") && !l.starts_with("     "))
    {
        let input = line.trim().trim_end_matches(':');
        assert!(
            template.contains(&format!("$[[ inputs.{input} ]]")),
            "{input} is not used"
        );
        assert!(
            readme.contains(&format!("`{input}`")),
            "{input} is not explained"
        );
    }
    assert!(template.contains(&format!("default: {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_release_writes_its_sums_into_both() {
    let place = Place::new();
    for folder in ["action", "gitlab-template"] {
        copy(&repository().join(folder), &place.join(folder));
    }
    let sum = "0".repeat(64);
    let sums = |n: u8| {
        let targets = ["x86_64-unknown-linux-gnu", "aarch64-apple-darwin"];
        targets
            .map(|t| format!("{sum}  cargo-edgepack-1.2.{n}-{t}.tar.gz\n"))
            .concat()
    };
    let set = |contents: &str| {
        let file = place.write("sums", contents);
        run(Command::new(place.join("action/set-checksums"))
            .arg(file)
            .env("GITHUB_REPOSITORY", "acme/packer"))
    };
    let template = place.join("gitlab-template/templates/edgepack/template.yml");
    // That of a commit behind a release has sums.
    let mut inside = false;
    let mut before = String::new();
    for line in fs::read_to_string(&template).unwrap().lines() {
        inside = inside && line.starts_with("      ");
        if line.starts_with("    EDGEPACK_CHECKSUMS:") {
            inside = true;
            before += "    EDGEPACK_CHECKSUMS: \"\"\n";
        } else if !inside {
            before = before + line + "\n";
        }
    }
    for n in [3, 4] {
        set(&sums(n)).exits(0);
        let written = fs::read_to_string(place.join("action/checksums.txt")).unwrap();
        assert!(
            written.starts_with('#') && written.ends_with(&sums(n)),
            "{written}"
        );
        let sums = sums(n);
        let lines: Vec<&str> = sums.lines().collect();
        let block = format!("      {}\n", lines.join("\n      "));
        let after = fs::read_to_string(&template).unwrap();
        assert_eq!(
            after,
            before
                .replace(": \"\"\n  script:", &format!(": |\n{block}  script:"))
                .replace("com/OWNER/cargo-edgepack/", "com/acme/packer/")
        );
        let install = fs::read_to_string(place.join("action/install.sh")).unwrap();
        assert!(!install.contains("OWNER"), "{install}");
    }
    for wrong in [
        "",
        "x  cargo-edgepack-1.2.3-a-b.tar.gz\n",
        &format!("{sum}  other.tar.gz\n"),
    ] {
        let before = fs::read(&template).unwrap();
        assert_eq!(set(wrong).code, 1);
        assert!(before == fs::read(&template).unwrap());
    }
}

#[test]
fn linux_takes_the_static_archive_where_glibc_is_old_or_another() {
    let place = Place::new();
    let ldd = |says: &str| {
        // That of musl knows no --version.
        let end = i32::from(!says.contains("GLIBC"));
        let script = format!("#!/bin/sh\necho '{says}'\necho 'Copyright 2.99'\nexit {end}\n");
        let file = place.write("bin/ldd", script);
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let shell = |shell: &str, script: &str| -> String {
        let path = format!("{}:/usr/bin:/bin", place.join("bin").display());
        let mut command = Command::new(shell);
        // GitLab's runner sets it where the shell knows it.
        if shell == "bash" {
            command.args(["-o", "pipefail"]);
        }
        command.args(["-euc", script]).env("PATH", path);
        command.env("RUNNER_OS", "Linux").env("RUNNER_ARCH", "X64");
        command.current_dir(repository());
        run(&mut command).exits(0).stdout.trim().to_owned()
    };
    let template = "gitlab-template/templates/edgepack/template.yml";
    let template = fs::read_to_string(repository().join(template)).unwrap();
    let start = template.find("          system=").unwrap();
    let end = start + template[start..].find("name=").unwrap();
    let of_template = format!("{}\necho x86_64-$system", &template[start..end]);
    for (says, libc) in [
        ("ldd (Debian GLIBC 2.41-12) 2.41", "gnu"),
        ("ldd (Ubuntu GLIBC 2.35-0ubuntu3.10) 2.35", "gnu"),
        ("ldd (Debian GLIBC 2.31-13+deb11u13) 2.31", "musl"),
        ("ldd (GNU libc) 2.17", "musl"),
        ("musl libc (x86_64)", "musl"),
        ("", "musl"),
    ] {
        ldd(says);
        let wanted = format!("x86_64-unknown-linux-{libc}");
        assert_eq!(
            shell("bash", ". action/install.sh; platform"),
            wanted,
            "{says}"
        );
        for name in ["sh", "bash"] {
            assert_eq!(shell(name, &of_template), wanted, "{says}");
        }
    }
}

#[test]
fn what_the_readme_shows_for_github_is_short_clean_and_runs() {
    let Some(tools) = Tools::find() else { return };
    let shown = snippet("README.md", "cargo-edgepack/action@");
    assert!(shown.lines().count() <= 12, "{shown}");
    let registry = Registry::start();
    let checkout = Checkout::new(&tools);
    let path = checkout
        .place
        .write("repo/.github/workflows/edgepack.yml", &shown);
    zizmor(&tools, std::slice::from_ref(&path));
    checked(
        &tools,
        "actionlint",
        &["-color=false"],
        std::slice::from_ref(&path),
    );
    // The same on this machine.
    fs::write(
        &path,
        shown.replace(
            "ghcr.io/${{ github.repository }}",
            &registry.reference("acme/app"),
        ),
    )
    .unwrap();
    // A second commit is published too.
    for _ in 0..2 {
        checkout.act().passes();
        let commit = checkout.git(&["rev-parse", "HEAD"]);
        assert!(registry.is_complete("acme/app", &commit));
    }
}

#[test]
fn what_the_readme_shows_for_gitlab_is_short_and_runs() {
    let Some(tools) = Tools::find() else { return };
    let shown = snippet("README.md", "component:");
    assert!(shown.lines().count() <= 8, "{shown}");
    let registry = Registry::start();
    let checkout = Checkout::new(&tools);
    copy(
        &repository().join("gitlab-template/templates"),
        &checkout.folder().join("templates"),
    );
    let component = shown
        .split("component: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let here = "$CI_SERVER_FQDN/$CI_PROJECT_PATH/edgepack@$CI_COMMIT_SHA";
    checkout.write(".gitlab-ci.yml", shown.replace(component, here));
    checkout.commit();
    checkout.git(&["remote", "add", "origin", "git@gitlab.example:acme/app.git"]);
    let variables = format!(
        "global:\n  CI_REGISTRY_IMAGE: {}\n",
        registry.reference("acme/app")
    );
    checkout
        .place
        .write("home/.gitlab-ci-local/variables.yml", variables);
    let mut command = tools.command("gitlab-ci-local");
    checkout.at_home(&mut command);
    Log::of(command.args(["--force-shell-executor", "--no-color"])).passes();
    let commit = checkout.git(&["rev-parse", "HEAD"]);
    assert!(registry.is_complete("acme/app", &commit));
}

#[test]
fn whole_workflows_in_the_documentation() {
    let Some(tools) = Tools::find() else { return };
    let place = Place::new();
    for (number, block) in snippets("docs/ci.md").iter().enumerate() {
        if !block.starts_with("jobs:") {
            continue;
        }
        let name = format!(".github/workflows/{number}.yml");
        let path = place.write(&name, format!("on: push\npermissions: {{}}\n{block}"));
        checked(
            &tools,
            "actionlint",
            &["-color=false"],
            std::slice::from_ref(&path),
        );
        zizmor_medium(&tools, &path);
    }
}

fn zizmor_medium(tools: &Tools, path: &Path) {
    let args = ["--offline", "--min-severity=medium"];
    checked(tools, "zizmor", &args, &[path.to_owned()]).has("No findings to report");
}
