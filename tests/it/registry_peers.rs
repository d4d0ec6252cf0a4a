//! The tests' own registry, checked by the clients of others.

use std::fs;
use std::process::Command;

use crate::support::artifact::{log_in, module};
use crate::support::peers::{Peers, Server};
use crate::support::registry::{Auth, Lifetime, Options, Registry};
use crate::support::tool::{Place, run};

fn ok(command: &mut Command) {
    run(command).exits(0);
}

#[test]
fn clients_of_others_use_it() {
    let Some(peers) = Peers::find() else { return };
    let wasm = module(3_000_000, 5);
    for auth in [
        Auth::None,
        Auth::basic("me", "secret"),
        Auth::bearer("me", "secret", Lifetime::Forever),
    ] {
        for referrers_api in [false, true] {
            let registry = Registry::with(Options {
                auth: auth.clone(),
                referrers_api,
                ..Options::default()
            });
            let place = Place::new();
            let host = registry.host();
            place.write("in.wasm", &wasm);
            if !matches!(auth, Auth::None) {
                log_in(&place, &host, "me", "secret");
            }
            let reference = registry.reference("acme/oras:1");
            let oras = |args: &[&str]| ok(peers.command("oras", &place).args(args));
            oras(&[
                "push",
                "--plain-http",
                &reference,
                "in.wasm:application/wasm",
            ]);
            assert!(registry.is_complete("acme/oras", "1"));
            oras(&["pull", "--plain-http", &reference, "-o", "oras"]);
            assert!(fs::read(place.join("oras/in.wasm")).unwrap() == wasm);
            place.write("note.txt", "note");
            oras(&[
                "attach",
                "--plain-http",
                "--artifact-type",
                "application/vnd.test",
                &reference,
                "note.txt:text/plain",
            ]);
            let fallback = registry
                .tags("acme/oras")
                .keys()
                .any(|t| t.starts_with("sha256-"));
            assert_eq!(fallback, !referrers_api);
            oras(&["discover", "--plain-http", &reference]);

            let copy = registry.reference("acme/crane:1");
            ok(peers
                .command("crane", &place)
                .args(["copy", "--insecure", &reference, &copy]));
            assert!(registry.is_complete("acme/crane", "1"));

            let to = format!("docker://{}", registry.reference("acme/skopeo:1"));
            let auth_file = place.join(".home/.docker/config.json");
            let mut skopeo = peers.command("skopeo", &place);
            skopeo.args(["--insecure-policy", "copy", "--src-tls-verify=false"]);
            skopeo.args(["--dest-tls-verify=false", &format!("docker://{copy}"), &to]);
            if auth_file.exists() {
                skopeo.env("REGISTRY_AUTH_FILE", auth_file);
            }
            ok(&mut skopeo);
            assert!(registry.is_complete("acme/skopeo", "1"));

            let reference = registry.reference("acme/wkg:1.0.0");
            let wkg = ["oci", "push", "--insecure", &host, &reference, "in.wasm"];
            ok(peers.command("wkg", &place).args(wkg));
            assert!(registry.is_complete("acme/wkg", "1.0.0"));
        }
    }
}

#[test]
fn registries_of_others_start_again() {
    let Some(peers) = Peers::find() else { return };
    let place = Place::new();
    place.write("in.wasm", module(100_000, 5));
    let mut server = Server::docker(&peers);
    let reference = server.reference("acme/oras:1");
    let oras = |args: &[&str]| run(peers.command("oras", &place).args(args));
    oras(&[
        "push",
        "--plain-http",
        &reference,
        "in.wasm:application/wasm",
    ])
    .exits(0);
    assert!(server.stored() > 100_000);
    server.start_again();
    oras(&["pull", "--plain-http", &reference, "-o", "oras"]).exits(0);
    let crane = Server::crane(&peers);
    let reference = crane.reference("acme/oras:1");
    oras(&[
        "push",
        "--plain-http",
        &reference,
        "in.wasm:application/wasm",
    ])
    .exits(0);
}
