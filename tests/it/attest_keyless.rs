//! Attestations without a key, and policies about identities.

use std::process::Command;

use crate::support::artifact::{REPOSITORY, TAG, module};
use crate::support::peers::{Peers, Server};
use crate::support::registry::Registry;
use crate::support::sigstore::{GITHUB, Sigstore, WORKFLOW, github_token};
use crate::support::tool::{Place, Run, run};

const OTHERS: &str = "https://github.com/evil/demo/.github/workflows/release.yml@refs/heads/main";

/// Publishes a file without a key.
fn publish(place: &Place, host: &str) -> Run {
    let repository = format!("{host}/{REPOSITORY}");
    let mut command: Command = place.command([
        "publish",
        "app.wasm",
        "--repository",
        &repository,
        "--tag",
        TAG,
        "--identity-token=env:TOKEN",
        "--signing-config=signing_config.json",
        "--trusted-root=trusted_root.json",
    ]);
    run(command.env("TOKEN", github_token()))
}

fn prepared(sigstore: &Sigstore) -> Place {
    let place = Place::new();
    sigstore.describe(&place);
    place.write("app.wasm", module(500, 1));
    place
}

#[test]
fn cosign_accepts_what_we_attest_without_a_key() {
    let Some(peers) = Peers::find() else { return };
    let sigstore = Sigstore::start();
    let docker = Server::docker(&peers);
    let registry = Registry::start();
    for host in [docker.host(), registry.host()] {
        let place = prepared(&sigstore);
        for state in ["(made)", "(was there)"] {
            publish(&place, &host)
                .exits(0)
                .says(&format!("slsa.dev/provenance/v1 {state}"));
        }
        let reference = format!("{host}/{REPOSITORY}:{TAG}");
        for kind in ["cyclonedx", "slsaprovenance1"] {
            let mut cosign = peers.command("cosign", &place);
            cosign.args([
                "verify-attestation",
                "--trusted-root=trusted_root.json",
                "--certificate-identity",
                WORKFLOW,
                "--certificate-oidc-issuer",
                GITHUB,
                "--type",
                kind,
                &reference,
            ]);
            run(&mut cosign).exits(0);
        }
    }
}

#[test]
fn policies_name_identities() {
    let sigstore = Sigstore::start();
    let registry = Registry::start();
    let place = prepared(&sigstore);
    let published = publish(&place, &registry.host()).exits(0).stdout;
    let verify = |rules: &str| {
        place.write("verify.toml", rules);
        place.run(["verify", "--policy", published.trim()])
    };
    let rule = |who: &str, issuer: &str| {
        format!(
            "[[rules]]\nrepository = \"*/{REPOSITORY}\"\n{who}\nissuer = \"{issuer}\"\n\
             trusted-root = \"trusted_root.json\"\nrequire = [\"sbom\", \"provenance\"]\n"
        )
    };
    let exact = format!("identity = \"{WORKFLOW}\"");
    verify(&rule(&exact, GITHUB)).exits(0).says("provenance");
    verify(&rule(
        "identity-regexp = '^https://github\\.com/.*$'",
        GITHUB,
    ))
    .exits(0);
    for (rules, words) in [
        (rule(&format!("identity = \"{OTHERS}\""), GITHUB), OTHERS),
        (
            rule(&exact, "https://issuer.example"),
            "https://issuer.example",
        ),
        (rule("identity-regexp = 'github'", GITHUB), "has no anchors"),
    ] {
        verify(&rules).exits(5).says(words);
    }
}
