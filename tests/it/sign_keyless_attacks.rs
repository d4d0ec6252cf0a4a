//! Everything without a key that must not verify: each ends with 5 and words of its own,
//! and nothing is pulled.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::artifact::{REPOSITORY, sha256};
use crate::support::signed::Case;
use crate::support::sigstore::{GITHUB, GITLAB, Quirk, Sigstore, WORKFLOW, github_token};
use crate::support::tool::{Run, run};

/// A case with a Sigstore, whose signature need not be good.
pub struct Keyless {
    pub case: Case,
    pub sigstore: Sigstore,
}

impl Keyless {
    pub fn signed(quirk: Quirk) -> Self {
        let this = Keyless {
            case: Case::new(),
            sigstore: Sigstore::start(),
        };
        this.sigstore.describe(&this.case.artifact.place);
        this.sigstore.quirk(quirk);
        let reference = this.case.reference();
        // Without a trusted root nothing is checked before it is written.
        let sign = [
            "sign",
            &reference,
            "--identity-token",
            "env:TOKEN",
            "--signing-config",
            "signing_config.json",
        ];
        let mut sign = this.case.artifact.place.command(sign);
        run(sign.env("TOKEN", github_token())).exits(0);
        this
    }

    /// The bundle that was written.
    fn bundle(&self) -> Value {
        let digest = &self.case.artifact.digest;
        let referrers = self.case.registry.referrers(REPOSITORY, digest);
        let manifest = self.case.registry.manifest(REPOSITORY, &referrers[0]);
        let manifest: Value = serde_json::from_slice(&manifest.unwrap()).unwrap();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        let bundle = self.case.registry.blob(REPOSITORY, layer).unwrap();
        serde_json::from_slice(&bundle).unwrap()
    }

    pub fn verify_as(&self, command: &[&str], by: &[&str]) -> Run {
        let reference = self.case.reference();
        let root = ["--trusted-root", "trusted_root.json"];
        let args = [&[command[0], &reference], &command[1..], &root, by].concat();
        run(&mut self.case.artifact.place.command(args))
    }

    /// Neither verifies nor is pulled, and says this.
    #[track_caller]
    fn refused_by(&self, by: &[&str], words: &str) {
        self.verify_as(&["verify"], by).exits(5).says(words);
        self.verify_as(&["pull", "-o", "out.wasm"], by)
            .exits(5)
            .says(words);
        assert_eq!(self.case.artifact.pulled(), None);
    }

    #[track_caller]
    fn refused(&self, words: &str) {
        self.refused_by(&by(WORKFLOW, GITHUB), words);
    }
}

pub fn by<'a>(identity: &'a str, issuer: &'a str) -> [&'a str; 4] {
    [
        "--certificate-identity",
        identity,
        "--certificate-oidc-issuer",
        issuer,
    ]
}

#[test]
fn services_that_do_wrong() {
    for (quirk, words) in [
        (Quirk::OldCertificate, "was not valid when it was made"),
        (Quirk::ClockAhead, "was not valid when it was made"),
        (Quirk::ClockBehind, "was not valid when it was made"),
        (Quirk::OtherAuthority, "not by an authority that is trusted"),
        (
            Quirk::NoSct,
            "that its certificate is in a log is not proved",
        ),
        (
            Quirk::SctByOther,
            "that its certificate is in a log is not proved",
        ),
        (
            Quirk::WrongProof,
            "the proof that it is in a log does not hold",
        ),
        (
            Quirk::CheckpointByOther,
            "checkpoint is not by a log that is trusted",
        ),
        (Quirk::ClockByOther, "when it was made is not proved"),
    ] {
        Keyless::signed(quirk).refused(words);
    }
}

/// Not even for an identity that is like every name, and none.
#[test]
fn certificates_whose_names_are_none() {
    let anybody = [
        "--certificate-identity-regexp",
        "^(?s:.*)$",
        "--certificate-oidc-issuer",
        GITHUB,
    ];
    for (name, words) in [
        ("", "it names nobody"),
        ("https://a.example/\n", "control characters"),
        ("https://a.example/\0b", "control characters"),
    ] {
        Keyless::signed(Quirk::Named(name)).refused_by(&anybody, words);
    }
    Keyless::signed(Quirk::None)
        .verify_as(&["verify"], &anybody)
        .exits(0);
}

#[test]
fn other_names_and_other_services() {
    let good = Keyless::signed(Quirk::None);
    good.verify_as(&["verify"], &by(WORKFLOW, GITHUB)).exits(0);
    let fork = "https://github.com/acmo/widgets/.github/workflows/release.yml@refs/heads/main";
    good.refused_by(&by(fork, GITHUB), "its certificate names");
    good.refused_by(&by(&WORKFLOW[..30], GITHUB), "its certificate names");
    good.refused_by(&by(WORKFLOW, GITLAB), "vouches for the name");
    for part in [
        "https://github.com/acme/.*",
        "^https://github.com/acme/",
        "^x$|acme",
    ] {
        let by = [
            "--certificate-identity-regexp",
            part,
            "--certificate-oidc-issuer",
            GITHUB,
        ];
        good.refused_by(&by, "has no anchors");
    }
    let issuer = [
        "--certificate-identity",
        WORKFLOW,
        "--certificate-oidc-issuer-regexp",
        "githubusercontent",
    ];
    good.refused_by(&issuer, "has no anchors");
    let whole = [
        "--certificate-identity-regexp",
        r"^https://github\.com/acmo/.*$",
        "--certificate-oidc-issuer",
        GITHUB,
    ];
    good.refused_by(&whole, "its certificate names");

    // Another Sigstore that says the same; and one where a part is another's.
    let place = &good.case.artifact.place;
    let other = Sigstore::start();
    other.describe(place);
    good.refused("when it was made is not proved");
    for (part, words) in [
        ("certificateAuthorities", "not by an authority"),
        ("tlogs", "not by a log that is trusted"),
        ("ctlogs", "that its certificate is in a log is not proved"),
        ("timestampAuthorities", "when it was made is not proved"),
    ] {
        let mut root = good.sigstore.trusted_root();
        root[part] = other.trusted_root()[part].take();
        place.write("trusted_root.json", root.to_string());
        good.refused(words);
    }

    // A key is no identity, and an identity is no key.
    let key = ["verify", &good.case.reference(), "--key", "k.pub"];
    good.case
        .tool(&key)
        .exits(5)
        .says("made with a certificate, not with a key");
    let keyed = Case::new();
    keyed.sign(&["--format", "bundle"]);
    good.sigstore.describe(&keyed.artifact.place);
    let other = Keyless {
        case: keyed,
        sigstore: Sigstore::start(),
    };
    other.refused("made with a key, not with a certificate");
}

#[test]
fn an_identity_is_asked_for_in_full() {
    let good = Keyless::signed(Quirk::None);
    let verify = |by: &[&str], words: &str| {
        good.verify_as(&["verify"], by).exits(2).says(words);
    };
    verify(&[], "nothing says who");
    verify(
        &by(WORKFLOW, GITHUB)[..2],
        "worth nothing without who vouches",
    );
    verify(&by(WORKFLOW, GITHUB)[2..], "--certificate-identity");
    verify(&by("", GITHUB), "is empty");
    let both = [&by(WORKFLOW, GITHUB)[..], &["--key", "k.pub"]].concat();
    verify(&both, "either a key or an identity");
    let broken = [
        "--certificate-identity-regexp",
        "^($",
        "--certificate-oidc-issuer",
        GITHUB,
    ];
    verify(&broken, "no regular expression");
    let place = &good.case.artifact.place;
    for part in ["certificateAuthorities", "tlogs", "ctlogs"] {
        let mut root = good.sigstore.trusted_root();
        root[part] = json!([]);
        place.write("trusted_root.json", root.to_string());
        verify(&by(WORKFLOW, GITHUB), "it names no ");
    }
    let mut root = good.sigstore.trusted_root();
    root["mediaType"] = "application/json".into();
    place.write("trusted_root.json", root.to_string());
    verify(&by(WORKFLOW, GITHUB), "its mediaType is `application/json`");
    place.write("trusted_root.json", "{}");
    verify(&by(WORKFLOW, GITHUB), "is no trusted root");
}

/// A good bundle that was changed.
#[test]
fn bundles_that_were_changed() {
    let good = Keyless::signed(Quirk::None);
    let other = Keyless::signed(Quirk::None);
    let bundle = good.bundle();
    let foreign = other.bundle();
    let material = "/verificationMaterial";
    let entry = &format!("{material}/tlogEntries/0");
    let mut elsewhere = good.case.statement();
    elsewhere["subject"][0]["digest"]["sha256"] = "0".repeat(64).into();
    let encoded = |value: &Value| Value::from(STANDARD.encode(value.to_string()));
    let theirs = |pointer: &str| foreign.pointer(pointer).unwrap().clone();
    let at = |rest: &str| format!("{entry}{rest}");
    let entries = format!("{material}/tlogEntries");
    let times = format!("{material}/timestampVerificationData/rfc3161Timestamps");
    let many = |pointer: &str, count| {
        let one = bundle.pointer(pointer).unwrap()[0].clone();
        Value::from(vec![one; count])
    };
    for (pointer, value, words) in [
        (
            entries.clone(),
            many(&entries, 33),
            "33 log entries, more than",
        ),
        (entries.clone(), many(&entries, 2), "it is there twice"),
        (times.clone(), many(&times, 33), "33 timestamps, more than"),
        (
            format!("{entry}/integratedTime"),
            "1700000000".into(),
            "is none at which the certificate was valid",
        ),
        (
            format!("{material}/tlogEntries"),
            json!([]),
            "it has no proof that it is in a log",
        ),
        (at("/inclusionProof"), Value::Null, "no proof"),
        (
            "/dsseEnvelope/payload".into(),
            encoded(&elsewhere),
            "changed afterwards",
        ),
        (
            "/dsseEnvelope/signatures/0/sig".into(),
            theirs("/dsseEnvelope/signatures/0/sig"),
            "when it was made is not proved",
        ),
        (
            format!("{material}/certificate"),
            theirs(&format!("{material}/certificate")),
            "not by an authority that is trusted",
        ),
        (
            format!("{material}/timestampVerificationData"),
            json!({}),
            "when it was made is not proved",
        ),
        (
            format!("{material}/timestampVerificationData"),
            theirs(&format!("{material}/timestampVerificationData")),
            "when it was made is not proved",
        ),
        (
            at("/canonicalizedBody"),
            theirs(&at("/canonicalizedBody")),
            "the proof that it is in a log does not hold",
        ),
        (
            at("/inclusionProof/checkpoint"),
            theirs(&at("/inclusionProof/checkpoint")),
            "does not hold",
        ),
        (
            format!("{material}/certificate"),
            json!({"rawBytes": "AAAA"}),
            "makes no sense",
        ),
    ] {
        let mut changed = bundle.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = changed.pointer_mut(parent).unwrap();
        match parent.as_array_mut() {
            Some(list) => list[name.parse::<usize>().unwrap()] = value,
            None => parent[name] = value,
        }
        let keyless = Keyless {
            case: good.case.beside(&changed),
            sigstore: Sigstore::start(),
        };
        good.sigstore.describe(&keyless.case.artifact.place);
        keyless.refused(words);
    }
}

/// A bundle as it is goes along with its artifact, and with no other.
#[test]
fn bundles_that_were_moved() {
    let good = Keyless::signed(Quirk::None);
    let bundle = good.bundle();
    let moved = Keyless {
        case: good.case.beside(&bundle),
        sigstore: Sigstore::start(),
    };
    good.sigstore.describe(&moved.case.artifact.place);
    moved.verify_as(&["verify"], &by(WORKFLOW, GITHUB)).exits(0);
    let other = crate::support::artifact::Artifact::seeded(1000, 3);
    assert_ne!(sha256(&other.wasm), sha256(&good.case.artifact.wasm));
    let registry = crate::support::registry::Registry::start();
    other.publish(&registry.host(), &[]).exits(0);
    good.sigstore.describe(&other.place);
    let stranger = Case {
        registry,
        key: moved.case.key,
        artifact: other,
    };
    stranger.attach(&bundle);
    let stranger = Keyless {
        case: stranger,
        sigstore: Sigstore::start(),
    };
    stranger.refused("it signs another artifact");
}

/// The log's entry is for another signature, by the same identity.
#[test]
fn an_entry_for_something_else() {
    let good = Keyless::signed(Quirk::None);
    let bundle = good.bundle();
    let entry = bundle["verificationMaterial"]["tlogEntries"][0].clone();
    // The same services sign once more, for the same artifact.
    let again = good.case.beside(&json!({}));
    good.sigstore.describe(&again.artifact.place);
    let reference = again.reference();
    let sign = [
        "sign",
        &reference,
        "--identity-token",
        "env:TOKEN",
        "--signing-config",
        "signing_config.json",
    ];
    let mut sign = again.artifact.place.command(sign);
    run(sign.env("TOKEN", github_token())).exits(0);
    let mut mixed = bundle.clone();
    let digest = &again.artifact.digest;
    let newer = again
        .registry
        .referrers(REPOSITORY, digest)
        .into_iter()
        .filter_map(|d| {
            let manifest: Value =
                serde_json::from_slice(&again.registry.manifest(REPOSITORY, &d)?).ok()?;
            let layer = manifest["layers"][0]["digest"].as_str()?;
            serde_json::from_slice::<Value>(&again.registry.blob(REPOSITORY, layer)?).ok()
        })
        .find(|bundle| bundle["dsseEnvelope"].is_object())
        .unwrap();
    let theirs = newer["verificationMaterial"]["tlogEntries"][0].clone();
    assert_ne!(theirs["logIndex"], entry["logIndex"]);
    mixed["verificationMaterial"]["tlogEntries"][0] = theirs;
    let mixed = Keyless {
        case: good.case.beside(&mixed),
        sigstore: Sigstore::start(),
    };
    good.sigstore.describe(&mixed.case.artifact.place);
    mixed.refused("what the log holds is something else");
    // An entry that was made for this signature, but for one thing.
    let body = STANDARD.decode(entry["canonicalizedBody"].as_str().unwrap());
    let body: Value = serde_json::from_slice(&body.unwrap()).unwrap();
    let body = &body["spec"]["hashedRekordV002"];
    let logged = json!({"digest": body["data"]["digest"], "signature": body["signature"]});
    for (pointer, value, words) in [
        (
            "/digest",
            STANDARD.encode([0; 32]),
            "what the log holds is something else",
        ),
        (
            "/signature/content",
            STANDARD.encode([0; 70]),
            "what the log holds is something else",
        ),
        (
            "/signature/verifier/keyDetails",
            "PKIX_OTHER".to_owned(),
            "the log's entry makes no sense",
        ),
    ] {
        let mut request = logged.clone();
        *request.pointer_mut(pointer).unwrap() = value.into();
        let mut changed = bundle.clone();
        changed["verificationMaterial"]["tlogEntries"][0] = good.sigstore.logged(&request);
        let changed = Keyless {
            case: good.case.beside(&changed),
            sigstore: Sigstore::start(),
        };
        good.sigstore.describe(&changed.case.artifact.place);
        changed.refused(words);
    }
}
