//! cosign verifies what we sign, and we what cosign signs.

use std::fs;

use crate::support::artifact::{Artifact, REPOSITORY, TAG};
use crate::support::peers::{Peers, Server};
use crate::support::registry::Registry;
use crate::support::tool::{Run, run};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// An artifact in a registry, and the commands of a user with a password.
struct Desk {
    peers: Peers,
    artifact: Artifact,
    host: String,
    reference: String,
    /// Whether cosign is told to use Docker's types.
    docker_types: bool,
}

impl Desk {
    fn new(peers: &Peers, host: String) -> Self {
        Desk {
            peers: peers.clone(),
            artifact: Artifact::new(1000),
            reference: format!("{host}/{REPOSITORY}:{TAG}"),
            host,
            docker_types: false,
        }
    }

    fn ours(&self, args: &[&str]) -> Run {
        let mut command = self.artifact.place.command(args);
        run(command.env("COSIGN_PASSWORD", "pw"))
    }

    fn cosign(&self, args: &[&str]) -> Run {
        let mut command = self.peers.command("cosign", &self.artifact.place);
        if self.docker_types {
            command.env("COSIGN_DOCKER_MEDIA_TYPES", "1");
        }
        run(command.args(args).env("COSIGN_PASSWORD", "pw"))
    }

    /// A key that cosign did not make, imported as `NAME.key`; it stays as `NAME.pem` too.
    fn import(&self, name: &str, algorithm: &'static rcgen::SignatureAlgorithm) {
        let pem = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let file = format!("{name}.pem");
        fs::write(self.artifact.place.join(&file), pem.serialize_pem()).unwrap();
        let prefix = format!("--output-key-prefix={name}");
        self.cosign(&["import-key-pair", "--key", &file, &prefix])
            .exits(0);
    }

    fn verified_by_cosign(&self, key: &str, more: &[&str]) -> Run {
        let args = ["verify", "--key", key, "--insecure-ignore-tlog"];
        self.cosign(&[&args, more, &[&self.reference]].concat())
    }

    fn verified_by_us(&self, key: &str) -> Run {
        self.ours(&["verify", &self.reference, "--key", key])
    }

    fn signed_by_cosign(&self, verb: &str, key: &str, more: &[&str]) {
        let offline = ["--tlog-upload=false", "--use-signing-config=false", "--yes"];
        let target = format!("{}/{REPOSITORY}@{}", self.host, self.artifact.digest);
        let args = [&[verb, "--key", key], &offline[..], more, &[&target]].concat();
        self.cosign(&args).exits(0);
    }
}

/// With and without a referrers API.
fn each(peers: &Peers, test: impl Fn(&Desk)) {
    let docker = Server::docker(peers);
    test(&Desk::new(peers, docker.host()));
    let registry = Registry::start();
    test(&Desk::new(peers, registry.host()));
}

const LEGACY: &[&str] = &["--new-bundle-format=false"];

#[test]
fn cosign_accepts_what_we_sign() {
    let Some(peers) = Peers::find() else { return };
    each(&peers, |desk| {
        desk.ours(&["keygen", "--output-key-prefix", "k"]).exits(0);
        let mut publish = desk
            .artifact
            .publish_command(&desk.host, &["--key", "k.key"]);
        run(publish.env("COSIGN_PASSWORD", "pw")).exits(0);
        desk.verified_by_cosign("k.pub", &[])
            .exits(0)
            .says("claims were validated");
        desk.verified_by_cosign("k.pub", LEGACY).exits(0);
        desk.verified_by_us("k.pub").exits(0);
        let mut oras = desk.peers.command("oras", &desk.artifact.place);
        let found = run(oras.args([
            "discover",
            "--plain-http",
            "--format",
            "json",
            &desk.reference,
        ]));
        assert!(found.exits(0).stdout.contains(BUNDLE));

        // cosign's key, added to the same manifests by us and by cosign itself.
        desk.cosign(&["generate-key-pair"]).exits(0);
        assert_ne!(desk.verified_by_cosign("cosign.pub", LEGACY).code, 0);
        desk.ours(&["sign", &desk.reference, "--key", "cosign.key"])
            .exits(0);
        for key in ["k.pub", "cosign.pub"] {
            desk.verified_by_cosign(key, &[]).exits(0);
            desk.verified_by_cosign(key, LEGACY).exits(0);
        }
        // cosign opens the key that we made, and adds to what we wrote.
        desk.signed_by_cosign("sign", "k.key", LEGACY);
        desk.verified_by_cosign("cosign.pub", LEGACY).exits(0);
        desk.verified_by_us("cosign.pub").exits(0);
    });
}

#[test]
fn we_accept_what_cosign_signs() {
    let Some(peers) = Peers::find() else { return };
    let check = |desk: &Desk| {
        desk.artifact.publish(&desk.host, &[]).exits(0);
        for name in ["one", "two"] {
            let prefix = format!("--output-key-prefix={name}");
            desk.cosign(&["generate-key-pair", &prefix]).exits(0);
        }
        desk.signed_by_cosign("sign", "one.key", LEGACY);
        desk.verified_by_us("one.pub").exits(0).says("legacy");
        desk.verified_by_us("two.pub").exits(5);
        // Ours is appended, and cosign's stays.
        desk.ours(&[
            "sign",
            &desk.reference,
            "--key",
            "two.key",
            "--format",
            "legacy",
        ])
        .exits(0);
        for key in ["one.pub", "two.pub"] {
            desk.verified_by_cosign(key, LEGACY).exits(0);
        }
        desk.signed_by_cosign("sign", "one.key", &[]);
        desk.verified_by_us("one.pub").exits(0).says("bundle");
        // It is there: ours is not made beside it.
        desk.ours(&["sign", &desk.reference, "--key", "one.key"])
            .exits(0)
            .says("bundle (was there)");
        let pull = [
            "pull",
            &desk.reference,
            "-o",
            "out.wasm",
            "--key",
            "one.pub",
        ];
        desk.ours(&pull).exits(0);
    };
    each(&peers, check);
    let docker = Server::docker(&peers);
    let mut desk = Desk::new(&peers, docker.host());
    desk.docker_types = true;
    check(&desk);
}

/// `cosign verify` 3.1 takes it; a signature it is not.
#[test]
fn an_attestation_of_cosign_is_no_signature() {
    let Some(peers) = Peers::find() else { return };
    each(&peers, |desk| {
        desk.artifact.publish(&desk.host, &[]).exits(0);
        desk.cosign(&["generate-key-pair"]).exits(0);
        desk.artifact.place.write("predicate.json", "{}");
        let more = ["--predicate", "predicate.json", "--type", "custom"];
        desk.signed_by_cosign("attest", "cosign.key", &more);
        desk.verified_by_us("cosign.pub")
            .exits(5)
            .says("attestation");
        let pull = [
            "pull",
            &desk.reference,
            "-o",
            "out.wasm",
            "--key",
            "cosign.pub",
        ];
        desk.ours(&pull).exits(5);
        assert!(fs::metadata(desk.artifact.place.join("out.wasm")).is_err());
    });
}

/// Kinds of keys that cosign makes none of, and imports.
#[test]
fn keys_of_other_kinds() {
    let Some(peers) = Peers::find() else { return };
    let registry = Registry::start();
    let desk = Desk::new(&peers, registry.host());
    desk.artifact.publish(&desk.host, &[]).exits(0);
    for (name, algorithm) in [
        ("rsa", &rcgen::PKCS_RSA_SHA256),
        ("p256", &rcgen::PKCS_ECDSA_P256_SHA256),
        // With hashes as long as they are.
        ("p384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("p521", &rcgen::PKCS_ECDSA_P521_SHA512),
    ] {
        desk.import(name, algorithm);
        let (key, public) = (format!("{name}.key"), format!("{name}.pub"));
        desk.signed_by_cosign("sign", &key, &[]);
        desk.verified_by_us(&public).exits(0).says("bundle");
        let offline = ["--tlog-upload=false", "--use-signing-config=false", "--yes"];
        let blob = ["sign-blob", "--key", &key, "--bundle", "blob.json", &public];
        desk.cosign(&[&blob[..], &offline].concat()).exits(0);
        let file = format!("./{public}");
        let verify = ["verify", &file, "--bundle", "blob.json", "--key", &public];
        desk.ours(&verify).exits(0);
        // The older form alone.
        let registry = Registry::start();
        let other = Desk::new(&peers, registry.host());
        let (here, there) = (&desk.artifact.place, &other.artifact.place);
        for file in [&key, &public] {
            fs::copy(here.join(file), there.join(file)).unwrap();
        }
        other.artifact.publish(&other.host, &[]).exits(0);
        other.signed_by_cosign("sign", &key, LEGACY);
        other.verified_by_us(&public).exits(0).says("legacy");
    }
    // PKCS#8 as it is.
    desk.ours(&["sign", &desk.reference, "--key", "p256.pem"])
        .exits(0);
    desk.verified_by_cosign("p256.pub", LEGACY).exits(0);
}

/// What we sign with keys that cosign imported, cosign verifies.
#[test]
fn imported_keys_sign() {
    let Some(peers) = Peers::find() else { return };
    for (name, algorithm) in [
        ("rsa", &rcgen::PKCS_RSA_SHA256),
        ("ed25519", &rcgen::PKCS_ED25519),
    ] {
        let registry = Registry::start();
        let desk = Desk::new(&peers, registry.host());
        desk.artifact.publish(&desk.host, &[]).exits(0);
        desk.import(name, algorithm);
        let (key, public) = (format!("{name}.key"), format!("{name}.pub"));
        desk.ours(&["sign", &desk.reference, "--key", &key])
            .exits(0);
        desk.verified_by_cosign(&public, &[]).exits(0);
        desk.verified_by_cosign(&public, LEGACY).exits(0);
        desk.verified_by_us(&public).exits(0).says("bundle");
        desk.ours(&["sign", "app.wasm", "--key", &key, "--bundle", "app.json"])
            .exits(0);
        let blob = ["verify-blob", "--key", &public, "--bundle", "app.json"];
        desk.cosign(&[&blob[..], &["--insecure-ignore-tlog", "app.wasm"]].concat())
            .exits(0);
    }
}
