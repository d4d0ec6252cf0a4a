//! Shrinks modules by the library's function behind `cargo edgepack shrink`, with the
//! optimiser in its child process as always: the recipes and all checks are those that
//! users get, and only the start of the outer process is saved.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use edgepack::cache::Cache;
use edgepack::cancel::Cancel;
use edgepack::pack::Metadata;
use edgepack::pipeline::{self, Context};
use edgepack::shrink::worker::{Limits, Worker};
use edgepack::shrink::{Level, Options, Outcome};
use edgepack::wasm::Wasm;

/// Shrinks one module after the other, and counts.
pub struct Shrinking {
    worker: Worker,
    optimised: AtomicUsize,
    stripped: AtomicUsize,
    merged: AtomicUsize,
}

impl Shrinking {
    #[must_use]
    pub fn new() -> Self {
        Self {
            worker: Worker::new(
                env!("CARGO_BIN_EXE_cargo-edgepack").into(),
                Limits::default(),
                Arc::new(Cancel::default()),
            ),
            optimised: AtomicUsize::new(0),
            stripped: AtomicUsize::new(0),
            merged: AtomicUsize::new(0),
        }
    }

    /// How often there was an optimised form that was smaller.
    #[must_use]
    pub fn optimised(&self) -> usize {
        self.optimised.load(Ordering::Relaxed)
    }

    /// How often a module was only stripped.
    #[must_use]
    pub fn stripped(&self) -> usize {
        self.stripped.load(Ordering::Relaxed)
    }

    /// How often the smallest form had functions merged that differ by their callees.
    #[must_use]
    pub fn merged(&self) -> usize {
        self.merged.load(Ordering::Relaxed)
    }

    /// What a module is shrunk to at a level; why not, where it is not valid or what the
    /// optimiser did had to be thrown away.
    pub fn shrink(&self, module: &[u8], level: Level) -> Result<Vec<u8>, String> {
        let context = Context {
            optimizer: &self.worker,
            cache: &Cache::disabled(),
            cancel: &Cancel::default(),
            gzip: false,
            on_event: &|_| {},
        };
        let (report, bytes) = pipeline::shrink_only(
            Wasm::new(module.to_vec()).unwrap(),
            Path::new("out.wasm"),
            &Metadata::default(),
            &Options {
                level,
                ..Options::default()
            },
            &context,
        )
        .unwrap();
        let bytes = bytes.ok_or_else(|| format!("{:?}", report.findings))?;
        for finding in &report.findings {
            let code = finding.code.name();
            if ["optimizer-rejected", "optimizer-failed"].contains(&code) {
                return Err(format!("{finding:?}"));
            }
        }
        let optimised = report.modules.iter().any(|m| m.recipe.is_some());
        let counter = if optimised {
            &self.optimised
        } else {
            &self.stripped
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let candidates = report.modules.iter().flat_map(|m| &m.candidates);
        let is_in_use = |outcome| matches!(outcome, Outcome::Won | Outcome::Base);
        if candidates
            .into_iter()
            .any(|c| c.recipe == "merged" && is_in_use(c.outcome))
        {
            self.merged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(bytes)
    }
}
