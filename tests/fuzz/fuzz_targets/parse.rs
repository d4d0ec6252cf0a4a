//! Any bytes: parsing, validating and inspecting them never panics.
#![no_main]

use edgepack::inspect::inspect;
use edgepack::wasm::{Edit, Wasm, metadata, rewrite, sections};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = metadata::read(bytes);
    let _ = rewrite::<wasmparser_error::Error>(bytes, |_| Ok(Edit::Keep));
    let Ok(wasm) = Wasm::new(bytes.to_vec()) else { return };
    let sections = sections(bytes).map(|s| s.len());
    if let Ok(found) = inspect(wasm) {
        assert!(found.sections.len() >= sections.unwrap());
    }
});

mod wasmparser_error {
    /// Whatever the parser says.
    pub struct Error;
    impl<T: std::error::Error> From<T> for Error {
        fn from(_: T) -> Self {
            Error
        }
    }
}
