//! What `plan` shows.

use std::fmt::Write;

use edgepack::error::Error;
use edgepack::plan::Planned;

use super::Printer;

impl Printer {
    /// The plan, on stdout: it is the data that was asked for.
    pub fn planned(&self, plan: &Planned) -> Result<(), Error> {
        let mut text = String::new();
        for package in &plan.packages {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{} {} ({}, {})",
                package.name, package.version, package.target, package.profile
            );
            if let Some(changed) = &package.changed {
                let _ = writeln!(text, "  changed    {}", changed.escape_debug());
            }
            for artifact in &package.artifacts {
                let place = match &artifact.repository {
                    Some(repository) => format!("{repository}:{}", artifact.tags.join(",")),
                    None => "no repository is set".to_owned(),
                };
                let _ = writeln!(
                    text,
                    "  {:<10} {}: {place}",
                    artifact.variant, artifact.name
                );
            }
        }
        for skipped in &plan.skipped {
            self.note(&format!(
                "`{}` is left out: {}",
                skipped.name, skipped.reason
            ));
        }
        if plan.packages.is_empty() {
            self.note("no package changed");
        }
        self.data(text.as_bytes())
    }
}
