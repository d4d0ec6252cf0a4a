//! What is printed of signatures.

use std::io::Write as _;

use edgepack::sign::attach::Signed;
use edgepack::sign::trust::SignedBy;
use edgepack::sign::verify::Verified;

use super::{GREEN, Printer, row};

impl Printer {
    /// An artifact that was signed.
    pub fn signed(&self, name: &str, asked: &str, by: &SignedBy, signed: &[Signed]) {
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
        row(role(by), &by.to_string());
    }

    /// An artifact whose signature holds.
    pub fn verified(&self, name: &str, verified: &Verified) {
        if self.quiet {
            return;
        }
        say!("{GREEN}verified{GREEN:#} {name}");
        row(
            "signature",
            &format!("{} in {}", verified.format, verified.manifest),
        );
        row(role(&verified.by), &verified.by.to_string());
    }
}

fn role(by: &SignedBy) -> &'static str {
    match by {
        SignedBy::Key { .. } => "key",
        SignedBy::Certificate { .. } => "identity",
    }
}
