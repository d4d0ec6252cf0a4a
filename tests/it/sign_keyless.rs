//! Signatures without a key: by the identities of CIs, with a Sigstore of our own.

use std::process::Command;

use crate::support::artifact::{Artifact, REPOSITORY, TAG};
use crate::support::peers::{Peers, Server};
use crate::support::registry::Registry;
use crate::support::signed::keygen;
use crate::support::sigstore::{
    GITHUB, GITLAB, PIPELINE, Quirk, RUNNER_SECRET, Sigstore, WORKFLOW, github_token, gitlab_token,
    token,
};
use crate::support::tool::{Run, run};

const SIGN: &[&str] = &[
    "--signing-config",
    "signing_config.json",
    "--trusted-root",
    "trusted_root.json",
];
const ROOT: &[&str] = &["--trusted-root", "trusted_root.json"];
const BY_WORKFLOW: &[&str] = &[
    "--certificate-identity",
    WORKFLOW,
    "--certificate-oidc-issuer",
    GITHUB,
];

/// An artifact in a registry, and a Sigstore beside it.
struct Desk {
    sigstore: Sigstore,
    artifact: Artifact,
    host: String,
}

impl Desk {
    fn new(host: String) -> Self {
        let desk = Desk {
            sigstore: Sigstore::start(),
            artifact: Artifact::new(1000),
            host,
        };
        desk.sigstore.describe(&desk.artifact.place);
        desk
    }

    fn published(host: String) -> Self {
        let desk = Self::new(host);
        desk.artifact.publish(&desk.host, &[]).exits(0);
        desk
    }

    fn reference(&self) -> String {
        format!("{}/{REPOSITORY}:{TAG}", self.host)
    }

    fn command(&self, args: &[&[&str]]) -> Command {
        self.artifact.place.command(args.concat())
    }

    fn sign(&self, more: &[&str]) -> Run {
        let given = ["sign", &self.reference(), "--identity-token", "env:TOKEN"];
        run(self
            .command(&[&given, SIGN, more])
            .env("TOKEN", github_token()))
    }

    fn verify(&self, by: &[&str]) -> Run {
        let reference = self.reference();
        run(&mut self.command(&[&["verify", &reference], ROOT, by]))
    }

    fn cosign(&self, peers: &Peers, args: &[&[&str]]) -> Run {
        let mut command = peers.command("cosign", &self.artifact.place);
        run(command.args(args.concat()))
    }
}

/// With and without a referrers API.
fn each(peers: &Peers, test: impl Fn(&Desk)) {
    let docker = Server::docker(peers);
    test(&Desk::published(docker.host()));
    let registry = Registry::start();
    test(&Desk::published(registry.host()));
}

#[test]
fn cosign_accepts_what_we_sign() {
    let Some(peers) = Peers::find() else { return };
    each(&peers, |desk| {
        desk.sign(&[]).exits(0).says(WORKFLOW);
        let reference = desk.reference();
        let verify = |by: &[&str]| desk.cosign(&peers, &[&["verify"], ROOT, by, &[&reference]]);
        verify(BY_WORKFLOW)
            .exits(0)
            .says("transparency log was verified");
        let mut other = BY_WORKFLOW.to_vec();
        other[1] = "https://github.com/acme/widgets/.github/workflows/x.yml@refs/heads/main";
        assert_ne!(verify(&other).code, 0);
        desk.verify(BY_WORKFLOW).exits(0).says(WORKFLOW);
    });
}

#[test]
fn we_accept_what_cosign_signs() {
    let Some(peers) = Peers::find() else { return };
    each(&peers, |desk| {
        let target = format!("{}/{REPOSITORY}@{}", desk.host, desk.artifact.digest);
        let token = github_token();
        let by = ["--yes", "--identity-token", &token];
        desk.artifact.place.write("predicate.json", "{}");
        let attest = [
            "attest",
            "--predicate",
            "predicate.json",
            "--type",
            "custom",
        ];
        desk.cosign(&peers, &[&attest, &by, SIGN, &[&target]])
            .exits(0);
        // An attestation is no signature, whoever made it.
        desk.verify(BY_WORKFLOW).exits(5).says("no signature");
        desk.cosign(&peers, &[&["sign"], &by, SIGN, &[&target]])
            .exits(0);
        desk.verify(BY_WORKFLOW).exits(0).says("bundle");
        // It is there: ours is not made beside it.
        desk.sign(&[]).exits(0).says("bundle (was there)");
    });
}

/// Provenance that somebody else could have written.
const PREDICATE: &str = r#"{"buildDefinition": {"buildType": "https://build.example/v1", "externalParameters": {}},
    "runDetails": {"builder": {"id": "https://builder.example"}}}"#;

#[test]
fn attestations_go_both_ways() {
    let Some(peers) = Peers::find() else { return };
    each(&peers, |desk| {
        desk.artifact.place.write("predicate.json", PREDICATE);
        let required = [BY_WORKFLOW, &["--require", "provenance"]].concat();
        desk.sign(&[]).exits(0);
        desk.verify(&required)
            .exits(5)
            .says("no provenance attestation");
        desk.sign(&["--attest", "provenance=predicate.json"])
            .exits(0);
        desk.verify(&required).exits(0);
        let reference = desk.reference();
        let verify = ["verify-attestation", "--type", "slsaprovenance1"];
        desk.cosign(&peers, &[&verify, ROOT, BY_WORKFLOW, &[&reference]])
            .exits(0);
        // Once more, and nothing is added.
        let logged = desk.sigstore.seen().len();
        desk.sign(&["--attest", "provenance=predicate.json"])
            .exits(0);
        assert_eq!(desk.sigstore.seen().len(), logged);
    });
    let registry = Registry::start();
    let desk = Desk::published(registry.host());
    desk.artifact.place.write("predicate.json", PREDICATE);
    desk.sign(&[]).exits(0);
    let target = format!("{}/{REPOSITORY}@{}", desk.host, desk.artifact.digest);
    let attest = [
        "attest",
        "--yes",
        "--identity-token",
        &github_token(),
        "--predicate",
        "predicate.json",
        "--type",
        "slsaprovenance1",
    ];
    desk.cosign(&peers, &[&attest, SIGN, &[&target]]).exits(0);
    let required = [BY_WORKFLOW, &["--require", "provenance"]].concat();
    desk.verify(&required).exits(0);
    // Who attests is asked for as well.
    let by_other = [
        "--certificate-identity",
        PIPELINE,
        "--certificate-oidc-issuer",
        GITLAB,
        "--require",
        "provenance",
    ];
    desk.verify(&by_other)
        .exits(5)
        .says("its certificate names");
}

#[test]
fn publishing_signs_and_pulling_verifies() {
    let registry = Registry::start();
    let desk = Desk::new(registry.host());
    let publish = [&["--sign", "keyless"], SIGN].concat();
    let mut publish = desk.artifact.publish_command(&desk.host, &publish);
    let done = run(publish.env("SIGSTORE_ID_TOKEN", gitlab_token())).exits(0);
    // Nobody asks for the older form, which it does not have.
    assert!(done.stderr.contains("bundle (made)") && !done.stderr.contains("legacy"));
    assert!(
        !registry
            .tags(REPOSITORY)
            .keys()
            .any(|t| t.starts_with("sha256-"))
    );
    // Once more, and nothing is added.
    let certificates = |desk: &Desk| {
        let seen = desk.sigstore.seen();
        seen.iter().filter(|p| *p == Quirk::AUTHORITY).count()
    };
    assert_eq!(certificates(&desk), 1);
    run(&mut publish).exits(0).says("bundle (was there)");
    assert_eq!(certificates(&desk), 1);

    let reference = desk.reference();
    let pull = |by: &[&str]| {
        let command = ["pull", &reference, "-o", "out.wasm"];
        run(&mut desk.command(&[&command, ROOT, by]))
    };
    pull(BY_WORKFLOW).exits(5).says("its certificate names");
    assert_eq!(desk.artifact.pulled(), None);
    pull(&[
        "--certificate-identity",
        PIPELINE,
        "--certificate-oidc-issuer",
        GITLAB,
    ])
    .exits(0);
    assert_eq!(desk.artifact.pulled().as_ref(), Some(&desk.artifact.wasm));

    let json = desk
        .verify(&[
            "--certificate-identity-regexp",
            r"^https://gitlab\.com/acme/.*$",
            "--certificate-oidc-issuer-regexp",
            r"^https://gitlab\.com$",
            "--json",
        ])
        .exits(0)
        .json();
    assert_eq!(json["signature"]["certificate"]["identity"], PIPELINE);
    assert_eq!(json["signature"]["certificate"]["issuer"], GITLAB);
}

#[test]
fn a_layout_is_signed_too() {
    let registry = Registry::start();
    let desk = Desk::new(registry.host());
    let layout = format!("oci:target/edgepack/oci@{}", desk.artifact.digest);
    let sign = ["sign", &layout, "--identity-token", "env:TOKEN"];
    let mut sign = desk.command(&[&sign, SIGN]);
    run(sign.env("TOKEN", github_token())).exits(0);
    run(&mut desk.command(&[&["verify", &layout], ROOT, BY_WORKFLOW])).exits(0);
    // Publishing takes it along.
    desk.artifact.publish(&desk.host, &[]).exits(0);
    desk.verify(BY_WORKFLOW).exits(0);
}

/// Which of a CI's identity, a key and nothing is taken, and that it is said.
#[test]
fn auto_takes_what_is_there() {
    let registry = Registry::start();
    let desk = Desk::new(registry.host());
    keygen(&desk.artifact.place, "k");
    let publish = |vars: &[(&str, &str)], more: &[&str]| {
        let mut command = desk.artifact.publish_command(&desk.host, more);
        let token = gitlab_token();
        command
            .env("COSIGN_PASSWORD", crate::support::signed::PASSWORD)
            .env("EDGEPACK_SIGNING_CONFIG", "signing_config.json")
            .env("EDGEPACK_TRUSTED_ROOT", "trusted_root.json");
        for (name, value) in vars {
            let value = if *value == "TOKEN" { &token } else { *value };
            command.env(name, value);
        }
        run(&mut command).exits(0)
    };
    let key = ("EDGEPACK_SIGNING_KEY", "k.key");
    let identity = ("SIGSTORE_ID_TOKEN", "TOKEN");
    publish(&[], &[])
        .says("this run signs nothing: there is no key")
        .says("with --sign none this note is not made");
    publish(&[], &["--sign", "auto"])
        .says("this run signs nothing: there is no key")
        .says_not("--sign none");
    publish(&[("GITHUB_ACTIONS", "true")], &[]).says("permissions: id-token: write");
    publish(&[("GITLAB_CI", "true")], &[]).says("id_tokens: SIGSTORE_ID_TOKEN");
    publish(&[], &["--sign", "none"]).says_not("sign");
    publish(&[("EDGEPACK_SIGNING_KEY", "")], &[]).says("EDGEPACK_SIGNING_KEY is set to nothing");
    publish(&[("SIGSTORE_ID_TOKEN", "")], &[]).says("SIGSTORE_ID_TOKEN is set to nothing");
    publish(&[key, identity], &["--sign", "none"]).says_not("sign");
    publish(&[key], &[])
        .says("signing with the key `k.key`; --sign none leaves that out")
        .says("legacy (made)");
    publish(&[key, identity], &[])
        .says("signing without a key, with the identity token in SIGSTORE_ID_TOKEN, and not with the key")
        .says("bundle (made)");
    publish(&[identity], &["--key", "k.key"]).says("bundle (was there)");
    let by = ["--certificate-identity", PIPELINE];
    let by = [&by[..], &["--certificate-oidc-issuer", GITLAB]].concat();
    desk.verify(&by).exits(0);

    // Without a word about how, `sign` does the same.
    let reference = desk.reference();
    let mut sign = desk.command(&[&["sign", &reference], SIGN]);
    run(sign.env("SIGSTORE_ID_TOKEN", gitlab_token()))
        .exits(0)
        .says("bundle (was there)");
    let mut sign = desk.command(&[&["sign", &reference], SIGN]);
    run(&mut sign).exits(2).says("no key to sign with");
    let mut sign = desk.command(&[&["sign", &reference, "--keyless"], SIGN]);
    run(&mut sign).exits(2).says("no CI offers a token");
}

#[test]
fn github_is_asked_for_a_token() {
    let registry = Registry::start();
    let desk = Desk::published(registry.host());
    let reference = desk.reference();
    let signed = |secret: &str| {
        let mut sign = desk.command(&[&["sign", &reference, "--keyless"], SIGN]);
        run(sign
            .env("ACTIONS_ID_TOKEN_REQUEST_URL", desk.sigstore.runner())
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", secret))
    };
    let wrong = "another-secret-of-a-runner";
    let refused = signed(wrong).exits(6).says("401").says_not(wrong);
    refused.says("id-token: write").says_not("login");
    desk.sigstore.quirk(Quirk::Status(Quirk::RUNNER, 403));
    let refused = signed(RUNNER_SECRET).exits(6).says("403");
    refused.says("id-token: write").says_not("packages");
    // The secret is for the runner, wherever that points to.
    let elsewhere = Sigstore::start();
    desk.sigstore
        .quirk(Quirk::Redirect(Quirk::RUNNER, elsewhere.url()));
    signed(RUNNER_SECRET).exits(6).says("307");
    assert!(elsewhere.seen().is_empty());
    desk.sigstore.quirk(Quirk::None);
    signed(RUNNER_SECRET).exits(0).says_not(RUNNER_SECRET);
    desk.verify(BY_WORKFLOW).exits(0);
    // Over plain HTTP it is sent to nobody else.
    let mut sign = desk.command(&[&["sign", &reference, "--keyless"], SIGN]);
    run(sign
        .env(
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "http://runner.example/token",
        )
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", RUNNER_SECRET))
    .exits(2)
    .says("over https")
    .says_not(RUNNER_SECRET);
}

/// Neither the tool nor a service that repeats it shows a token, and no other host
/// gets it.
#[test]
fn tokens_stay_secret() {
    let registry = Registry::start();
    let desk = Desk::published(registry.host());
    let reference = desk.reference();
    let token = github_token();
    let sign = |by: &str| {
        let given = ["sign", &reference, "--identity-token", by];
        run(desk.command(&[&given, SIGN]).env("TOKEN", &token))
    };
    let secret = |done: Run| {
        for part in token.split('.') {
            assert!(!done.stderr.contains(part) && !done.stdout.contains(part));
        }
        done
    };
    desk.sigstore.quirk(Quirk::Status(Quirk::AUTHORITY, 403));
    secret(sign("env:TOKEN")).exits(5).says("403");
    let elsewhere = Sigstore::start();
    desk.sigstore
        .quirk(Quirk::Redirect(Quirk::AUTHORITY, elsewhere.url()));
    secret(sign("env:TOKEN")).exits(5).says("redirects");
    assert!(elsewhere.seen().is_empty());
    desk.sigstore.quirk(Quirk::None);
    desk.artifact.place.write("token.jwt", format!("{token}\n"));
    secret(sign("@token.jwt")).exits(0).says_not("command line");
    secret(sign(&token))
        .exits(0)
        .says("others on this machine can read the identity token");
    secret(sign("token.jwt")).exits(0);
}

/// A service that is not there, or does not want to, and input that is none.
#[test]
fn what_goes_wrong_when_signing() {
    let registry = Registry::start();
    let desk = Desk::published(registry.host());
    let failing = |quirk: Quirk| {
        desk.sigstore.quirk(quirk);
        let reference = desk.reference();
        let given = ["sign", &reference, "--identity-token", "env:TOKEN"];
        run(desk
            .command(&[&given, SIGN])
            .env("TOKEN", github_token())
            .env("EDGEPACK_RETRY_BASE_MS", "1")
            .env("EDGEPACK_REGISTRY_TIMEOUT", "1"))
    };
    for (service, name) in [
        (Quirk::AUTHORITY, "the certificate authority"),
        (Quirk::LOG, "the log"),
        (Quirk::CLOCK, "the timestamp authority"),
    ] {
        failing(Quirk::Status(service, 503))
            .exits(6)
            .says(name)
            .says("a key (--key) signs without services");
        failing(Quirk::Silent(service)).exits(6).says(name);
        failing(Quirk::Status(service, 200)).exits(5).says(name);
    }
    for status in [400, 404] {
        failing(Quirk::Status(Quirk::LOG, status))
            .exits(5)
            .says("the log")
            .says("majorApiVersion");
    }
    failing(Quirk::Status(Quirk::AUTHORITY, 400))
        .exits(5)
        .says("audience");
    // What does not verify is not written.
    for quirk in [Quirk::OtherAuthority, Quirk::NoSct, Quirk::WrongProof] {
        failing(quirk).exits(5).says("does not verify");
    }
    assert!(
        registry
            .referrers(REPOSITORY, &desk.artifact.digest)
            .is_empty()
    );
    failing(Quirk::None).exits(0);

    let reference = desk.reference();
    let sign = |token: &str, more: &[&str]| {
        let given = ["sign", &reference, "--identity-token", "env:TOKEN"];
        run(desk.command(&[&given, more]).env("TOKEN", token))
    };
    let old = token(&serde_json::json!({"iss": GITHUB, "sub": "x", "exp": 1}));
    sign(&old, SIGN).exits(5).says("not valid any more");
    sign("nonsense", SIGN).exits(5).says("three parts");
    sign("", SIGN).exits(2).says("TOKEN");
    sign(&github_token(), ROOT)
        .exits(2)
        .says("--signing-config");
    desk.artifact.place.write("nonsense.json", "{");
    let config = ["--signing-config", "nonsense.json"];
    sign(&github_token(), &config)
        .exits(2)
        .says("signing config");
    let config = ["--signing-config", "nowhere.json"];
    sign(&github_token(), &config).exits(1).says("nowhere.json");
    let text = desk.sigstore.signing_config().to_string();
    let text = text.replace("127.0.0.1", "sigstore.example");
    desk.artifact.place.write("plain.json", text);
    let config = ["--signing-config", "plain.json"];
    sign(&github_token(), &config).exits(2).says("over https");
    let mut several = desk.sigstore.signing_config();
    several["tsaConfig"] = serde_json::json!({"selector": "EXACT", "count": 2});
    desk.artifact.place.write("two.json", several.to_string());
    sign(&github_token(), &["--signing-config", "two.json"])
        .exits(2)
        .says(r#""selector": "ANY""#);
    let format = ["--format", "legacy"];
    sign(&github_token(), &[SIGN, &format].concat())
        .exits(2)
        .says("bundles alone");
    let both = ["--key", "k.key"];
    sign(&github_token(), &both).exits(2).says("exclude");
}

/// A service where nobody listens, and the public instance where there is no network.
#[test]
fn services_that_are_not_there() {
    let registry = Registry::start();
    let desk = Desk::published(registry.host());
    let gone = Sigstore::start();
    gone.describe(&desk.artifact.place);
    drop(gone);
    let reference = desk.reference();
    let given = ["sign", &reference, "--identity-token", "env:TOKEN"];
    run(desk
        .command(&[&given, SIGN])
        .env("TOKEN", github_token())
        .env("EDGEPACK_RETRY_BASE_MS", "1"))
    .exits(6)
    .says("cannot be reached");
    // A proxy that is not there keeps it from the network, wherever this runs.
    let mut public = desk.command(&[&["verify", &reference], BY_WORKFLOW]);
    run(public
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .env("EDGEPACK_CACHE_DIR", desk.artifact.place.join("cache")))
    .exits(6)
    .says("the public instance of Sigstore cannot be reached");
}

#[test]
fn files_are_signed_without_a_key_too() {
    let desk = Desk::new("127.0.0.1:1".to_owned());
    let place = &desk.artifact.place;
    place.write("tool-1.2.3.tar.gz", "no module at all");
    let file = ["tool-1.2.3.tar.gz"];
    let sign = |more: &[&str]| {
        let mut command = desk.command(&[&["sign"], &file, more, SIGN]);
        run(command.env("TOKEN", github_token()))
    };
    let given = ["--identity-token", "env:TOKEN"];
    let signed = sign(&given).exits(0).says(WORKFLOW);
    assert_eq!(signed.stdout, "tool-1.2.3.tar.gz.sigstore.json\n");
    let verify = |by: &[&str]| run(&mut desk.command(&[&["verify"], &file, ROOT, by]));
    let json = verify(&[BY_WORKFLOW, &["--json"]].concat()).exits(0).json();
    assert_eq!(json["signature"]["certificate"]["identity"], WORKFLOW);
    let mut other = BY_WORKFLOW.to_vec();
    other[1] = "https://github.com/acme/widgets/.github/workflows/x.yml@refs/heads/main";
    verify(&other).exits(5).says("widgets");
    other = BY_WORKFLOW.to_vec();
    other[3] = GITLAB;
    verify(&other).exits(5).says(GITHUB);
    keygen(place, "k");
    let by_key = ["verify", "tool-1.2.3.tar.gz", "--key", "k.pub"];
    run(&mut desk.command(&[&by_key]))
        .exits(5)
        .says("certificate");

    // cosign reads ours, and we read cosign's.
    let Some(peers) = Peers::find() else { return };
    let bundle = ["--bundle", "tool-1.2.3.tar.gz.sigstore.json"];
    desk.cosign(
        &peers,
        &[&["verify-blob"], &bundle, ROOT, BY_WORKFLOW, &file],
    )
    .exits(0);
    let token = github_token();
    let by = ["--yes", "--identity-token", &token];
    desk.cosign(&peers, &[&["sign-blob"], &bundle, &by, SIGN, &file])
        .exits(0);
    verify(BY_WORKFLOW).exits(0);

    // One bundle, and two things in it.
    let path = place.join("tool-1.2.3.tar.gz.sigstore.json");
    let good = std::fs::read_to_string(&path).unwrap();
    let both = good.replacen(
        '{',
        r#"{"dsseEnvelope":{"payload":"","payloadType":"","signatures":[]},"#,
        1,
    );
    place.write("tool-1.2.3.tar.gz.sigstore.json", both);
    verify(BY_WORKFLOW)
        .exits(5)
        .says("both a DSSE envelope and");
    place.write("tool-1.2.3.tar.gz.sigstore.json", good);
    // Another file, and a log that does not prove anything.
    place.write("tool-1.2.3.tar.gz", "something else");
    verify(BY_WORKFLOW).exits(5).says("it signs another file");
    desk.sigstore.quirk(Quirk::CheckpointByOther);
    sign(&given).exits(5);
}
