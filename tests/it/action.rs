//! The action for GitHub, run by `act` as a runner would.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::artifact::sha256;
use crate::support::ci::{Checkout, Log, Tools};
use crate::support::peers::{Peers, Server};
use crate::support::registry::{Auth, Options, Registry};
use crate::support::signed::{PASSWORD, keygen};

const USE: &str = "OWNER/cargo-edgepack/action@<sha>";

/// A step that shows outputs of the step `pack` to the test.
fn show(names: &[&str]) -> String {
    let mut step = "      - env:\n".to_owned();
    for name in names {
        let variable = name.replace('-', "_").to_uppercase();
        let _ = writeln!(
            step,
            "          {variable}: ${{{{ steps.pack.outputs.{name} }}}}"
        );
    }
    step += "        run: |\n";
    for name in names {
        let variable = name.replace('-', "_").to_uppercase();
        let _ = writeln!(
            step,
            "          echo \"{name}=\"\"<$(printf %s \"${variable}\" | tr '\\n' ' ')>\""
        );
    }
    step
}

fn hex(bytes: &[u8]) -> String {
    sha256(bytes).replace("sha256:", "")
}

fn shown<'a>(log: &'a Log, name: &str) -> &'a str {
    log.between(&format!("{name}=<"), ">")
}

#[test]
fn later_steps_use_what_was_built_and_a_second_run_is_cached() {
    let Some(tools) = Tools::find() else { return };
    let checkout = Checkout::new(&tools);
    checkout.write(
        "Cargo.lock",
        "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"1.2.3\"\n",
    );
    let steps = format!(
        "      - id: pack\n        uses: {USE}\n{}      - run: test \"$(wc -c <\"$WASM\")\" = \"$SIZE\"\n        env:\n          \
         WASM: ${{{{ steps.pack.outputs.wasm }}}}\n          SIZE: ${{{{ steps.pack.outputs.size }}}}\n",
        show(&["wasm", "digest", "kind", "size-before", "ref", "report"])
    );
    let first = checkout
        .steps(&steps)
        .passes()
        .has("### What they ask of their host");
    assert!(shown(&first, "digest").starts_with("sha256:"));
    assert!(shown(&first, "wasm").ends_with("/target/edgepack/app.wasm"));
    assert!(shown(&first, "report").ends_with("/target/edgepack/report.json"));
    assert_eq!(shown(&first, "kind"), "core");
    assert_eq!(shown(&first, "ref"), "");
    let second = checkout.act().passes().has("%), cached");
    assert!(!first.text.contains("%), cached"), "{}", first.text);
    assert_eq!(shown(&first, "size-before"), shown(&second, "size-before"));
}

#[test]
fn what_is_published_and_signed_is_verified_by_cosign() {
    let (Some(tools), Some(peers)) = (Tools::find(), Peers::find()) else {
        return;
    };
    let server = Server::docker(&peers);
    let checkout = Checkout::new(&tools);
    keygen(&checkout.place, "repo/k");
    let steps = format!(
        "      - id: pack\n        uses: {USE}\n        env:\n          COSIGN_PASSWORD: {PASSWORD}\n        with:\n          \
         publish: true\n          registry: {}\n          repository: Acme/App\n          tags: |\n            {{version}}\n            \
         latest\n          key: k.key\n{}",
        server.host(),
        show(&["ref", "digest", "repository", "tags", "signature"])
    );
    let log = checkout.steps(&steps).passes().lacks(PASSWORD);
    let digest = shown(&log, "digest");
    let repository = format!("{}/acme/app", server.host());
    assert_eq!(shown(&log, "repository"), repository);
    assert_eq!(shown(&log, "ref"), format!("{repository}@{digest}"));
    assert_eq!(shown(&log, "tags"), "1.2.3,latest");
    assert_eq!(shown(&log, "signature"), "bundle,legacy");
    for more in [&[][..], &["--new-bundle-format=false"]] {
        let mut cosign = peers.command("cosign", &checkout.place);
        cosign
            .args(["verify", "--key", "repo/k.pub", "--insecure-ignore-tlog"])
            .args(more)
            .arg(format!("{repository}@{digest}"));
        Log::of(&mut cosign).passes();
    }
}

#[test]
fn a_workspace_spreads_over_jobs() {
    let Some(tools) = Tools::find() else { return };
    let checkout = Checkout::empty(&tools)
        .package("a", "alpha", "")
        .package("b", "beta", "")
        .package("c", "gamma", "");
    checkout.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"b\", \"c\"]\n",
    );
    let workflow = |since: &str| {
        format!(
            "on: push\njobs:\n  plan:\n    runs-on: ubuntu-latest\n    outputs:\n      matrix: ${{{{ steps.plan.outputs.matrix }}}}\n      \
             changed: ${{{{ steps.plan.outputs.changed }}}}\n    steps:\n      - uses: actions/checkout@v4\n      - id: plan\n        \
             uses: {USE}\n        with:\n          command: plan\n          since: {since}\n  pack:\n    needs: plan\n    \
             if: needs.plan.outputs.changed == 'true'\n    runs-on: ubuntu-latest\n    strategy:\n      matrix: ${{{{ \
             fromJSON(needs.plan.outputs.matrix) }}}}\n    steps:\n      - uses: actions/checkout@v4\n      - id: pack\n        \
             uses: {USE}\n        with:\n          package: ${{{{ matrix.package }}}}\n{}",
            show(&["wasm"])
        )
    };
    checkout
        .workflow(&workflow("''"))
        .passes()
        .has("edgepack/alpha.wasm>")
        .has("edgepack/beta.wasm>")
        .has("edgepack/gamma.wasm>");
    let before = checkout.git(&["rev-parse", "HEAD"]);
    checkout.write("b/src/main.rs", "fn main() { println!(\"changed\"); }\n");
    checkout
        .workflow(&workflow(&before))
        .passes()
        .has("edgepack/beta.wasm>")
        .lacks("edgepack/alpha.wasm>");
}

#[test]
fn a_budget_that_is_exceeded_fails_the_step_and_says_by_how_much() {
    let Some(tools) = Tools::find() else { return };
    let checkout = Checkout::new(&tools);
    let steps = format!("      - uses: {USE}\n        with:\n          budget-raw: 10 kB\n");
    let log = checkout.steps(&steps).fails();
    let annotation = log.between("::error file=Cargo.toml", "\n");
    assert!(annotation.contains("app is "), "{annotation}");
    assert!(
        annotation.contains(" bytes over its budget of 10,000 bytes"),
        "{annotation}"
    );
    // Without annotations it fails all the same.
    let steps = format!(
        "      - uses: {USE}\n        with:\n          budget-raw: 10 kB\n          annotate: false\n          summary: false\n"
    );
    let log = checkout
        .steps(&steps)
        .fails()
        .lacks("::error file")
        .lacks("Summary -");
    assert!(log.text.contains("error[budget-raw]"), "{}", log.text);
}

#[test]
fn what_cannot_be_published_fails_the_step() {
    let Some(tools) = Tools::find() else { return };
    let registry = Registry::with(Options {
        auth: Auth::basic("ci", "right"),
        ..Options::default()
    });
    let checkout = Checkout::new(&tools);
    let password = "wr0ng-passw0rd";
    let steps = |password: &str| {
        format!(
            "      - id: pack\n        uses: {USE}\n        with:\n          publish: true\n          repository: {}\n          \
             username: ci\n          password: {password}\n      - if: always()\n        run: env; find \"$HOME\" \"$RUNNER_TEMP\" . \
             -type f -not -path '*/.git/*' -not -path '*/workflows/*' -print0 | xargs -0 grep -l -e {} && echo FOUND || echo CLEAN\n",
            registry.reference("acme/app"),
            // Whoever looks for it must not be found.
            password
                .replace("pass", "p[a]ss")
                .replace("right", "r[i]ght")
        )
    };
    let log = checkout
        .steps(&steps(password))
        .fails()
        .has("::error ")
        .has("CLEAN");
    assert!(!log.text.contains(password), "{}", log.text);
    assert!(registry.tags("acme/app").is_empty());
    let log = checkout.steps(&steps("right")).passes().has("CLEAN");
    assert!(registry.is_complete("acme/app", "1.2.3"), "{}", log.text);
}

#[test]
fn inputs_are_data() {
    let Some(tools) = Tools::find() else { return };
    let registry = Registry::start();
    let evil = [
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned",
        "'; touch pwned; '",
        "\\\" ; touch pwned ; \\\"",
        "--dry-run",
        "--config=build.rustc-wrapper='touch'",
        "a%0A::set-output name=ref::forged",
        "a\\n::set-output name=ref::forged\\n",
        "a\\r\\n::error::forged",
    ];
    let inputs = [
        "package",
        "tags",
        "file",
        "working-directory",
        "features",
        "budget-raw",
        "key",
    ];
    let checkout = Checkout::new(&tools);
    let mut steps = String::new();
    // Each value in three inputs, in turn. The shell joins what is between the quotes:
    // the text of a step, which is printed too, is not what it prints.
    for (number, value) in evil.iter().enumerate() {
        for offset in [0, 2, 4] {
            let input = inputs[(number + offset) % inputs.len()];
            let _ = writeln!(
                steps,
                "      - id: s{number}-{offset}\n        uses: {USE}\n        continue-on-error: true\n        with:\n          \
                 publish: true\n          repository: {}\n          {input}: \"{value}\"\n      - env:\n          \
                 REF: ${{{{ steps.s{number}-{offset}.outputs.ref }}}}\n        run: echo \"ref=\"\"<$REF>\"; test ! -e pwned",
                registry.reference("acme/evil"),
            );
        }
    }
    let log = checkout.steps(&steps).passes();
    assert_eq!(
        log.text.matches("ref=<").count(),
        3 * evil.len(),
        "{}",
        log.text
    );
    assert!(!log.text.contains("ref=<forged"), "{}", log.text);
    assert!(!log.text.contains("❗  ::error::forged"), "{}", log.text);
    assert!(!checkout.folder().join("pwned").exists());
}

#[test]
fn words_are_taken_one_a_line() {
    let Some(tools) = Tools::find() else { return };
    let checkout = Checkout::new(&tools);
    let steps = format!(
        "      - uses: {USE}\n        with:\n          args: |\n            --keep-export\n            $(touch pwned) `touch pwned`\n            \
         --keep-export=_start\n"
    );
    checkout
        .steps(&steps)
        .fails()
        .has("there is no export `$(touch pwned) `touch pwned``");
    assert!(!checkout.folder().join("pwned").exists());
    // A build script that speaks to the runner is not heard.
    checkout.write(
        "build.rs",
        "fn main() { println!(\"cargo::warning=x\"); eprintln!(\"::error::forged\"); std::process::exit(1); }\n",
    );
    let log = checkout
        .steps(&format!("      - uses: {USE}\n"))
        .fails()
        .has("::error ");
    assert!(!log.text.contains("❗  ::error::forged"), "{}", log.text);
    for (input, what) in [
        ("budget-raw: plenty", "`plenty` is no size"),
        (
            "args: --frobnicate",
            "unexpected argument '--frobnicate' found",
        ),
        ("{ command: plan, since: nowhere }", "`nowhere`"),
        (
            "{ command: plan, args: --frobnicate }",
            "unexpected argument '--frobnicate' found",
        ),
        ("command: frobnicate", "the input command is"),
        ("offline: maybe", "the input offline is true or false"),
        ("binary: ./nothing", "the input binary names no file"),
        (
            "version: 1.2.3; touch pwned",
            "the input version is no version",
        ),
        ("working-directory: nowhere", "there is no folder nowhere"),
    ] {
        let steps = format!("      - uses: {USE}\n        with:\n          {input}\n");
        let log = checkout.steps(&steps).fails();
        let annotation = log.between("::error ", "\n");
        assert!(annotation.contains(what), "{annotation}");
    }
    assert!(!checkout.folder().join("pwned").exists());
}

#[test]
fn a_release_is_used_if_it_is_the_one_that_the_action_knows() {
    let Some(tools) = Tools::find() else { return };
    let checkout = Checkout::new(&tools);
    // A release that says which one it is, and is the tool.
    let folder = checkout.place.join("release");
    fs::create_dir_all(&folder).unwrap();
    let script = format!(
        "#!/bin/sh\necho the release runs >&2\nexec '{}' \"$@\"\n",
        env!("CARGO_BIN_EXE_cargo-edgepack")
    );
    fs::write(folder.join("cargo-edgepack"), script).unwrap();
    fs::set_permissions(
        folder.join("cargo-edgepack"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let name = format!(
        "cargo-edgepack-9.9.9-{}-unknown-linux-gnu.tar.gz",
        std::env::consts::ARCH
    );
    let status = std::process::Command::new("tar")
        .args(["-czf", &name, "cargo-edgepack"])
        .current_dir(&folder)
        .status()
        .unwrap();
    assert!(status.success());
    let archive = fs::read(folder.join(&name)).unwrap();
    let server = Registry::with(Options {
        files: [(format!("/releases/{name}"), archive.clone())].into(),
        ..Options::default()
    });
    let steps = format!(
        "      - uses: {USE}\n        with:\n          version: 9.9.9\n          download-url: http://{}/releases/\n",
        server.host()
    );
    let sums = checkout.place.join("tool/action/checksums.txt");
    fs::write(&sums, format!("{}  {name}\n", hex(&archive))).unwrap();
    checkout.steps(&steps).passes().has("the release runs");
    let wrong = hex(b"another");
    fs::write(&sums, format!("{wrong}  {name}\n")).unwrap();
    checkout
        .act()
        .fails()
        .has(&format!(
            "and not {wrong}, which the action knows: it is not used"
        ))
        .lacks("the release runs");
}

#[test]
fn a_cache_elsewhere_does_not_get_the_password() {
    let Some(tools) = Tools::find() else { return };
    let guarded = || {
        Registry::with(Options {
            auth: Auth::basic("ci", "right"),
            ..Options::default()
        })
    };
    let (registry, elsewhere) = (guarded(), guarded());
    let checkout = Checkout::new(&tools);
    let run = |cache: String| {
        let steps = format!(
            "      - uses: {USE}\n        with:\n          publish: true\n          repository: {}\n          \
             username: ci\n          password: right\n          cache: {cache}\n          args: --force\n",
            registry.reference("acme/app")
        );
        checkout.steps(&steps).passes()
    };
    run(elsewhere.reference("acme/cache:main")).has("could not be shared");
    let asked = elsewhere.requests();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|r| r.authorized.is_none()), "{asked:?}");
    // In the same registry it is shared.
    run(registry.reference("acme/cache:main")).lacks("could not be shared");
    assert!(!registry.tags("acme/cache").is_empty());
}

#[test]
fn what_changed_since_the_last_one_is_in_the_summary() {
    let Some(tools) = Tools::find() else { return };
    let registry = Registry::with(Options {
        auth: Auth::basic("ci", "right"),
        ..Options::default()
    });
    let checkout = Checkout::new(&tools);
    let last = registry.reference("acme/app:last");
    let login = "username: ci\n          password: right\n";
    let publish = format!(
        "      - uses: {USE}\n        with:\n          publish: true\n          tags: last\n          repository: {}\n          \
         compare-to: {last}\n          args: --force\n          {login}",
        registry.reference("acme/app")
    );
    checkout
        .steps(&publish)
        .passes()
        .has("yet: nothing is compared")
        .lacks("### Compared");
    checkout.write(
        "src/main.rs",
        "fn main() { for name in std::env::args() { println!(\"hello {name}\"); } }\n",
    );
    let build = format!(
        "      - uses: {USE}\n        with:\n          compare-to: {last}\n          {login}"
    );
    let log = checkout
        .steps(&build)
        .passes()
        .has("### Compared with an earlier one")
        .has("asks its host for more: `wasi_snapshot_preview1.args_get`");
    let annotation = log.between("::notice ", "\n");
    assert!(annotation.contains("imports-added"), "{annotation}");
    checkout.steps(&publish).passes().has("### Compared");
    let log = checkout.steps(&build).passes();
    assert!(log.text.contains("| none |"), "{}", log.text);
}
