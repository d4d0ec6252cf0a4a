//! The tests' own registry, checked by a client that is not ours.

use http::HeaderMap;
use oci_client::client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};
use oci_client::client::{Config, ImageLayer};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, errors::OciDistributionError};
use serde_json::{Value, json};

use crate::support::registry::{Auth, Fault, Lifetime, Mount, Options, Registry, Tls};

const TYPE: &str = "application/wasm";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn config() -> ClientConfig {
    ClientConfig {
        protocol: ClientProtocol::Http,
        ..ClientConfig::default()
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn layer(length: usize) -> ImageLayer {
    let bytes: Vec<u8> = (0..251).cycle().take(length).collect();
    ImageLayer::new(bytes, TYPE.to_owned(), None)
}

fn push(
    registry: &Registry,
    config: ClientConfig,
    auth: &RegistryAuth,
    layer: &ImageLayer,
) -> Result<(), OciDistributionError> {
    let reference: Reference = registry.reference("acme/app:1.0.0").parse().unwrap();
    let settings = Config::new(b"{}".to_vec(), "application/vnd.test+json".to_owned(), None);
    let client = Client::new(config);
    let layers = [layer.clone()];
    wait(client.push(&reference, &layers, settings, auth, None)).map(|_| ())
}

fn pull(
    registry: &Registry,
    config: ClientConfig,
    auth: &RegistryAuth,
) -> Result<Vec<u8>, OciDistributionError> {
    let reference: Reference = registry.reference("acme/app:1.0.0").parse().unwrap();
    let client = Client::new(config);
    let image = wait(client.pull(&reference, auth, vec![TYPE]))?;
    Ok(image.layers[0].data.to_vec())
}

/// A request as it stands, with what came back.
fn ask(registry: &Registry, request: &str) -> (u16, HeaderMap, Vec<u8>) {
    try_ask(registry, request).unwrap()
}

fn try_ask(registry: &Registry, request: &str) -> Option<(u16, HeaderMap, Vec<u8>)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(registry.host()).unwrap();
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let headers = if headers.is_empty() {
        String::new()
    } else {
        format!("{}\r\n", headers.replace('\n', "\r\n"))
    };
    let text = format!(
        "{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).ok()?;
    let end = reply.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8(reply[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers = lines
        .filter_map(|l| l.split_once(": "))
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let headers = headers.collect();
    let body = reply[end + 4..].to_vec();
    Some((status.parse().unwrap(), headers, body))
}

/// A digest of nothing that is there.
fn another(digest: &str) -> String {
    let end = if digest.ends_with('0') { "1" } else { "0" };
    format!("{}{end}", &digest[..digest.len() - 1])
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn what_is_pushed_comes_back() {
    for monolithic in [false, true] {
        for relative_location in [false, true] {
            let registry = Registry::with(Options {
                relative_location,
                ..Options::default()
            });
            let layer = layer(10_000_000);
            let settings = || ClientConfig {
                use_monolithic_push: monolithic,
                ..config()
            };
            push(&registry, settings(), &RegistryAuth::Anonymous, &layer).unwrap();
            assert!(registry.is_complete("acme/app", "1.0.0"));
            assert_eq!(registry.open_uploads(), 0);
            let patched = registry.requests().iter().any(|r| r.method == "PATCH");
            assert_ne!(patched, monolithic);
            let found = pull(&registry, settings(), &RegistryAuth::Anonymous).unwrap();
            assert_eq!(found, layer.data);
        }
    }
}

#[test]
fn it_lets_in_who_may() {
    let right = RegistryAuth::Basic("me".to_owned(), "secret".to_owned());
    let wrong = RegistryAuth::Basic("me".to_owned(), "guess".to_owned());
    for auth in [
        Auth::basic("me", "secret"),
        Auth::bearer("me", "secret", Lifetime::Forever),
    ] {
        let registry = Registry::with(Options {
            auth,
            ..Options::default()
        });
        let layer = layer(1000);
        assert!(push(&registry, config(), &wrong, &layer).is_err());
        assert!(push(&registry, config(), &RegistryAuth::Anonymous, &layer).is_err());
        assert!(registry.tags("acme/app").is_empty());
        push(&registry, config(), &right, &layer).unwrap();
        assert!(registry.is_complete("acme/app", "1.0.0"));
        assert_eq!(pull(&registry, config(), &right).unwrap(), layer.data);
    }
}

#[test]
fn tokens_end() {
    let right = RegistryAuth::Basic("me".to_owned(), "secret".to_owned());
    let registry = Registry::with(Options {
        auth: Auth::bearer("me", "secret", Lifetime::Requests(2)),
        ..Options::default()
    });
    // This client does not ask for another one.
    assert!(push(&registry, config(), &right, &layer(1000)).is_err());
    let statuses: Vec<_> = registry.requests().iter().map(|r| r.status).collect();
    assert_eq!(statuses, [401, 200, 202, 202, 401]);
}

#[test]
fn it_speaks_tls() {
    let tls = Tls::new();
    let registry = Registry::with(Options {
        tls: Some(tls.clone()),
        ..Options::default()
    });
    let trusting = || ClientConfig {
        extra_root_certificates: vec![Certificate {
            encoding: CertificateEncoding::Pem,
            data: tls.ca_pem().as_bytes().to_vec(),
        }],
        ..ClientConfig::default()
    };
    let layer = layer(1_000_000);
    push(&registry, trusting(), &RegistryAuth::Anonymous, &layer).unwrap();
    let found = pull(&registry, trusting(), &RegistryAuth::Anonymous).unwrap();
    assert_eq!(found, layer.data);
    assert!(pull(&registry, ClientConfig::default(), &RegistryAuth::Anonymous).is_err());
}

#[test]
fn each_fault_is_felt() {
    let layer = layer(100_000);
    let registry = Registry::start();
    push(&registry, config(), &RegistryAuth::Anonymous, &layer).unwrap();
    let clean = registry.requests().len();
    for fault in [
        Fault::Reset,
        Fault::ResetAfter(10),
        Fault::LoseAnswer,
        Fault::status(503),
        Fault::Raw(b"HTTP/1.1 200 O".to_vec()),
    ] {
        for n in 0..clean {
            let registry = Registry::start();
            registry.nth(n, fault.clone());
            let done = push(&registry, config(), &RegistryAuth::Anonymous, &layer);
            let asked = registry.requests();
            // It does not mind what becomes of `GET /v2/`, and where it had sent
            // nothing yet on a used connection, it asks once more.
            assert!(
                asked[n].path == "/v2/"
                    || done.is_err() && asked.len() == n + 1
                    || asked.len() == clean + 1,
                "{fault:?} at {n} of {clean}: {done:?}, {asked:#?}"
            );
        }
    }
    for fault in [Fault::Truncate(7), Fault::Endless, Fault::Body(vec![7; 7])] {
        registry.fault({
            let fault = fault.clone();
            move |request| request.gets("/manifests/").then(|| fault.clone())
        });
        if !matches!(fault, Fault::Endless) {
            assert!(pull(&registry, config(), &RegistryAuth::Anonymous).is_err());
        }
    }
    registry.heal();
    assert!(pull(&registry, config(), &RegistryAuth::Anonymous).is_ok());
}

#[test]
fn a_chunk_that_breaks_off_is_kept_and_told() {
    let registry = Registry::with(Options {
        relative_location: true,
        ..Options::default()
    });
    let (status, headers, _) = ask(&registry, "POST /v2/a/blobs/uploads/");
    assert_eq!(status, 202);
    let at = headers["location"].to_str().unwrap().to_owned();
    let (status, headers, _) = ask(
        &registry,
        &format!("PATCH {at}\nContent-Range: 0-3\n\nabcd"),
    );
    assert_eq!((status, &headers["range"]), (202, &"0-3".parse().unwrap()));
    let at = headers["location"].to_str().unwrap().to_owned();
    // Out of order.
    let (status, headers, _) = ask(&registry, &format!("PATCH {at}\nContent-Range: 7-8\n\nxy"));
    assert_eq!((status, &headers["range"]), (416, &"0-3".parse().unwrap()));
    registry.nth(0, Fault::ResetAfter(2));
    let patch = format!("PATCH {at}\nContent-Range: 4-7\n\nefgh");
    assert!(try_ask(&registry, &patch).is_none());
    let (status, headers, _) = ask(&registry, &format!("GET {at}"));
    assert_eq!((status, &headers["range"]), (204, &"0-5".parse().unwrap()));
    let (status, _, body) = ask(&registry, &format!("PUT {at}&digest=sha256:00\n\ngh"));
    assert_eq!(
        (status, &json(&body)["errors"][0]["code"]),
        (400, &json!("DIGEST_INVALID"))
    );
    assert_eq!(registry.open_uploads(), 0);
}

#[test]
fn mounts_and_limits() {
    let registry = Registry::with(Options {
        chunk_max: Some(10),
        monolithic_only: true,
        ..Options::default()
    });
    let digest = registry.put_blob("a", "abc");
    let mount = format!("POST /v2/b/blobs/uploads/?mount={digest}&from=a");
    assert_eq!(ask(&registry, &mount).0, 201);
    assert_eq!(registry.blob("b", &digest).unwrap(), b"abc");
    let (_, headers, _) = ask(&registry, "POST /v2/b/blobs/uploads/");
    let at = headers["location"].to_str().unwrap();
    let at = at
        .strip_prefix(&format!("http://{}", registry.host()))
        .unwrap();
    assert_eq!(ask(&registry, &format!("PATCH {at}\n\nabc")).0, 405);
    let put = format!("PUT {at}&digest={digest}\n\nabcdefghijk");
    assert_eq!(ask(&registry, &put).0, 413);
    let put = format!("PUT {at}&digest={digest}\n\nabc");
    assert_eq!(ask(&registry, &put).0, 201);

    let registry = Registry::with(Options {
        mount: Mount::Refused202,
        ..Options::default()
    });
    registry.put_blob("a", "abc");
    assert_eq!(ask(&registry, &mount).0, 202);
}

#[test]
fn blobs_in_parts() {
    let registry = Registry::start();
    let digest = registry.put_blob("a/b", "0123456789");
    let get = |range: &str| {
        let (status, headers, body) = ask(
            &registry,
            &format!("GET /v2/a/b/blobs/{digest}\nRange: bytes={range}"),
        );
        let range = headers.get("content-range");
        let range = range.map(|r| r.to_str().unwrap().to_owned());
        (status, range.unwrap_or_default(), body)
    };
    assert_eq!(get("3-4"), (206, "bytes 3-4/10".to_owned(), b"34".to_vec()));
    assert_eq!(get("8-"), (206, "bytes 8-9/10".to_owned(), b"89".to_vec()));
    assert_eq!(get("-1"), (206, "bytes 9-9/10".to_owned(), b"9".to_vec()));
    assert_eq!(get("10-").0, 416);
    let (status, headers, body) = ask(&registry, &format!("HEAD /v2/a/b/blobs/{digest}"));
    assert_eq!((status, body.len()), (200, 0));
    assert_eq!(headers["content-length"], "10");
    let unknown = another(&digest);
    assert_eq!(
        ask(&registry, &format!("HEAD /v2/a/b/blobs/{unknown}")).0,
        404
    );
}

#[test]
fn manifests_are_checked() {
    let registry = Registry::start();
    let digest = registry.put_blob("a", "{}");
    let descriptor = |digest: &str| OciDescriptor {
        media_type: "application/vnd.test+json".to_owned(),
        digest: digest.to_owned(),
        size: 2,
        ..OciDescriptor::default()
    };
    let manifest = |config: &str, subject: Option<&str>| {
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.test.statement",
            "config": descriptor(config),
            "layers": [],
        });
        if let Some(subject) = subject {
            manifest["subject"] = json!(descriptor(subject));
        }
        manifest.to_string()
    };
    let put = |reference: &str, manifest: &str| {
        let request = format!("PUT /v2/a/manifests/{reference}\nContent-Type: {MANIFEST}\n\n");
        ask(&registry, &(request + manifest))
    };
    let other = another(&digest);
    let (status, _, body) = put("x", &manifest(&other, None));
    assert_eq!(status, 404);
    assert_eq!(json(&body)["errors"][0]["code"], "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(put(&other, &manifest(&digest, None)).0, 400);
    assert_eq!(put("x", "{}").0, 400);
    let (status, headers, _) = put("x", &manifest(&digest, Some(&other)));
    assert_eq!(
        (status, &headers["oci-subject"]),
        (201, &other.parse().unwrap())
    );

    let found = ask(&registry, &format!("GET /v2/a/referrers/{other}"));
    let found = json(&found.2);
    assert_eq!(found["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(
        found["manifests"][0]["artifactType"],
        "application/vnd.test.statement"
    );
    let filtered = format!("GET /v2/a/referrers/{other}?artifactType=none");
    let (_, headers, body) = ask(&registry, &filtered);
    assert_eq!(headers["oci-filters-applied"], "artifactType");
    assert_eq!(json(&body)["manifests"], json!([]));
}

#[test]
fn tags_come_in_pages() {
    let registry = Registry::start();
    for tag in ["a", "b", "c", "d", "e"] {
        registry.put_manifest("x", tag, MANIFEST, tag);
    }
    let mut found = Vec::new();
    let mut next = "/v2/x/tags/list?n=2".to_owned();
    for _ in 0..3 {
        let (status, headers, body) = ask(&registry, &format!("GET {next}"));
        assert_eq!(status, 200);
        let tags = json(&body)["tags"].as_array().unwrap().clone();
        found.extend(tags.iter().map(|t| t.as_str().unwrap().to_owned()));
        let link = headers.get("link").map(|l| l.to_str().unwrap());
        next = link.map_or(String::new(), |l| {
            l.split(['<', '>']).nth(1).unwrap().to_owned()
        });
    }
    assert_eq!(found.concat(), "abcde");
    assert_eq!(next, "");
}
