//! The log that signatures go into: a Merkle tree and a signed head.
//! <https://www.rfc-editor.org/rfc/rfc6962#section-2.1>,
//! <https://github.com/C2SP/C2SP/blob/main/tlog-checkpoint.md>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Quirk;

/// As the trusted root has it: the host, without the port.
const ORIGIN: &str = "127.0.0.1";

type Hash = [u8; 32];

pub struct Log {
    pub key: KeyPair,
    other: KeyPair,
    leaves: Vec<Hash>,
}

fn hash(kind: u8, parts: &[&[u8]]) -> Hash {
    Sha256::digest([&[kind][..], &parts.concat()].concat()).into()
}

/// The largest power of two below `n`.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

fn root(leaves: &[Hash]) -> Hash {
    if let [leaf] = leaves {
        return *leaf;
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    hash(1, &[&root(left), &root(right)])
}

fn proof(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, sibling) = if index < left.len() {
        (proof(index, left), root(right))
    } else {
        (proof(index - left.len(), right), root(left))
    };
    path.push(sibling);
    path
}

/// By what bundles and trusted roots name the log.
pub fn id(key: &KeyPair) -> Hash {
    let named = [ORIGIN.as_bytes(), b"\n\x01", key.der_bytes()].concat();
    Sha256::digest(named).into()
}

impl Log {
    pub fn new() -> Self {
        let key = || KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        Log {
            key: key(),
            other: key(),
            // Somebody was there before, so that there is something to prove.
            leaves: (0..5_u8).map(|n| hash(0, &[&[n]])).collect(),
        }
    }

    /// An entry as clients send it; with its proof.
    pub fn append(&mut self, request: &Value, quirk: &Quirk) -> Value {
        let request = &request["hashedRekordRequestV002"];
        let body = json!({
            "apiVersion": "0.0.2",
            "kind": "hashedrekord",
            "spec": {"hashedRekordV002": {
                "data": {"algorithm": "SHA2_256", "digest": request["digest"]},
                "signature": request["signature"],
            }},
        })
        .to_string();
        self.leaves.push(hash(0, &[body.as_bytes()]));
        let index = self.leaves.len() - 1;
        let mut path = proof(index, &self.leaves);
        if *quirk == Quirk::WrongProof {
            path[0][0] ^= 1;
        }
        let top = STANDARD.encode(root(&self.leaves));
        let note = format!("{ORIGIN}\n{}\n{top}\n", self.leaves.len());
        let key = match quirk {
            Quirk::CheckpointByOther => &self.other,
            _ => &self.key,
        };
        // A forger would use the name of the one that is trusted.
        let hint = &id(&self.key)[..4];
        let signature = STANDARD.encode([hint, &key.sign(note.as_bytes()).unwrap()].concat());
        json!({
            "logIndex": index.to_string(),
            "logId": {"keyId": STANDARD.encode(id(&self.key))},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "inclusionProof": {
                "logIndex": index.to_string(),
                "rootHash": top,
                "treeSize": self.leaves.len().to_string(),
                "hashes": path.iter().map(|h| STANDARD.encode(h)).collect::<Vec<_>>(),
                "checkpoint": {"envelope": format!("{note}\n\u{2014} {ORIGIN} {signature}\n")},
            },
            "canonicalizedBody": STANDARD.encode(body),
        })
    }
}
