//! Wasm bytes whose kind is known, the sections they consist of, and the one
//! rewriter that every transform goes through.
//!
//! A module and a component share the same outer shape: an eight-byte header and
//! a list of sections (id, LEB128 length, contents). The rewriter works at that
//! level, so that whatever a transform does not name is carried over as it was.
//!
//! Spec: <https://webassembly.github.io/spec/core/binary/modules.html#binary-module>,
//! <https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md>.

use std::fmt;
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wasm_encoder::RawSection;
use wasmparser::BinaryReader;

pub mod capability;
pub mod interface;
pub mod metadata;
pub mod proposals;
pub mod segments;
pub mod surface;

/// Section id of a custom section, in modules and in components.
pub const CUSTOM_SECTION: u8 = 0;
/// Section id of the number of data segments, in core modules.
pub const DATA_COUNT_SECTION: u8 = 12;
/// Section id of a core module inside a component.
pub const COMPONENT_CORE_MODULE_SECTION: u8 = 1;
/// Section id of a component inside a component.
pub const COMPONENT_COMPONENT_SECTION: u8 = 4;

pub(crate) const HEADER_LEN: usize = 8;

/// What a binary is: a core module or a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A core module, as WebAssembly 1.0 defined it.
    Core,
    /// A component of the component model.
    Component,
}

impl Kind {
    /// The word for it in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Core => "core",
            Kind::Component => "component",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Core => "core module",
            Kind::Component => "component",
        })
    }
}

/// Why bytes are not taken for Wasm at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWasm {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// It looks like the text format.
    #[error("this is the text format, not a binary")]
    TextFormat,
    /// The magic number `\0asm` is missing.
    #[error("not a Wasm binary: it does not start with `\\0asm`")]
    Magic,
    /// The magic number is there, the version after it is not.
    #[error("the Wasm binary is truncated: its header is incomplete")]
    TruncatedHeader,
    /// The version and layer fields name a format that is not known.
    #[error("unknown Wasm version {version} at layer {layer}")]
    Version {
        /// The version field.
        version: u16,
        /// The layer field: 0 for modules, 1 for components.
        layer: u16,
    },
}

impl NotWasm {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(self) -> Option<String> {
        match self {
            NotWasm::Empty => Some("the tool that should have written it failed, or has not run yet".into()),
            NotWasm::TextFormat => Some("convert it first: wasm-tools parse FILE -o FILE.wasm".into()),
            NotWasm::Magic => Some("pass the .wasm file itself, not an archive or a JavaScript wrapper".into()),
            NotWasm::TruncatedHeader => Some("the file is cut short: copy or download it again".into()),
            NotWasm::Version { .. } => Some("it was made for another stage of the format; build it again with a current toolchain".into()),
        }
    }
}

/// The kind of a binary by its header alone.
///
/// # Errors
///
/// [`NotWasm`] where the first eight bytes are not those of a module or component.
pub fn kind_of(bytes: &[u8]) -> Result<Kind, NotWasm> {
    const MAGIC: &[u8] = b"\0asm";
    if bytes.is_empty() {
        return Err(NotWasm::Empty);
    }
    let head = &bytes[..bytes.len().min(HEADER_LEN)];
    if !head.starts_with(MAGIC) {
        if MAGIC.starts_with(head) {
            return Err(NotWasm::TruncatedHeader);
        }
        let text = &bytes[..bytes.len().min(4096)];
        let start = text
            .iter()
            .position(|b| !b.is_ascii_whitespace())
            .unwrap_or(0);
        let text = &text[start..];
        if [&b"(module"[..], b"(component", b";;"]
            .iter()
            .any(|t| text.starts_with(t))
        {
            return Err(NotWasm::TextFormat);
        }
        return Err(NotWasm::Magic);
    }
    let &[_, _, _, _, v0, v1, l0, l1] = head else {
        return Err(NotWasm::TruncatedHeader);
    };
    match (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([l0, l1])) {
        (1, 0) => Ok(Kind::Core),
        (0x0d, 1) => Ok(Kind::Component),
        (version, layer) => Err(NotWasm::Version { version, layer }),
    }
}

/// Wasm bytes with a header that has been looked at. Nothing more is promised:
/// [`crate::validate::validate`] gives the proof that the rest is sound.
#[derive(Clone, PartialEq, Eq)]
pub struct Wasm {
    bytes: Vec<u8>,
    kind: Kind,
}

impl Wasm {
    /// Takes bytes whose header is that of a module or a component.
    ///
    /// # Errors
    ///
    /// [`NotWasm`] where it is neither.
    pub fn new(bytes: Vec<u8>) -> Result<Self, NotWasm> {
        let kind = kind_of(&bytes)?;
        Ok(Wasm { bytes, kind })
    }

    /// The whole binary.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Core module or component.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Gives the bytes back.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl fmt::Debug for Wasm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wasm({}, {} bytes)", self.kind, self.bytes.len())
    }
}

/// One section of a module or component.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// The id byte; its meaning depends on the kind.
    pub id: u8,
    /// The name, for custom sections.
    pub name: Option<&'a str>,
    /// Contents: for custom sections the bytes behind the name.
    pub data: &'a [u8],
    /// Everything behind the length, a custom section's name included.
    payload: &'a [u8],
    /// Where the whole section, id and length included, stands in the binary.
    pub range: Range<usize>,
}

/// Whether a core module names its functions.
#[must_use]
pub fn has_names(bytes: &[u8]) -> bool {
    sections(bytes).is_ok_and(|all| all.iter().any(|s| s.name == Some("name")))
}

/// The outermost sections of `bytes`, in order.
///
/// # Errors
///
/// The parser's own error, with its offset, where a length or a custom section's
/// name goes past the end.
pub fn sections(bytes: &[u8]) -> wasmparser::Result<Vec<Section<'_>>> {
    let body = bytes.get(HEADER_LEN..).unwrap_or_default();
    let mut reader = BinaryReader::new(body, HEADER_LEN as u64);
    let mut found = Vec::new();
    while !reader.eof() {
        let start = HEADER_LEN + reader.current_position();
        let id = reader.read_u8()?;
        let len = reader.read_var_u32()?;
        let payload = reader.read_bytes(len as usize)?;
        let end = HEADER_LEN + reader.current_position();
        let (name, data) = if id == CUSTOM_SECTION {
            let mut inner = BinaryReader::new(payload, (end - payload.len()) as u64);
            let name = inner.read_unlimited_string()?;
            (Some(name), &payload[inner.current_position()..])
        } else {
            (None, payload)
        };
        found.push(Section {
            id,
            name,
            data,
            payload,
            range: start..end,
        });
    }
    Ok(found)
}

/// What to do with one section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Carry the contents over as they are.
    Keep,
    /// Leave the section out.
    Drop,
    /// Put these contents in its place, under the same id.
    Replace(Vec<u8>),
}

/// Writes `bytes` again, asking `edit` about each of its outermost sections.
///
/// Lengths are written in their shortest form; contents that are kept are kept
/// byte for byte, and so is the order.
///
/// # Errors
///
/// What [`sections`] or `edit` returns.
pub fn rewrite<E: From<wasmparser::Error>>(
    bytes: &[u8],
    mut edit: impl FnMut(&Section<'_>) -> Result<Edit, E>,
) -> Result<Vec<u8>, E> {
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..HEADER_LEN.min(bytes.len())]);
    for section in sections(bytes)? {
        match edit(&section)? {
            Edit::Drop => {}
            Edit::Keep => append_section(&mut out, section.id, section.payload),
            Edit::Replace(data) => append_section(&mut out, section.id, &data),
        }
    }
    Ok(out)
}

/// Appends one whole section to a binary that is being written.
pub fn append_section(out: &mut Vec<u8>, id: u8, data: &[u8]) {
    use wasm_encoder::{Encode, Section as _};
    let raw = RawSection { id, data };
    out.push(raw.id());
    raw.encode(out);
}

/// What sections are called, by their id.
const CORE_SECTIONS: [&str; 14] = [
    "custom",
    "type",
    "import",
    "function",
    "table",
    "memory",
    "global",
    "export",
    "start",
    "element",
    "code",
    "data",
    "data count",
    "tag",
];
const COMPONENT_SECTIONS: [&str; 13] = [
    "custom",
    "core module",
    "core instance",
    "core type",
    "component",
    "instance",
    "alias",
    "type",
    "canonical function",
    "start",
    "import",
    "export",
    "value",
];

impl Section<'_> {
    /// What people call this section.
    #[must_use]
    pub fn label(&self, kind: Kind) -> String {
        if let Some(name) = self.name {
            return format!("custom `{}`", name.escape_debug());
        }
        let names: &[&str] = match kind {
            Kind::Core => &CORE_SECTIONS,
            Kind::Component => &COMPONENT_SECTIONS,
        };
        names.get(usize::from(self.id)).map_or_else(
            || format!("unknown id {}", self.id),
            |name| (*name).to_owned(),
        )
    }

    /// The contents as they stand in the binary, a custom section's name included.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn tells_kinds_apart() {
        assert_eq!(kind_of(EMPTY_MODULE), Ok(Kind::Core));
        assert_eq!(kind_of(b"\0asm\x0d\0\x01\0"), Ok(Kind::Component));
        assert_eq!(kind_of(b""), Err(NotWasm::Empty));
        assert_eq!(kind_of(b"\0as"), Err(NotWasm::TruncatedHeader));
        assert_eq!(kind_of(b"\0asm\x01"), Err(NotWasm::TruncatedHeader));
        assert_eq!(kind_of(b"  (module)"), Err(NotWasm::TextFormat));
        assert_eq!(kind_of(b"hello"), Err(NotWasm::Magic));
        assert_eq!(kind_of(&[0; 64]), Err(NotWasm::Magic));
        assert_eq!(
            kind_of(b"\0asm\x02\0\0\0"),
            Err(NotWasm::Version {
                version: 2,
                layer: 0
            })
        );
    }

    #[test]
    fn rewrites_and_shortens_lengths() {
        // A custom section "a" with contents "xyz", its length padded to five bytes.
        let mut module = EMPTY_MODULE.to_vec();
        module.extend_from_slice(&[0, 0x85, 0x80, 0x80, 0x80, 0x00, 1, b'a', b'x', b'y', b'z']);
        let found = sections(&module).unwrap();
        assert_eq!(found[0].name, Some("a"));
        assert_eq!(found[0].data, b"xyz");
        let kept = rewrite::<wasmparser::Error>(&module, |_| Ok(Edit::Keep)).unwrap();
        assert_eq!(&kept[8..], &[0, 5, 1, b'a', b'x', b'y', b'z']);
        let dropped = rewrite::<wasmparser::Error>(&module, |_| Ok(Edit::Drop)).unwrap();
        assert_eq!(dropped, EMPTY_MODULE);
    }

    #[test]
    fn refuses_a_section_that_is_longer_than_the_file() {
        let mut module = EMPTY_MODULE.to_vec();
        module.extend_from_slice(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(sections(&module).is_err());
    }
}
