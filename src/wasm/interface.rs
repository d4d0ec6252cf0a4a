//! What a binary asks of its host and what it offers: its imports and exports.
//!
//! Names are written the way they are matched and reported: `module.field` for
//! core modules, the WIT name with its version for components.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wasmparser::{
    ComponentExternalKind, ComponentTypeRef, ExternalKind, Parser, Payload, TypeBounds, TypeRef,
};
use wildmatch::WildMatch;

/// What sort of thing is imported or exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ItemKind {
    /// A function, core or lifted.
    Func,
    /// A table.
    Table,
    /// A linear memory.
    Memory,
    /// A global.
    Global,
    /// An exception tag.
    Tag,
    /// A core module.
    Module,
    /// A value of the component model.
    Value,
    /// A type; for imports, one that the host has to provide (a resource).
    Type,
    /// An instance, that is, a WIT interface.
    Instance,
    /// A component.
    Component,
}

impl ItemKind {
    /// The name, as it stands in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ItemKind::Func => "func",
            ItemKind::Table => "table",
            ItemKind::Memory => "memory",
            ItemKind::Global => "global",
            ItemKind::Tag => "tag",
            ItemKind::Module => "module",
            ItemKind::Value => "value",
            ItemKind::Type => "type",
            ItemKind::Instance => "instance",
            ItemKind::Component => "component",
        }
    }
}

/// One import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Import {
    /// `module.field` for core modules; the extern name, version included, for components.
    pub name: String,
    /// What is imported.
    pub kind: ItemKind,
}

/// One export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Export {
    /// The export's name; for components with its version.
    pub name: String,
    /// What is exported.
    pub kind: ItemKind,
}

/// The outermost imports and exports of a binary, in its own order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// What it needs.
    pub imports: Vec<Import>,
    /// What it offers.
    pub exports: Vec<Export>,
}

impl Interface {
    /// Reads the imports and exports of a module or component. What the modules
    /// inside a component exchange with each other is no part of it.
    ///
    /// # Errors
    ///
    /// The parser's, where a section does not parse.
    pub fn read(bytes: &[u8]) -> wasmparser::Result<Self> {
        let mut found = Interface::default();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        found.imports.push(Import {
                            name: format!("{}.{}", import.module, import.name),
                            kind: core_import_kind(import.ty),
                        });
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        found.exports.push(Export {
                            name: export.name.to_owned(),
                            kind: core_export_kind(export.kind),
                        });
                    }
                }
                Payload::ComponentImportSection(section) => {
                    for import in section {
                        let import = import?;
                        // An alias of a type that the component can spell itself asks nothing.
                        if matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_))) {
                            continue;
                        }
                        let name = import
                            .name
                            .full_implements()
                            .unwrap_or_else(|| import.name.full_name());
                        found.imports.push(Import {
                            name: name.into_owned(),
                            kind: component_import_kind(&import.ty),
                        });
                    }
                }
                Payload::ComponentExportSection(section) => {
                    for export in section {
                        let export = export?;
                        found.exports.push(Export {
                            name: export.name.full_name().into_owned(),
                            kind: component_export_kind(export.kind),
                        });
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// Patterns over import names: `*` stands for any run of characters, `?` for one.
///
/// `wasi:cli/*` covers `wasi:cli/environment@0.2.6`; a pattern without a version
/// covers every version of that interface; `env.*` covers all that a core module
/// imports from `env`.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<WildMatch>);

impl Patterns {
    /// Compiles the patterns. Every string is one; there is nothing to get wrong.
    #[must_use]
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Self {
        Patterns(
            patterns
                .iter()
                .map(|p| WildMatch::new(p.as_ref()))
                .collect(),
        )
    }

    /// Whether one of the patterns covers `name`, with or without its version.
    #[must_use]
    pub fn cover(&self, name: &str) -> bool {
        let unversioned = name
            .rsplit_once('@')
            .map_or(name, |(interface, _)| interface);
        self.0
            .iter()
            .any(|p| p.matches(name) || p.matches(unversioned))
    }
}

fn core_import_kind(ty: TypeRef) -> ItemKind {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => ItemKind::Func,
        TypeRef::Table(_) => ItemKind::Table,
        TypeRef::Memory(_) => ItemKind::Memory,
        TypeRef::Global(_) => ItemKind::Global,
        TypeRef::Tag(_) => ItemKind::Tag,
    }
}

fn core_export_kind(kind: ExternalKind) -> ItemKind {
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => ItemKind::Func,
        ExternalKind::Table => ItemKind::Table,
        ExternalKind::Memory => ItemKind::Memory,
        ExternalKind::Global => ItemKind::Global,
        ExternalKind::Tag => ItemKind::Tag,
    }
}

fn component_import_kind(ty: &ComponentTypeRef) -> ItemKind {
    component_export_kind(ty.kind())
}

fn component_export_kind(kind: ComponentExternalKind) -> ItemKind {
    match kind {
        ComponentExternalKind::Module => ItemKind::Module,
        ComponentExternalKind::Func => ItemKind::Func,
        ComponentExternalKind::Value => ItemKind::Value,
        ComponentExternalKind::Type => ItemKind::Type,
        ComponentExternalKind::Instance => ItemKind::Instance,
        ComponentExternalKind::Component => ItemKind::Component,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_versions_and_fields() {
        let patterns = Patterns::new(&["wasi:cli/*", "wasi:io/streams", "env.log_?"]);
        assert!(patterns.cover("wasi:cli/environment@0.2.6"));
        assert!(patterns.cover("wasi:io/streams@0.2.0"));
        assert!(!patterns.cover("wasi:io/error@0.2.0"));
        assert!(patterns.cover("env.log_1"));
        assert!(!patterns.cover("env.log"));
        assert!(!Patterns::default().cover("anything"));
    }
}
