//! Which proposals a binary uses.
//!
//! The answer comes from the validator itself, not from a table of our own: it
//! starts with WebAssembly 1.0 alone, and each time the validator refuses
//! something for want of a proposal, that proposal joins the set and validation
//! goes on. What comes out is a set that the binary validates with, found in
//! little more than one pass, since sections are quick to go over again and only
//! the function that was refused is looked at twice.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use wasmparser::{
    CompositeInnerType, FuncToValidate, FuncValidatorAllocations, FunctionBody, Parser, Payload,
    SubType, TypeRef, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use super::Kind;

/// What every binary may use without its being called a proposal. The over-long
/// `call_indirect` encoding is how linkers write the instruction of 1.0.
const BASE: WasmFeatures = WasmFeatures::MVP.union(WasmFeatures::CALL_INDIRECT_OVERLONG);

/// A set of proposals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposals(WasmFeatures);

impl Proposals {
    /// Every proposal that the parser knows.
    #[must_use]
    pub fn all() -> Self {
        Proposals(WasmFeatures::all())
    }

    /// WebAssembly 1.0 without any.
    #[must_use]
    pub fn none() -> Self {
        Proposals(BASE)
    }

    /// These and 1.0.
    #[must_use]
    pub fn of(features: WasmFeatures) -> Self {
        Proposals(BASE | features)
    }

    /// The proposal of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (features, _) = NAMES.iter().find(|(_, known)| *known == name)?;
        Some(Self::of(*features))
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Proposals) -> Self {
        Proposals(self.0 | other.0)
    }

    /// What is in this set and not in the other; 1.0 stays.
    #[must_use]
    pub fn without(self, other: Proposals) -> Self {
        Proposals(self.0.difference(other.0) | BASE)
    }

    /// Whether a proposal of the other set is in this one.
    #[must_use]
    pub fn uses_any(self, other: Proposals) -> bool {
        self.uses(other.0.difference(BASE))
    }

    /// Whether one of these is in the set.
    #[must_use]
    pub fn uses(self, any_of: WasmFeatures) -> bool {
        self.0.intersects(any_of)
    }

    /// The names, as the proposals' repositories and other tools spell them, sorted.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let mut names: Vec<_> = NAMES
            .iter()
            .filter(|(flag, _)| self.uses(*flag))
            .map(|(_, name)| *name)
            .collect();
        names.sort_unstable();
        names
    }

    /// The same, for reports.
    #[must_use]
    pub fn to_strings(self) -> Vec<String> {
        self.names().into_iter().map(str::to_owned).collect()
    }

    /// A number that is equal for equal sets, for cache keys.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0.bits()
    }

    /// The set that [`Self::bits`] came from.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Proposals(WasmFeatures::from_bits_truncate(bits) | BASE)
    }
}

/// One flag for each name: sub-features stand under the name of their proposal.
const NAMES: &[(WasmFeatures, &str)] = &[
    (WasmFeatures::MUTABLE_GLOBAL, "mutable-global"),
    (
        WasmFeatures::SATURATING_FLOAT_TO_INT,
        "saturating-float-to-int",
    ),
    (WasmFeatures::SIGN_EXTENSION, "sign-extension"),
    (
        WasmFeatures::REFERENCE_TYPES.difference(WasmFeatures::CALL_INDIRECT_OVERLONG),
        "reference-types",
    ),
    (WasmFeatures::MULTI_VALUE, "multi-value"),
    (WasmFeatures::BULK_MEMORY, "bulk-memory"),
    (WasmFeatures::SIMD, "simd"),
    (WasmFeatures::RELAXED_SIMD, "relaxed-simd"),
    (WasmFeatures::THREADS, "threads"),
    (
        WasmFeatures::SHARED_EVERYTHING_THREADS,
        "shared-everything-threads",
    ),
    (WasmFeatures::TAIL_CALL, "tail-call"),
    (WasmFeatures::MULTI_MEMORY, "multi-memory"),
    (WasmFeatures::EXCEPTIONS, "exceptions"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy-exceptions"),
    (WasmFeatures::MEMORY64, "memory64"),
    (WasmFeatures::EXTENDED_CONST, "extended-const"),
    (WasmFeatures::COMPONENT_MODEL, "component-model"),
    (WasmFeatures::FUNCTION_REFERENCES, "function-references"),
    (WasmFeatures::MEMORY_CONTROL, "memory-control"),
    (WasmFeatures::GC, "gc"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom-page-sizes"),
    (WasmFeatures::STACK_SWITCHING, "stack-switching"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide-arithmetic"),
    (WasmFeatures::CUSTOM_DESCRIPTORS, "custom-descriptors"),
    (WasmFeatures::COMPACT_IMPORTS, "compact-imports"),
    (
        WasmFeatures::ACQUIRE_RELEASE_ATOMICS,
        "acquire-release-atomics",
    ),
    (
        WasmFeatures::MULTIBYTE_ARRAY_ACCESS,
        "multibyte-array-access",
    ),
    (WasmFeatures::CM_VALUES, "cm-values"),
    (WasmFeatures::CM_NESTED_NAMES, "cm-nested-names"),
    (WasmFeatures::CM_ASYNC, "cm-async"),
    (WasmFeatures::CM_ASYNC_STACKFUL, "cm-async-stackful"),
    (
        WasmFeatures::CM_MORE_ASYNC_BUILTINS,
        "cm-more-async-builtins",
    ),
    (WasmFeatures::CM_THREADING, "cm-threading"),
    (WasmFeatures::CM_ERROR_CONTEXT, "cm-error-context"),
    (WasmFeatures::CM_FIXED_LENGTH_LISTS, "cm-fixed-length-lists"),
    (WasmFeatures::CM_GC, "cm-gc"),
    (WasmFeatures::CM_MAP, "cm-map"),
    (WasmFeatures::CM64, "cm64"),
    (WasmFeatures::CM_IMPLEMENTS, "cm-implements"),
    (WasmFeatures::CM_CANON_NAMES, "cm-canon-names"),
    (WasmFeatures::CM_FORWARD, "cm-forward"),
    (WasmFeatures::CM_ACCESSORS, "cm-accessors"),
];

/// A binary that did not validate: each problem with its offset. At least one,
/// at most [`MAX_PROBLEMS`].
#[derive(Clone, Debug)]
pub struct Invalid {
    /// The problems, in the order of their offsets.
    pub problems: Vec<wasmparser::Error>,
}

/// How many functions are reported before the rest goes unsaid.
pub const MAX_PROBLEMS: usize = 10;

type Bodies<'a> = Vec<(FuncToValidate<ValidatorResources>, FunctionBody<'a>)>;

/// Validates `bytes` whole and returns the proposals that this took.
///
/// # Errors
///
/// [`Invalid`] where no set of known proposals makes it valid. A broken section
/// ends the search; broken functions are all named, up to [`MAX_PROBLEMS`].
pub fn used_by(bytes: &[u8], kind: Kind) -> Result<Proposals, Invalid> {
    let start = match kind {
        Kind::Core => BASE,
        Kind::Component => BASE | WasmFeatures::COMPONENT_MODEL,
    };
    let start = start | needed_by_sections(bytes).unwrap_or(WasmFeatures::empty());
    validate_within(bytes, start, WasmFeatures::all()).map(Proposals)
}

/// Proposals that can be told from a few sections, and that most modules use: each
/// that is known beforehand saves going over the sections once more. Whatever is
/// missing here, the validator asks for.
fn needed_by_sections(bytes: &[u8]) -> wasmparser::Result<WasmFeatures> {
    let mut features = WasmFeatures::empty();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::TypeSection(section) => {
                for group in section {
                    let several = |ty: &SubType| matches!(&ty.composite_type.inner, CompositeInnerType::Func(f) if f.results().len() > 1);
                    if group?.types().any(several) {
                        features |= WasmFeatures::MULTI_VALUE;
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if matches!(import?.ty, TypeRef::Global(global) if global.mutable) {
                        features |= WasmFeatures::MUTABLE_GLOBAL;
                    }
                }
            }
            Payload::DataCountSection { .. } => features |= WasmFeatures::BULK_MEMORY,
            _ => {}
        }
    }
    Ok(features)
}

/// Whether `bytes` validate with no proposal beyond `limit`.
///
/// # Errors
///
/// [`Invalid`] where they do not.
pub fn validate_with(bytes: &[u8], limit: Proposals) -> Result<(), Invalid> {
    validate_within(bytes, limit.0, limit.0).map(drop)
}

fn validate_within(
    bytes: &[u8],
    start: WasmFeatures,
    limit: WasmFeatures,
) -> Result<WasmFeatures, Invalid> {
    let (features, bodies) =
        sections_within(bytes, start, limit).map_err(|e| Invalid { problems: vec![e] })?;
    let shared = AtomicU64::new(features.bits());
    let chunk = (bodies.len() / (rayon::current_num_threads() * 8)).clamp(16, 4096);
    let mut chunks: Vec<Bodies<'_>> = Vec::new();
    let mut rest = bodies.into_iter();
    loop {
        let next: Bodies<'_> = rest.by_ref().take(chunk).collect();
        if next.is_empty() {
            break;
        }
        chunks.push(next);
    }
    let mut problems: Vec<wasmparser::Error> = chunks
        .into_par_iter()
        .flat_map_iter(|chunk| {
            let mut spare = FuncValidatorAllocations::default();
            let shared = &shared;
            chunk.into_iter().filter_map(move |(func, body)| {
                function(func, &body, shared, limit, &mut spare).err()
            })
        })
        .collect();
    if problems.is_empty() {
        return Ok(WasmFeatures::from_bits_truncate(shared.into_inner()));
    }
    problems.sort_by_key(wasmparser::Error::offset);
    problems.truncate(MAX_PROBLEMS);
    Err(Invalid { problems })
}

/// Goes over the sections, from the start again after each proposal that joins.
fn sections_within(
    bytes: &[u8],
    start: WasmFeatures,
    limit: WasmFeatures,
) -> wasmparser::Result<(WasmFeatures, Bodies<'_>)> {
    let mut features = start;
    loop {
        match sections_with(bytes, features) {
            Ok(bodies) => return Ok((features, bodies)),
            Err(error) => {
                features = widen(&error, features, limit, |wider| {
                    sections_with(bytes, wider).map(drop)
                })?;
            }
        }
    }
}

fn sections_with(bytes: &[u8], features: WasmFeatures) -> wasmparser::Result<Bodies<'_>> {
    let mut validator = Validator::new_with_features(features);
    let mut parser = Parser::new(0);
    parser.set_features(features);
    let mut bodies = Vec::new();
    let mut depth = 0_u32;
    for payload in parser.parse_all(bytes) {
        let payload = payload?;
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            _ => {}
        }
        match validator.payload(&payload)? {
            ValidPayload::Func(func, body) => bodies.push((func, body)),
            ValidPayload::End(_) if depth == 0 => break,
            ValidPayload::End(_) => depth -= 1,
            ValidPayload::Ok | ValidPayload::Parser(_) => {}
        }
    }
    Ok(bodies)
}

/// Validates one function, widening the shared set as far as the limit allows.
fn function(
    mut func: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    shared: &AtomicU64,
    limit: WasmFeatures,
    spare: &mut FuncValidatorAllocations,
) -> wasmparser::Result<()> {
    loop {
        let features = WasmFeatures::from_bits_truncate(shared.load(Ordering::Relaxed));
        func.features = features;
        let attempt = |features, spare: &mut FuncValidatorAllocations| {
            let again = FuncToValidate {
                resources: func.resources.clone(),
                index: func.index,
                ty: func.ty,
                features,
            };
            let mut validator = again.into_validator(std::mem::take(spare));
            let outcome = validator.validate(body);
            *spare = validator.into_allocations();
            outcome
        };
        match attempt(features, spare) {
            Ok(()) => return Ok(()),
            Err(error) => {
                let wider = widen(&error, features, limit, |wider| attempt(wider, spare))?;
                shared.fetch_or(wider.bits(), Ordering::Relaxed);
            }
        }
    }
}

/// The set with what `error` asks for, or `error` itself where nothing in the
/// limit helps. A few errors do not say which proposal is missing: then the
/// first one that gets further is taken.
fn widen(
    error: &wasmparser::Error,
    features: WasmFeatures,
    limit: WasmFeatures,
    mut attempt: impl FnMut(WasmFeatures) -> wasmparser::Result<()>,
) -> wasmparser::Result<WasmFeatures> {
    if features.contains(limit) {
        return Err(error.clone());
    }
    if let Some(missing) = error.missing_wasm_feature() {
        let wider = features | (missing & limit);
        return if wider == features {
            Err(error.clone())
        } else {
            Ok(wider)
        };
    }
    // Not worth a search unless the widest set gets past this point.
    let gets_further = |outcome: wasmparser::Result<()>| match outcome {
        Ok(()) => true,
        Err(other) => other.offset() > error.offset() || other.missing_wasm_feature().is_some(),
    };
    if !gets_further(attempt(features | limit)) {
        return Err(error.clone());
    }
    for candidate in limit.difference(features).iter() {
        if gets_further(attempt(features | candidate)) {
            return Ok(features | candidate);
        }
    }
    Ok(features | limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wat: &[u8]) -> Vec<&'static str> {
        used_by(wat, Kind::Core).unwrap().names()
    }

    /// `(module (func (param i32) (result i32) local.get 0 OPCODES))`
    fn module_with(opcodes: &[u8]) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0\x01\x06\x01\x60\x01\x7f\x01\x7f\x03\x02\x01\0".to_vec();
        let mut body = vec![0, 0x20, 0];
        body.extend_from_slice(opcodes);
        body.push(0x0b);
        let mut code = vec![1, u8::try_from(body.len()).unwrap()];
        code.extend_from_slice(&body);
        super::super::append_section(&mut module, 10, &code);
        module
    }

    #[test]
    fn mvp_uses_none() {
        assert_eq!(names(&module_with(&[])), Vec::<&str>::new());
    }

    #[test]
    fn names_what_is_used() {
        assert_eq!(names(&module_with(&[0xc0])), ["sign-extension"]);
        // i32.reinterpret? f32.convert_i32_s, i32.trunc_sat_f32_s
        assert_eq!(
            names(&module_with(&[0xb2, 0xfc, 0x00])),
            ["saturating-float-to-int"]
        );
    }

    #[test]
    fn a_limit_is_kept() {
        let module = module_with(&[0xc0]);
        assert!(validate_with(&module, Proposals::none()).is_err());
        assert!(validate_with(&module, used_by(&module, Kind::Core).unwrap()).is_ok());
    }

    #[test]
    fn broken_functions_are_reported_with_their_offset() {
        let invalid = used_by(&module_with(&[0x1a]), Kind::Core).unwrap_err();
        assert_eq!(invalid.problems.len(), 1);
        assert!(invalid.problems[0].offset() > 20);
    }
}
