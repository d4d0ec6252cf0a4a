//! Attestations and signatures of files, with the tools of others.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::artifact::{REPOSITORY, TAG, module};
use crate::support::peers::{Peers, Server};
use crate::support::registry::Registry;
use crate::support::signed::keygen;
use crate::support::tool::{Place, Run, run};

const PASSWORD: &str = crate::support::signed::PASSWORD;

fn ours(place: &Place, args: &[&str]) -> Run {
    run(place.command(args).env("COSIGN_PASSWORD", PASSWORD))
}

fn theirs(peers: &Peers, place: &Place, program: &str, args: &[&str]) -> Run {
    let mut command = peers.command(program, place);
    run(command.args(args).env("COSIGN_PASSWORD", PASSWORD))
}

/// What `cosign verify-attestation` prints, unpacked.
fn attested(peers: &Peers, place: &Place, kind: &str, reference: &str) -> Value {
    let args = [
        "verify-attestation",
        "--key=k.pub",
        "--insecure-ignore-tlog",
        "--type",
        kind,
    ];
    let run = theirs(peers, place, "cosign", &[&args[..], &[reference]].concat()).exits(0);
    let line = run.stdout.lines().next().unwrap();
    let envelope: Value = serde_json::from_str(line).unwrap();
    let payload = STANDARD
        .decode(envelope["payload"].as_str().unwrap())
        .unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[test]
fn cosign_and_oras_find_what_we_attest() {
    let Some(peers) = Peers::find() else { return };
    let docker = Server::docker(&peers);
    let registry = Registry::start();
    for host in [docker.host(), registry.host()] {
        let place = Place::new();
        keygen(&place, "k");
        place.write("app.wasm", module(500, 1));
        let repository = format!("{host}/{REPOSITORY}");
        let reference = format!("{repository}:{TAG}");
        let publish = [
            "publish",
            "app.wasm",
            "--repository",
            &repository,
            "--tag",
            TAG,
            "--key=k.key",
        ];
        ours(&place, &publish).exits(0);

        let sbom = attested(&peers, &place, "cyclonedx", &reference);
        let file = fs::read(place.join("target/edgepack/app.cdx.json")).unwrap();
        assert_eq!(
            sbom["predicate"],
            serde_json::from_slice::<Value>(&file).unwrap()
        );
        let provenance = attested(&peers, &place, "slsaprovenance1", &reference);
        assert_eq!(
            provenance["predicateType"],
            "https://slsa.dev/provenance/v1"
        );
        let external = &provenance["predicate"]["buildDefinition"]["externalParameters"];
        assert_eq!(external["file"], "app.wasm");
        let verify = [
            "verify",
            "--key=k.pub",
            "--insecure-ignore-tlog",
            &reference,
        ];
        theirs(&peers, &place, "cosign", &verify).exits(0);

        let listed = ["discover", "--plain-http", "--format=json", &reference];
        let listed: Value = theirs(&peers, &place, "oras", &listed).exits(0).json();
        let referrers = listed["referrers"].as_array().unwrap();
        assert_eq!(referrers.len(), 3, "{listed}");
        for (kind, short) in [
            ("https://slsa.dev/provenance/v1", "slsaprovenance1"),
            ("https://cyclonedx.org/bom", "cyclonedx"),
        ] {
            let found = referrers
                .iter()
                .find(|r| r["annotations"]["dev.sigstore.bundle.predicateType"] == kind);
            let referrer = found.unwrap()["digest"].as_str().unwrap();
            let fetch = |what: &str, digest: &str| {
                let at = format!("{repository}@{digest}");
                let run = theirs(&peers, &place, "crane", &[what, "--insecure", &at]);
                run.exits(0).stdout
            };
            let manifest: Value = serde_json::from_str(&fetch("manifest", referrer)).unwrap();
            let layer = manifest["layers"][0]["digest"].as_str().unwrap();
            place.write("b.json", fetch("blob", layer));
            let subject = manifest["subject"]["digest"].as_str().unwrap();
            place.write("manifest.json", fetch("manifest", subject));
            let args = [
                "verify-blob-attestation",
                "--key=k.pub",
                "--insecure-ignore-tlog",
                "--bundle=b.json",
                "--type",
                short,
                "manifest.json",
            ];
            theirs(&peers, &place, "cosign", &args).exits(0);
        }
    }
}

/// What `cosign attest` wrote satisfies us.
#[test]
fn we_accept_what_cosign_attests() {
    let Some(peers) = Peers::find() else { return };
    let docker = Server::docker(&peers);
    let registry = Registry::start();
    for host in [docker.host(), registry.host()] {
        let place = Place::new();
        keygen(&place, "k");
        place.write("app.wasm", module(500, 1));
        let repository = format!("{host}/{REPOSITORY}");
        let publish = ["publish", "app.wasm", "--repository", &repository];
        let bare = [
            &publish[..],
            &["--key=k.key", "--no-sbom", "--no-provenance"],
        ]
        .concat();
        let published = ours(&place, &bare).exits(0).stdout;
        let reference = published.trim();
        let verify = [
            "verify",
            reference,
            "--key=k.pub",
            "--require=sbom,provenance",
        ];
        ours(&place, &verify)
            .exits(5)
            .says("has no sbom attestation");
        place.write(
            "p.json",
            json!({
                "buildDefinition": {
                    "buildType": "https://b.example/v1",
                    "externalParameters": {},
                    "resolvedDependencies": [],
                },
                "runDetails": {"builder": {"id": "https://b.example"}},
            })
            .to_string(),
        );
        ours(&place, &["sbom", "app.wasm", "-o", "s.json"]).exits(0);
        for (kind, file) in [("cyclonedx", "s.json"), ("slsaprovenance1", "p.json")] {
            let args = [
                "attest",
                "--key=k.key",
                "--tlog-upload=false",
                "--use-signing-config=false",
                "--yes",
                "--type",
                kind,
                "--predicate",
                file,
                reference,
            ];
            theirs(&peers, &place, "cosign", &args).exits(0);
        }
        ours(&place, &verify).exits(0).says("https://b.example");
    }
}

#[test]
fn signatures_of_files_go_both_ways() {
    let Some(peers) = Peers::find() else { return };
    let place = Place::new();
    keygen(&place, "k");
    place.write("app.wasm", module(500, 1));
    ours(&place, &["sign", "app.wasm", "--key=k.key"]).exits(0);
    let verify = [
        "verify-blob",
        "--key=k.pub",
        "--insecure-ignore-tlog",
        "--bundle=app.wasm.sigstore.json",
        "app.wasm",
    ];
    theirs(&peers, &place, "cosign", &verify).exits(0);
    let sign = [
        "sign-blob",
        "--key=k.key",
        "--bundle=theirs.json",
        "--tlog-upload=false",
        "--use-signing-config=false",
        "--yes",
        "app.wasm",
    ];
    theirs(&peers, &place, "cosign", &sign).exits(0);
    ours(
        &place,
        &["verify", "app.wasm", "--key=k.pub", "--bundle=theirs.json"],
    )
    .exits(0);
}

#[test]
fn signatures_inside_go_both_ways() {
    let Some(peers) = Peers::find() else { return };
    let place = Place::new();
    place.write("core.wasm", module(500, 1));
    place.write("component.wasm", b"\0asm\x0d\0\x01\0");
    ours(&place, &["keygen", "--embed"]).exits(0);
    let wasmsign = |args: &[&str]| theirs(&peers, &place, "wasmsign2", args);
    wasmsign(&["keygen", "-k", "their.key", "-K", "their.pub"]).exits(0);
    for (private, public) in [("ed25519.key", "ed25519.pub"), ("their.key", "their.pub")] {
        for file in ["core.wasm", "component.wasm"] {
            ours(
                &place,
                &["sign", "--embed", "--key", private, file, "-o", "a.wasm"],
            )
            .exits(0);
            wasmsign(&["verify", "-i", "a.wasm", "-K", public]).exits(0);
            wasmsign(&["sign", "-i", file, "-o", "b.wasm", "-k", private]).exits(0);
            ours(&place, &["verify", "--embedded", "--key", public, "b.wasm"]).exits(0);
            // The same bytes come out of both.
            for signed in ["a.wasm", "b.wasm"] {
                ours(&place, &["sign", "--detach", signed, "-o", "plain.wasm"]).exits(0);
                let plain = fs::read(place.join("plain.wasm")).unwrap();
                assert!(plain == fs::read(place.join(file)).unwrap());
            }
        }
    }
    assert_ne!(
        wasmsign(&["verify", "-i", "a.wasm", "-K", "ed25519.pub"]).code,
        0
    );
    // In parts: the whole holds, and a part alone only for them.
    wasmsign(&["split", "-i", "core.wasm", "-o", "split.wasm", "-s", "^x$"]).exits(0);
    let mut split = fs::read(place.join("split.wasm")).unwrap();
    split.extend_from_slice(b"\x00\x02\x01x");
    place.write("split.wasm", split);
    wasmsign(&["split", "-i", "split.wasm", "-o", "s.wasm", "-s", "^x$"]).exits(0);
    wasmsign(&[
        "sign",
        "-i",
        "s.wasm",
        "-o",
        "parts.wasm",
        "-k",
        "their.key",
    ])
    .exits(0);
    let verify = |file: &str| {
        wasmsign(&["verify", "-i", file, "-K", "their.pub"]).exits(0);
        ours(&place, &["verify", "--embedded", "--key=their.pub", file])
    };
    verify("parts.wasm").exits(0);
    let whole = fs::read(place.join("parts.wasm")).unwrap();
    let at = whole
        .windows(4)
        .rposition(|w| w == b"\x00\x02\x01x")
        .unwrap();
    place.write("cut.wasm", &whole[..at]);
    verify("cut.wasm").exits(5).says("was cut off");
}
