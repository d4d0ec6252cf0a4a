//! Which authorities vouch without a key: those of the trusted root, as far as their own
//! certificates go, and no others.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::sign_keyless_attacks::{Keyless, by};
use crate::support::peers::Peers;
use crate::support::sigstore::{Authority, GITHUB, Quirk, WORKFLOW, github_token};
use crate::support::tool::run;

/// A trusted root names an authority, and its certificates say when they hold, who they
/// are by and what they are for.
#[test]
fn authorities_at_their_word() {
    let good = Keyless::signed(Quirk::None);
    let (ca, clocks) = (good.sigstore.authority(), good.sigstore.clocks());
    let [root, stranger] = [Authority::new("root"), Authority::new("stranger")];
    let impostor = Authority::new("root");
    let no_ca = |params: &mut rcgen::CertificateParams| {
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
    };
    let no_signer = |params: &mut rcgen::CertificateParams| {
        params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    };
    let for_clocks = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::TimeStamping];
    };
    let alone = |params: &mut rcgen::CertificateParams| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    };
    let unknown = critical(&[1, 3, 9999, 1], &[5, 0]);
    let policies = critical(&[2, 5, 29, 32], &[48, 8, 48, 6, 6, 4, 85, 29, 32, 0]);
    let [ended, later] = [Authority::from_day(-1), Authority::from_day(2)];
    let below = ca.again(&root, |_| {});
    let by_ca = |chain: &[&Vec<u8>]| {
        let chain = chain
            .iter()
            .map(|c| json!({"rawBytes": STANDARD.encode(c)}));
        ("certificateAuthorities", chain.collect())
    };
    let clock =
        good.sigstore.trusted_root()["timestampAuthorities"][0]["certChain"]["certificates"][0]
            .take();
    let by_clock = |last: &Vec<u8>| {
        let chain = json!([clock, {"rawBytes": STANDARD.encode(last)}]);
        ("timestampAuthorities", chain)
    };
    let (untrusted, unproved) = ("not by an authority", "when it was made is not proved");
    let rooted = &root.certificate;
    for ((part, chain), code, words) in [
        (by_ca(&[&below, rooted]), 0, ""),
        (by_ca(&[&ca.again(ca, &ended)]), 5, untrusted),
        (by_ca(&[&ca.again(ca, &later)]), 5, untrusted),
        (by_ca(&[&ca.again(ca, no_ca)]), 2, "that of no authority"),
        (
            by_ca(&[&ca.again(ca, no_signer)]),
            2,
            "that of no authority",
        ),
        (
            by_ca(&[&ca.again(&root, for_clocks), rooted]),
            2,
            "is for another purpose",
        ),
        (
            by_ca(&[&below, &root.again(&root, for_clocks)]),
            2,
            "is for another purpose",
        ),
        (
            by_ca(&[&below, &root.again(&root, alone)]),
            2,
            "is for fewer authorities below it",
        ),
        (by_ca(&[&ca.again(ca, alone)]), 0, ""),
        (by_ca(&[&ca.again(ca, &policies)]), 0, ""),
        (
            by_ca(&[&ca.again(ca, &unknown)]),
            2,
            "that it calls critical",
        ),
        (
            by_ca(&[&below, &root.again(&root, &unknown)]),
            2,
            "that it calls critical",
        ),
        (by_ca(&[&ca.again(&root, &ended), rooted]), 5, "had ended"),
        (by_ca(&[&below, &root.again(&root, &ended)]), 5, untrusted),
        (
            by_ca(&[&below, &root.again(&root, no_ca)]),
            2,
            "of no authority",
        ),
        (
            by_ca(&[&ca.again(&root, no_ca), rooted]),
            2,
            "of no authority",
        ),
        (
            by_ca(&[&below, &stranger.certificate]),
            2,
            "is not by the next",
        ),
        (by_ca(&[&below, &impostor.certificate]), 5, untrusted),
        (by_clock(&clocks.again(clocks, &ended)), 5, unproved),
        (by_clock(&clocks.again(clocks, &later)), 5, unproved),
        (by_clock(&clocks.again(clocks, no_ca)), 2, "of no authority"),
        (by_clock(&stranger.certificate), 2, "is not by the next"),
    ] {
        judged(&good, part, chain, code, words);
    }
}

/// An extension that has to be understood.
fn critical(oid: &[u64], content: &[u8]) -> impl Fn(&mut rcgen::CertificateParams) {
    let mut extension = rcgen::CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(true);
    move |params| params.custom_extensions = vec![extension.clone()]
}

/// Whether what was signed verifies where the first authority of a kind has this chain; it
/// does with cosign where it does with us.
fn judged(good: &Keyless, part: &str, chain: Value, code: i32, words: &str) {
    let mut trusted = good.sigstore.trusted_root();
    trusted[part][0]["certChain"]["certificates"] = chain;
    let place = &good.case.artifact.place;
    place.write("trusted_root.json", trusted.to_string());
    let done = good.verify_as(&["verify"], &by(WORKFLOW, GITHUB));
    done.exits(code).says(words);
    let pulled = good.verify_as(&["pull", "-o", "out.wasm"], &by(WORKFLOW, GITHUB));
    pulled.exits(code);
    let Some(peers) = Peers::find() else { return };
    let reference = good.case.reference();
    let root = ["verify", "--trusted-root", "trusted_root.json", &reference];
    let mut cosign = peers.command("cosign", place);
    let theirs = run(cosign.args(root).args(by(WORKFLOW, GITHUB)));
    assert_eq!(theirs.code == 0, code == 0, "{part}: {}", theirs.stderr);
}

/// One that can vouch for nothing keeps none of the others from it.
#[test]
fn an_authority_that_is_left_out() {
    let good = Keyless::signed(Quirk::None);
    let place = &good.case.artifact.place;
    let stranger = Authority::new("stranger");
    let certificates = |chain: &[&Vec<u8>]| -> Vec<_> {
        let raw = |c: &&Vec<u8>| json!({"rawBytes": STANDARD.encode(c)});
        chain.iter().map(raw).collect()
    };
    let ended = stranger.again(&stranger, Authority::from_day(-1));
    let unlinked = [
        &good.sigstore.authority().certificate,
        &stranger.certificate,
    ];
    for part in ["certificateAuthorities", "timestampAuthorities"] {
        for chain in [certificates(&[&ended]), certificates(&unlinked)] {
            let mut trusted = good.sigstore.trusted_root();
            let mut odd = trusted[part][0].clone();
            odd["certChain"]["certificates"] = chain.into();
            odd["validFor"] = json!({"start": "2126-01-01T00:00:00Z"});
            trusted[part].as_array_mut().unwrap().insert(0, odd);
            place.write("trusted_root.json", trusted.to_string());
            let done = good.verify_as(&["verify"], &by(WORKFLOW, GITHUB));
            done.exits(0);
            let only = trusted[part][0].take();
            trusted[part] = json!([only]);
            place.write("trusted_root.json", trusted.to_string());
            let done = good.verify_as(&["verify"], &by(WORKFLOW, GITHUB));
            done.exits(2).says("is no trusted root that can be used");
        }
    }
}

/// Older bundles of files may hold a chain: it is no part of the trusted root.
#[test]
fn an_authority_that_a_bundle_brings() {
    let good = Keyless::signed(Quirk::None);
    let place = &good.case.artifact.place;
    let sign = [
        "sign",
        "app.wasm",
        "--identity-token",
        "env:TOKEN",
        "--signing-config",
        "signing_config.json",
        "--bundle",
        "app.json",
    ];
    run(place.command(sign).env("TOKEN", github_token())).exits(0);
    let root = Authority::new("root");
    let below = good.sigstore.authority().again(&root, |_| {});
    let mut bundle: Value =
        serde_json::from_slice(&std::fs::read(place.join("app.json")).unwrap()).unwrap();
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2".into();
    let material = bundle["verificationMaterial"].as_object_mut().unwrap();
    let leaf = material.remove("certificate").unwrap();
    let chain = json!({"certificates": [leaf, {"rawBytes": STANDARD.encode(&below)}]});
    material.insert("x509CertificateChain".into(), chain);
    place.write("app.json", bundle.to_string());
    for (named, code) in [
        (vec![&below, &root.certificate], 0),
        (vec![&root.certificate], 5),
    ] {
        let named = named
            .iter()
            .map(|c| json!({"rawBytes": STANDARD.encode(c)}));
        let mut trusted = good.sigstore.trusted_root();
        trusted["certificateAuthorities"][0]["certChain"]["certificates"] = named.collect();
        place.write("trusted_root.json", trusted.to_string());
        let verify = ["verify", "app.wasm", "--bundle", "app.json"];
        let root = ["--trusted-root", "trusted_root.json"];
        let args = [&verify[..], &root, &by(WORKFLOW, GITHUB)].concat();
        let done = run(&mut place.command(args));
        done.exits(code)
            .says(["verified", "not by an authority"][usize::from(code == 5)]);
    }
}
