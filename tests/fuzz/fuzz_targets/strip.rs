//! Any bytes that validate: taken apart, stripped and put together again, they
//! still validate, use no new proposals and are no larger.
#![no_main]

use edgepack::cache::Cache;
use edgepack::shrink::recipe::Program;
use edgepack::shrink::{Attempt, OptimizeError, Optimizer, Options, Producer, shrink};
use edgepack::validate::validate;
use edgepack::wasm::Wasm;
use edgepack::wasm::proposals::validate_with;
use libfuzzer_sys::fuzz_target;

/// Leaves modules as they are: what is tried here is all around it.
struct AsTheyAre;

impl Optimizer for AsTheyAre {
    fn producers(&self) -> Vec<Producer> {
        vec![Producer {
            name: "as they are".into(),
            program: Program::Own,
        }]
    }

    fn optimize(&self, module: &[u8], _: &Attempt<'_>) -> Result<Vec<u8>, OptimizeError> {
        Ok(module.to_vec())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(wasm) = Wasm::new(bytes.to_vec()) else { return };
    let Ok(before) = validate(wasm) else { return };
    let shrunk = shrink(&before, &Options::default(), &AsTheyAre, &Cache::disabled()).unwrap();
    assert!(shrunk.wasm.bytes().len() <= bytes.len());
    validate_with(shrunk.wasm.bytes(), before.proposals()).unwrap();
});
