//! (IO) What ships, beside what shipped before: sizes, and what it asks of its host.
//!
//! The other one is a file, an earlier report, or an artifact. It is read before
//! anything is built, since a build may write over it. One that is not there yet, as
//! at the first publish, is no error; whatever else keeps it from being read is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::cache::Cache;
use crate::error::Error;
use crate::finding::{Code, Finding};
use crate::output::{self, Pending};
use crate::pipeline::cached_gzip_size;
use crate::pull::{self, Source};
use crate::registry::http::Client;
use crate::registry::layout::LayoutReference;
use crate::registry::reference::{LAYOUT_PREFIX, Reference};
use crate::report::{Comparison, Difference, PackageReport, SCHEMA_VERSION, Size};
use crate::validate::{Validated, validate_once};
use crate::wasm::Wasm;

/// A report that is larger is none.
const MAX_REPORT: u64 = 64 << 20;
/// How many imports a finding names.
const MAX_NAMED: usize = 10;

/// What is compared with, before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// A .wasm file or a report.
    File(PathBuf),
    /// An artifact in a layout: `oci:DIR:TAG`.
    Layout(String),
    /// An artifact in a registry.
    Remote(Reference),
}

impl Other {
    /// Parses a path, `oci:DIR:TAG`, `HOST/PATH:TAG` or `HOST/PATH@DIGEST`. A file that
    /// is there comes first; what ends like a file's name is one.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.starts_with(LAYOUT_PREFIX) {
            return Other::Layout(text.to_owned());
        }
        let path = Path::new(text);
        let named_so = path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("wasm") || e.eq_ignore_ascii_case("json"));
        match Reference::parse(text) {
            Ok(reference) if !named_so && !path.exists() => Other::Remote(reference),
            _ => Other::File(path.to_owned()),
        }
    }

    /// The registry that has it, where one has.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match self {
            Other::Remote(reference) => Some(reference.repository.host()),
            _ => None,
        }
    }
}

/// A module or component that shipped before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    size: Size,
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Known {
    fn of(module: &Validated, cache: &Cache) -> Self {
        let bytes = module.wasm().bytes();
        let interface = module.interface();
        Known {
            size: Size {
                raw: bytes.len() as u64,
                gzip: Some(cached_gzip_size(bytes, cache)),
            },
            imports: interface.imports.iter().map(|i| i.name.clone()).collect(),
            exports: interface.exports.iter().map(|e| e.name.clone()).collect(),
        }
    }
}

/// What is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// The path, or `HOST/PATH@DIGEST`.
    name: String,
    known: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// There is nothing yet.
    Nothing,
    /// One binary.
    One(Known),
    /// Those of a report.
    Several(BTreeMap<String, Known>),
}

impl Baseline {
    /// Reads what is named. `client` is for artifacts in registries.
    ///
    /// # Errors
    ///
    /// [`Error`] where it is there and cannot be read, does not validate, or is none of
    /// what it may be; also for a file or a digest that is missing.
    pub async fn read(other: &Other, client: &Arc<Client>, cache: &Cache) -> Result<Self, Error> {
        match other {
            Other::File(path) => of_file(path, cache),
            Other::Layout(text) => match LayoutReference::parse(text) {
                Some(Ok(LayoutReference { layout, version })) => {
                    of_artifact(&Source::Layout { layout, version }, text, cache).await
                }
                _ => Ok(Baseline::nothing(text)),
            },
            Other::Remote(reference) => {
                let source = Source::remote(reference, client)?;
                let found = of_artifact(&source, &reference.to_string(), cache).await?;
                match (&found.known, &reference.digest) {
                    // A digest is known because it was there.
                    (Shape::Nothing, Some(_)) => Err(Error::Registry {
                        message: format!("there is no {reference} to compare with"),
                        hint: Some(
                            "check the digest; a tag that is not there yet is no error".into(),
                        ),
                    }),
                    _ => Ok(found),
                }
            }
        }
    }

    fn nothing(name: &str) -> Self {
        Baseline {
            name: name.to_owned(),
            known: Shape::Nothing,
        }
    }

    /// What it is called: a path, or `HOST/PATH@DIGEST`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is nothing yet.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.known == Shape::Nothing
    }

    /// Whether it can be compared with so many modules: a report can with any number,
    /// since it has their names.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`].
    pub fn fits(&self, modules: usize) -> Result<(), Error> {
        if modules < 2 || !matches!(self.known, Shape::One(_)) {
            return Ok(());
        }
        Err(Error::Usage {
            message: format!(
                "`{}` is one module, and {modules} are built: which of them is it compared with?",
                self.name
            ),
            hint: Some(
                "choose one with --package, or compare with the report.json of an earlier run, which has the names"
                    .into(),
            ),
        })
    }

    /// Puts the comparison into a report, with a finding where the module asks its host
    /// for more. Says whether there was one to compare with.
    pub fn compare(&self, report: &mut PackageReport) -> bool {
        let known = match &self.known {
            Shape::Nothing => None,
            Shape::One(known) => Some(known),
            Shape::Several(known) => known.get(&report.name),
        };
        // What does not validate is not written.
        let (Some(known), true) = (known, report.wasm.is_some()) else {
            return known.is_some();
        };
        let imports = Difference::between(&known.imports, &report.imports);
        if !imports.added.is_empty() {
            report
                .findings
                .push(more_imports(&imports.added, &self.name));
        }
        let change = |after: u64, before: u64| {
            i64::try_from(i128::from(after) - i128::from(before)).unwrap_or(i64::MAX)
        };
        let gzip = report.size.gzip.zip(known.size.gzip);
        report.comparison = Some(Comparison {
            with: self.name.clone(),
            size: known.size,
            raw_change: change(report.size.after, known.size.raw),
            gzip_change: gzip.map(|(after, before)| change(after, before)),
            imports,
            exports: Difference::between(&known.exports, &report.exports),
        });
        true
    }
}

fn more_imports(added: &[String], name: &str) -> Finding {
    let mut named: Vec<String> = added
        .iter()
        .take(MAX_NAMED)
        .map(|import| format!("`{}`", import.escape_debug()))
        .collect();
    if added.len() > MAX_NAMED {
        named.push(format!("{} more", added.len() - MAX_NAMED));
    }
    Finding::new(
        Code::ImportsAdded,
        format!(
            "it asks its host for what {name} did not: {}",
            named.join(", ")
        ),
    )
    .with_hint("see what needs it; check.allow-imports says once and for all what it may ask for")
}

fn of_file(path: &Path, cache: &Cache) -> Result<Baseline, Error> {
    let name = path.display().to_string();
    let wasm = match output::read_wasm(path) {
        Ok(wasm) => wasm,
        Err(Error::NotWasm { .. }) => return of_report(path, name),
        Err(Error::Usage { .. }) => {
            return Err(Error::Usage {
                message: format!("`{name}` is nothing to compare with"),
                hint: Some("name a .wasm file, the report.json of an earlier run, or an artifact as HOST/PATH:TAG".into()),
            });
        }
        Err(Error::Io {
            action,
            path,
            source,
        }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::Usage {
                message: format!("failed to {action} `{}`, to compare with it: {source}", path.display()),
                hint: Some("name a .wasm file, the report.json of an earlier run, or an artifact as HOST/PATH:TAG".into()),
            });
        }
        Err(error) => return Err(error),
    };
    Ok(Baseline {
        known: Shape::One(valid(wasm, &name, cache)?),
        name,
    })
}

fn valid(wasm: Wasm, name: &str, cache: &Cache) -> Result<Known, Error> {
    match validate_once(wasm, cache) {
        Ok(module) => Ok(Known::of(&module, cache)),
        Err(rejected) => {
            let why = rejected.findings.first().map_or("", |f| f.message.as_str());
            Err(Error::Usage {
                message: format!("`{name}` does not validate, and is not compared with: {why}"),
                hint: Some("compare with a module that is sound".into()),
            })
        }
    }
}

async fn of_artifact(source: &Source, name: &str, cache: &Cache) -> Result<Baseline, Error> {
    let Some(resolved) = pull::resolve_if_there(source).await? else {
        return Ok(Baseline::nothing(name));
    };
    let mut pending = Pending::nowhere()?;
    pull::fetch(source, &resolved, &mut pending, Path::new(name), &|_, _| {}).await?;
    let wasm = output::read_wasm(pending.path())?;
    Ok(Baseline {
        known: Shape::One(valid(wasm, &resolved.reference, cache)?),
        name: resolved.reference,
    })
}

/// What is read of a report: a newer one may hold words that are not known here.
#[derive(Deserialize)]
struct Old {
    schema_version: u32,
    packages: Vec<OldPackage>,
}

#[derive(Deserialize)]
struct OldPackage {
    name: String,
    wasm: Option<PathBuf>,
    size: OldSize,
    imports: Vec<String>,
    exports: Vec<String>,
}

#[derive(Deserialize)]
struct OldSize {
    after: u64,
    gzip: Option<u64>,
}

fn of_report(path: &Path, name: String) -> Result<Baseline, Error> {
    let bytes = output::read_small(path, MAX_REPORT)?;
    let old: Old = serde_json::from_slice(&bytes).map_err(|error| Error::Usage {
        message: format!("`{name}` is neither a .wasm file nor a report.json: {error}"),
        hint: Some(
            "name a .wasm file, the report.json of an earlier run, or an artifact as HOST/PATH:TAG"
                .into(),
        ),
    })?;
    if old.schema_version != SCHEMA_VERSION {
        return Err(Error::Usage {
            message: format!(
                "`{name}` has the schema_version {}, where {SCHEMA_VERSION} is known",
                old.schema_version
            ),
            hint: Some("it is from another version of cargo edgepack: compare with the .wasm file, or make it again".into()),
        });
    }
    let known = old
        .packages
        .into_iter()
        .filter(|package| package.wasm.is_some())
        .map(|package| {
            let known = Known {
                size: Size {
                    raw: package.size.after,
                    gzip: package.size.gzip,
                },
                imports: package.imports,
                exports: package.exports,
            };
            (package.name, known)
        });
    Ok(Baseline {
        known: Shape::Several(known.collect()),
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_and_of_artifacts() {
        for text in [
            "old.wasm",
            "./a/b",
            "a/b.json",
            "my.dir/old.wasm",
            "target/old",
            "/x",
        ] {
            assert_eq!(Other::parse(text), Other::File(text.into()), "{text}");
        }
        for text in [
            "ghcr.io/acme/app:1",
            "localhost:5000/app",
            "ghcr.io/acme/app.wasm:1",
        ] {
            assert_eq!(Other::parse(text).host(), text.split('/').next(), "{text}");
        }
        let layout = "oci:dir:tag";
        assert_eq!(Other::parse(layout), Other::Layout(layout.into()));
    }
}
