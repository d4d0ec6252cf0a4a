//! Active segments that do not fit: such a module traps when it is instantiated.
//!
//! Optimisers drop a table or a memory that nobody uses, with its segments, and the
//! trap goes with them. A module like that is no use to anyone, but it is not for
//! us to make it run.

use wasmparser::{
    BinaryReaderError, ConstExpr, DataKind, ElementItems, ElementKind, Operator, Parser, Payload,
    TypeRef,
};

/// What in a core module may trap at instantiation, in words; `None` where every
/// active segment with a constant offset fits into the least size of what it fills.
///
/// # Errors
///
/// The parser's.
pub fn out_of_bounds(module: &[u8]) -> Result<Option<String>, BinaryReaderError> {
    let (mut memories, mut tables) = (Vec::new(), Vec::new());
    let memory = |ty: wasmparser::MemoryType| {
        ty.initial
            .saturating_mul(1 << ty.page_size_log2.unwrap_or(16))
    };
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    match import?.ty {
                        TypeRef::Memory(ty) => memories.push(memory(ty)),
                        TypeRef::Table(ty) => tables.push(ty.initial),
                        _ => {}
                    }
                }
            }
            Payload::MemorySection(section) => {
                for ty in section {
                    memories.push(memory(ty?));
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    tables.push(table?.ty.initial);
                }
            }
            Payload::ElementSection(section) => {
                for segment in section {
                    let segment = segment?;
                    let len = match &segment.items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    };
                    if let ElementKind::Active {
                        table_index,
                        offset_expr,
                    } = segment.kind
                        && !fits(&offset_expr, len.into(), &tables, table_index.unwrap_or(0))
                    {
                        return Ok(Some("an element segment lies outside its table".into()));
                    }
                }
            }
            Payload::DataSection(section) => {
                for segment in section {
                    let segment = segment?;
                    if let DataKind::Active {
                        memory_index,
                        offset_expr,
                    } = segment.kind
                        && !fits(
                            &offset_expr,
                            segment.data.len() as u64,
                            &memories,
                            memory_index,
                        )
                    {
                        return Ok(Some("a data segment lies outside its memory".into()));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Whether a segment fits; one whose offset only the host knows is taken to.
fn fits(offset: &ConstExpr<'_>, len: u64, sizes: &[u64], index: u32) -> bool {
    let mut operators = offset.get_operators_reader();
    let at = match operators.read() {
        Ok(Operator::I32Const { value }) => u64::from(value.cast_unsigned()),
        Ok(Operator::I64Const { value }) => value.cast_unsigned(),
        _ => return true,
    };
    if !matches!(operators.read(), Ok(Operator::End)) {
        return true;
    }
    let size = sizes.get(index as usize).copied().unwrap_or(0);
    at.checked_add(len).is_some_and(|end| end <= size)
}
