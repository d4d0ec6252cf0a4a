//! Signing and verifying with a key, and everything that must not verify.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgepack::registry::credentials::Secret;
use edgepack::sign::key::SigningKey;
use serde_json::{Value, json};

use crate::support::artifact::{Artifact, REPOSITORY, TAG, run_with_input, sha256};
use crate::support::registry::{Fault, Options, Registry};
use crate::support::tool::{Place, Run, run};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const PASSWORD: &str = "open sesame";

fn tool(place: &Place, args: &[&str]) -> Run {
    run(place.command(args).env("COSIGN_PASSWORD", PASSWORD))
}

fn keygen(place: &Place, name: &str) {
    tool(place, &["keygen", "--output-key-prefix", name]).exits(0);
}

fn without_referrers() -> Options {
    Options {
        referrers_api: false,
        ..Options::default()
    }
}

/// An artifact in a registry, unsigned, with a key and with a good bundle at hand.
struct Case {
    registry: Registry,
    artifact: Artifact,
    key: SigningKey,
}

impl Case {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let artifact = Artifact::new(1000);
        keygen(&artifact.place, "k");
        let text = fs::read_to_string(artifact.place.join("k.key")).unwrap();
        let password = || Ok(Some(Secret::new(PASSWORD.to_owned())));
        let registry = Registry::with(options);
        artifact.publish(&registry.host(), &[]).exits(0);
        Case {
            registry,
            artifact,
            key: SigningKey::parse(&text, "k.key", password).unwrap(),
        }
    }

    fn reference(&self) -> String {
        self.registry.reference(&format!("{REPOSITORY}:{TAG}"))
    }

    fn tool(&self, args: &[&str]) -> Run {
        tool(&self.artifact.place, args)
    }

    /// Signs as the tool does.
    fn sign(&self, more: &[&str]) {
        let reference = self.reference();
        self.tool(&[&["sign", &reference, "--key", "k.key"], more].concat())
            .exits(0);
    }

    fn verify(&self) -> Run {
        self.tool(&["verify", &self.reference(), "--key", "k.pub"])
    }

    /// Neither verifies nor is pulled, and says this.
    #[track_caller]
    fn refused(&self, words: &str) {
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

    fn statement(&self) -> Value {
        let hex = self.artifact.digest.strip_prefix("sha256:").unwrap();
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": hex}}],
            "predicateType": SIGN,
            "predicate": {},
        })
    }

    /// A bundle around a statement, signed by the right key.
    fn bundle(&self, statement: &Value) -> Value {
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
    fn referrer(&self, bytes: &[u8]) -> Value {
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
    fn put(&self, manifest: &Value) -> String {
        let bytes = manifest.to_string();
        let digest = sha256(bytes.as_bytes());
        self.registry
            .put_manifest(REPOSITORY, &digest, MANIFEST, bytes)
    }

    fn attach(&self, bundle: &Value) {
        self.put(&self.referrer(bundle.to_string().as_bytes()));
    }

    fn sig_tag(&self) -> String {
        format!("{}.sig", self.artifact.digest.replace(':', "-"))
    }
}

#[test]
fn what_is_signed_verifies_and_nothing_is_doubled() {
    for options in [Options::default(), without_referrers()] {
        let case = Case::with(options);
        case.refused("is not signed");
        let reference = case.reference();
        let published = case.artifact.published(&case.registry.host());
        for round in ["made", "was there"] {
            let done = case.tool(&["sign", &reference, "--key", "k.key"]);
            let done = done.exits(0).says("for this digest").says(round);
            assert_eq!(done.stdout, published);
            let listed = case.registry.referrers(REPOSITORY, &case.artifact.digest);
            assert_eq!(listed.len(), 1, "{listed:?}");
            let legacy = case.registry.manifest(REPOSITORY, &case.sig_tag()).unwrap();
            let legacy: Value = serde_json::from_slice(&legacy).unwrap();
            assert_eq!(legacy["layers"].as_array().unwrap().len(), 1);
        }
        assert_eq!(case.verify().exits(0).stdout, published);
        let json = case
            .tool(&["verify", &reference, "--key", "k.pub", "--json"])
            .exits(0)
            .json();
        assert_eq!(json["digest"], case.artifact.digest.as_str());
        assert_eq!(json["signature"]["format"], "bundle");
        let pull = ["pull", &reference, "-o", "out.wasm", "--key", "k.pub"];
        case.tool(&pull).exits(0).says("verified");
        assert!(case.artifact.pulled().as_ref() == Some(&case.artifact.wasm));

        // A second key adds to what the first one signed.
        keygen(&case.artifact.place, "other");
        case.tool(&["sign", &reference, "--key", "other.key"])
            .exits(0);
        case.verify().exits(0);
        case.tool(&["verify", &reference, "--key", "other.pub"])
            .exits(0);
        let listed = case.registry.referrers(REPOSITORY, &case.artifact.digest);
        assert_eq!(listed.len(), 2, "{listed:?}");
    }
}

#[test]
fn formats_are_chosen() {
    for (format, bundles, legacy) in [("bundle", 1, false), ("legacy", 0, true)] {
        let case = Case::new();
        case.sign(&["--format", format]);
        let listed = case.registry.referrers(REPOSITORY, &case.artifact.digest);
        assert_eq!(listed.len(), bundles);
        assert_eq!(
            case.registry.tags(REPOSITORY).contains_key(&case.sig_tag()),
            legacy
        );
        case.verify().exits(0).says(format);
    }
}

#[test]
fn the_same_but_for_the_nonce() {
    let manifests: Vec<Value> = [None, None, Some("1000000000")]
        .into_iter()
        .map(|epoch| {
            let case = Case::new();
            let reference = case.reference();
            let mut sign = case
                .artifact
                .place
                .command(["sign", &reference, "--key", "k.key"]);
            sign.env("COSIGN_PASSWORD", PASSWORD);
            if let Some(epoch) = epoch {
                sign.env("SOURCE_DATE_EPOCH", epoch);
            }
            run(&mut sign).exits(0);
            let listed = case.registry.referrers(REPOSITORY, &case.artifact.digest);
            let manifest = case.registry.manifest(REPOSITORY, &listed[0]).unwrap();
            serde_json::from_slice(&manifest).unwrap()
        })
        .collect();
    let created = |m: &Value| m["annotations"]["org.opencontainers.image.created"].clone();
    assert_eq!(created(&manifests[0]), created(&manifests[1]));
    assert_eq!(created(&manifests[0]), "1970-01-01T00:00:00Z");
    assert_eq!(created(&manifests[2]), "2001-09-09T01:46:40Z");
}

#[test]
fn publishing_signs_before_the_tag_is_set() {
    let artifact = Artifact::new(1000);
    keygen(&artifact.place, "k");
    let publish = |registry: &Registry, more: &[&str]| {
        run(artifact
            .publish_command(&registry.host(), more)
            .env("COSIGN_PASSWORD", PASSWORD))
    };
    let registry = Registry::start();
    let signed = ["--key", "k.key", "--message-format=json"];
    for state in ["made", "unchanged"] {
        let report = publish(&registry, &signed).exits(0).json();
        for (n, format) in ["bundle", "legacy"].iter().enumerate() {
            let signature = &report["published"][0]["signatures"][n];
            assert_eq!(signature["format"], *format);
            assert_eq!(signature["state"], state);
        }
    }
    let puts: Vec<String> = registry
        .requests()
        .iter()
        .filter(|r| r.method == "PUT" && r.path.contains("/manifests/"))
        .map(|r| r.path.rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(puts.len(), 4, "{puts:?}");
    assert_eq!(puts[0], artifact.digest);
    assert!(puts[1].starts_with("sha256:"), "{puts:?}");
    assert!(puts[2].ends_with(".sig"), "{puts:?}");
    assert_eq!(puts[3], TAG);

    // The signature cannot be stored: no tag.
    let registry = Registry::start();
    registry.fault(|r| {
        let refused = r.method == "PUT" && r.path.ends_with(".sig");
        refused.then(|| Fault::status(403))
    });
    publish(&registry, &["--key", "k.key"]).exits(6);
    assert!(registry.tags(REPOSITORY).is_empty());

    // A key that cannot be opened: nothing is sent.
    let registry = Registry::start();
    let mut wrong = artifact.publish_command(&registry.host(), &["--key", "k.key"]);
    run(wrong.env("COSIGN_PASSWORD", "no"))
        .exits(5)
        .says("the password is wrong");
    assert!(registry.requests().is_empty());

    publish(&registry, &["--sign", "auto"])
        .exits(0)
        .says("no key to sign with");
    publish(&registry, &["--sign", "key"])
        .exits(2)
        .says("no key");
    publish(&registry, &["--sign", "keyless"])
        .exits(2)
        .says("not there yet");
    publish(&registry, &["--sign", "none", "--key", "k.key"]).exits(2);
    assert!(registry.referrers(REPOSITORY, &artifact.digest).is_empty());
    let mut variable = artifact.publish_command(&registry.host(), &[]);
    let key = fs::read_to_string(artifact.place.join("k.key")).unwrap();
    variable
        .env("EDGEPACK_SIGNING_KEY", "env:RELEASE_KEY")
        .env("RELEASE_KEY", key)
        .env("COSIGN_PASSWORD", PASSWORD);
    run(&mut variable).exits(0).says("made");
}

#[test]
fn layouts_are_signed_with_bundles() {
    let artifact = Artifact::new(1000);
    keygen(&artifact.place, "k");
    let reference = "oci:target/edgepack/oci:app:1.0.0";
    let run_tool = |args: &[&str]| tool(&artifact.place, args);
    run_tool(&["verify", reference, "--key", "k.pub"])
        .exits(5)
        .says("is not signed");
    run_tool(&["sign", reference, "--key", "k.key", "--format", "legacy"])
        .exits(2)
        .says("bundles alone");
    for _ in 0..2 {
        run_tool(&["sign", reference, "--key", "k.key"]).exits(0);
    }
    run_tool(&["verify", reference, "--key", "k.pub"]).exits(0);
    run_tool(&["pull", reference, "--key", "k.pub", "-o", "out.wasm"]).exits(0);
    let copy = [
        "publish",
        reference,
        "--oci-layout",
        "copy",
        "--key",
        "k.key",
    ];
    run_tool(&copy).exits(0).says("was there");
    // It goes along to a registry.
    let registry = Registry::start();
    artifact.publish(&registry.host(), &[]).exits(0);
    let reference = registry.reference(&format!("{REPOSITORY}:{TAG}"));
    run_tool(&["verify", &reference, "--key", "k.pub"]).exits(0);
    assert_eq!(registry.referrers(REPOSITORY, &artifact.digest).len(), 1);
}

#[test]
fn keys_are_looked_after() {
    let place = Place::new();
    keygen(&place, "k");
    let files = place.files();
    assert_eq!(files, ["k.key", "k.pub"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(place.join("k.key")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
    let before = fs::read(place.join("k.key")).unwrap();
    let again = ["keygen", "--output-key-prefix", "k"];
    tool(&place, &again).exits(2).says("is there already");
    assert_eq!(fs::read(place.join("k.key")).unwrap(), before);
    let mut none = place.command(["keygen"]);
    run(none.env_remove("COSIGN_PASSWORD"))
        .exits(2)
        .says("no password");
    let mut empty = place.command(["keygen", "--output-key-prefix", "empty"]);
    run(empty.env("COSIGN_PASSWORD", "")).exits(0);
    let mut piped = place.command(["keygen", "--output-key-prefix", "piped", "--password-stdin"]);
    run_with_input(&mut piped, "secret\n").exits(0);
    run_with_input(&mut place.command(["keygen", "--password-stdin"]), "").exits(2);
    assert_eq!(place.files().len(), 6);
}

#[test]
fn key_files_that_cannot_be_used() {
    let case = Case::new();
    let place = &case.artifact.place;
    let reference = case.reference();
    let good = fs::read_to_string(place.join("k.key")).unwrap();
    let body: String = good.lines().filter(|l| !l.contains("-----")).collect();
    let json: Value = serde_json::from_slice(&STANDARD.decode(body).unwrap()).unwrap();
    let pem = |json: &[u8]| {
        let label = "ENCRYPTED SIGSTORE PRIVATE KEY";
        let body = STANDARD.encode(json);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    let costly = |n: u64| {
        let mut json = json.clone();
        json["kdf"]["params"]["N"] = n.into();
        pem(json.to_string().as_bytes())
    };
    let text = json.to_string();
    for (contents, words) in [
        (good[..good.len() / 2].to_owned(), "cut short"),
        (
            pem(&text.as_bytes()[..text.len() / 2]),
            "damaged or cut short",
        ),
        // 64 GiB.
        (costly(1 << 26), "more memory or time"),
        (costly(u64::MAX), "more memory or time"),
        (costly(1000), "no power of two"),
        (
            fs::read_to_string(place.join("k.pub")).unwrap(),
            "is a public key",
        ),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n".into(),
            "RSA",
        ),
        (String::new(), "no key"),
    ] {
        place.write("bad.key", contents);
        case.tool(&["sign", &reference, "--key", "bad.key"])
            .exits(5)
            .says(words);
    }
    let older = good.replace("SIGSTORE", "COSIGN");
    place.write("older.key", older);
    let mut wrong = place.command(["sign", &reference, "--key", "k.key"]);
    run(wrong.env("COSIGN_PASSWORD", "no"))
        .exits(5)
        .says("the password is wrong");
    let mut none = place.command(["sign", &reference, "--key", "k.key"]);
    run(none.env_remove("COSIGN_PASSWORD"))
        .exits(5)
        .says("no password");
    case.tool(&["verify", &reference, "--key", "k.key"])
        .exits(5)
        .says("is a private key");
    case.tool(&["sign", &reference]).exits(2).says("no key");
    case.tool(&["sign", &reference, "--key", &good])
        .exits(2)
        .says("in place of its path")
        .says_not(&good[50..80]);
    case.tool(&["sign", &reference, "--key", "env:NOT_SET"])
        .exits(2);
    assert!(
        case.registry
            .referrers(REPOSITORY, &case.artifact.digest)
            .is_empty()
    );
    case.tool(&["sign", &reference, "--key", "older.key"])
        .exits(0);
    case.verify().exits(0);
}

#[test]
fn bundles_that_do_not_count() {
    let good = Case::new();
    let statement = good.statement();
    let bundle = good.bundle(&statement);
    let changed = |pointer: &str, value: Value| {
        let mut bundle = bundle.clone();
        *bundle.pointer_mut(pointer).unwrap() = value;
        bundle
    };
    let stated = |pointer: &str, value: Value| {
        let mut statement = statement.clone();
        *statement.pointer_mut(pointer).unwrap() = value;
        statement
    };
    let other = "0".repeat(64);
    let elsewhere = stated("/subject/0/digest/sha256", other.clone().into());
    let mut flipped = STANDARD
        .decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap())
        .unwrap();
    flipped[50] ^= 1;
    let subject = statement["subject"][0].clone();
    let twice = json!([subject, subject]);
    let signature = bundle["dsseEnvelope"]["signatures"][0].clone();
    let cyclonedx = stated("/predicateType", "https://cyclonedx.org/bom".into());
    let encoded = |value: &Value| Value::from(STANDARD.encode(value.to_string()));
    for (bundle, words) in [
        (
            changed("/dsseEnvelope/payload", STANDARD.encode(flipped).into()),
            "was changed afterwards",
        ),
        (
            changed("/dsseEnvelope/payload", encoded(&elsewhere)),
            "was changed afterwards",
        ),
        (good.bundle(&elsewhere), "it signs another artifact"),
        (
            good.bundle(&cyclonedx),
            "attestation of the type `https://cyclonedx.org/bom`",
        ),
        (good.bundle(&stated("/subject", twice)), "about 2 subjects"),
        (
            good.bundle(&stated("/subject", json!([]))),
            "about 0 subjects",
        ),
        (
            good.bundle(&stated("/_type", "x".into())),
            "its statement has the type `x`",
        ),
        (
            good.bundle(&stated("/subject/0/digest", json!({"sha512": "00"}))),
            "without a sha256",
        ),
        (good.bundle(&json!([1])), "the statement makes no sense"),
        (
            changed("/dsseEnvelope/payloadType", "text/plain".into()),
            "payload type is `text/plain`",
        ),
        (
            changed("/dsseEnvelope/signatures", json!([])),
            "signatures has 0 entries",
        ),
        (
            changed("/dsseEnvelope/signatures", json!([signature, signature])),
            "has 2 entries",
        ),
        (
            changed("/dsseEnvelope/signatures/0/sig", "AAAA".into()),
            "was changed afterwards",
        ),
        (
            changed("/dsseEnvelope/signatures/0/sig", "!".into()),
            "base64 makes no sense",
        ),
        (
            changed("/dsseEnvelope", Value::Null),
            "without a DSSE envelope",
        ),
        (
            changed("/mediaType", "application/json".into()),
            "`application/json`",
        ),
        (
            changed("/verificationMaterial", json!({"certificate": {}})),
            "x",
        ),
        (json!("garbage"), "the bundle makes no sense"),
    ] {
        let case = Case {
            registry: Registry::start(),
            artifact: Artifact::new(1000),
            key: new_like(&good),
        };
        fs::copy(
            good.artifact.place.join("k.pub"),
            case.artifact.place.join("k.pub"),
        )
        .unwrap();
        case.artifact.publish(&case.registry.host(), &[]).exits(0);
        case.attach(&bundle);
        if words == "x" {
            // A certificate beside a signature by the key takes nothing from it.
            case.verify().exits(0);
            continue;
        }
        case.refused(words);
    }
    // And the one that all of these were made from.
    good.attach(&bundle);
    good.verify().exits(0);
}

fn new_like(case: &Case) -> SigningKey {
    let text = fs::read_to_string(case.artifact.place.join("k.key")).unwrap();
    let password = || Ok(Some(Secret::new(PASSWORD.to_owned())));
    SigningKey::parse(&text, "k.key", password).unwrap()
}

#[test]
fn another_key() {
    let case = Case::new();
    case.sign(&[]);
    keygen(&case.artifact.place, "other");
    let args = ["verify", &case.reference(), "--key", "other.pub"];
    case.tool(&args).exits(5).says("made with another key");
}

#[test]
fn referrers_that_do_not_count() {
    let case = Case::new();
    let bytes = case.bundle(&case.statement()).to_string();
    let good = case.referrer(bytes.as_bytes());
    let check = |pointer: &str, value: Value, words: &str| {
        let case = Case::new();
        fs::copy(
            case.artifact.place.join("k.pub"),
            case.artifact.place.join("own.pub"),
        )
        .unwrap();
        case.registry.put_blob(REPOSITORY, bytes.clone());
        case.registry.put_blob(REPOSITORY, "{}");
        let mut manifest = good.clone();
        *manifest.pointer_mut(pointer).unwrap() = value;
        case.put(&manifest);
        case.refused(words);
    };
    let layer = good["layers"][0].clone();
    check("/layers", json!([layer, layer]), "has 2 layers");
    check("/layers", json!([]), "has 0 layers");
    check(
        "/layers/0/size",
        json!(1_u64 << 30),
        "more than the 1048576",
    );
    check(
        "/layers/0/mediaType",
        "text/plain".into(),
        "its layer has the type `text/plain`",
    );

    // Of itself it says that it is an SBOM.
    let mut manifest = good.clone();
    manifest["annotations"] =
        json!({"dev.sigstore.bundle.predicateType": "https://cyclonedx.org/bom"});
    case.put(&manifest);
    case.refused("attestations, and those are no signatures");

    // The bundle's bytes are others.
    let digest = good["layers"][0]["digest"].as_str().unwrap();
    case.put(&good);
    case.verify().exits(0);
    case.registry
        .put_blob_as(REPOSITORY, digest, " ".repeat(bytes.len()).into_bytes());
    case.refused("does not have its digest");
}

#[test]
fn lists_of_referrers_that_lie() {
    let list = |case: &Case, entries: &Value| {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": entries,
        });
        case.registry.put_manifest(
            REPOSITORY,
            &case.artifact.digest.replace(':', "-"),
            "application/vnd.oci.image.index.v1+json",
            index.to_string(),
        );
    };
    let entry = |digest: &str, size: usize| json!({"mediaType": MANIFEST, "digest": digest, "size": size, "artifactType": BUNDLE});
    let case = Case::with(without_referrers());
    let bytes = case.bundle(&case.statement()).to_string();
    let mut manifest = case.referrer(bytes.as_bytes());
    manifest["subject"]["digest"] = sha256(b"other").into();
    let digest = case.put(&manifest);
    list(&case, &json!([entry(&digest, manifest.to_string().len())]));
    case.refused("its manifest is about sha256:");
    manifest.as_object_mut().unwrap().remove("subject");
    let digest = case.put(&manifest);
    list(&case, &json!([entry(&digest, 1)]));
    case.refused("not about anything");
    list(&case, &json!([entry(&sha256(b"nowhere"), 1)]));
    case.refused("it is not there");

    let many: Vec<Value> = (0..10_000_u32)
        .map(|n| entry(&sha256(&n.to_le_bytes()), 1))
        .collect();
    list(&case, &many.into());
    case.registry.clear_requests();
    case.refused("10000 referrers that may be signatures");
    assert!(case.registry.requests().len() < 20);
}

#[test]
fn a_tag_that_moves_meanwhile() {
    let case = Case::new();
    case.sign(&[]);
    let other = Artifact::seeded(1000, 7);
    let registry = Registry::start();
    other.publish(&registry.host(), &[]).exits(0);
    let moved = registry.manifest(REPOSITORY, TAG).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    case.registry.fault(move |request| {
        let tagged = request.path.ends_with(&format!("/manifests/{TAG}"));
        let again = tagged && count.fetch_add(1, Ordering::SeqCst) > 0;
        again.then(|| Fault::Body(moved.clone()))
    });
    let reference = case.reference();
    let pull = ["pull", &reference, "-o", "out.wasm", "--key", "k.pub"];
    let done = case.tool(&pull).exits(0);
    assert_eq!(done.stdout, case.artifact.published(&case.registry.host()));
    assert!(case.artifact.pulled().as_ref() == Some(&case.artifact.wasm));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn a_manifest_that_is_not_what_its_digest_says() {
    let case = Case::new();
    case.sign(&[]);
    let mut altered = case.registry.manifest(REPOSITORY, TAG).unwrap();
    altered.push(b' ');
    case.registry.fault(move |request| {
        let tagged = request.gets(&format!("/manifests/{TAG}"));
        tagged.then(|| Fault::Body(altered.clone()))
    });
    case.refused("does not have its digest");
}

#[test]
fn legacy_signatures_that_do_not_count() {
    let case = Case::new();
    case.sign(&["--format", "legacy"]);
    case.verify().exits(0).says("legacy");
    let tag = case.sig_tag();
    let good = case.registry.manifest(REPOSITORY, &tag).unwrap();
    let good: Value = serde_json::from_slice(&good).unwrap();
    let digest = good["layers"][0]["digest"].as_str().unwrap();
    let payload = case.registry.blob(REPOSITORY, digest).unwrap();
    let put = |manifest: &Value| {
        let bytes = manifest.to_string();
        case.registry
            .put_manifest(REPOSITORY, &tag, MANIFEST, bytes);
    };
    let layer = |payload: &[u8], signature: &[u8]| {
        let mut manifest = good.clone();
        manifest["layers"] = json!([{
            "mediaType": SIMPLE,
            "digest": case.registry.put_blob(REPOSITORY, payload),
            "size": payload.len(),
            "annotations": {"dev.cosignproject.cosign/signature": STANDARD.encode(signature)},
        }]);
        put(&manifest);
    };
    let signed = |payload: &str| {
        layer(
            payload.as_bytes(),
            &case.key.sign(payload.as_bytes()).unwrap(),
        )
    };
    let text = String::from_utf8(payload.clone()).unwrap();
    let signature = STANDARD
        .decode(
            good["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"]
                .as_str()
                .unwrap(),
        )
        .unwrap();
    layer(text.replace("acme/app", "acme/apq").as_bytes(), &signature);
    case.refused("or was changed afterwards");
    signed(&text.replace(&case.artifact.digest, &sha256(b"other")));
    case.refused("it signs another artifact");
    signed(&text.replace("cosign container image signature", "x"));
    case.refused("the payload has the type `x`");
    signed("{}");
    case.refused("the payload makes no sense");
    let mut manifest = good.clone();
    manifest["layers"] = json!([]);
    put(&manifest);
    case.refused("signatures has 0 entries");
    manifest["layers"] = good["layers"].clone();
    manifest["layers"][0]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    put(&manifest);
    case.refused("signatures has 0 entries");
    let many: Vec<_> = std::iter::repeat_n(good["layers"][0].clone(), 101).collect();
    manifest["layers"] = many.into();
    put(&manifest);
    case.refused("101 layers of signatures");
    put(&json!("garbage"));
    case.refused("makes no sense");
    // What is there and is no signature is not written over.
    let args = [
        "sign",
        &case.reference(),
        "--key",
        "k.key",
        "--format",
        "legacy",
    ];
    case.tool(&args).exits(5).says("no manifest of signatures");
    put(&good);
    case.verify().exits(0);
    case.registry
        .put_blob_as(REPOSITORY, digest, " ".repeat(payload.len()).into_bytes());
    case.refused("does not have its digest");
}
