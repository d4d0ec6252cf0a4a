//! References to functions as numbers, for hosts that have no such references.
//!
//! Binaryen merges functions that differ in nothing but a call: the callee becomes a
//! parameter. For that it wants typed references to functions and `call_ref`, which
//! most hosts lack. Here they become WebAssembly 1.0: a reference is a number, and a
//! call through it goes to a function, one for each type, that jumps by that number
//! to a direct call. No table is needed. One that is there could not be used without
//! a change that shows: an index behind its end would no longer trap.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{CodeSection, Function, FunctionSection, Instruction, TypeSection};
use wasmparser::{
    AbstractHeapType, BinaryReaderError, CodeSectionReader, CompositeInnerType, ElementKind,
    ElementSectionReader, FuncType, FunctionSectionReader, HeapType, Operator, Parser, Payload,
    TypeRef, TypeSectionReader, ValType, WasmFeatures,
};

use crate::wasm::proposals::Proposals;

/// A dispatcher for more callees than this would be no gain.
const MAX_CALLEES: usize = 4096;
/// Engines allow 1,000 parameters.
const MAX_PARAMETERS: usize = 999;

/// Why nothing came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing to do: no function is referred to.
    Nothing,
    /// The module has something that this does not know.
    Unknown(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Nothing => f.write_str("no functions differ by a callee alone"),
            Refusal::Unknown(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<BinaryReaderError> for Refusal {
    fn from(error: BinaryReaderError) -> Self {
        Refusal::Unknown(error.to_string())
    }
}

fn unknown(what: &str) -> Refusal {
    Refusal::Unknown(what.to_owned())
}

/// Whether references to functions that turn up in this module later can be told from
/// those that it has itself.
///
/// # Errors
///
/// [`Refusal::Unknown`] where they cannot, or the module cannot be parsed.
pub fn check_input(module: &[u8], proposals: Proposals) -> Result<(), Refusal> {
    if proposals.uses(WasmFeatures::FUNCTION_REFERENCES | WasmFeatures::GC) {
        return Err(unknown("the module has typed references itself"));
    }
    for payload in Parser::new(0).parse_all(module) {
        let Payload::CodeSectionEntry(body) = payload? else {
            continue;
        };
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::RefFunc { .. } => {
                    return Err(unknown("the module refers to functions itself"));
                }
                // Both count segments, and one that only declares goes.
                Operator::TableInit { .. } | Operator::ElemDrop { .. } => {
                    return Err(unknown("the module fills tables as it runs"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Turns all typed references to functions into numbers, and calls through them into
/// direct calls, in a module that [`check_input`] was content with before Binaryen
/// merged functions in it.
///
/// # Errors
///
/// [`Refusal::Nothing`] where the code refers to no function, and
/// [`Refusal::Unknown`] for what merging does not leave behind.
pub fn lower(module: &[u8]) -> Result<Vec<u8>, Refusal> {
    let found = Found::of(module)?;
    if found.referred.is_empty() {
        return Err(Refusal::Nothing);
    }
    let mut lowering = Lowering::new(&found)?;
    let mut out = wasm_encoder::Module::new();
    lowering
        .parse_core_module(&mut out, Parser::new(0), module)
        .map_err(|error| match error {
            reencode::Error::UserError(refusal) => refusal,
            other => Refusal::Unknown(other.to_string()),
        })?;
    Ok(out.finish())
}

/// What a module has that matters here.
#[derive(Default)]
struct Found {
    /// Types by index; `None` for what is no function's.
    types: Vec<Option<FuncType>>,
    /// The type of each function, imports first.
    functions: Vec<u32>,
    /// Functions that code refers to.
    referred: BTreeSet<u32>,
    /// Types that are called through a reference.
    called: BTreeSet<u32>,
    /// Whether a frame may have to be left before a call.
    tail_calls: bool,
}

impl Found {
    fn of(module: &[u8]) -> Result<Self, Refusal> {
        let mut found = Found::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        for ty in group?.into_types() {
                            found.types.push(match ty.composite_type.inner {
                                CompositeInnerType::Func(ty) => Some(ty),
                                _ => None,
                            });
                        }
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import?.ty {
                            found.functions.push(ty);
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        found.functions.push(ty?);
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    for operator in body.get_operators_reader()? {
                        found.note(&operator?);
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn note(&mut self, operator: &Operator<'_>) {
        match *operator {
            Operator::RefFunc { function_index } => {
                self.referred.insert(function_index);
            }
            Operator::CallRef { type_index } => {
                self.called.insert(type_index);
            }
            Operator::ReturnCallRef { type_index } => {
                self.called.insert(type_index);
                self.tail_calls = true;
            }
            _ => {}
        }
    }
}

/// A function that calls one of several of one type, by number.
struct Dispatcher {
    ty: FuncType,
    /// In the order of their numbers.
    callees: Vec<u32>,
}

struct Lowering {
    /// The number of each function that is referred to, among those of its type.
    numbers: BTreeMap<u32, i32>,
    /// By the type that is called.
    dispatchers: BTreeMap<u32, Dispatcher>,
    first_type: u32,
    first_function: u32,
    tail_calls: bool,
    /// Whether what is read is an initial value: that refers to functions as it did.
    is_constant: bool,
}

impl Lowering {
    fn new(found: &Found) -> Result<Self, Refusal> {
        let mut numbers = BTreeMap::new();
        let mut dispatchers = BTreeMap::new();
        for &called in &found.called {
            let ty = found.types.get(called as usize).cloned().flatten();
            let ty = ty.ok_or_else(|| unknown("a call through what is no function"))?;
            let mut callees = Vec::new();
            for &function in &found.referred {
                if found.functions.get(function as usize) == Some(&called) {
                    let number = i32::try_from(callees.len()).unwrap_or(i32::MAX);
                    numbers.insert(function, number);
                    callees.push(function);
                }
            }
            if callees.is_empty() || callees.len() > MAX_CALLEES {
                return Err(unknown(
                    "a call through a reference with too few or too many callees",
                ));
            }
            if ty.params().len() > MAX_PARAMETERS {
                return Err(unknown("a function with too many parameters"));
            }
            dispatchers.insert(called, Dispatcher { ty, callees });
        }
        let index = |len: usize| u32::try_from(len).map_err(|_| unknown("too much to count"));
        Ok(Lowering {
            numbers,
            dispatchers,
            first_type: index(found.types.len())?,
            first_function: index(found.functions.len())?,
            tail_calls: found.tail_calls,
            is_constant: false,
        })
    }

    /// The index of the dispatcher for a type.
    fn dispatcher(&self, called: u32) -> Result<u32, Refused> {
        let place = self.dispatchers.keys().position(|ty| *ty == called);
        let place = place.and_then(|place| u32::try_from(place).ok());
        let place = place.ok_or_else(|| refused("a call through an unknown type"))?;
        Ok(self.first_function + place)
    }

    /// The number is the last parameter: on the stack it is where the reference was.
    fn body(&self, dispatcher: &Dispatcher) -> Result<Function, Refused> {
        let index = |len: usize| u32::try_from(len).map_err(|_| refused("too much to count"));
        let parameters = index(dispatcher.ty.params().len())?;
        let last = index(dispatcher.callees.len())? - 1;
        let mut body = Function::new([]);
        if last > 0 {
            for _ in 0..=last {
                body.instruction(&Instruction::Block(wasm_encoder::BlockType::Empty));
            }
            body.instruction(&Instruction::LocalGet(parameters));
            body.instruction(&Instruction::BrTable(Cow::Owned((0..last).collect()), last));
        }
        for (place, callee) in (0..=last).zip(&dispatcher.callees) {
            if last > 0 {
                body.instruction(&Instruction::End);
            }
            for parameter in 0..parameters {
                body.instruction(&Instruction::LocalGet(parameter));
            }
            if self.tail_calls {
                body.instruction(&Instruction::ReturnCall(*callee));
            } else {
                body.instruction(&Instruction::Call(*callee));
                if place < last {
                    body.instruction(&Instruction::Return);
                }
            }
        }
        body.instruction(&Instruction::End);
        Ok(body)
    }
}

type Refused = reencode::Error<Refusal>;

fn refused(what: &str) -> Refused {
    reencode::Error::UserError(unknown(what))
}

impl Reencode for Lowering {
    type Error = Refusal;

    fn val_type(&mut self, ty: ValType) -> Result<wasm_encoder::ValType, Refused> {
        match ty {
            ValType::Ref(ty) if !matches!(ty.heap_type(), HeapType::Abstract { .. }) => {
                Ok(wasm_encoder::ValType::I32)
            }
            ty => reencode::utils::val_type(self, ty),
        }
    }

    fn heap_type(&mut self, ty: HeapType) -> Result<wasm_encoder::HeapType, Refused> {
        match ty {
            HeapType::Abstract { .. } => reencode::utils::heap_type(self, ty),
            _ => Err(refused("a reference with a type, where none was")),
        }
    }

    /// With garbage collection in play, Binaryen gives null the narrowest type.
    fn abstract_heap_type(
        &mut self,
        ty: AbstractHeapType,
    ) -> Result<wasm_encoder::AbstractHeapType, Refused> {
        Ok(match ty {
            AbstractHeapType::NoFunc => wasm_encoder::AbstractHeapType::Func,
            AbstractHeapType::NoExtern => wasm_encoder::AbstractHeapType::Extern,
            AbstractHeapType::NoExn => wasm_encoder::AbstractHeapType::Exn,
            ty => reencode::utils::abstract_heap_type(self, ty),
        })
    }

    fn const_expr(
        &mut self,
        expression: wasmparser::ConstExpr<'_>,
    ) -> Result<wasm_encoder::ConstExpr, Refused> {
        self.is_constant = true;
        let made = reencode::utils::const_expr(self, expression);
        self.is_constant = false;
        made
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Result<Instruction<'a>, Refused> {
        Ok(match operator {
            Operator::RefFunc { function_index } if !self.is_constant => {
                let number = self.numbers.get(&function_index);
                let number = number.ok_or_else(|| refused("a reference that nothing calls"))?;
                Instruction::I32Const(*number)
            }
            Operator::CallRef { type_index } => Instruction::Call(self.dispatcher(type_index)?),
            Operator::ReturnCallRef { type_index } => {
                Instruction::ReturnCall(self.dispatcher(type_index)?)
            }
            operator => reencode::utils::instruction(self, operator)?,
        })
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Result<(), Refused> {
        reencode::utils::parse_type_section(self, types, section)?;
        let all: Vec<FuncType> = self.dispatchers.values().map(|d| d.ty.clone()).collect();
        for ty in all {
            let ty = self.func_type(ty)?;
            let parameters = ty.params().iter().copied();
            let parameters: Vec<_> = parameters.chain([wasm_encoder::ValType::I32]).collect();
            types.ty().function(parameters, ty.results().to_vec());
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Refused> {
        reencode::utils::parse_function_section(self, functions, section)?;
        for (ty, _) in (self.first_type..).zip(&self.dispatchers) {
            functions.function(ty);
        }
        Ok(())
    }

    /// What was only declared is no longer referred to.
    fn parse_element_section(
        &mut self,
        elements: &mut wasm_encoder::ElementSection,
        section: ElementSectionReader<'_>,
    ) -> Result<(), Refused> {
        for element in section {
            let element = element?;
            if !matches!(element.kind, ElementKind::Declared) {
                self.parse_element(elements, element)?;
            }
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), Refused> {
        reencode::utils::parse_code_section(self, code, section)?;
        for dispatcher in self.dispatchers.values() {
            code.function(&self.body(dispatcher)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::proposals::validate_with;

    /// Two pairs of functions, merged: one over callees with a result, one without.
    const MERGED: &str = r#"(module
        (type $unary (func (param i32) (result i32)))
        (type $plain (func))
        (type $over (func (param i32 (ref $unary)) (result i32)))
        (import "env" "log" (func $log))
        (func $a (type $unary) (i32.add (local.get 0) (i32.const 1)))
        (func $b (type $unary) (i32.mul (local.get 0) (i32.const 3)))
        (func $quiet (type $plain))
        (elem declare func $a $b $log $quiet)
        (table 2 funcref)
        (elem (i32.const 0) $a $b)
        (func $twice (type $over)
            (call_ref $unary (call_ref $unary (local.get 0) (local.get 1)) (local.get 1)))
        (func $once (param (ref $plain)) (call_ref $plain (local.get 0)))
        (func (export "aa") (param i32) (result i32) (call $twice (local.get 0) (ref.func $a)))
        (func (export "bb") (param i32) (result i32) (call $twice (local.get 0) (ref.func $b)))
        (func (export "log") (call $once (ref.func $log)))
        (func (export "quiet") (call $once (ref.func $quiet))))"#;

    #[test]
    fn references_become_webassembly_1() {
        let lowered = lower(&wat::parse_str(MERGED).unwrap()).unwrap();
        validate_with(&lowered, Proposals::none()).unwrap();
        assert_eq!(lower(&lowered), Err(Refusal::Nothing));
        let calls = count(&lowered, |o| matches!(o, Operator::Call { .. }));
        assert_eq!(
            calls,
            3 + 4 + 4,
            "in merged functions, callers, dispatchers"
        );
        assert_eq!(
            count(&lowered, |o| matches!(o, Operator::BrTable { .. })),
            2
        );
    }

    fn count(module: &[u8], is_one: impl Fn(&Operator<'_>) -> bool) -> usize {
        let mut found = 0;
        for payload in Parser::new(0).parse_all(module) {
            if let Payload::CodeSectionEntry(body) = payload.unwrap() {
                let all = body.get_operators_reader().unwrap().into_iter();
                found += all.filter(|o| is_one(o.as_ref().unwrap())).count();
            }
        }
        found
    }

    #[test]
    fn tail_calls_leave_no_frame() {
        let text = MERGED.replace(
            "(call_ref $unary (call_ref",
            "(return_call_ref $unary (call_ref",
        );
        let lowered = lower(&wat::parse_str(text).unwrap()).unwrap();
        let proposals = Proposals::of(WasmFeatures::TAIL_CALL);
        validate_with(&lowered, proposals).unwrap();
        let tails = count(&lowered, |o| matches!(o, Operator::ReturnCall { .. }));
        assert_eq!(tails, 1 + 4);
    }

    #[test]
    fn a_module_with_references_of_its_own_is_left_alone() {
        let none = Proposals::none();
        for (text, known) in [
            (
                "(module (func $f) (table 1 funcref) (elem (i32.const 0) $f))",
                true,
            ),
            (
                "(module (func $f) (table 1 funcref) (elem declare func $f)
                    (func (table.set (i32.const 0) (ref.func $f))))",
                false,
            ),
            (
                "(module (table 1 funcref) (elem $e funcref (ref.null func)) (func (elem.drop $e)))",
                false,
            ),
        ] {
            let module = wat::parse_str(text).unwrap();
            assert_eq!(check_input(&module, none).is_ok(), known, "{text}");
        }
        let module = wat::parse_str("(module)").unwrap();
        assert!(check_input(&module, Proposals::all()).is_err());
        assert!(check_input(b"\0asm", none).is_err());
    }

    #[test]
    fn what_merging_does_not_leave_behind_is_refused() {
        let null = r#"(module (type $t (func)) (func $f) (elem declare func $f)
            (func (export "f") (local (ref null $t)) (local.set 0 (ref.func $f))
                (call_ref $t (ref.null $t))))"#;
        let refusal = lower(&wat::parse_str(null).unwrap()).unwrap_err();
        assert!(matches!(refusal, Refusal::Unknown(_)), "{refusal:?}");
    }
}
