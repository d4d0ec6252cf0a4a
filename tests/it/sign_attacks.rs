//! Everything that must not verify: each ends with 5 and words of its own, and nothing
//! is pulled.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::artifact::{Artifact, REPOSITORY, TAG, sha256};
use crate::support::registry::{Fault, Registry};
use crate::support::signed::{BUNDLE, Case, MANIFEST, SIMPLE, keygen, without_referrers};

/// The right key says something else.
#[test]
fn statements_that_do_not_count() {
    let good = Case::new();
    let statement = good.statement();
    let subject = statement["subject"][0].clone();
    for (pointer, value, words) in [
        (
            "/subject/0/digest/sha256",
            "0".repeat(64).into(),
            "it signs another artifact",
        ),
        (
            "/predicateType",
            "https://cyclonedx.org/bom".into(),
            "attestation of the type `https://cyclonedx.org/bom`",
        ),
        ("/subject", json!([subject, subject]), "about 2 subjects"),
        ("/subject", json!([]), "about 0 subjects"),
        ("/_type", "x".into(), "its statement has the type `x`"),
        (
            "/subject/0/digest",
            json!({"sha512": "00"}),
            "without a sha256",
        ),
        ("/subject", json!("x"), "the statement makes no sense"),
    ] {
        let mut statement = statement.clone();
        *statement.pointer_mut(pointer).unwrap() = value;
        good.beside(&good.bundle(&statement)).refused(words);
    }
}

/// A good bundle that was changed.
#[test]
fn bundles_that_do_not_count() {
    let good = Case::new();
    let statement = good.statement();
    let bundle = good.bundle(&statement);
    good.beside(&bundle).verify().exits(0);
    let mut elsewhere = statement.clone();
    elsewhere["subject"][0]["digest"]["sha256"] = "0".repeat(64).into();
    let mut flipped = statement.to_string().into_bytes();
    flipped[50] ^= 1;
    let encoded = |bytes: &[u8]| Value::from(STANDARD.encode(bytes));
    let signature = bundle["dsseEnvelope"]["signatures"][0].clone();
    for (pointer, value, words) in [
        ("/payload", encoded(&flipped), "was changed afterwards"),
        (
            "/payload",
            encoded(elsewhere.to_string().as_bytes()),
            "was changed afterwards",
        ),
        (
            "/payloadType",
            "text/plain".into(),
            "payload type is `text/plain`",
        ),
        ("/signatures", json!([]), "signatures has 0 entries"),
        (
            "/signatures",
            json!([signature, signature]),
            "has 2 entries",
        ),
        ("/signatures/0/sig", "AAAA".into(), "was changed afterwards"),
        ("/signatures/0/sig", "!".into(), "base64 makes no sense"),
        ("", Value::Null, "without a DSSE envelope"),
    ] {
        let mut bundle = bundle.clone();
        let pointer = format!("/dsseEnvelope{pointer}");
        *bundle.pointer_mut(&pointer).unwrap() = value;
        good.beside(&bundle).refused(words);
    }
    good.beside(&json!("garbage"))
        .refused("the bundle makes no sense");
    let mut other = bundle.clone();
    other["mediaType"] = "application/json".into();
    good.beside(&other).refused("`application/json`");
    let mut both = bundle.clone();
    both["messageSignature"] = json!({"signature": "AAAA"});
    good.beside(&both)
        .refused("both a DSSE envelope and a signature of a file");
    // A certificate beside a signature by the key takes nothing from it.
    let mut certified = bundle.clone();
    certified["verificationMaterial"] = json!({"certificate": {}});
    good.beside(&certified).verify().exits(0);
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
    check("/layers/0/size", json!(10), "longer than it says of itself");
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
    // Twice, and so many of them each time.
    assert!(case.registry.requests().len() < 2 * (400 + 10));
}

/// Whoever may write there can add as many as they like.
#[test]
fn bundles_of_others_without_end() {
    let case = Case::new();
    let mut manifest = case.referrer(case.bundle(&case.statement()).to_string().as_bytes());
    for n in 0..401 {
        manifest["annotations"] = json!({"n": n.to_string()});
        case.put(&manifest);
    }
    keygen(&case.artifact.place, "own");
    let reference = case.reference();
    let verify = || case.tool(&["verify", &reference, "--key", "own.pub"]);
    verify()
        .exits(5)
        .says("401 referrers that may be signatures");
    for format in ["legacy", "bundle"] {
        let sign = ["sign", &reference, "--key", "own.key", "--format", format];
        case.tool(&sign).exits(0).says("made");
        verify().exits(0).says(format);
        case.tool(&sign).exits(0).says("was there");
    }
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
        );
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
    // A long list of what does not count, and what counts at its end.
    manifest["layers"] = vec![manifest["layers"][0].clone(); 401].into();
    put(&manifest);
    case.refused("401 layers of signatures");
    let layers = manifest["layers"].as_array_mut().unwrap();
    layers.push(good["layers"][0].clone());
    put(&manifest);
    case.verify().exits(0);
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

/// As cosign writes it where it is told to use Docker's types; these stay.
#[test]
fn legacy_signatures_with_dockers_types() {
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
    const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    let case = Case::new();
    case.sign(&["--format", "legacy"]);
    let tag = case.sig_tag();
    let good = case.registry.manifest(REPOSITORY, &tag).unwrap();
    let good: Value = serde_json::from_slice(&good).unwrap();
    let reference = case.reference();
    let args = ["sign", &reference, "--key", "k.key", "--format", "legacy"];
    let mut docker = good.clone();
    docker["mediaType"] = DOCKER.into();
    docker["config"]["mediaType"] = DOCKER_CONFIG.into();
    let put_docker = |bytes: String| {
        case.registry.put_manifest(REPOSITORY, &tag, DOCKER, bytes);
    };
    put_docker(docker.to_string());
    case.verify().exits(0);
    case.tool(&args).exits(0);
    keygen(&case.artifact.place, "o");
    case.tool(&args.map(|arg| if arg == "k.key" { "o.key" } else { arg }))
        .exits(0);
    let added = case.registry.manifest(REPOSITORY, &tag).unwrap();
    let added: Value = serde_json::from_slice(&added).unwrap();
    assert_eq!(added["layers"].as_array().unwrap().len(), 2);
    assert_eq!(added["mediaType"], DOCKER);
    assert_eq!(added["config"]["mediaType"], DOCKER_CONFIG);
    case.verify().exits(0);
}
