//! Findings: what is wrong, doubtful or worth knowing about a module.
//!
//! Each has a stable code with an entry in `docs/findings.md`; a test holds the
//! two together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::exit_code;

/// How much a finding weighs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Something was left undone; the result is sound.
    Warning,
    /// The module must not ship.
    Error,
}

/// The stable name of a kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The binary does not validate.
    InvalidWasm,
    /// An import is outside `check.allow-imports`.
    ImportNotAllowed,
    /// The module is larger than `budget.raw`.
    BudgetRaw,
    /// The module, compressed, is larger than `budget.gzip`.
    BudgetGzip,
    /// A variant was asked for that takes core modules only, and this is a component.
    VariantNeedsModule,
    /// The optimiser cannot read the module; it was stripped only.
    OptimizerUnreadable,
    /// The optimiser crashed or met a limit; the module was stripped only.
    OptimizerFailed,
    /// What the optimiser wrote was not valid within the input's proposals and was dropped.
    OptimizerRejected,
    /// The module traps when it is instantiated; it was stripped only.
    TrapsAtInstantiation,
    /// Custom sections were dropped that are neither names nor debug information.
    SectionsDropped,
    /// A signature inside the module ends with the first byte that changes; it was dropped.
    SignatureDropped,
    /// A result in the cache does not follow from the module; it was removed.
    CacheMismatch,
    /// The module asks its host for what the one that it is compared with did not.
    ImportsAdded,
}

impl Code {
    /// Every code, in the order of the documentation.
    pub const ALL: [Code; 13] = [
        Code::InvalidWasm,
        Code::ImportNotAllowed,
        Code::BudgetRaw,
        Code::BudgetGzip,
        Code::VariantNeedsModule,
        Code::OptimizerUnreadable,
        Code::OptimizerFailed,
        Code::OptimizerRejected,
        Code::TrapsAtInstantiation,
        Code::SectionsDropped,
        Code::SignatureDropped,
        Code::CacheMismatch,
        Code::ImportsAdded,
    ];

    /// The code as it is printed and documented.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Code::InvalidWasm => "invalid-wasm",
            Code::ImportNotAllowed => "import-not-allowed",
            Code::BudgetRaw => "budget-raw",
            Code::BudgetGzip => "budget-gzip",
            Code::VariantNeedsModule => "variant-needs-module",
            Code::OptimizerUnreadable => "optimizer-unreadable",
            Code::OptimizerFailed => "optimizer-failed",
            Code::OptimizerRejected => "optimizer-rejected",
            Code::TrapsAtInstantiation => "traps-at-instantiation",
            Code::SectionsDropped => "sections-dropped",
            Code::SignatureDropped => "signature-dropped",
            Code::CacheMismatch => "cache-mismatch",
            Code::ImportsAdded => "imports-added",
        }
    }

    /// What it means, in one line.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Code::InvalidWasm => "The binary does not validate",
            Code::ImportNotAllowed => "An import is not allowed",
            Code::BudgetRaw => "The module is over its budget",
            Code::BudgetGzip => "The module is over its budget after gzip",
            Code::VariantNeedsModule => "The variant takes core modules alone",
            Code::OptimizerUnreadable => "The optimiser cannot read the module",
            Code::OptimizerFailed => "The optimiser failed",
            Code::OptimizerRejected => "The optimiser's result was not valid",
            Code::TrapsAtInstantiation => "The module traps when it is instantiated",
            Code::SectionsDropped => "Custom sections were dropped",
            Code::SignatureDropped => "A signature inside the module was dropped",
            Code::CacheMismatch => "A result in the cache was of another module",
            Code::ImportsAdded => "The module asks its host for more than before",
        }
    }

    /// How much findings with this code weigh.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Code::InvalidWasm
            | Code::ImportNotAllowed
            | Code::BudgetRaw
            | Code::BudgetGzip
            | Code::VariantNeedsModule => Severity::Error,
            Code::OptimizerUnreadable
            | Code::OptimizerFailed
            | Code::OptimizerRejected
            | Code::TrapsAtInstantiation
            | Code::SignatureDropped
            | Code::CacheMismatch => Severity::Warning,
            Code::SectionsDropped | Code::ImportsAdded => Severity::Note,
        }
    }

    /// The exit code of a run with such a finding, where it is an error.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Code::BudgetRaw | Code::BudgetGzip => exit_code::BUDGET,
            _ if self.severity() == Severity::Error => exit_code::VALIDATION,
            _ => exit_code::OK,
        }
    }
}

/// One finding about one module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Its stable code.
    pub code: Code,
    /// Its weight.
    pub severity: Severity,
    /// What was found: a fragment that names the import, the section, the sizes.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    /// A finding with the severity of its code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Finding {
            code,
            severity: code.severity(),
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The exit code for a set of findings: validation before budget, 0 where none is
/// an error.
#[must_use]
pub fn exit_code_of<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> u8 {
    findings
        .into_iter()
        .filter(|f| f.severity == Severity::Error)
        .map(|f| f.code.exit_code())
        .min()
        .unwrap_or(exit_code::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented_and_nothing_else_is() {
        let docs = include_str!("../docs/findings.md");
        let documented: Vec<&str> = docs
            .lines()
            .filter_map(|l| l.strip_prefix("## `")?.strip_suffix('`'))
            .collect();
        let codes: Vec<&str> = Code::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(documented, codes);
    }

    #[test]
    fn names_are_what_the_report_holds() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        }
    }

    #[test]
    fn validation_outweighs_budget() {
        let budget = Finding::new(Code::BudgetRaw, "");
        let import = Finding::new(Code::ImportNotAllowed, "");
        let note = Finding::new(Code::SectionsDropped, "");
        assert_eq!(
            exit_code_of([&budget, &import, &note]),
            exit_code::VALIDATION
        );
        assert_eq!(exit_code_of([&budget, &note]), exit_code::BUDGET);
        assert_eq!(exit_code_of([&note]), exit_code::OK);
    }
}
