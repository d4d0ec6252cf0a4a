//! The hidden commands: the sides of the optimiser that may die.

use edgepack::shrink::external;

use crate::cli;
use crate::output::Printer;

/// Optimises one core module, with the Binaryen that is linked in.
#[cfg(feature = "binaryen")]
pub fn optimize(job: cli::OptimizeWorker) -> u8 {
    use edgepack::shrink::binaryen::{Job, run};
    let (code, message) = run(Job {
        input: job.input,
        output: job.output,
        recipe: job.recipe,
        proposals: edgepack::wasm::proposals::Proposals::from_bits(job.proposals),
        assume: job.assume,
        memory: job.memory,
        time: job.time,
    });
    if let Some(message) = message {
        Printer::worker(&message);
    }
    code
}

/// Says that there is none.
#[cfg(not(feature = "binaryen"))]
pub fn optimize(_: cli::OptimizeWorker) -> u8 {
    Printer::worker("this cargo-edgepack was built without its optimiser");
    edgepack::shrink::worker::EXIT_IO
}

/// Becomes the program of the user's; what comes back is a failure.
pub fn optimize_external(job: &cli::OptimizeExternal) -> u8 {
    let (code, message) = external::run(job.memory, job.time, &job.program, &job.args);
    Printer::worker(&message);
    code
}
