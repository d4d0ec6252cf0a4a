//! (IO) The cargo project: what `cargo metadata` says about the workspace, and
//! which of its packages the current folder stands for.

#![expect(
    clippy::disallowed_methods,
    reason = "looks for patches in the manifest"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

pub use cargo_metadata::PackageId;
use cargo_metadata::{Metadata, Package};

use crate::cancel::Cancel;
use crate::config::Config;
use crate::error::Error;
use crate::plan::CargoFlags;
use crate::tool;

/// What cargo says with all dependencies.
pub type Whole = Metadata;

/// A workspace and its packages.
#[derive(Clone, Debug)]
pub struct Project {
    /// What cargo says, without dependencies.
    pub metadata: Metadata,
    /// `[workspace.metadata.edgepack]`.
    pub config: Config,
    /// Indices into `metadata.packages` of what is meant where nothing is named.
    pub default: Vec<usize>,
    /// Packages outside the workspace that are compiled from a folder: their names
    /// and folders.
    pub outside: Vec<(String, PathBuf)>,
    /// The folder in which cargo keeps what it builds, `--target-dir` included.
    pub target_dir: PathBuf,
}

impl Project {
    /// Asks cargo about the project that the flags, or else the current folder,
    /// stand for.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where there is no manifest, [`Error::Cargo`] where cargo
    /// refuses it (it has said why), [`Error::Config`] for wrong configuration.
    pub fn load(flags: &CargoFlags, cancel: &Cancel) -> Result<Self, Error> {
        let manifest = match &flags.manifest_path {
            Some(path) => existing(path)?,
            None => nearest_manifest()?,
        };
        let metadata = cargo_metadata(flags, &manifest, &["--no-deps"], cancel)?;
        let outside = outside_packages(flags, &manifest, &metadata, cancel)?;
        let root_manifest = metadata
            .workspace_root
            .join("Cargo.toml")
            .into_std_path_buf();
        let config = Config::from_metadata(&metadata.workspace_metadata, &root_manifest)?;
        let default = default_packages(&metadata, &manifest);
        let target_dir = match &flags.target_dir {
            Some(dir) => std::path::absolute(dir).map_err(Error::io("resolve", dir))?,
            None => metadata.target_directory.clone().into_std_path_buf(),
        };
        Ok(Project {
            metadata,
            config,
            default,
            outside,
            target_dir,
        })
    }

    /// All packages that a build for a target may need, with what depends on what.
    ///
    /// # Errors
    ///
    /// [`Error::Cargo`] where cargo refuses (it has said why).
    pub fn graph(&self, flags: &CargoFlags, target: &str, cancel: &Cancel) -> Result<Whole, Error> {
        let manifest = self.metadata.workspace_root.join("Cargo.toml");
        let mut extra: Vec<String> = flags.feature_args();
        // Of a specification in a file, cargo knows the platform only while it builds.
        if Path::new(target).extension().is_none_or(|e| e != "json") {
            extra.push(format!("--filter-platform={target}"));
        }
        let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
        cargo_metadata(flags, manifest.as_std_path(), &extra, cancel).map_err(|e| match e {
            Error::Cargo { message, in_code, .. } => Error::Cargo {
                message,
                hint: Some(
                    "an SBOM takes the manifests of all dependencies, those of tests too: run cargo fetch, or add --no-sbom"
                        .into(),
                ),
                in_code,
            },
            other => other,
        })
    }

    /// `Cargo.lock`, where it is.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn lock_file(&self) -> Result<Option<Vec<u8>>, Error> {
        let path = self.metadata.workspace_root.join("Cargo.lock");
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }

    /// A package's configuration, over the workspace's.
    ///
    /// # Errors
    ///
    /// [`Error::Config`].
    pub fn config_of(&self, package: &Package) -> Result<Config, Error> {
        Ok(
            Config::from_metadata(&package.metadata, package.manifest_path.as_std_path())?
                .over(self.config.clone()),
        )
    }
}

fn cargo_metadata(
    flags: &CargoFlags,
    manifest: &Path,
    extra: &[&str],
    cancel: &Cancel,
) -> Result<Metadata, Error> {
    let mut command = Command::new(cargo());
    command.args(["metadata", "--format-version=1"]).args(extra);
    command.arg("--manifest-path").arg(manifest);
    command.args(flags.lock_args());
    if let Some(color) = &flags.color {
        command.args(["--color", color]);
    }
    let mut json = String::new();
    let status = tool::stream(&mut command, cancel, |line| {
        if line.starts_with('{') {
            line.clone_into(&mut json);
        }
    })?;
    if !status.success() {
        return Err(Error::cargo(format!(
            "`cargo metadata` ended with {status}"
        )));
    }
    serde_json::from_str(&json)
        .map_err(|e| Error::Internal(format!("failed to read what `cargo metadata` printed: {e}")))
}

/// Dependencies that are folders outside the workspace, at any distance. Only a
/// project that has one pays for the whole dependency graph.
fn outside_packages(
    flags: &CargoFlags,
    manifest: &Path,
    metadata: &Metadata,
    cancel: &Cancel,
) -> Result<Vec<(String, PathBuf)>, Error> {
    let root = metadata.workspace_root.as_std_path();
    let depends = metadata
        .packages
        .iter()
        .flat_map(|p| &p.dependencies)
        .any(|d| d.path.as_ref().is_some_and(|path| !path.starts_with(root)));
    let patches = std::fs::read_to_string(root.join("Cargo.toml"))
        .is_ok_and(|text| text.contains("[patch") || text.contains("[replace"));
    if !depends && !patches {
        return Ok(Vec::new());
    }
    let whole = cargo_metadata(flags, manifest, &[], cancel)?;
    let mut outside: Vec<(String, PathBuf)> = whole
        .packages
        .iter()
        .filter(|p| p.source.is_none() && !p.manifest_path.starts_with(root))
        .filter_map(|p| {
            Some((
                p.name.to_string(),
                p.manifest_path.parent()?.as_std_path().to_owned(),
            ))
        })
        .collect();
    outside.sort();
    Ok(outside)
}

/// The cargo that runs us, or the one on the path.
#[must_use]
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO")
        .filter(|v| !v.is_empty())
        .map_or_else(|| "cargo".into(), Into::into)
}

fn existing(path: &Path) -> Result<PathBuf, Error> {
    let path = if path.is_dir() {
        path.join("Cargo.toml")
    } else {
        path.to_owned()
    };
    if !path.is_file() {
        return Err(Error::Usage {
            message: format!("there is no manifest at `{}`", path.display()),
            hint: Some("--manifest-path takes the path of a Cargo.toml".into()),
        });
    }
    std::path::absolute(&path).map_err(Error::io("resolve", &path))
}

fn nearest_manifest() -> Result<PathBuf, Error> {
    let here = std::env::current_dir().map_err(Error::io("resolve", "."))?;
    here.ancestors()
        .map(|dir| dir.join("Cargo.toml"))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::Usage {
            message: format!("there is no Cargo.toml in `{}` or above it", here.display()),
            hint: Some(
                "name a manifest with --manifest-path, or a binary: cargo edgepack build FILE.wasm"
                    .into(),
            ),
        })
}

/// What cargo would build: the package of the manifest, or, at the root of a
/// workspace, its default members.
fn default_packages(metadata: &Metadata, manifest: &Path) -> Vec<usize> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let manifest = real(manifest);
    let position = metadata
        .packages
        .iter()
        .position(|p| real(p.manifest_path.as_std_path()) == manifest);
    let at_root = manifest.parent().map(real) == Some(real(metadata.workspace_root.as_std_path()));
    match position {
        Some(package) if !at_root => vec![package],
        _ if metadata.workspace_default_members.is_available() => (0..metadata.packages.len())
            .filter(|&i| {
                metadata
                    .workspace_default_members
                    .contains(&metadata.packages[i].id)
            })
            .collect(),
        Some(package) => vec![package],
        None => (0..metadata.packages.len()).collect(),
    }
}
