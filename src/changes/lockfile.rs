//! `Cargo.lock`, as far as it says which packages a package is built from.
//!
//! <https://doc.rust-lang.org/cargo/guide/cargo-toml-vs-cargo-lock.html>

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// A lock file.
pub struct Lockfile {
    packages: Vec<Locked>,
    by_name: BTreeMap<String, Vec<usize>>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
    /// `NAME`, `NAME VERSION` or `NAME VERSION (SOURCE)`: as much as tells it apart.
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Lockfile {
    /// None where the text is no lock file.
    pub fn parse(text: &str) -> Option<Self> {
        let document: Document = toml::from_str(text).ok()?;
        let mut by_name = BTreeMap::<String, Vec<usize>>::new();
        for (index, package) in document.package.iter().enumerate() {
            by_name.entry(package.name.clone()).or_default().push(index);
        }
        Some(Lockfile {
            packages: document.package,
            by_name,
        })
    }

    /// All that a package of the workspace depends on, at any distance: names, versions,
    /// sources and checksums. None where the package is not in the file.
    pub fn closure(&self, name: &str, version: &str) -> Option<BTreeSet<[&str; 4]>> {
        let of_name = self.by_name.get(name)?;
        let mut local = of_name
            .iter()
            .filter(|&&i| self.packages[i].source.is_none());
        // A package whose version was changed is found by its name.
        let start = local
            .clone()
            .find(|&&i| self.packages[i].version == version)
            .or_else(|| local.next())?;
        let mut seen = BTreeSet::new();
        let mut open = vec![*start];
        while let Some(index) = open.pop() {
            for dependency in &self.packages[index].dependencies {
                for found in self.named(dependency) {
                    if seen.insert(found) {
                        open.push(found);
                    }
                }
            }
        }
        let describe = |index: usize| {
            let Locked {
                name,
                version,
                source,
                checksum,
                ..
            } = &self.packages[index];
            [
                name.as_str(),
                version.as_str(),
                source.as_deref().unwrap_or_default(),
                checksum.as_deref().unwrap_or_default(),
            ]
        };
        Some(seen.into_iter().map(describe).collect())
    }

    /// Whether a package comes from a folder, and is none of these members.
    pub fn has_foreign(&self, members: &BTreeSet<&str>) -> bool {
        let mut local = self.packages.iter().filter(|p| p.source.is_none());
        local.any(|p| !members.contains(p.name.as_str()))
    }

    fn named(&self, dependency: &str) -> Vec<usize> {
        let mut words = dependency.splitn(3, ' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let source = words.next().map(|s| s.trim_matches(['(', ')']));
        let of_name = self
            .by_name
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let fits = |index: &&usize| {
            let package = &self.packages[**index];
            version.is_none_or(|v| package.version == v)
                && source.is_none_or(|s| package.source.as_deref() == Some(s))
        };
        of_name.iter().filter(fits).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"
version = 4
[[package]]
name = "a"
version = "0.1.0"
dependencies = ["x 1.0.0", "shared"]
[[package]]
name = "b"
version = "0.1.0"
dependencies = ["x 2.0.0"]
[[package]]
name = "shared"
version = "0.1.0"
dependencies = ["y"]
[[package]]
name = "x"
version = "1.0.0"
source = "registry+r"
checksum = "1"
[[package]]
name = "x"
version = "2.0.0"
source = "registry+r"
checksum = "2"
[[package]]
name = "y"
version = "1.0.0"
source = "registry+r"
checksum = "3"
dependencies = ["y"]
"#;

    #[test]
    fn a_change_reaches_those_who_depend_on_it() {
        let differs = |new: &str| {
            let (old, new) = (Lockfile::parse(OLD).unwrap(), Lockfile::parse(new).unwrap());
            ["a", "b", "shared"]
                .map(|name| old.closure(name, "0.1.0") != new.closure(name, "0.1.0"))
        };
        assert_eq!(differs(OLD), [false, false, false]);
        assert_eq!(
            differs(&OLD.replace("\"2\"", "\"4\"")),
            [false, true, false]
        );
        assert_eq!(differs(&OLD.replace("\"3\"", "\"4\"")), [true, false, true]);
        assert_eq!(
            differs(&OLD.replace("\"x 1.0.0\", ", "")),
            [true, false, false]
        );
        assert_eq!(
            differs(&OLD.replace("name = \"b\"", "name = \"c\"")),
            [false, true, false]
        );
        assert!(Lockfile::parse("nonsense").is_none());
        let lock = Lockfile::parse(OLD).unwrap();
        assert_eq!(lock.closure("x", "1.0.0"), None, "not of this workspace");
    }
}
