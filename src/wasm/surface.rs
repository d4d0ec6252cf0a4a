//! What a core module looks like from outside, with types: what an optimiser may not
//! change. Only the sections in front of the code are read.
//!
//! Reference types are told apart by their family alone: within one an optimiser may
//! know more than the input said, and types may be numbered otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use wasmparser::{
    AbstractHeapType, CompositeInnerType, Encoding, ExternalKind, GlobalType, HeapType, MemoryType,
    Parser, Payload, TableType, TypeRef, UnpackedIndex, ValType,
};

/// Why a module cannot be what an optimiser made of `input`; none where it can: it asks
/// for nothing more, offers the same, and runs nothing at its start that did not.
///
/// # Errors
///
/// The parser's, where one of the two does not parse.
pub fn departure(input: &[u8], result: &[u8]) -> wasmparser::Result<Option<String>> {
    let (input, result) = (Surface::read(input)?, Surface::read(result)?);
    let shown = |name: &str| name.escape_debug().to_string();
    if result.is_component {
        return Ok(Some("it is a component".into()));
    }
    if let Some((module, name, _)) = result.imports.difference(&input.imports).next() {
        let name = shown(&format!("{module}.{name}"));
        return Ok(Some(format!(
            "it asks for `{name}`, as the module does not"
        )));
    }
    for (name, ty) in &input.exports {
        match result.exports.get(name) {
            None => return Ok(Some(format!("it has no export `{}`", shown(name)))),
            Some(other) if other != ty => {
                let name = shown(name);
                return Ok(Some(format!("its export `{name}` is {other} and not {ty}")));
            }
            Some(_) => {}
        }
    }
    let mut names = result.exports.keys();
    if let Some(name) = names.find(|name| !input.exports.contains_key(*name)) {
        let name = shown(name);
        return Ok(Some(format!("it has one more export, `{name}`")));
    }
    if result.has_start && !input.has_start {
        return Ok(Some(
            "it runs something as soon as it is instantiated".into(),
        ));
    }
    Ok(None)
}

#[derive(Default)]
struct Surface {
    is_component: bool,
    has_start: bool,
    imports: BTreeSet<(String, String, String)>,
    exports: BTreeMap<String, String>,
}

/// The index spaces, as far as they are read.
#[derive(Default)]
struct Spaces {
    types: Vec<CompositeInnerType>,
    functions: Vec<u32>,
    tables: Vec<String>,
    memories: Vec<String>,
    globals: Vec<String>,
    tags: Vec<String>,
}

impl Surface {
    fn read(bytes: &[u8]) -> wasmparser::Result<Self> {
        let mut found = Surface::default();
        let mut spaces = Spaces::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version {
                    encoding: Encoding::Component,
                    ..
                } => {
                    found.is_component = true;
                    break;
                }
                Payload::TypeSection(section) => {
                    for group in section {
                        let types = group?.into_types();
                        spaces.types.extend(types.map(|t| t.composite_type.inner));
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let ty = spaces.import(import.ty);
                        found.imports.insert((
                            import.module.to_owned(),
                            import.name.to_owned(),
                            ty,
                        ));
                    }
                }
                Payload::FunctionSection(section) => {
                    for index in section {
                        spaces.functions.push(index?);
                    }
                }
                Payload::TableSection(section) => {
                    for table in section {
                        let ty = spaces.table(&table?.ty);
                        spaces.tables.push(ty);
                    }
                }
                Payload::MemorySection(section) => {
                    for ty in section {
                        spaces.memories.push(memory(&ty?));
                    }
                }
                Payload::TagSection(section) => {
                    for ty in section {
                        let ty = spaces.function_type(ty?.func_type_idx);
                        spaces.tags.push(format!("a tag of {ty}"));
                    }
                }
                Payload::GlobalSection(section) => {
                    for global in section {
                        let ty = spaces.global(&global?.ty);
                        spaces.globals.push(ty);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        let ty = spaces.export(export.kind, export.index);
                        found.exports.insert(export.name.to_owned(), ty);
                    }
                }
                Payload::StartSection { .. } => found.has_start = true,
                // Nothing behind it is seen from outside.
                Payload::CodeSectionStart { .. } => break,
                _ => {}
            }
        }
        Ok(found)
    }
}

impl Spaces {
    /// Puts an import into its space, and says what it is.
    fn import(&mut self, ty: TypeRef) -> String {
        match ty {
            TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                self.functions.push(index);
                self.function_type(index)
            }
            TypeRef::Table(ty) => kept(self.table(&ty), &mut self.tables),
            TypeRef::Memory(ty) => kept(memory(&ty), &mut self.memories),
            TypeRef::Global(ty) => kept(self.global(&ty), &mut self.globals),
            TypeRef::Tag(ty) => {
                let text = format!("a tag of {}", self.function_type(ty.func_type_idx));
                kept(text, &mut self.tags)
            }
        }
    }

    fn export(&self, kind: ExternalKind, index: u32) -> String {
        let at = index as usize;
        let space = match kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                let ty = self.functions.get(at);
                return ty.map_or_else(nothing, |ty| self.function_type(*ty));
            }
            ExternalKind::Table => &self.tables,
            ExternalKind::Memory => &self.memories,
            ExternalKind::Global => &self.globals,
            ExternalKind::Tag => &self.tags,
        };
        space.get(at).cloned().unwrap_or_else(nothing)
    }

    fn function_type(&self, index: u32) -> String {
        let Some(CompositeInnerType::Func(ty)) = self.types.get(index as usize) else {
            return nothing();
        };
        let list = |types: &[ValType]| {
            let mut text = String::new();
            for (i, ty) in types.iter().enumerate() {
                let comma = if i == 0 { "" } else { ", " };
                // Writing to a string cannot fail.
                let _ = write!(text, "{comma}{}", self.value(*ty));
            }
            text
        };
        format!("({}) -> ({})", list(ty.params()), list(ty.results()))
    }

    /// How large it may grow is left out: nobody sees it from outside, and it may be
    /// written in two ways.
    fn table(&self, ty: &TableType) -> String {
        format!(
            "a table of {} {}{}{}",
            ty.initial,
            self.value(ValType::Ref(ty.element_type)),
            flag(ty.table64, ", 64 bits"),
            flag(ty.shared, ", shared"),
        )
    }

    fn global(&self, ty: &GlobalType) -> String {
        format!(
            "a {}{}global of {}",
            flag(ty.mutable, "mutable "),
            flag(ty.shared, "shared "),
            self.value(ty.content_type),
        )
    }

    fn value(&self, ty: ValType) -> &'static str {
        let heap = match ty {
            ValType::I32 => return "i32",
            ValType::I64 => return "i64",
            ValType::F32 => return "f32",
            ValType::F64 => return "f64",
            ValType::V128 => return "v128",
            ValType::Ref(ty) => ty.heap_type(),
        };
        match heap {
            HeapType::Abstract { ty, .. } => match ty {
                AbstractHeapType::Func | AbstractHeapType::NoFunc => "funcref",
                AbstractHeapType::Extern | AbstractHeapType::NoExtern => "externref",
                AbstractHeapType::Exn | AbstractHeapType::NoExn => "exnref",
                AbstractHeapType::Cont | AbstractHeapType::NoCont => "contref",
                _ => "anyref",
            },
            HeapType::Concrete(index) | HeapType::Exact(index) => {
                let UnpackedIndex::Module(index) = index else {
                    return "anyref";
                };
                match self.types.get(index as usize) {
                    Some(CompositeInnerType::Func(_)) => "funcref",
                    Some(CompositeInnerType::Cont(_)) => "contref",
                    _ => "anyref",
                }
            }
        }
    }
}

fn kept(text: String, space: &mut Vec<String>) -> String {
    space.push(text.clone());
    text
}

fn memory(ty: &MemoryType) -> String {
    let page = ty
        .page_size_log2
        .map_or_else(String::new, |log2| format!(", pages of 2^{log2} bytes"));
    format!(
        "a memory of {} pages{}{}{page}",
        ty.initial,
        flag(ty.memory64, ", 64 bits"),
        flag(ty.shared, ", shared"),
    )
}

fn flag(set: bool, text: &'static str) -> &'static str {
    if set { text } else { "" }
}

/// What does not validate.
fn nothing() -> String {
    "nothing".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(input: &str, result: &str) -> Option<String> {
        let wasm = |text: &str| wat::parse_str(text).unwrap();
        departure(&wasm(input), &wasm(result)).unwrap()
    }

    #[test]
    fn what_an_optimiser_may_do_is_no_departure() {
        let input = r#"(module
            (type $unused (func (param f64)))
            (import "a" "b" (func (param i32))) (import "a" "gone" (func))
            (import "a" "g" (global i32)) (import "a" "t" (table 1 externref))
            (memory (export "m") 1 65536) (func (export "f") (result i64) i64.const 1)
            (table (export "t") 3 funcref) (global (export "g") (mut i32) (i32.const 1)))"#;
        let result = r#"(module
            (import "a" "g" (global i32)) (import "a" "b" (func (param i32)))
            (import "a" "t" (table 1 externref))
            (global (export "g") (mut i32) (i32.const 1)) (table (export "t") 3 funcref)
            (memory (export "m") 1) (func (export "f") (result i64) i64.const 1))"#;
        assert_eq!(between(input, result), None);
        assert_eq!(between(input, input), None);
        // A type that says more, under another number.
        assert_eq!(
            between(
                r#"(module (func (export "f") (param funcref)))"#,
                r#"(module (type (struct)) (type $t (func)) (func (export "f") (param (ref $t))))"#,
            ),
            None
        );
    }

    #[test]
    fn all_else_is() {
        let input = r#"(module (import "a" "b" (func (param i32)))
            (func (export "f") (result i32) i32.const 1) (memory (export "m") 1))"#;
        for (from, to, said) in [
            (
                r#""b" (func (param i32))"#,
                r#""c" (func (param i32))"#,
                "asks for `a.c`",
            ),
            (
                r#""b" (func (param i32))"#,
                r#""b" (func (param i64))"#,
                "asks for `a.b`",
            ),
            (
                r#"(import "a" "b" (func (param i32)))"#,
                r#"(import "a" "b" (global i32))"#,
                "asks for `a.b`",
            ),
            (r#"(export "f")"#, "", "no export `f`"),
            (
                r#"(export "f")"#,
                r#"(export "f") (export "x")"#,
                "one more export, `x`",
            ),
            (
                "(result i32) i32.const 1",
                "(result i64) i64.const 1",
                "`f` is () -> (i64) and not () -> (i32)",
            ),
            (
                r#"(export "m") 1"#,
                r#"(export "m") 2"#,
                "`m` is a memory of 2 pages",
            ),
            (
                r#"(memory (export "m") 1)"#,
                r#"(global (export "m") i32 (i32.const 0))"#,
                "`m` is a global of i32",
            ),
        ] {
            let changed = input.replace(from, to);
            let found = between(input, &changed).unwrap();
            assert!(found.contains(said), "{found}");
        }
        assert_eq!(
            between("(module (func))", "(module (func $s) (start $s))").unwrap(),
            "it runs something as soon as it is instantiated"
        );
        assert_eq!(
            between("(module)", "(component)").unwrap(),
            "it is a component"
        );
        assert!(departure(b"\0asm\x01\0\0\0", b"\0asm\x01\0\0\0\x01\x7f").is_err());
    }
}
