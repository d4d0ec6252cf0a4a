//! What must not pass for an attestation, and what a policy must not let through: each
//! ends with 5 and words of its own, and nothing is pulled.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::artifact::{Artifact, REPOSITORY, TAG};
use crate::support::registry::Registry;
use crate::support::signed::{BUNDLE, Case, MANIFEST, keygen, tool, without_referrers};

const SBOM: &str = "https://cyclonedx.org/bom";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

fn bom() -> Value {
    json!({"bomFormat": "CycloneDX", "specVersion": "1.5", "components": []})
}

fn provenance() -> Value {
    json!({
        "buildDefinition": {"buildType": "https://b.example/v1"},
        "runDetails": {"builder": {"id": "https://b.example/builder"}},
    })
}

/// An artifact that is signed with the right key.
fn signed() -> Case {
    let case = Case::new();
    case.sign(&["--format", "bundle"]);
    case
}

fn statement(case: &Case, kind: &str, predicate: &Value) -> Value {
    let mut statement = case.statement();
    statement["predicateType"] = kind.into();
    statement["predicate"] = predicate.clone();
    statement
}

/// Neither verifies nor is pulled where this is required, and says this.
#[track_caller]
fn refused(case: &Case, require: &str, words: &str) {
    let reference = case.reference();
    let more = ["--key=k.pub", "--require", require];
    case.tool(&[&["verify", &reference], &more[..]].concat())
        .exits(5)
        .says(words);
    let pull = ["pull", &reference, "-o", "out.wasm"];
    case.tool(&[&pull, &more[..]].concat()).exits(5).says(words);
    assert_eq!(case.artifact.pulled(), None);
    // The signature alone is there.
    case.verify();
}

#[test]
fn attestations_that_do_not_count() {
    let good = signed();
    good.attach(&good.bundle(&statement(&good, SBOM, &bom())));
    good.attach(&good.bundle(&statement(&good, PROVENANCE, &provenance())));
    let more = ["--key=k.pub", "--require=sbom,provenance"];
    good.tool(&[&["verify", &good.reference()], &more[..]].concat())
        .exits(0);

    refused(&signed(), "sbom", "has no sbom attestation");
    refused(&signed(), "provenance", "has no provenance attestation");

    // By another key.
    let case = signed();
    let other = Case::new();
    let bundle = other.bundle(&statement(&case, SBOM, &bom()));
    case.attach(&bundle);
    refused(&case, "sbom", "it was made with another key");

    // The right key, and another artifact.
    let case = signed();
    let mut elsewhere = statement(&case, SBOM, &bom());
    elsewhere["subject"][0]["digest"]["sha256"] = "0".repeat(64).into();
    case.attach(&case.bundle(&elsewhere));
    refused(&case, "sbom", "it signs another artifact, sha256:0000");

    // Changed by a bit.
    let case = signed();
    let wanted = statement(&case, PROVENANCE, &provenance());
    let mut bundle = case.bundle(&wanted);
    let changed = wanted
        .to_string()
        .replace("b.example/builder", "c.example/builder");
    bundle["dsseEnvelope"]["payload"] = STANDARD.encode(changed).into();
    case.attach(&bundle);
    refused(&case, "provenance", "was changed afterwards");

    // One for another.
    let case = signed();
    case.attach(&case.bundle(&statement(&case, SBOM, &bom())));
    refused(&case, "provenance", "has no provenance attestation");

    // A signature is no attestation either.
    let case = signed();
    let bundle = case.bundle(&case.statement());
    let mut manifest = case.referrer(bundle.to_string().as_bytes());
    manifest["annotations"] = json!({"dev.sigstore.bundle.predicateType": SBOM});
    case.put(&manifest);
    refused(
        &case,
        "sbom",
        "has no sbom attestation (`https://cyclonedx.org/bom`) that holds",
    );

    for (kind, name, predicate, words) in [
        (SBOM, "sbom", json!({}), "its bomFormat is not CycloneDX"),
        (SBOM, "sbom", json!([1]), "its bomFormat is not CycloneDX"),
        (
            PROVENANCE,
            "provenance",
            json!({}),
            "no buildDefinition.buildType",
        ),
        (
            PROVENANCE,
            "provenance",
            json!({"buildDefinition": {"buildType": "x"}, "runDetails": {"builder": {"id": ""}}}),
            "no runDetails.builder.id",
        ),
    ] {
        let case = signed();
        case.attach(&case.bundle(&statement(&case, kind, &predicate)));
        refused(&case, name, words);
    }

    // The SBOM of another module, by whoever holds the key.
    let case = signed();
    let mut other = bom();
    other["metadata"]["component"] = json!({
        "mime-type": "application/wasm",
        "hashes": [{"alg": "SHA-256", "content": "0".repeat(64)}],
    });
    case.attach(&case.bundle(&statement(&case, SBOM, &other)));
    refused(&case, "sbom", "is about another module, sha256:0000");

    // 17 MiB.
    let case = signed();
    let bundle = case.bundle(&statement(&case, SBOM, &bom()));
    let mut manifest = case.referrer(bundle.to_string().as_bytes());
    manifest["layers"][0]["size"] = (17_u64 << 20).into();
    case.put(&manifest);
    refused(&case, "sbom", "more than the 16777216 that are read");
}

/// Of several by one signer, the one that holds counts, wherever it stands in the list; and
/// a list may be long.
#[test]
fn what_holds_is_found_among_others() {
    let case = Case::with(without_referrers());
    case.sign(&["--format", "bundle"]);
    let own = case.registry.manifest(REPOSITORY, TAG).unwrap();
    let own: Value = serde_json::from_slice(&own).unwrap();
    let own = own["layers"][0]["digest"].as_str().unwrap();
    let of = |hex: &str| {
        let mut bom = bom();
        bom["metadata"]["component"] = json!({
            "mime-type": "application/wasm",
            "hashes": [{"alg": "SHA-256", "content": hex}],
        });
        case.bundle(&statement(&case, SBOM, &bom))
    };
    let right = of(own.strip_prefix("sha256:").unwrap());
    let wrong = of(&"0".repeat(64));
    let tag = case.artifact.digest.replace(':', "-");
    let index = case.registry.manifest(REPOSITORY, &tag).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let list = |bundles: &[&Value], annotated: bool| {
        let mut index = index.clone();
        let all = index["manifests"].as_array_mut().unwrap();
        for bundle in bundles {
            let manifest = case.referrer(bundle.to_string().as_bytes());
            let digest = case.put(&manifest);
            let mut entry = json!({
                "mediaType": MANIFEST,
                "digest": digest,
                "size": manifest.to_string().len(),
                "artifactType": BUNDLE,
            });
            if annotated {
                entry["annotations"] = json!({"dev.sigstore.bundle.predicateType": SBOM});
            }
            all.push(entry);
        }
        let kind = "application/vnd.oci.image.index.v1+json";
        case.registry
            .put_manifest(REPOSITORY, &tag, kind, index.to_string());
    };
    let required = ["--key=k.pub", "--require=sbom"];
    let verify = || case.tool(&[&["verify", &case.reference()], &required[..]].concat());
    for order in [[&wrong, &right], [&right, &wrong]] {
        list(&order, true);
        verify().exits(0);
    }
    // 300 by somebody else behind it.
    keygen(&case.artifact.place, "o");
    let mut stranger = right.clone();
    stranger["verificationMaterial"]["publicKey"]["hint"] = "other".into();
    stranger["dsseEnvelope"]["signatures"][0]["sig"] = STANDARD.encode("x").into();
    let others = vec![&stranger; 300];
    list(&[&[&right], &others[..]].concat(), true);
    verify().exits(0);
    list(&[&[&right], &others[..], &others[..]].concat(), true);
    verify().exits(5).says("601 referrers");
    list(&[&others[..], &others[..], &[&right]].concat(), true);
    verify().exits(0);
    // Those that do not say what they are are no reason to doubt the artifact.
    let other_kind = case.bundle(&statement(&case, "https://x.example/a", &bom()));
    list(&[&other_kind], false);
    let hint = "publish attests it where it signs";
    verify()
        .exits(5)
        .says("has no sbom attestation (")
        .says(hint);
}

/// One of several keys that are trusted signed and attested, and another signed alone.
#[test]
fn the_key_that_attested_counts() {
    let case = signed();
    keygen(&case.artifact.place, "o");
    let reference = case.reference();
    case.tool(&["sign", &reference, "--key=o.key", "--format=bundle"])
        .exits(0);
    let verify = |keys: &str| {
        let keys = format!("keys = [{keys}]\nrequire = [\"sbom\"]");
        policy(&case, &rule("*", &keys));
        case.tool(&["verify", "--policy", &reference])
    };
    let orders = ["\"k.pub\", \"o.pub\"", "\"o.pub\", \"k.pub\""];
    for order in orders {
        verify(order).exits(5).says("has no sbom attestation");
    }
    case.attach(&case.bundle(&statement(&case, SBOM, &bom())));
    for order in orders {
        verify(order).exits(0);
    }
}

/// Attested with the right key, and not signed.
#[test]
fn attestations_are_no_signatures() {
    let case = Case::new();
    case.attach(&case.bundle(&statement(&case, SBOM, &bom())));
    refused(&case, "sbom", "it is an attestation of the type");
}

/// The index of referrers lists what is about something else.
#[test]
fn a_referrer_of_another_artifact() {
    let case = Case::with(without_referrers());
    case.sign(&[]);
    let bundle = case.bundle(&statement(&case, SBOM, &bom()));
    let mut manifest = case.referrer(bundle.to_string().as_bytes());
    manifest["subject"]["digest"] = format!("sha256:{}", "0".repeat(64)).into();
    let digest = case.put(&manifest);
    let tag = case.artifact.digest.replace(':', "-");
    let index = case.registry.manifest(REPOSITORY, &tag).unwrap();
    let mut index: Value = serde_json::from_slice(&index).unwrap();
    let entry = json!({
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "digest": digest,
        "size": manifest.to_string().len(),
    });
    index["manifests"].as_array_mut().unwrap().push(entry);
    let kind = "application/vnd.oci.image.index.v1+json";
    case.registry
        .put_manifest(REPOSITORY, &tag, kind, index.to_string());
    refused(&case, "sbom", "its manifest is about sha256:0000");
}

/// A policy file in the place of a case.
fn policy(case: &Case, rules: &str) {
    case.artifact.place.write("verify.toml", rules);
}

fn rule(repository: &str, rest: &str) -> String {
    format!("[[rules]]\nrepository = \"{repository}\"\n{rest}\n")
}

#[test]
fn policies_fail_closed() {
    let case = signed();
    keygen(&case.artifact.place, "other");
    let host = case.registry.host();
    let ours = format!("{host}/{REPOSITORY}");
    let reference = case.reference();
    let pull = ["pull", &reference, "-o", "out.wasm", "--policy"];
    for (rules, code, words) in [
        (
            rule("ghcr.io/*", "key = \"k.pub\""),
            5,
            "no rule of the policy covers",
        ),
        (
            rule(&format!("{ours}x"), "key = \"k.pub\""),
            5,
            "no rule of the policy covers",
        ),
        (
            rule(&ours, "key = \"other.pub\""),
            5,
            "it was made with another key",
        ),
        // The first that covers it counts.
        (
            rule(&format!("{host}/*"), "key = \"other.pub\"") + &rule(&ours, "key = \"k.pub\""),
            5,
            "it was made with another key",
        ),
        (
            rule(&ours, "keys = [\"other.pub\", \"other.pub\"]"),
            5,
            "none of 2 keys",
        ),
        (
            rule(&ours, "key = \"k.pub\"\nrequire = [\"sbom\"]"),
            5,
            "has no sbom attestation",
        ),
        (rule(&ours, "key = \"missing.pub\""), 2, "missing.pub"),
        // Those of all rules are looked at.
        (
            rule(&ours, "key = \"k.pub\"") + &rule("*", "keys = [\"k.pub\", \"missing.pub\"]"),
            2,
            "`rules[1]`: failed to read",
        ),
        (
            rule(&ours, "key = \"k.pub\"") + &rule("*", "key = \"verify.toml\""),
            5,
            "`rules[1]`: the key",
        ),
        (
            rule(&ours, "key = \"k.pub\"") + &rule("*", "key = \"k.key\""),
            5,
            "is a private key",
        ),
        (
            rule(&ours, "key = \"k.pub\"")
                + &rule(
                    "*",
                    "identity = \"a\"\nissuer = \"b\"\ntrusted-root = \"r.json\"",
                ),
            2,
            "`rules[1]`: failed to read",
        ),
        (rule(&ours, "kee = \"k.pub\""), 2, "unknown key `rules.kee`"),
        (rule(&ours, ""), 2, "neither a key nor an identity"),
        (String::new(), 2, "has no rules"),
        (rule(&ours, "identity = \"a\""), 2, "issuer is missing"),
    ] {
        policy(&case, &rules);
        case.tool(&["verify", "--policy", &reference])
            .exits(code)
            .says(words);
        case.tool(&pull).exits(code).says(words);
        assert_eq!(case.artifact.pulled(), None);
    }
    for rules in [
        rule(&ours, "key = \"k.pub\""),
        rule(&format!("{host}/*"), "keys = [\"other.pub\", \"k.pub\"]"),
        rule("ghcr.io/*", "key = \"other.pub\"") + &rule("*", "key = \"k.pub\""),
        rule(&ours, "key = \"k.pub\"") + &rule("*", "key = \"env:OF_ANOTHER_RUN\""),
    ] {
        policy(&case, &rules);
        case.tool(&["verify", "--policy", &reference])
            .exits(0)
            .says("verified");
        case.tool(&["verify", &reference, "--policy"]).exits(0);
        case.tool(&["verify", "--policy", "verify.toml", &reference])
            .exits(0);
    }
    case.tool(&pull).exits(0).says("verified");
    case.tool(&["pull", "--policy", &reference, "-o", "again.wasm"])
        .exits(0);

    // Paths are those from the policy's own folder.
    let place = &case.artifact.place;
    place.write("deep/keys/k.pub", fs::read(place.join("k.pub")).unwrap());
    place.write("deep/p.toml", rule("*", "key = \"keys/k.pub\""));
    case.tool(&["verify", "--policy=deep/p.toml", &reference])
        .exits(0);

    // Each reference is looked at, and one failure is enough.
    policy(&case, &rule(&ours, "key = \"k.pub\""));
    let two = ["verify", "--policy", &reference, "ghcr.io/acme/demo:1"];
    let both = case
        .tool(&two)
        .exits(5)
        .says("no rule of the policy covers ghcr.io/acme/demo");
    assert_eq!(both.stdout, case.artifact.published(&host));
    let two = ["verify", "--policy", "ghcr.io/acme/demo:1", &reference];
    let both = case.tool(&two).exits(5);
    assert_eq!(both.stdout, case.artifact.published(&host));

    for (args, words) in [
        (
            &["verify", "--policy", &reference, "--key=k.pub"][..],
            "not both",
        ),
        (&["verify", "--policy"], "no artifact to verify"),
        (
            &["verify", &reference, "--require=sbom"],
            "nothing says by whom",
        ),
        (&["verify", &reference], "nothing says who must have signed"),
        (
            &["verify", &reference, "--policy=missing.toml"],
            "missing.toml",
        ),
        (&["verify", "app.wasm", "--policy"], "not about files"),
        (
            &["verify", &reference, "--key=k.pub", "--require=sbmo"],
            "did you mean `sbom`",
        ),
    ] {
        let run = case.tool(args).says(words);
        assert!(matches!(run.code, 1 | 2), "{args:?}: {}", run.code);
    }
}

/// Another spelling of a registry is no way past a rule.
#[test]
fn a_registry_spelled_otherwise() {
    let case = signed();
    keygen(&case.artifact.place, "other");
    let ours = format!("{}/{REPOSITORY}", case.registry.host());
    let rules = rule(&ours, "key = \"other.pub\"") + &rule("*", "key = \"k.pub\"");
    policy(&case, &rules);
    let verify = |reference: &str| case.tool(&["verify", "--policy", reference]);
    let reference = case.reference();
    verify(&reference).exits(5);
    verify(&reference.replace("127.0.0.1", "127.1")).exits(5);
    verify(&reference.replace("127.0.0.1", "0x7f.0.0.1")).exits(5);
    let zero = reference.replace("127.0.0.1:", "127.0.0.1:0");
    assert!(matches!(verify(&zero).code, 1 | 2));
    let pull = case.tool(&["pull", "--policy", &zero, "-o", "out.wasm"]);
    assert!(matches!(pull.code, 1 | 2));
    assert_eq!(case.artifact.pulled(), None);
}

/// `--policy` takes a file, and what follows it may as well be the artifact.
#[test]
fn a_policy_that_reads_as_an_artifact() {
    let case = signed();
    let rules = rule("*", "key = \"k.pub\"");
    policy(&case, &rules);
    let place = &case.artifact.place;
    place.write("a.b/strict", rules.replace("k.pub", "../k.pub"));
    let reference = case.reference();
    case.tool(&["verify", "--policy", "a.b/strict", &reference])
        .exits(2)
        .says("there is such a file, and it reads as an artifact too")
        .says("--policy ./a.b/strict");
    case.tool(&["verify", "--policy", "./a.b/strict", &reference])
        .exits(0);
    case.tool(&["verify", "--policy", &reference]).exits(0);
}

#[test]
fn a_policy_in_the_project() {
    let case = signed();
    let place = &case.artifact.place;
    let reference = case.reference();
    case.tool(&["verify", "--policy", &reference])
        .exits(2)
        .says("there is no policy");
    let manifest = |key: &str| {
        format!(
            "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\
             [[package.metadata.edgepack.verify.rules]]\nrepository = \"*\"\n{key} = \"keys/k.pub\"\n"
        )
    };
    place.write("keys/k.pub", fs::read(place.join("k.pub")).unwrap());
    place.write("src/lib.rs", "");
    place.write("Cargo.toml", manifest("key"));
    case.tool(&["verify", "--policy", &reference]).exits(0);
    place.write("Cargo.toml", manifest("ke"));
    case.tool(&["verify", "--policy", &reference])
        .exits(2)
        .says("did you mean `verify.rules.key");
}

/// A layout has no repository: a rule names it as it stands on the command line.
#[test]
fn policies_for_layouts() {
    let artifact = Artifact::new(500);
    keygen(&artifact.place, "k");
    let layout = format!("oci:target/edgepack/oci:app:{TAG}");
    tool(&artifact.place, &["sign", &layout, "--key=k.key"]).exits(0);
    artifact
        .place
        .write("verify.toml", rule("ghcr.io/*", "key = \"k.pub\""));
    tool(&artifact.place, &["verify", "--policy", &layout])
        .exits(5)
        .says("no rule");
    artifact
        .place
        .write("verify.toml", rule("oci:*", "key = \"k.pub\""));
    tool(&artifact.place, &["verify", "--policy", &layout]).exits(0);
    // What is attested is no signature that is bad.
    let attest = ["sign", &layout, "--key=k.key", "--attest"];
    artifact.place.write("p.json", "{}");
    let attest = [&attest[..], &["https://example.com/p=p.json"]].concat();
    tool(&artifact.place, &attest).exits(0);
    keygen(&artifact.place, "other");
    let verify = ["verify", &layout, "--key=other.pub"];
    let index = artifact.place.join("target/edgepack/oci/index.json");
    for _ in 0..2 {
        let refused = tool(&artifact.place, &verify).exits(5).stderr;
        let bad = refused.matches("the bundle sha256:").count();
        assert_eq!(bad, 1, "{refused}");
        // And again with a note of somebody's in the list.
        let mut listed: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
        for entry in listed["manifests"].as_array_mut().unwrap() {
            entry["annotations"]["com.example.note"] = "x".into();
        }
        fs::write(&index, listed.to_string()).unwrap();
    }
    // A link that leads nowhere is a policy that cannot be read.
    fs::remove_file(artifact.place.join("verify.toml")).unwrap();
    std::os::unix::fs::symlink("gone.toml", artifact.place.join("verify.toml")).unwrap();
    tool(&artifact.place, &["verify", "--policy", &layout])
        .exits(1)
        .says("verify.toml");
    let registry = Registry::start();
    artifact.publish(&registry.host(), &[]).exits(0);
}
