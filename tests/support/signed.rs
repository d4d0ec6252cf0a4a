//! Artifacts with keys, and signatures by hand.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgepack::registry::credentials::Secret;
use edgepack::sign::key::SigningKey;
use serde_json::{Value, json};

use super::artifact::{Artifact, REPOSITORY, TAG, sha256};
use super::registry::{Options, Registry};
use super::tool::{Place, Run, run};

pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
pub const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
pub const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
pub const PASSWORD: &str = "open sesame";

pub fn tool(place: &Place, args: &[&str]) -> Run {
    run(place.command(args).env("COSIGN_PASSWORD", PASSWORD))
}

pub fn keygen(place: &Place, name: &str) {
    tool(place, &["keygen", "--output-key-prefix", name]).exits(0);
}

pub fn without_referrers() -> Options {
    Options {
        referrers_api: false,
        ..Options::default()
    }
}

/// An artifact in a registry, unsigned, with a key and with a good bundle at hand.
pub struct Case {
    pub registry: Registry,
    pub artifact: Artifact,
    pub key: SigningKey,
}

impl Case {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let artifact = Artifact::new(1000);
        keygen(&artifact.place, "k");
        let key = open(&artifact.place);
        let registry = Registry::with(options);
        artifact.publish(&registry.host(), &[]).exits(0);
        Case {
            registry,
            artifact,
            key,
        }
    }

    pub fn reference(&self) -> String {
        self.registry.reference(&format!("{REPOSITORY}:{TAG}"))
    }

    pub fn tool(&self, args: &[&str]) -> Run {
        tool(&self.artifact.place, args)
    }

    /// Signs as the tool does.
    pub fn sign(&self, more: &[&str]) {
        let reference = self.reference();
        self.tool(&[&["sign", &reference, "--key", "k.key"], more].concat())
            .exits(0);
    }

    pub fn verify(&self) -> Run {
        self.tool(&["verify", &self.reference(), "--key", "k.pub"])
    }

    /// Neither verifies nor is pulled, and says this.
    #[track_caller]
    pub fn refused(&self, words: &str) {
        self.verify().exits(5).says(words);
        let pull = [
            "pull",
            &self.reference(),
            "-o",
            "out.wasm",
            "--key",
            "k.pub",
        ];
        self.tool(&pull).exits(5).says(words);
        assert_eq!(self.artifact.pulled(), None);
    }

    pub fn statement(&self) -> Value {
        let hex = self.artifact.digest.strip_prefix("sha256:").unwrap();
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": hex}}],
            "predicateType": SIGN,
            "predicate": {},
        })
    }

    /// A bundle around a statement, signed by the right key.
    pub fn bundle(&self, statement: &Value) -> Value {
        let payload = statement.to_string();
        let signed = format!(
            "DSSEv1 {} {PAYLOAD_TYPE} {} {payload}",
            PAYLOAD_TYPE.len(),
            payload.len()
        );
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        json!({
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": self.key.public().hint()}},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": STANDARD.encode(signature)}],
            },
        })
    }

    /// The manifest of a referrer that holds these bytes.
    pub fn referrer(&self, bytes: &[u8]) -> Value {
        let subject = self.registry.manifest(REPOSITORY, TAG).unwrap();
        let config = self.registry.put_blob(REPOSITORY, "{}");
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": BUNDLE,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
            "layers": [{
                "mediaType": BUNDLE,
                "digest": self.registry.put_blob(REPOSITORY, bytes),
                "size": bytes.len(),
            }],
            "subject": {"mediaType": MANIFEST, "digest": self.artifact.digest, "size": subject.len()},
        })
    }

    /// Puts a manifest there by its digest.
    pub fn put(&self, manifest: &Value) -> String {
        let bytes = manifest.to_string();
        let digest = sha256(bytes.as_bytes());
        self.registry
            .put_manifest(REPOSITORY, &digest, MANIFEST, bytes)
    }

    pub fn attach(&self, bundle: &Value) {
        self.put(&self.referrer(bundle.to_string().as_bytes()));
    }

    pub fn sig_tag(&self) -> String {
        sig_tag(&self.artifact)
    }

    /// The same artifact and the same key, with this bundle and no other.
    pub fn beside(&self, bundle: &Value) -> Self {
        let artifact = Artifact::new(1000);
        for name in ["k.key", "k.pub"] {
            fs::copy(self.artifact.place.join(name), artifact.place.join(name)).unwrap();
        }
        let case = Case {
            registry: Registry::start(),
            key: open(&artifact.place),
            artifact,
        };
        case.artifact.publish(&case.registry.host(), &[]).exits(0);
        case.attach(bundle);
        case
    }
}

fn open(place: &Place) -> SigningKey {
    let text = fs::read_to_string(place.join("k.key")).unwrap();
    let password = || Ok(Some(Secret::new(PASSWORD.to_owned())));
    SigningKey::parse(&text, "k.key", password).unwrap()
}

/// The tag of the older form of signatures.
pub fn sig_tag(artifact: &Artifact) -> String {
    format!("{}.sig", artifact.digest.replace(':', "-"))
}
