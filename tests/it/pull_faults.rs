//! What networks and registries do in the middle of a download.

use crate::support::artifact::{Artifact, REPOSITORY, sha256};
use crate::support::registry::{Fault, Registry, Seen};
use crate::support::tool::{Run, run};

/// Pulls while the module comes with these faults, one for each time that it is asked for,
/// and gives the requests for it.
fn pull_with(artifact: &Artifact, faults: Vec<Fault>) -> (Run, Vec<Seen>) {
    let registry = Registry::start();
    let host = registry.host();
    artifact.publish(&host, &[]).exits(0);
    let module = format!("/v2/{REPOSITORY}/blobs/{}", sha256(&artifact.wasm));
    let faults = std::sync::Mutex::new(faults.into_iter());
    registry.fault({
        let module = module.clone();
        move |request| {
            let asked = request.path == module;
            asked.then(|| faults.lock().unwrap().next()).flatten()
        }
    });
    let mut pull = artifact.pull_command(&host);
    let done = run(pull.env("EDGEPACK_REGISTRY_TIMEOUT", "1"));
    let mut seen = registry.requests();
    seen.retain(|request| request.path == module);
    (done, seen)
}

/// What came fast at first does not make up for what drips behind it.
#[test]
fn a_download_that_begins_to_drip() {
    let artifact = Artifact::new(2 << 20);
    let at_once = artifact.wasm.len() - 600;
    let (done, seen) = pull_with(&artifact, vec![Fault::Drip(at_once, 1)]);
    done.exits(0).says("slowed down");
    assert!(artifact.pulled().as_ref() == Some(&artifact.wasm));
    assert_eq!(seen.len(), 2, "{seen:#?}");
    // A line that is slow all the time is one.
    let artifact = Artifact::new(4000);
    let (done, seen) = pull_with(&artifact, vec![Fault::Drip(100, 100)]);
    done.exits(0);
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

/// A registry that cannot go on from there gives all of it again.
#[test]
fn a_download_that_cannot_be_gone_on_with() {
    let artifact = Artifact::new(2 << 20);
    let faults = || vec![Fault::Truncate(1 << 20), Fault::status(416)];
    let (done, seen) = pull_with(&artifact, faults());
    done.exits(0);
    assert!(artifact.pulled().as_ref() == Some(&artifact.wasm));
    let ranges = seen.iter().map(|r| r.headers.contains_key("Range"));
    assert_eq!(ranges.collect::<Vec<_>>(), [false, true, false]);
    // Nor does it come from the beginning.
    artifact.unpull();
    let (done, seen) = pull_with(&artifact, [faults(), vec![Fault::status(416)]].concat());
    done.exits(6).says("416");
    assert_eq!(seen.len(), 3, "{seen:#?}");
    assert!(artifact.pulled().is_none());
}
