//! Artifacts to publish, and the commands that do it.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wasm_encoder::{
    ConstExpr, DataSection, ExportKind, ExportSection, MemorySection, MemoryType, Module,
};

use super::tool::{Place, Run, run};

/// Where all tests publish to.
pub const REPOSITORY: &str = "acme/app";
pub const TAG: &str = "1.0.0";
/// Where `build` packs to, as the command line names it.
pub const LAYOUT: &str = "oci:target/edgepack/oci";

/// A valid module of about this size, which does not compress; another for each seed.
pub fn module(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let data: Vec<u8> = (0..size.div_ceil(8))
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: data.len().div_ceil(1 << 16) as u64,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    let mut segments = DataSection::new();
    segments.active(0, &ConstExpr::i32_const(0), data);
    let mut module = Module::new();
    module
        .section(&memories)
        .section(&exports)
        .section(&segments);
    module.finish()
}

pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// A packed module, in an image layout in a place of its own.
pub struct Artifact {
    pub place: Place,
    pub wasm: Vec<u8>,
    /// The manifest's digest, as `build` told it.
    pub digest: String,
}

impl Artifact {
    pub fn new(size: usize) -> Self {
        Self::seeded(size, 1)
    }

    pub fn seeded(size: usize, seed: u64) -> Self {
        Self::of(module(size, seed))
    }

    /// Packed without a change.
    pub fn of(wasm: Vec<u8>) -> Self {
        let place = Place::new();
        place.write("app.wasm", &wasm);
        let args = [
            "build",
            "app.wasm",
            "--no-shrink",
            "--as-version",
            TAG,
            "--message-format=json",
        ];
        let report = place.run(args).exits(0).json();
        let digest = report["packages"][0]["oci"]["manifest_digest"]
            .as_str()
            .unwrap()
            .to_owned();
        Artifact {
            place,
            wasm,
            digest,
        }
    }

    /// Adds a referrer to the layout, and gives its digest.
    pub fn attach(&self, artifact_type: &str, contents: &[u8]) -> String {
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        let layout = self.place.join("target/edgepack/oci");
        let put = |media_type: &str, bytes: &[u8]| {
            let digest = sha256(bytes);
            let name = digest.strip_prefix("sha256:").unwrap();
            fs::write(layout.join("blobs/sha256").join(name), bytes).unwrap();
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let index = layout.join("index.json");
        let mut entries: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
        let mut subject = entries["manifests"][0].clone();
        subject.as_object_mut().unwrap().remove("annotations");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact_type,
            "config": put("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [put(artifact_type, contents)],
            "subject": subject,
        });
        let mut entry = put(MANIFEST, manifest.to_string().as_bytes());
        entry["artifactType"] = json!(artifact_type);
        let digest = entry["digest"].as_str().unwrap().to_owned();
        entries["manifests"].as_array_mut().unwrap().push(entry);
        fs::write(index, entries.to_string()).unwrap();
        digest
    }

    /// `publish` to this registry, with more arguments.
    pub fn publish_command(&self, host: &str, more: &[&str]) -> Command {
        let repository = format!("{host}/{REPOSITORY}");
        let fixed = ["publish", LAYOUT, "--repository", &repository];
        let tag = if more.contains(&"--tag") {
            &[][..]
        } else {
            &["--tag", TAG]
        };
        self.place.command([&fixed, tag, more].concat())
    }

    pub fn publish(&self, host: &str, more: &[&str]) -> Run {
        run(&mut self.publish_command(host, more))
    }

    /// What stands on stdout when this was published.
    pub fn published(&self, host: &str) -> String {
        format!("{host}/{REPOSITORY}@{}\n", self.digest)
    }

    /// `pull` of the tag to `out.wasm`.
    pub fn pull_command(&self, host: &str) -> Command {
        let reference = format!("{host}/{REPOSITORY}:{TAG}");
        self.place.command(["pull", &reference, "-o", "out.wasm"])
    }

    pub fn pull(&self, host: &str) -> Run {
        run(&mut self.pull_command(host))
    }

    pub fn pulled(&self) -> Option<Vec<u8>> {
        fs::read(self.place.join("out.wasm")).ok()
    }

    /// Forgets what was pulled.
    pub fn unpull(&self) {
        let _ = fs::remove_file(self.place.join("out.wasm"));
    }
}

/// Lets the commands of a place know this user at this host.
pub fn log_in(place: &Place, host: &str, user: &str, password: &str) -> PathBuf {
    let auth = STANDARD.encode(format!("{user}:{password}"));
    let config = json!({"auths": {host: {"auth": auth}}});
    place.write(".home/.docker/config.json", config.to_string())
}

/// Runs a command that reads this from stdin.
pub fn run_with_input(command: &mut Command, input: &str) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended without a look at it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
