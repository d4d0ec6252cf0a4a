//! What is printed of signatures.

use std::io::Write as _;
use std::path::Path;

use edgepack::sign::attach::Signed;
use edgepack::sign::trust::SignedBy;
use edgepack::sign::verify::Outcome;

use super::{GREEN, Printer, row, shown};

impl Printer {
    /// An artifact that was signed.
    pub fn signed(
        &self,
        name: &str,
        asked: &str,
        by: &SignedBy,
        signed: &[Signed],
        attested: &[(&str, bool)],
    ) {
        if self.quiet {
            return;
        }
        say!("{GREEN}signed{GREEN:#} {name}");
        if asked != name {
            row("for", &format!("{asked}, which stands for this digest now"));
        }
        for signature in signed {
            let state = if signature.new { "made" } else { "was there" };
            row("signature", &format!("{} ({state})", signature.format));
        }
        for (kind, new) in attested {
            let state = if *new { "made" } else { "was there" };
            row("attested", &format!("{kind} ({state})"));
        }
        row(role(by), &by.to_string());
    }

    /// An artifact of which all holds that was asked for.
    pub fn verified(&self, name: &str, outcome: &Outcome) {
        if self.quiet {
            return;
        }
        let verified = &outcome.signature;
        say!("{GREEN}verified{GREEN:#} {name}");
        row(
            "signature",
            &format!("{} in {}", verified.format, verified.manifest),
        );
        row(role(&verified.by), &verified.by.to_string());
        for (kind, verified) in &outcome.attestations {
            row(kind.name(), &format!("in {}", verified.manifest));
            for (name, value) in kind.facts(&verified.predicate) {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                row("", &format!("{}: {value}", name.replace('_', " ")));
            }
        }
    }

    /// A file that was signed.
    pub fn signed_file(&self, file: &Path, bundle: &Path, by: &SignedBy) {
        if self.quiet {
            return;
        }
        say!("{GREEN}signed{GREEN:#} {}", shown(file));
        row("bundle", &bundle.display().to_string());
        row(role(by), &by.to_string());
    }

    /// A file whose signature holds.
    pub fn verified_file(&self, file: &Path, place: &str, by: &SignedBy) {
        if self.quiet {
            return;
        }
        say!("{GREEN}verified{GREEN:#} {}", shown(file));
        row("signature", place);
        row(role(by), &by.to_string());
    }
}

fn role(by: &SignedBy) -> &'static str {
    match by {
        SignedBy::Key { .. } => "key",
        SignedBy::Certificate { .. } => "identity",
    }
}
