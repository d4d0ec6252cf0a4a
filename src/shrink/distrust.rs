//! What Binaryen reads, and gets wrong: such modules are kept from it, as if it could
//! not read them. The specification's test suite found these (`tests/it/spec.rs`).

use wasmparser::{
    BinaryReaderError, CompositeInnerType, ElementItems, Operator, Parser, Payload, WasmFeatures,
};

use crate::wasm::proposals::Proposals;

/// The version of the Binaryen that is linked in.
pub const OWN: u32 = 116;
/// A version of which it was seen that it gets right what is not asked of it.
const LEARNED: u32 = 131;

/// What in a core module that version of Binaryen gets wrong; `None` where it knows
/// all of it.
///
/// # Errors
///
/// The parser's.
pub fn misread(
    version: u32,
    module: &[u8],
    proposals: Proposals,
) -> Result<Option<&'static str>, BinaryReaderError> {
    let is_old = version < LEARNED;
    if is_old && proposals.uses(WasmFeatures::RELAXED_SIMD) {
        // A host that fuses rounds once.
        return Ok(Some(
            "it computes relaxed-simd beforehand, which a host may do otherwise",
        ));
    }
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::TypeSection(section) if is_old => {
                for group in section {
                    let is_subtype = |ty: &wasmparser::SubType| {
                        let of_functions =
                            matches!(ty.composite_type.inner, CompositeInnerType::Func(_));
                        of_functions && !ty.supertype_idxs.is_empty()
                    };
                    if group?.types().any(is_subtype) {
                        return Ok(Some(
                            "it lets indirect calls trap on functions whose type is a subtype",
                        ));
                    }
                }
            }
            Payload::ElementSection(section) => {
                for segment in section {
                    let ElementItems::Expressions(_, items) = segment?.items else {
                        continue;
                    };
                    for item in items {
                        let mut operators = item?.get_operators_reader();
                        let first = operators.read()?;
                        if !matches!(first, Operator::RefFunc { .. } | Operator::RefNull { .. }) {
                            return Ok(Some("it takes table elements from globals for null"));
                        }
                    }
                }
                // Nothing behind it matters.
                break;
            }
            Payload::CodeSectionStart { .. } => break,
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::Kind;
    use crate::wasm::proposals::used_by;

    fn is_kept_from(version: u32, text: &str) -> bool {
        let module = wat::parse_str(text).unwrap();
        let proposals = used_by(&module, Kind::Core).unwrap();
        misread(version, &module, proposals).unwrap().is_some()
    }

    fn is_kept_away(text: &str) -> bool {
        is_kept_from(OWN, text)
    }

    #[test]
    fn only_what_it_gets_wrong() {
        let element = r#"(module (import "a" "f" (global funcref)) (table 1 funcref)
            (elem (i32.const 0) funcref (ref.null func) (global.get 0)))"#;
        assert!(is_kept_from(OWN, element));
        assert!(is_kept_from(LEARNED, element));
        assert!(!is_kept_away(
            "(module (func $f) (table 1 funcref) (elem (i32.const 0) funcref (ref.func $f) (ref.null func)))"
        ));
        let subtype = "(module (type $a (sub (func))) (type $b (sub $a (func))))";
        assert!(is_kept_from(OWN, subtype));
        assert!(!is_kept_from(LEARNED, subtype));
        assert!(!is_kept_away(
            "(module (type $a (sub (struct))) (type $b (sub $a (struct))) (type $c (sub (func))))"
        ));
        assert!(is_kept_away(
            "(module (func (param v128) (result v128)
                (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))"
        ));
        assert!(!is_kept_away("(module (func))"));
    }
}
