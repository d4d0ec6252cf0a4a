//! (IO) Cargo's memory of what it has compiled, where that is wrong.
//!
//! The file of a cdylib has no hash in its name, so that of another version of the package
//! takes its place. Cargo keeps a fingerprint for each version: back at the first one it
//! finds that, takes the file for fresh, and the module of one version ships as another.
//! Only the version that was compiled last may have one. No more than that is removed, since
//! another cargo may be at work in the folders around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cargo_metadata::{Package, TargetKind};

use super::profile_folder;
use crate::project::Project;

/// Where cargo keeps fingerprints, in the folder of a target and a profile.
const FINGERPRINTS: &str = ".fingerprint";
/// Written there when the compiler is started.
const STARTED: &str = "invoked.timestamp";

/// Has cargo compile the cdylib of a package anew, if another version of it was compiled
/// since. What cannot be read or removed is left to cargo.
pub(super) fn forget(project: &Project, package: &Package, target: &str, profile: &str) {
    let mut targets = package.targets.iter();
    let cdylib = targets.find(|t| t.kind.contains(&TargetKind::CDyLib));
    let Some(cdylib) = cdylib else {
        return;
    };
    let build = project.metadata.build_directory.as_ref();
    let build = build.map(|folder| folder.clone().into_std_path_buf());
    for folder in [Some(project.target_dir.clone()), build]
        .into_iter()
        .flatten()
    {
        let folder = folder.join(profile_folder(target, profile));
        let mut all = fingerprints(&folder, &package.name, &cdylib.name);
        all.sort_unstable();
        all.pop();
        for (_, older) in all {
            // Where it stays, cargo does as it would have done.
            let _ = fs::remove_file(older);
        }
    }
}

/// Those of a package's cdylib, and when each was compiled last.
fn fingerprints(folder: &Path, package: &str, library: &str) -> Vec<(SystemTime, PathBuf)> {
    let file = format!("lib{}", library.replace('-', "_"));
    let found = fs::read_dir(folder.join(FINGERPRINTS));
    let found = found.into_iter().flatten().flatten();
    let found = found.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let hash = name.strip_prefix(package)?.strip_prefix('-')?;
        if hash.len() != 16 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        // What `cargo check` makes, and another crate of this name, has files of its own.
        let is_own = |kind| folder.join(format!("deps/{file}-{hash}.{kind}")).exists();
        if is_own("rmeta") || is_own("rlib") {
            return None;
        }
        let path = entry.path();
        let fingerprint = path.join(format!("lib-{library}"));
        let started = fs::metadata(path.join(STARTED)).ok()?.modified().ok()?;
        fingerprint.is_file().then_some((started, fingerprint))
    });
    found.collect()
}
