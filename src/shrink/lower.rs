//! Instructions of younger proposals as functions of WebAssembly 1.0, for hosts that
//! lack them: Binaryen 116 has passes for some proposals, and these are the others
//! that compilers turn on by default.
//!
//! Each instruction becomes a call of a function that is added once, and does and
//! traps as the instruction does. The optimiser comes afterwards.
//!
//! Specs: <https://github.com/WebAssembly/nontrapping-float-to-int-conversions>,
//! <https://github.com/WebAssembly/bulk-memory-operations>.

use std::collections::{BTreeMap, BTreeSet};

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    BlockType, CodeSection, Function, FunctionSection, Ieee32, Ieee64, Instruction as I, MemArg,
    MemArgTarget, TypeSection, ValType,
};
use wasmparser::{
    CodeSectionReader, FunctionSectionReader, MemoryType, Operator, Parser, Payload, TypeRef,
    TypeSectionReader,
};

use super::options::Lowering;
use crate::wasm::{DATA_COUNT_SECTION, Edit, rewrite};

/// What an instruction becomes a call of, in the order in which they are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Helper {
    Truncate(Truncate),
    Copy,
    Fill,
}

/// A conversion to an integer that gives the nearest one where there is none, and 0
/// for what is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Truncate {
    from_64: bool,
    to_64: bool,
    signed: bool,
}

/// The module with calls in place of the instructions of the proposal.
///
/// # Errors
///
/// Why that cannot be done, in words that follow "cannot be lowered".
pub fn lower(module: &[u8], lowering: Lowering) -> Result<Vec<u8>, String> {
    let found = Found::of(module, lowering)?;
    let mut calls = Calls {
        lowering,
        helpers: BTreeMap::new(),
        first_type: found.types,
    };
    for (index, helper) in (found.functions..).zip(&found.helpers) {
        calls.helpers.insert(*helper, index);
    }
    let lowered = if calls.helpers.is_empty() {
        module.to_vec()
    } else {
        let mut out = wasm_encoder::Module::new();
        calls
            .parse_core_module(&mut out, Parser::new(0), module)
            .map_err(|error| error.to_string())?;
        out.finish()
    };
    if lowering != Lowering::BulkMemory {
        return Ok(lowered);
    }
    // Only instructions that are refused above need it.
    rewrite::<wasmparser::Error>(&lowered, |section| {
        Ok(if section.id == DATA_COUNT_SECTION {
            Edit::Drop
        } else {
            Edit::Keep
        })
    })
    .map_err(|error| error.to_string())
}

fn helper(operator: &Operator<'_>, lowering: Lowering) -> Result<Option<Helper>, String> {
    let truncate = |from_64, to_64, signed| {
        Helper::Truncate(Truncate {
            from_64,
            to_64,
            signed,
        })
    };
    let found = match operator {
        Operator::I32TruncSatF32S => truncate(false, false, true),
        Operator::I32TruncSatF32U => truncate(false, false, false),
        Operator::I32TruncSatF64S => truncate(true, false, true),
        Operator::I32TruncSatF64U => truncate(true, false, false),
        Operator::I64TruncSatF32S => truncate(false, true, true),
        Operator::I64TruncSatF32U => truncate(false, true, false),
        Operator::I64TruncSatF64S => truncate(true, true, true),
        Operator::I64TruncSatF64U => truncate(true, true, false),
        Operator::MemoryCopy { dst_mem, src_mem } if *dst_mem == 0 && *src_mem == 0 => Helper::Copy,
        Operator::MemoryFill { mem: 0 } => Helper::Fill,
        Operator::MemoryCopy { .. } | Operator::MemoryFill { .. } => {
            return refused(lowering, "it copies or fills another memory than the first");
        }
        Operator::MemoryInit { .. } | Operator::DataDrop { .. } => {
            return refused(lowering, "it writes data segments as it runs");
        }
        Operator::TableInit { .. } | Operator::ElemDrop { .. } | Operator::TableCopy { .. } => {
            return refused(lowering, "it writes tables as it runs");
        }
        _ => return Ok(None),
    };
    let wanted = match found {
        Helper::Truncate(_) => Lowering::SaturatingFloatToInt,
        Helper::Copy | Helper::Fill => Lowering::BulkMemory,
    };
    Ok((wanted == lowering).then_some(found))
}

fn refused(lowering: Lowering, why: &str) -> Result<Option<Helper>, String> {
    if lowering == Lowering::BulkMemory {
        Err(why.to_owned())
    } else {
        Ok(None)
    }
}

/// What a module has that matters here.
struct Found {
    types: u32,
    functions: u32,
    helpers: BTreeSet<Helper>,
}

impl Found {
    fn of(module: &[u8], lowering: Lowering) -> Result<Self, String> {
        let mut found = Found {
            types: 0,
            functions: 0,
            helpers: BTreeSet::new(),
        };
        let mut memory: Option<MemoryType> = None;
        let text = |error: wasmparser::Error| error.to_string();
        for payload in Parser::new(0).parse_all(module) {
            match payload.map_err(text)? {
                Payload::TypeSection(section) => {
                    for group in section {
                        let types = group.map_err(text)?.into_types().len();
                        found.types += u32::try_from(types).map_err(|e| e.to_string())?;
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import.map_err(text)?.ty {
                            TypeRef::Func(_) | TypeRef::FuncExact(_) => found.functions += 1,
                            TypeRef::Memory(ty) => memory = memory.or(Some(ty)),
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => found.functions += section.count(),
                Payload::MemorySection(section) => {
                    for ty in section {
                        memory = memory.or(Some(ty.map_err(text)?));
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    for operator in body.get_operators_reader().map_err(text)? {
                        if let Some(helper) = helper(&operator.map_err(text)?, lowering)? {
                            found.helpers.insert(helper);
                        }
                    }
                }
                _ => {}
            }
        }
        let is_plain = |ty: MemoryType| !ty.memory64 && ty.page_size_log2.is_none();
        if lowering == Lowering::BulkMemory
            && !found.helpers.is_empty()
            && !memory.is_some_and(is_plain)
        {
            return Err("its memory has 64-bit addresses or pages of its own size".into());
        }
        Ok(found)
    }
}

/// Puts calls in the place of instructions.
struct Calls {
    lowering: Lowering,
    /// With the index of the function.
    helpers: BTreeMap<Helper, u32>,
    first_type: u32,
}

type Refused = reencode::Error<String>;

impl Reencode for Calls {
    type Error = String;

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Result<I<'a>, Refused> {
        let helper = helper(&operator, self.lowering).map_err(Refused::UserError)?;
        match helper.and_then(|helper| self.helpers.get(&helper)) {
            Some(function) => Ok(I::Call(*function)),
            None => reencode::utils::instruction(self, operator),
        }
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Result<(), Refused> {
        reencode::utils::parse_type_section(self, types, section)?;
        for helper in self.helpers.keys() {
            let (parameters, results) = helper.ty();
            types.ty().function(parameters, results);
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Refused> {
        reencode::utils::parse_function_section(self, functions, section)?;
        for (ty, _) in (self.first_type..).zip(&self.helpers) {
            functions.function(ty);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), Refused> {
        reencode::utils::parse_code_section(self, code, section)?;
        for helper in self.helpers.keys() {
            code.function(&helper.body());
        }
        Ok(())
    }
}

impl Helper {
    fn ty(self) -> (Vec<ValType>, Vec<ValType>) {
        match self {
            Helper::Truncate(truncate) => {
                let from = [ValType::F32, ValType::F64][usize::from(truncate.from_64)];
                (vec![from], vec![truncate.to()])
            }
            Helper::Copy | Helper::Fill => (vec![ValType::I32; 3], Vec::new()),
        }
    }

    fn body(self) -> Function {
        match self {
            Helper::Truncate(truncate) => truncate.body(),
            Helper::Copy => copy(),
            Helper::Fill => fill(),
        }
    }
}

impl Truncate {
    fn to(self) -> ValType {
        [ValType::I32, ValType::I64][usize::from(self.to_64)]
    }

    fn float(self, value: f64) -> I<'static> {
        if self.from_64 {
            I::F64Const(Ieee64::from(value))
        } else {
            // Powers of two and 0: exact.
            #[expect(clippy::cast_possible_truncation, reason = "powers of two are exact")]
            I::F32Const(Ieee32::from(value as f32))
        }
    }

    fn integer(self, value: i64) -> I<'static> {
        if self.to_64 {
            I::I64Const(value)
        } else {
            // The low bits of the value are what is meant.
            #[expect(clippy::cast_possible_truncation, reason = "the value fits")]
            I::I32Const(value as i32)
        }
    }

    fn convert(self) -> I<'static> {
        match (self.to_64, self.from_64, self.signed) {
            (false, false, true) => I::I32TruncF32S,
            (false, false, false) => I::I32TruncF32U,
            (false, true, true) => I::I32TruncF64S,
            (false, true, false) => I::I32TruncF64U,
            (true, false, true) => I::I64TruncF32S,
            (true, false, false) => I::I64TruncF32U,
            (true, true, true) => I::I64TruncF64S,
            (true, true, false) => I::I64TruncF64U,
        }
    }

    /// Between the least and the greatest, the instruction of 1.0 does the same.
    fn body(self) -> Function {
        let bits = if self.to_64 { 64 } else { 32 };
        let (at_least, lowest, highest) = match (self.signed, self.to_64) {
            (true, false) => (-2_f64.powi(31), i64::from(i32::MIN), i64::from(i32::MAX)),
            (true, true) => (-2_f64.powi(63), i64::MIN, i64::MAX),
            (false, _) => (0.0, 0, -1),
        };
        let below = 2_f64.powi(bits - i32::from(self.signed));
        let (ge, lt, eq) = if self.from_64 {
            (I::F64Ge, I::F64Lt, I::F64Eq)
        } else {
            (I::F32Ge, I::F32Lt, I::F32Eq)
        };
        let result = BlockType::Result(self.to());
        let mut all = vec![
            I::LocalGet(0),
            self.float(at_least),
            ge,
            I::If(result),
            I::LocalGet(0),
            self.float(below),
            lt,
            I::If(result),
            I::LocalGet(0),
            self.convert(),
            I::Else,
            self.integer(highest),
            I::End,
            I::Else,
        ];
        if self.signed {
            all.extend([
                I::LocalGet(0),
                I::LocalGet(0),
                eq,
                I::If(result),
                self.integer(lowest),
                I::Else,
                self.integer(0),
                I::End,
            ]);
        } else {
            all.push(self.integer(0));
        }
        all.extend([I::End, I::End]);
        function(0, ValType::I32, &all)
    }
}

fn function(locals: u32, ty: ValType, instructions: &[I<'_>]) -> Function {
    let mut function = Function::new((locals > 0).then_some((locals, ty)));
    for instruction in instructions {
        function.instruction(instruction);
    }
    function
}

const fn at(offset: u64) -> MemArg {
    MemArg {
        offset,
        align: 0,
        target: MemArgTarget::Memory(0),
        ordering: None,
    }
}

/// Traps where `start` and the length in local 2 go beyond the memory: before anything
/// is written, and as an access to memory does.
fn check(start: u32) -> Vec<I<'static>> {
    vec![
        I::LocalGet(start),
        I::I64ExtendI32U,
        I::LocalGet(2),
        I::I64ExtendI32U,
        I::I64Add,
        I::MemorySize(0),
        I::I64ExtendI32U,
        I::I64Const(16),
        I::I64Shl,
        I::I64GtU,
        I::If(BlockType::Empty),
        I::I32Const(-1),
        I::I32Load8U(at(u64::from(u32::MAX))),
        I::Drop,
        I::End,
    ]
}

/// As long as `step` bytes are left in local 2, the instructions and on.
fn while_left(step: i32, once: Vec<I<'static>>) -> Vec<I<'static>> {
    let mut all = vec![
        I::Block(BlockType::Empty),
        I::Loop(BlockType::Empty),
        I::LocalGet(2),
        I::I32Const(step),
        I::I32LtU,
        I::BrIf(1),
        I::LocalGet(2),
        I::I32Const(step),
        I::I32Sub,
        I::LocalSet(2),
    ];
    all.extend(once);
    all.extend([I::Br(0), I::End, I::End]);
    all
}

fn forward(local: u32, step: i32) -> [I<'static>; 4] {
    [
        I::LocalGet(local),
        I::I32Const(step),
        I::I32Add,
        I::LocalSet(local),
    ]
}

/// To local 0 from local 1 as many bytes as local 2 says. What overlaps is read before
/// it is written: upwards where the target is below, downwards where it is above.
fn copy() -> Function {
    let upwards = |step, load: I<'static>, store: I<'static>| {
        let mut once = vec![I::LocalGet(0), I::LocalGet(1), load, store];
        once.extend(forward(0, step));
        once.extend(forward(1, step));
        while_left(step, once)
    };
    // The length that is left is the offset too.
    let downwards = |step, load: I<'static>, store: I<'static>| {
        let place = |local| [I::LocalGet(local), I::LocalGet(2), I::I32Add];
        let mut once = place(0).to_vec();
        once.extend(place(1));
        once.extend([load, store]);
        while_left(step, once)
    };
    let (load, store) = (I::I64Load(at(0)), I::I64Store(at(0)));
    let (load_byte, store_byte) = (I::I32Load8U(at(0)), I::I32Store8(at(0)));
    let mut all = check(0);
    all.extend(check(1));
    all.extend([
        I::LocalGet(0),
        I::LocalGet(1),
        I::I32LeU,
        I::If(BlockType::Empty),
    ]);
    all.extend(upwards(8, load.clone(), store.clone()));
    all.extend(upwards(1, load_byte.clone(), store_byte.clone()));
    all.push(I::Else);
    all.extend(downwards(8, load, store));
    all.extend(downwards(1, load_byte, store_byte));
    all.extend([I::End, I::End]);
    function(0, ValType::I32, &all)
}

/// From local 0 on, the low byte of local 1, as many times as local 2 says.
fn fill() -> Function {
    let mut all = check(0);
    all.extend([
        I::LocalGet(1),
        I::I32Const(0xff),
        I::I32And,
        I::I64ExtendI32U,
        I::I64Const(0x0101_0101_0101_0101),
        I::I64Mul,
        I::LocalSet(3),
    ]);
    for (step, store) in [(8, I::I64Store(at(0))), (1, I::I64Store8(at(0)))] {
        let mut once = vec![I::LocalGet(0), I::LocalGet(3), store];
        once.extend(forward(0, step));
        all.extend(while_left(step, once));
    }
    all.push(I::End);
    function(1, ValType::I64, &all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::Kind;
    use crate::wasm::proposals::{Proposals, used_by, validate_with};

    fn lowered(text: &str, lowering: Lowering) -> Result<Vec<u8>, String> {
        lower(&wat::parse_str(text).unwrap(), lowering)
    }

    #[test]
    fn only_the_proposal_that_is_named_goes() {
        let text = r#"(module (memory 1) (data "x")
            (func (export "f") (param f32 f64) (result i32)
                (memory.fill (i32.const 0) (i32.const 1) (i32.const 2))
                (i32.trunc_sat_f32_s (local.get 0))))"#;
        let names = |bytes: &[u8]| used_by(bytes, Kind::Core).unwrap().names();
        let converted = lowered(text, Lowering::SaturatingFloatToInt).unwrap();
        assert_eq!(names(&converted), ["bulk-memory"]);
        let text = &text.replace(r#"(data "x")"#, "");
        let filled = lowered(text, Lowering::BulkMemory).unwrap();
        assert_eq!(names(&filled), ["saturating-float-to-int"]);
        let both = lower(&filled, Lowering::SaturatingFloatToInt).unwrap();
        validate_with(&both, Proposals::none()).unwrap();
    }

    #[test]
    fn what_has_no_such_form_is_refused() {
        for (body, why) in [
            (
                "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 0))",
                "data segments",
            ),
            ("(data.drop $d)", "data segments"),
            (
                "(table.copy (i32.const 0) (i32.const 0) (i32.const 0))",
                "tables",
            ),
            (
                "(memory.fill $other (i32.const 0) (i32.const 0) (i32.const 0))",
                "first",
            ),
        ] {
            let text = format!(
                "(module (memory 1) (memory $other 1) (table 1 funcref) (data $d \"x\") (func {body}))"
            );
            let refusal = lowered(&text, Lowering::BulkMemory).unwrap_err();
            assert!(refusal.contains(why), "{refusal}");
        }
        let wide = "(module (memory i64 1) (func (memory.fill (i64.const 0) (i32.const 0) (i64.const 0))))";
        let refusal = lowered(wide, Lowering::BulkMemory).unwrap_err();
        assert!(refusal.contains("64-bit"), "{refusal}");
    }
}
