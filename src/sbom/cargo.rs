//! Which packages cargo put into a module.
//!
//! The compiler knows best: a package is in the module if cargo compiled it for the
//! target, with the features that it was compiled with, and if the module's own package
//! reaches it through dependencies that those features turn on. So build scripts,
//! procedural macros and what they need are left out, and so is what another module of
//! the same run needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, NodeDep, Package as CargoPackage, PackageId};
use serde::Deserialize;

use super::purl::Origin;
use super::{Graph, Package};

/// The packages that cargo compiled for the target, with the features of each.
pub type Units = BTreeMap<PackageId, BTreeSet<String>>;

/// The sums in `Cargo.lock`, by name, version and source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock(BTreeMap<(String, String, String), String>);

impl Lock {
    /// Reads a `Cargo.lock` of any version. What is no such thing has no sums.
    ///
    /// Format: <https://doc.rust-lang.org/cargo/guide/cargo-toml-vs-cargo-lock.html>.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            package: Vec<Entry>,
            #[serde(default)]
            metadata: BTreeMap<String, String>,
        }
        #[derive(Deserialize)]
        struct Entry {
            name: String,
            version: String,
            source: Option<String>,
            checksum: Option<String>,
        }
        let Ok(file) = toml::from_str::<File>(text) else {
            return Lock::default();
        };
        let mut sums = BTreeMap::new();
        for entry in file.package {
            if let (Some(source), Some(checksum)) = (entry.source, entry.checksum) {
                sums.insert((entry.name, entry.version, source), checksum);
            }
        }
        // The first version: `checksum NAME VERSION (SOURCE)`.
        for (key, checksum) in file.metadata {
            let words: Vec<&str> = key.splitn(4, ' ').collect();
            if let ["checksum", name, version, source] = words[..] {
                let source = source.trim_start_matches('(').trim_end_matches(')');
                sums.insert((name.into(), version.into(), source.into()), checksum);
            }
        }
        sums.retain(|_, sum| sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()));
        Lock(sums)
    }

    fn checksum(&self, package: &CargoPackage) -> Option<String> {
        let key = (
            package.name.to_string(),
            package.version.to_string(),
            package.source.as_ref()?.repr.clone(),
        );
        self.0.get(&key).cloned()
    }
}

/// The packages of the module that was made of `root`. `metadata` is cargo's with the
/// whole graph. An example may use development dependencies.
#[must_use]
pub fn graph(
    metadata: &Metadata,
    lock: &Lock,
    units: &Units,
    root: &PackageId,
    example: bool,
) -> Graph {
    let packages: BTreeMap<&PackageId, &CargoPackage> =
        metadata.packages.iter().map(|p| (&p.id, p)).collect();
    let nodes: BTreeMap<&PackageId, &[NodeDep]> = metadata
        .resolve
        .iter()
        .flat_map(|r| &r.nodes)
        .map(|n| (&n.id, &n.deps[..]))
        .collect();
    let mut order = vec![root];
    let mut numbers = BTreeMap::from([(root, 0)]);
    let mut edges: Vec<Vec<usize>> = Vec::new();
    let none = BTreeSet::new();
    let mut next = 0;
    while let Some(&id) = order.get(next) {
        let mut found = BTreeSet::new();
        for dep in nodes.get(id).copied().unwrap_or_default() {
            let (Some(from), Some(to)) = (packages.get(id), packages.get(&dep.pkg)) else {
                continue;
            };
            let features = units.get(id).unwrap_or(&none);
            let development = example && id == root;
            if !units.contains_key(&dep.pkg) || !is_on(dep, from, to, features, development) {
                continue;
            }
            let number = *numbers.entry(&to.id).or_insert_with(|| {
                order.push(&to.id);
                order.len() - 1
            });
            // A package may name itself among its development dependencies.
            if number != next {
                found.insert(number);
            }
        }
        edges.push(found.into_iter().collect());
        next += 1;
    }
    let workspace = metadata.workspace_root.as_std_path();
    let describe = |id: &&PackageId| {
        packages.get(*id).map_or_else(Package::default, |package| {
            let features = units.get(*id).unwrap_or(&none);
            describe(package, features, lock, workspace)
        })
    };
    Graph {
        packages: order.iter().map(describe).collect(),
        edges,
        facts: Vec::new(),
    }
}

/// Whether a dependency is one of the module's, given the features that are on.
fn is_on(
    dep: &NodeDep,
    from: &CargoPackage,
    to: &CargoPackage,
    features: &BTreeSet<String>,
    development: bool,
) -> bool {
    let wanted = |kind: DependencyKind| {
        kind == DependencyKind::Normal || (development && kind == DependencyKind::Development)
    };
    if !dep.dep_kinds.iter().any(|k| wanted(k.kind)) {
        return false;
    }
    let mut declared = from
        .dependencies
        .iter()
        .filter(|d| wanted(d.kind) && d.name == to.name.as_str() && d.req.matches(&to.version))
        .peekable();
    if declared.peek().is_none() {
        // A patch or a replacement may have another version than was asked for.
        return true;
    }
    declared.any(|d| !d.optional || turned_on(d.rename.as_ref().unwrap_or(&d.name), from, features))
}

/// Whether one of the features that are on names this optional dependency.
/// <https://doc.rust-lang.org/cargo/reference/features.html#optional-dependencies>
fn turned_on(key: &str, package: &CargoPackage, features: &BTreeSet<String>) -> bool {
    features.iter().any(|feature| {
        feature == key
            || package
                .features
                .get(feature)
                .into_iter()
                .flatten()
                .any(|value| {
                    value.strip_prefix("dep:") == Some(key)
                        || value.split_once('/').is_some_and(|(name, _)| name == key)
                })
    })
}

fn describe(
    package: &CargoPackage,
    features: &BTreeSet<String>,
    lock: &Lock,
    workspace: &Path,
) -> Package {
    let origin = match &package.source {
        Some(source) => Origin::of_source(&source.repr),
        None => match package.manifest_path.parent() {
            Some(folder) => Origin::Path(relative(folder.as_std_path(), workspace)),
            None => Origin::Unknown,
        },
    };
    Package {
        name: package.name.to_string(),
        version: package.version.to_string(),
        origin,
        checksum: lock.checksum(package),
        license: package.license.clone(),
        license_file: package
            .license_file
            .as_ref()
            .and_then(|f| Some(f.file_name()?.to_owned())),
        description: package.description.clone(),
        repository: package.repository.clone(),
        homepage: package.homepage.clone(),
        features: features.iter().cloned().collect(),
    }
}

/// The way from the workspace to a folder: the same on every machine.
fn relative(folder: &Path, workspace: &Path) -> String {
    let ours: Vec<Component<'_>> = workspace.components().collect();
    let theirs: Vec<Component<'_>> = folder.components().collect();
    let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    let mut path = PathBuf::from(if same < ours.len() { "" } else { "." });
    path.extend(std::iter::repeat_n("..", ours.len() - same));
    path.extend(&theirs[same..]);
    path.to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_every_version_of_the_lock_file() {
        let sum = "a".repeat(64);
        let source = "registry+https://github.com/rust-lang/crates.io-index";
        let new = format!(
            "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"{source}\"\nchecksum = \"{sum}\"\n[[package]]\nname = \"b\"\nversion = \"0.1.0\"\n"
        );
        let old = format!(
            "[metadata]\n\"checksum a 1.0.0 ({source})\" = \"{sum}\"\n\"checksum b 1.0.0 ({source})\" = \"<none>\"\n"
        );
        let lock = Lock(BTreeMap::from([(
            ("a".into(), "1.0.0".into(), source.into()),
            sum,
        )]));
        assert_eq!(Lock::parse(&new), lock);
        assert_eq!(Lock::parse(&old), lock);
        assert_eq!(Lock::parse("?"), Lock::default());
    }

    #[test]
    fn paths_are_those_from_the_workspace() {
        for (folder, path) in [
            ("/w/app", "."),
            ("/w/app/crates/a", "./crates/a"),
            ("/w/lib", "../lib"),
            ("/x", "../../x"),
        ] {
            assert_eq!(relative(Path::new(folder), Path::new("/w/app")), path);
        }
    }
}
