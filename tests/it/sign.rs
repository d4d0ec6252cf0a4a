//! Signing and verifying with a key: what the commands do.

use std::collections::BTreeSet;
use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::artifact::{Artifact, REPOSITORY, TAG, module, run_with_input};
use crate::support::registry::{Fault, Options, Registry};
use crate::support::signed::{Case, PASSWORD, keygen, sig_tag, tool, without_referrers};
use crate::support::tool::{Place, run};

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

/// The list of referrers, and the manifest of the older form, are read, changed and
/// written by all of them.
#[test]
fn signers_at_once_do_not_lose_each_other() {
    for options in [Options::default(), without_referrers()] {
        let case = Case::with(options);
        let reference = case.reference();
        let names = ["a", "b", "c"];
        for name in names {
            keygen(&case.artifact.place, name);
        }
        std::thread::scope(|scope| {
            for name in names {
                let key = format!("{name}.key");
                let (case, reference) = (&case, &reference);
                scope.spawn(move || case.tool(&["sign", reference, "--key", &key]).exits(0));
            }
        });
        let listed = case.registry.referrers(REPOSITORY, &case.artifact.digest);
        assert_eq!(listed.len(), 3, "{listed:?}");
        let legacy = case.registry.manifest(REPOSITORY, &case.sig_tag()).unwrap();
        let legacy: Value = serde_json::from_slice(&legacy).unwrap();
        let layers = legacy["layers"].as_array().unwrap();
        let signature = "dev.cosignproject.cosign/signature";
        let signatures = layers.iter().map(|l| l["annotations"][signature].as_str());
        let signatures: BTreeSet<_> = signatures.map(Option::unwrap).collect();
        assert_eq!(signatures.len(), 3, "{legacy}");
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
    // Both forms are written at the same time.
    let legacy = sig_tag(&artifact);
    let is_one = |put: &String| put.starts_with("sha256:") || *put == legacy;
    assert!(puts[1..3].iter().all(is_one), "{puts:?}");
    assert_ne!(puts[1], puts[2]);
    assert_eq!(puts[3], TAG);

    // The signature cannot be stored: no tag.
    let registry = Registry::start();
    let tag = sig_tag(&artifact);
    registry.fault(move |r| {
        let refused = r.method == "PUT" && r.path.ends_with(&tag);
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
        .says("this run signs nothing: there is no key");
    publish(&registry, &["--sign", "key"])
        .exits(2)
        .says("no key");
    publish(&registry, &["--sign", "keyless"])
        .exits(2)
        .says("no CI offers a token");
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
    artifact
        .publish(&registry.host(), &[])
        .exits(0)
        .says("1 that the layout has");
    let reference = registry.reference(&format!("{REPOSITORY}:{TAG}"));
    run_tool(&["verify", &reference, "--key", "k.pub"]).exits(0);
    assert_eq!(registry.referrers(REPOSITORY, &artifact.digest).len(), 1);
    // What the tag named before is there by its digest, with its signatures, as in a registry.
    artifact.place.write("other.wasm", module(1000, 9));
    let other = [
        "publish",
        "other.wasm",
        "--oci-layout",
        "copy",
        "--name",
        "app",
    ];
    let other = [
        &other[..],
        &["--as-version", TAG, "--force", "--sign", "none"],
    ]
    .concat();
    run_tool(&other).exits(0);
    run_tool(&["verify", "oci:copy:1.0.0", "--key", "k.pub"])
        .exits(5)
        .says("is not signed");
    let before = format!("oci:copy@{}", artifact.digest);
    run_tool(&["verify", &before, "--key", "k.pub"]).exits(0);
    let never = format!("oci:copy@sha256:{}", "0".repeat(64));
    run_tool(&["verify", &never, "--key", "k.pub"])
        .exits(6)
        .says_not("logged in");
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
    for none in ["", "folder/"] {
        let nothing = ["keygen", "--output-key-prefix", none];
        tool(&place, &nothing).exits(2).says("names no file");
    }
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
        (costly(1000), "where scrypt takes 2, 4, 8"),
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
