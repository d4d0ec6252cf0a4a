//! (IO) Cargo's memory of what it has compiled, where that is wrong.
//!
//! The file of a cdylib has no hash in its name, so that of another version of the package
//! takes its place. Cargo keeps a fingerprint for each version: back at the first one it
//! finds that, takes the file for fresh, and the module of one version ships as another.
//! Only the version that was compiled last may have one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cargo_metadata::{CrateType, Package, TargetKind};

use super::profile_folder;
use crate::project::Project;

/// Where cargo keeps fingerprints, in the folder of a target and a profile.
const FINGERPRINTS: &str = ".fingerprint";
/// Written there when the compiler is started.
const STARTED: &str = "invoked.timestamp";
/// What the names of the others begin with, where they are those of a library.
const LIBRARY: &str = "lib-";

/// Has cargo compile the cdylib of a package anew, if another version of it was compiled
/// since. What cannot be read or removed is left to cargo.
pub(super) fn forget(project: &Project, package: &Package, target: &str, profile: &str) {
    let is_cdylib = package.targets.iter().any(|t| {
        t.kind.contains(&TargetKind::CDyLib) || t.crate_types.contains(&CrateType::CDyLib)
    });
    if !is_cdylib {
        return;
    }
    let build = project.metadata.build_directory.as_ref();
    let build = build.map(|folder| folder.clone().into_std_path_buf());
    for folder in [Some(project.target_dir.clone()), build]
        .into_iter()
        .flatten()
    {
        let folder = folder.join(profile_folder(target, profile));
        forget_older(&folder.join(FINGERPRINTS), &package.name);
    }
}

fn forget_older(folder: &Path, package: &str) {
    let mut all = fingerprints(folder, package);
    all.sort_unstable();
    all.pop();
    for (_, older) in all {
        // Where it stays, cargo does as it would have done.
        let _ = fs::remove_dir_all(older);
    }
}

/// Those of a package's library, and when each was compiled last.
fn fingerprints(folder: &Path, package: &str) -> Vec<(SystemTime, PathBuf)> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    let found = found.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let hash = name.strip_prefix(package)?.strip_prefix('-')?;
        if hash.len() != 16 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let path = entry.path();
        let mut files = fs::read_dir(&path).ok()?.flatten();
        let is_library = files.any(|f| f.file_name().to_string_lossy().starts_with(LIBRARY));
        let started = fs::metadata(path.join(STARTED)).ok()?.modified().ok()?;
        is_library.then_some((started, path))
    });
    found.collect()
}
