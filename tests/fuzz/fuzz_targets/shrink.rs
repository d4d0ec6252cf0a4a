//! Generated modules through the real optimiser: `EDGEPACK_WORKER` names a
//! `cargo-edgepack` executable.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use edgepack::cache::Cache;
use edgepack::cancel::Cancel;
use edgepack::finding::Code;
use edgepack::shrink::worker::{Limits, Worker};
use edgepack::shrink::{Options, shrink};
use edgepack::validate::validate;
use edgepack::wasm::Wasm;
use edgepack::wasm::proposals::validate_with;
use libfuzzer_sys::fuzz_target;

static WORKER: LazyLock<Worker> = LazyLock::new(|| {
    let executable = std::env::var_os("EDGEPACK_WORKER").expect("EDGEPACK_WORKER is not set");
    let limits = Limits { time: Duration::from_secs(60), ..Limits::default() };
    Worker::new(executable.into(), limits, Arc::new(Cancel::default()))
});

fuzz_target!(|module: wasm_smith::Module| {
    let bytes = module.to_bytes();
    let Ok(before) = validate(Wasm::new(bytes.clone()).unwrap()) else { return };
    let shrunk = shrink(&before, &Options::default(), &*WORKER, &Cache::disabled()).unwrap();
    assert!(shrunk.wasm.bytes().len() <= bytes.len());
    assert!(shrunk.findings.iter().all(|f| f.code != Code::OptimizerRejected), "{:?}", shrunk.findings);
    validate_with(shrunk.wasm.bytes(), before.proposals()).unwrap();
});
