//! Signatures of files: in a bundle beside them, and inside.

use std::fs;

use serde_json::Value;

use crate::support::artifact::module;
use crate::support::signed::{keygen, tool};
use crate::support::tool::Place;

fn place() -> Place {
    let place = Place::new();
    keygen(&place, "k");
    keygen(&place, "other");
    place.write("app.wasm", module(500, 1));
    place.write("b.wasm", module(500, 2));
    place
}

#[test]
fn a_bundle_beside_the_file() {
    let place = place();
    let signed = tool(&place, &["sign", "app.wasm", "--key=k.key"]).exits(0);
    assert_eq!(signed.stdout, "app.wasm.sigstore.json\n");
    let verify = ["verify", "app.wasm", "--key=k.pub"];
    assert_eq!(tool(&place, &verify).exits(0).stdout, "app.wasm\n");
    let printed = tool(&place, &["sign", "app.wasm", "--key=k.key", "--bundle=-"]).exits(0);
    assert!(!place.join("-").exists());
    place.write("printed.json", printed.stdout);
    let bundle = ["--bundle", "printed.json"];
    tool(&place, &[&verify[..], &bundle].concat()).exits(0);
    let json = tool(&place, &[&verify[..], &["--json"]].concat())
        .exits(0)
        .json();
    assert_eq!(json["file"], "app.wasm");
    assert_eq!(json["signature"]["key"]["kind"], "ECDSA P-256");

    tool(&place, &["verify", "app.wasm", "--key=other.pub"])
        .exits(5)
        .says("made with another key")
        .says("check that the key is that of");
    tool(&place, &["verify", "b.wasm", "--key=k.pub"])
        .exits(5)
        .says("there is no `b.wasm.sigstore.json`");
    let others = [
        "verify",
        "b.wasm",
        "--key=k.pub",
        "--bundle=app.wasm.sigstore.json",
    ];
    tool(&place, &others).exits(5).says("it signs another file");
    let good = fs::read_to_string(place.join("app.wasm.sigstore.json")).unwrap();
    let mut changed: Value = serde_json::from_str(&good).unwrap();
    changed["messageSignature"]["signature"] = "AAAA".into();
    for (bundle, words) in [
        (changed.to_string(), "was changed afterwards"),
        ("{".into(), "makes no sense"),
        (
            good.replace("messageSignature", "dsseEnvelope"),
            "it is an attestation, and no signature, of a file",
        ),
        (good.replace("v0.3+json", "v9"), "has the type"),
    ] {
        place.write("bad.json", bundle);
        let args = ["verify", "app.wasm", "--key=k.pub", "--bundle=bad.json"];
        tool(&place, &args).exits(5).says(words);
    }
    place.write("large.json", vec![b' '; (1 << 20) + 1]);
    let args = ["verify", "app.wasm", "--key=k.pub", "--bundle=large.json"];
    tool(&place, &args).exits(5).says("more than the");
    // A file in this folder is no artifact, however it is called.
    let reference = "127.0.0.1:1/app:1.0.0";
    for name in [reference.to_owned(), format!("{reference}.sigstore.json")] {
        let from = if name == reference {
            "app.wasm"
        } else {
            "app.wasm.sigstore.json"
        };
        place.write(&name, fs::read(place.join(from)).unwrap());
    }
    tool(&place, &["verify", reference, "--key=k.pub"]).exits(6);
    tool(
        &place,
        &["verify", &format!("./{reference}"), "--key=k.pub"],
    )
    .exits(0);
    tool(&place, &["sign", "missing.wasm", "--key=k.key"]).exits(1);
    tool(
        &place,
        &["sign", "app.wasm", "--key=k.key", "--format=legacy"],
    )
    .exits(2);
    tool(&place, &["sign", "app.wasm", "--key=k.key", "-o", "x"]).exits(2);
}

#[test]
fn inside_the_file() {
    let place = place();
    let made = tool(&place, &["keygen", "--embed"]).exits(0).stdout;
    assert_eq!(made, "ed25519.key\ned25519.pub\n");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let permissions = fs::metadata(place.join("ed25519.key"))
            .unwrap()
            .permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
    }
    tool(&place, &["keygen", "--embed"])
        .exits(2)
        .says("is there already");
    let before = fs::read(place.join("app.wasm")).unwrap();
    let embed = ["sign", "--embed", "--key=ed25519.key", "app.wasm"];
    let verify = ["verify", "--embedded", "--key=ed25519.pub", "app.wasm"];
    tool(&place, &verify).exits(5).says("no signature inside");
    tool(&place, &["sign", "--detach", "app.wasm"])
        .exits(5)
        .says("no signature inside");
    // In place, and once more: it is replaced.
    for _ in 0..2 {
        tool(&place, &embed).exits(0);
        tool(&place, &verify).exits(0);
    }
    let signed = fs::read(place.join("app.wasm")).unwrap();
    assert_eq!(signed.len(), before.len() + 119);
    tool(&place, &["check", "app.wasm"]).exits(0);

    tool(&place, &["keygen", "--embed", "--output-key-prefix=second"]).exits(0);
    let second = ["verify", "--embedded", "--key=second.pub", "app.wasm"];
    tool(&place, &second).exits(5).says("made with another key");
    let mut changed = signed.clone();
    *changed.last_mut().unwrap() ^= 1;
    place.write("changed.wasm", changed);
    tool(
        &place,
        &["verify", "--embedded", "--key=ed25519.pub", "changed.wasm"],
    )
    .exits(5)
    .says("changed afterwards");
    // What does not count is not passed over.
    for more in ["--certificate-identity=a", "--certificate-oidc-issuer=a"] {
        tool(&place, &[&verify[..], &[more]].concat())
            .exits(2)
            .says("names no identity");
    }
    tool(&place, &["verify", "--key=ed25519.pub", "app.wasm"])
        .exits(5)
        .says("verify --embedded");
    for (key, words) in [
        ("k.pub", "no Ed25519 key"),
        ("ed25519.key", "is a private key"),
    ] {
        tool(&place, &["verify", "--embedded", "--key", key, "app.wasm"])
            .exits(5)
            .says(words);
    }
    tool(
        &place,
        &["sign", "--embed", "--key=ed25519.pub", "app.wasm"],
    )
    .exits(5)
    .says("is a public key");
    tool(&place, &["sign", "--embed", "app.wasm"])
        .exits(2)
        .says("no key");
    tool(
        &place,
        &["sign", "--embed", "--key=ed25519.key", "localhost:1/a:1"],
    )
    .exits(2);

    tool(
        &place,
        &["sign", "--detach", "app.wasm", "-o", "plain.wasm"],
    )
    .exits(0);
    assert!(fs::read(place.join("plain.wasm")).unwrap() == before);
    tool(&place, &["sign", "--detach", "app.wasm"]).exits(0);
    assert!(fs::read(place.join("app.wasm")).unwrap() == before);
}

/// What is written takes the place of nothing that is read.
#[test]
fn no_output_is_an_input() {
    let place = place();
    tool(&place, &["keygen", "--embed", "--output-key-prefix=e"]).exits(0);
    place.write("sub/x", "");
    #[cfg(unix)]
    for name in ["app.wasm", "k.key"] {
        let link = place.join(format!("link-to-{name}"));
        std::os::unix::fs::symlink(name, link).unwrap();
    }
    let refused = |args: &[&str], out: &str| {
        let before = fs::read(place.join(out)).unwrap();
        let words = "would take the place of";
        tool(&place, args).exits(2).says(words);
        assert!(fs::read(place.join(out)).unwrap() == before, "{args:?}");
    };
    let links: &[&str] = if cfg!(unix) {
        &["link-to-app.wasm", "link-to-k.key"]
    } else {
        &[]
    };
    let names = ["app.wasm", "./app.wasm", "sub/../app.wasm", "k.key"];
    for out in names.iter().chain(links) {
        refused(&["sign", "app.wasm", "--key=k.key", "--bundle", out], out);
    }
    let embed = ["sign", "--embed", "--key=e.key", "app.wasm", "-o", "e.key"];
    refused(&embed, "e.key");
    place.write("token", "eyJ.e.s");
    let keyless = ["sign", "app.wasm", "--identity-token=@token", "--bundle"];
    refused(&[&keyless[..], &["token"]].concat(), "token");
    place.write(
        "verify.toml",
        "[[rules]]\nrepository = \"*\"\nkey = \"k.pub\"\n",
    );
    let pull = ["pull", "oci:none:1", "-o"];
    for (out, more) in [
        ("k.pub", ["--key=k.pub"]),
        ("k.pub", ["--policy=./verify.toml"]),
        ("verify.toml", ["--policy=./verify.toml"]),
    ] {
        refused(&[&pull[..], &[out], &more].concat(), out);
    }
    // Where nothing says otherwise, it is the file itself.
    let embed = ["sign", "--embed", "--key=e.key", "app.wasm"];
    tool(&place, &[&embed[..], &["-o", "./app.wasm"]].concat()).exits(0);
}
