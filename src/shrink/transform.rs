//! Changes to what a core module offers and asks for, on request: exports that go,
//! with all that only they reach, and imports that are answered inside.
//!
//! It is done on the module without its custom sections, before the optimiser, and
//! what comes out is validated by the caller.

use std::collections::BTreeSet;

use walrus::ir::Value;
use walrus::{ExportId, FunctionId, ImportId, ImportKind, Module, ModuleConfig, ValType};

use super::options::{Answer, Options, Stub};
use crate::error::{Error, did_you_mean};
use crate::wasm::has_names;
use crate::wasm::interface::Patterns;

/// A module with another interface, and what the difference is.
#[derive(Debug)]
pub struct Transformed {
    /// The module.
    pub bytes: Vec<u8>,
    /// Names of the exports that went.
    pub removed_exports: Vec<String>,
    /// Names of the imports that are answered inside.
    pub stubbed_imports: Vec<String>,
    /// Names of other imports that went, because nothing reaches them any more.
    pub removed_imports: Vec<String>,
}

/// Removes exports and answers imports as the options say.
///
/// # Errors
///
/// [`Error::Usage`] where the options and the module do not fit together, or the
/// module uses something that cannot be transformed. Nothing is lost then.
pub fn transform(bytes: &[u8], options: &Options) -> Result<Transformed, Error> {
    let mut config = ModuleConfig::new();
    config
        .generate_name_section(has_names(bytes))
        .generate_producers_section(false)
        .strict_validate(false);
    let mut module = config.parse(bytes).map_err(|error| Error::Usage {
        message: format!("the exports and imports of this module cannot be changed: {error:#}"),
        hint: Some("it uses something that this does not know; leave shrink.keep-exports and shrink.stub-imports out".into()),
    })?;
    let removed_exports = match &options.keep_exports {
        Some(patterns) => remove_exports(&mut module, patterns)?,
        None => Vec::new(),
    };
    let before = import_names(&module);
    let mut stubbed_imports = Vec::new();
    for stub in &options.stub_imports {
        stubbed_imports.extend(answer(&mut module, stub)?);
    }
    walrus::passes::gc::run(&mut module);
    let after = import_names(&module);
    Ok(Transformed {
        bytes: module.emit_wasm(),
        removed_exports,
        removed_imports: before
            .into_iter()
            .filter(|name| !after.contains(name) && !stubbed_imports.contains(name))
            .collect(),
        stubbed_imports,
    })
}

fn import_names(module: &Module) -> BTreeSet<String> {
    let name = |import: &walrus::Import| format!("{}.{}", import.module, import.name);
    module.imports.iter().map(name).collect()
}

fn remove_exports(module: &mut Module, patterns: &[String]) -> Result<Vec<String>, Error> {
    let all: Vec<(ExportId, String)> = module
        .exports
        .iter()
        .map(|export| (export.id(), export.name.clone()))
        .collect();
    for pattern in patterns {
        let one = Patterns::new(std::slice::from_ref(pattern));
        if !all.iter().any(|(_, name)| one.cover(name)) {
            let names = all.iter().map(|(_, name)| name.as_str());
            return Err(Error::Usage {
                message: format!("there is no export `{pattern}` to keep"),
                hint: Some(match did_you_mean(pattern, names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`cargo edgepack inspect` lists the exports".into(),
                }),
            });
        }
    }
    let kept = Patterns::new(patterns);
    let mut removed = Vec::new();
    for (id, name) in all {
        if !kept.cover(&name) {
            module.exports.delete(id);
            removed.push(name);
        }
    }
    Ok(removed)
}

/// Puts a function in the place of each import that the stub covers.
fn answer(module: &mut Module, stub: &Stub) -> Result<Vec<String>, Error> {
    let covered = Patterns::new(std::slice::from_ref(&stub.import));
    let found: Vec<(ImportId, String)> = module
        .imports
        .iter()
        .map(|import| (import.id(), format!("{}.{}", import.module, import.name)))
        .filter(|(_, name)| covered.cover(name))
        .collect();
    let mut names = Vec::new();
    for (id, name) in found {
        let ImportKind::Function(function) = module.imports.get(id).kind else {
            return Err(Error::usage(format!(
                "the import `{name}` is no function and cannot be answered inside the module"
            )));
        };
        let value = match stub.answer {
            Answer::Trap => None,
            Answer::Value(value) => Some(returned(module, function, &name, value)?),
        };
        let replaced = module.replace_imported_func(function, |(body, _)| {
            match value {
                Some(Value::I32(value)) => body.i32_const(value),
                Some(Value::I64(value)) => body.i64_const(value),
                _ => body.unreachable(),
            };
        });
        replaced
            .map_err(|error| Error::Internal(format!("failed to replace `{name}`: {error}")))?;
        names.push(name);
    }
    Ok(names)
}

/// The number as the import's result.
fn returned(module: &Module, function: FunctionId, name: &str, value: i64) -> Result<Value, Error> {
    let results = module.types.get(module.funcs.get(function).ty()).results();
    let wrong = |why: &str| Error::Usage {
        message: format!("the import `{name}` cannot return {value}: {why}"),
        hint: Some(format!("let it trap: `{name}=trap`")),
    };
    match results {
        [ValType::I32] => i32::try_from(value)
            .map(Value::I32)
            .map_err(|_| wrong("its result has 32 bits")),
        [ValType::I64] => Ok(Value::I64(value)),
        [] => Err(wrong("it has no result")),
        _ => Err(wrong("its result is no integer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = r#"(module
        (import "env" "now" (func $now (result i64)))
        (import "env" "random" (func $random (param i32 i32) (result i32)))
        (import "env" "log" (func $log (param i32)))
        (import "env" "table" (table $t 1 funcref))
        (memory (export "memory") 1)
        (func (export "a") (result i32) (call $random (i32.const 0) (i32.const 8)))
        (func (export "b") (result i64) (call $log (i32.const 1)) (call $now)))"#;

    fn with(keep: Option<&[&str]>, stubs: &[&str]) -> Result<Transformed, Error> {
        let options = Options {
            keep_exports: keep.map(|k| k.iter().map(|s| (*s).to_owned()).collect()),
            stub_imports: stubs.iter().map(|s| s.parse().unwrap()).collect(),
            ..Options::default()
        };
        let made = transform(&wat::parse_str(MODULE).unwrap(), &options)?;
        let wasm = crate::wasm::Wasm::new(made.bytes.clone()).unwrap();
        crate::validate::validate(wasm).unwrap();
        Ok(made)
    }

    #[test]
    fn what_only_a_removed_export_reaches_goes_too() {
        let made = with(Some(&["a", "mem*"]), &[]).unwrap();
        assert_eq!(made.removed_exports, ["b"]);
        assert_eq!(made.removed_imports, ["env.log", "env.now", "env.table"]);
        let error = with(Some(&["mmeory"]), &[]).unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("did you mean `memory`?"));
    }

    #[test]
    fn imports_are_answered_inside() {
        let made = with(None, &["env.random=52", "env.log", "env.now=-1"]).unwrap();
        assert_eq!(made.stubbed_imports, ["env.random", "env.log", "env.now"]);
        assert_eq!(made.removed_imports, ["env.table"]);
        assert_eq!(
            with(None, &["env.r*"]).unwrap().stubbed_imports,
            ["env.random"]
        );
        assert!(
            with(None, &["other.thing"])
                .unwrap()
                .stubbed_imports
                .is_empty()
        );
        for wrong in ["env.log=1", "env.random=99999999999", "env.table"] {
            let error = with(None, &[wrong]).unwrap_err();
            assert!(matches!(error, Error::Usage { .. }), "{wrong}: {error}");
        }
    }
}
