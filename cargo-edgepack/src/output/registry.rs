//! What is printed of artifacts in registries.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use edgepack::error::Error;
use edgepack::inspect::{self, ArtifactInspection};
use edgepack::publish::Item;
use edgepack::pull::{Pulled, Resolved};
use edgepack::registry::failure::Failure;
use edgepack::report::{PublishReport, SignatureState, TagState};

use super::{BOLD, CYAN, GREEN, Printer, bytes, row, seconds, shown, styled, write_inspection};

impl Printer {
    /// A request that failed and is going to be tried again.
    pub fn retry(&self, failure: &Failure, wait: Duration) {
        if !self.quiet {
            let error = Error::from(failure.clone());
            say!(
                "{CYAN}note{CYAN:#}: {error}; trying again in {}",
                seconds(wait.as_secs_f64())
            );
        }
    }

    /// An interrupted upload that is about to come to a point to go on from.
    pub fn last_chunks(&self) {
        if !self.quiet {
            say!(
                "{CYAN}note{CYAN:#}: interrupted; waiting for the chunks that are on their way, so that the next run \
                 can go on from there (once more ends it at once)"
            );
        }
    }

    /// An artifact and where it is now, or would be.
    pub fn published(&self, report: &PublishReport, item: &Item) {
        if self.quiet {
            return;
        }
        let word = if report.dry_run {
            "would publish (nothing was sent, and no registry asked)"
        } else {
            "published"
        };
        say!("{GREEN}{word}{GREEN:#} {}", report.name);
        row("to", &report.repository);
        row("digest", report.digest.as_str());
        for tag in &report.tags {
            let state = match tag.state {
                TagState::Set => "set",
                TagState::Unchanged => "named it before",
                TagState::Skipped => "names another artifact, and was left to it",
                TagState::Planned => "would be set",
            };
            row("tag", &format!("{} ({state})", tag.name));
        }
        let state = |state| match state {
            SignatureState::Made => "made",
            SignatureState::Unchanged => "was there",
            SignatureState::Planned => "would be made",
        };
        for signature in &report.signatures {
            let state = state(signature.state);
            row("signature", &format!("{} ({state})", signature.format));
        }
        for attestation in &report.attestations {
            let state = state(attestation.state);
            row(
                "attested",
                &format!("{} ({state})", attestation.predicate_type),
            );
        }
        if report.dry_run {
            for blob in &item.bundle.blobs {
                row(
                    "blob",
                    &format!("{} {} {}", blob.digest, blob.media_type, bytes(blob.size)),
                );
            }
            for referrer in &item.bundle.referrers {
                row("referrer", referrer.manifest.digest.as_str());
            }
        } else if !item.bundle.referrers.is_empty() {
            let along = format!("{} that the layout has", item.bundle.referrers.len());
            row("referrers", &along);
        }
        let sent = if report.dry_run {
            String::new()
        } else {
            format!(", {} sent", bytes(report.sent))
        };
        row("size", &format!("{}{sent}", bytes(report.size)));
    }

    /// A module that was fetched.
    pub fn pulled(&self, path: &Path, resolved: &Resolved, pulled: &Pulled) {
        if self.quiet {
            return;
        }
        say!(
            "{GREEN}pulled{GREEN:#} {} ({}, {})",
            shown(path),
            pulled.kind,
            bytes(pulled.size)
        );
        row("from", &resolved.reference);
        row("sha256", pulled.digest.hex());
    }

    /// What an artifact says about itself, on stdout.
    pub fn artifact(&self, found: &ArtifactInspection) -> Result<(), Error> {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write_artifact(&mut text, found);
        if let Some(module) = &found.module {
            let _ = write_inspection(&mut text, Path::new("module"), module);
        }
        self.data(styled(&text).as_bytes())
    }
}

fn write_artifact(text: &mut String, found: &ArtifactInspection) -> std::fmt::Result {
    writeln!(text, "{BOLD}{}{BOLD:#}", found.reference)?;
    let facts = [
        ("config", Some(&found.config_type)),
        ("type", found.artifact_type.as_ref()),
        ("created", found.created.as_ref()),
        ("architecture", found.architecture.as_ref()),
        ("os", found.os.as_ref()),
    ];
    for (label, value) in facts {
        if let Some(value) = value {
            writeln!(text, "  {label:<13}{}", value.escape_debug())?;
        }
    }
    writeln!(text, "{BOLD}layers{BOLD:#}")?;
    for layer in &found.layers {
        let title = layer.title.as_deref().unwrap_or_default();
        writeln!(
            text,
            "{:>12}  {} {} {}",
            layer.size,
            layer.digest,
            layer.media_type.escape_debug(),
            title.escape_debug()
        )?;
    }
    writeln!(text, "{BOLD}annotations{BOLD:#}")?;
    for (key, value) in &found.annotations {
        writeln!(text, "  {}: {}", key.escape_debug(), value.escape_debug())?;
    }
    if let Some(component) = &found.component {
        if let Some(target) = &component.target {
            writeln!(text, "{BOLD}world{BOLD:#} {}", target.escape_debug())?;
        }
        writeln!(
            text,
            "{BOLD}imports{BOLD:#} (what it asks of its host, by its config: the layer was not fetched)"
        )?;
        for group in inspect::group(component.imports.iter().map(String::as_str)) {
            writeln!(text, "  {}", group.capability)?;
            for import in &group.imports {
                writeln!(text, "    {}", import.escape_debug())?;
            }
        }
        writeln!(text, "{BOLD}exports{BOLD:#}")?;
        for export in &component.exports {
            writeln!(text, "  {}", export.escape_debug())?;
        }
    }
    Ok(())
}
