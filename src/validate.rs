//! The check stage: is this binary sound, and may it ship?
//!
//! Soundness is the validator's word and is kept in a type: only [`validate`]
//! makes a [`Validated`]. Whether it may ship is the policy's: what it may import
//! and how large it may be. All findings are returned, not only the first.

use crate::cache::{Cache, Key};
use crate::finding::{Code, Finding};
use crate::oci::Digest;
use crate::report::{BudgetKind, BudgetReport};
use crate::size::ByteCount;
use crate::wasm::interface::{Interface, Patterns};
use crate::wasm::proposals::{self, Invalid, Proposals};
use crate::wasm::{Kind, Wasm};

/// A binary that validates as a whole, with what was learned on the way.
#[derive(Clone, Debug)]
pub struct Validated {
    wasm: Wasm,
    digest: Digest,
    proposals: Proposals,
    interface: Interface,
}

impl Validated {
    /// The binary.
    #[must_use]
    pub fn wasm(&self) -> &Wasm {
        &self.wasm
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The proposals that it takes to validate it.
    #[must_use]
    pub fn proposals(&self) -> Proposals {
        self.proposals
    }

    /// Its imports and exports.
    #[must_use]
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Gives the binary back, and the proof up.
    #[must_use]
    pub fn into_wasm(self) -> Wasm {
        self.wasm
    }
}

/// A binary that does not validate.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// The binary, as it came.
    pub wasm: Wasm,
    /// Why: at least one error.
    pub findings: Vec<Finding>,
}

/// What a valid binary is remembered under. Changes with what the validator takes for
/// valid, or for in use.
const KNOWN: &str = "valid/wasmparser-0.263";

/// Validates all of a binary against every proposal that the validator knows.
///
/// # Errors
///
/// [`Rejected`], with a finding for each broken function, where it is not valid.
pub fn validate(wasm: Wasm) -> Result<Validated, Rejected> {
    // Validating goes over the sections on one processor first: hash beside it.
    let (proposals, (digest, interface)) = rayon::join(
        || proposals::used_by(wasm.bytes(), wasm.kind()),
        || (Digest::of(wasm.bytes()), Interface::read(wasm.bytes())),
    );
    validated(wasm, digest, proposals, interface)
}

/// The same, but bytes that were found valid before are not validated again: that is
/// remembered by their digest.
///
/// # Errors
///
/// As [`validate`].
pub fn validate_once(wasm: Wasm, cache: &Cache) -> Result<Validated, Rejected> {
    let (digest, interface) = rayon::join(
        || Digest::of(wasm.bytes()),
        || Interface::read(wasm.bytes()),
    );
    let proposals = used_once(wasm.bytes(), wasm.kind(), &digest, cache);
    validated(wasm, digest, proposals, interface)
}

/// The proposals that a binary of that digest uses, from memory where it was found
/// valid before.
///
/// # Errors
///
/// [`Invalid`] where it does not validate; that is not remembered.
pub(crate) fn used_once(
    bytes: &[u8],
    kind: Kind,
    digest: &Digest,
    cache: &Cache,
) -> Result<Proposals, Invalid> {
    let key = Key::new(KNOWN, &[digest.as_str().as_bytes()]);
    let known = cache.get(&key).and_then(|entry| entry.try_into().ok());
    if let Some(bits) = known {
        return Ok(Proposals::from_bits(u64::from_le_bytes(bits)));
    }
    let proposals = proposals::used_by(bytes, kind)?;
    cache.put(&key, &proposals.bits().to_le_bytes());
    Ok(proposals)
}

fn validated(
    wasm: Wasm,
    digest: Digest,
    proposals: Result<Proposals, Invalid>,
    interface: wasmparser::Result<Interface>,
) -> Result<Validated, Rejected> {
    let read = proposals.and_then(|proposals| {
        let interface = interface.map_err(|error| Invalid {
            problems: vec![error],
        })?;
        Ok((proposals, interface))
    });
    match read {
        Ok((proposals, interface)) => Ok(Validated {
            wasm,
            digest,
            proposals,
            interface,
        }),
        Err(invalid) => Err(reject(wasm, &invalid)),
    }
}

fn reject(wasm: Wasm, invalid: &Invalid) -> Rejected {
    let hint = match wasm.kind() {
        Kind::Core => "a toolchain or a copy broke the file: build or download it again",
        Kind::Component => {
            "a toolchain or a copy broke the component, or a module inside it: build or download it again"
        }
    };
    let findings = invalid
        .problems
        .iter()
        .map(|p| Finding::new(Code::InvalidWasm, p.to_string().replace('\n', ": ")).with_hint(hint))
        .collect();
    Rejected { wasm, findings }
}

/// What a module must keep to before it ships.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Imports that it may have; `None` allows all.
    pub allow_imports: Option<Vec<String>>,
    /// The largest size of the file, in bytes.
    pub budget_raw: Option<ByteCount>,
    /// The largest size after gzip, in bytes.
    pub budget_gzip: Option<ByteCount>,
}

/// The imports that the policy does not allow.
#[must_use]
pub fn check_imports(module: &Validated, policy: &Policy) -> Vec<Finding> {
    let Some(allowed) = &policy.allow_imports else {
        return Vec::new();
    };
    let patterns = Patterns::new(allowed);
    module
        .interface
        .imports
        .iter()
        .filter(|import| !patterns.cover(&import.name))
        .map(|import| {
            Finding::new(
                Code::ImportNotAllowed,
                format!("the import `{}` is not allowed", import.name),
            )
            .with_hint(format!(
                "remove what needs it ({}), or add a pattern such as \"{}\" to check.allow-imports",
                crate::wasm::capability::of_import(&import.name),
                import
                    .name
                    .rsplit_once('@')
                    .map_or(import.name.as_str(), |(name, _)| name),
            ))
        })
        .collect()
}

/// The budgets that are set, beside the sizes in bytes. One for a size that nobody
/// measured is left out.
#[must_use]
pub fn budgets(raw: u64, gzip: Option<u64>, policy: &Policy) -> Vec<BudgetReport> {
    let compare = |kind, actual: Option<u64>, limit: Option<ByteCount>| {
        let (actual, ByteCount(limit)) = (actual?, limit?);
        Some(BudgetReport {
            kind,
            limit,
            actual,
            excess: actual.saturating_sub(limit),
        })
    };
    [
        compare(BudgetKind::Raw, Some(raw), policy.budget_raw),
        compare(BudgetKind::Gzip, gzip, policy.budget_gzip),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The budgets that are exceeded.
#[must_use]
pub fn check_budgets(budgets: &[BudgetReport]) -> Vec<Finding> {
    budgets
        .iter()
        .filter(|budget| budget.excess > 0)
        .map(|budget| {
            let what = match budget.kind {
                BudgetKind::Raw => "",
                BudgetKind::Gzip => "after gzip ",
            };
            Finding::new(
                budget.kind.code(),
                format!(
                    "{} bytes {what}exceed budget.{} = {} bytes ({}) by {}",
                    budget.actual,
                    budget.kind.name(),
                    budget.limit,
                    ByteCount(budget.limit),
                    budget.excess
                ),
            )
            .with_hint("see what takes the room with `cargo edgepack inspect`, or raise the budget")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_valid_once_is_remembered_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().into());
        let valid = "(module (func (export \"f\") (result i32) i32.const 1 i32.extend8_s))";
        let wasm = |text| Wasm::new(wat::parse_str(text).unwrap()).unwrap();
        let first = validate_once(wasm(valid), &cache).unwrap();
        assert_eq!(cache.contents().entries, 1);
        let again = validate_once(wasm(valid), &cache).unwrap();
        let plain = validate(wasm(valid)).unwrap();
        for one in [&first, &again] {
            assert_eq!(one.proposals(), plain.proposals());
            assert_eq!(one.digest(), plain.digest());
            assert_eq!(one.interface().exports.len(), 1);
        }
        let invalid = "(module (func (result i32)))";
        for _ in 0..2 {
            assert!(validate_once(wasm(invalid), &cache).is_err());
        }
        assert_eq!(cache.contents().entries, 1);
    }

    #[test]
    fn another_validator_remembers_nothing_of_this_one() {
        let manifest = include_str!("../Cargo.toml");
        let version = KNOWN.strip_prefix("valid/wasmparser-").unwrap();
        assert!(manifest.contains(&format!("wasmparser = \"{version}\"")));
    }

    #[test]
    fn budgets_are_hard_and_exact() {
        let policy = Policy {
            budget_raw: Some(ByteCount(10)),
            budget_gzip: Some(ByteCount(5)),
            ..Policy::default()
        };
        let kept = budgets(10, Some(5), &policy);
        assert_eq!(kept.len(), 2);
        assert_eq!(check_budgets(&kept), []);
        let over = check_budgets(&budgets(11, Some(6), &policy));
        assert_eq!(over.len(), 2);
        assert!(over[0].message.ends_with("by 1"), "{}", over[0].message);
    }
}
