//! `cargo edgepack`: see the `edgepack` library for what it does and
//! `docs/` for how to use it.

use std::process::ExitCode;

mod cli;
mod output;
mod progress;
mod run;

#[cfg(feature = "binaryen")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(run::main())
}
