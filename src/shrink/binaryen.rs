//! (IO) The other side of [`super::worker`]: Binaryen, linked in, in a process
//! that may die.
//!
//! Spec of the pass pipelines: <https://github.com/WebAssembly/binaryen/wiki/Optimizer-Cookbook>.
#![expect(
    clippy::disallowed_methods,
    reason = "the input's size decides whether the module was read"
)]

use std::path::{Path, PathBuf};

use wasm_opt::{Feature, OptimizationError, OptimizationOptions, Pass};
use wasmparser::WasmFeatures;

use super::Level;
use super::worker::{EXIT_IO, EXIT_UNREADABLE};
use crate::wasm::proposals::Proposals;

/// Binaryen recurses over expressions; deeply nested code needs a deep stack. The
/// first that the system grants is taken.
const STACKS: [usize; 3] = [1 << 30, 64 << 20, 8 << 20];

/// What the process that holds Binaryen is asked to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// A bare core module.
    pub input: PathBuf,
    /// Where the optimised module goes.
    pub output: PathBuf,
    /// How much effort.
    pub level: Level,
    /// What the module may use.
    pub proposals: Proposals,
    /// Address space for this process, in bytes.
    pub memory: u64,
    /// CPU time for this process, in seconds for each processor.
    pub time: u64,
}

/// Does the work and returns the exit code, with a line for stderr where it is
/// not 0. The process should end right after: it has limits now.
#[must_use]
pub fn run(job: Job) -> (u8, Option<String>) {
    limit(&job);
    let job = std::sync::Arc::new(job);
    let mut failure = String::new();
    for stack in STACKS {
        let job = std::sync::Arc::clone(&job);
        match std::thread::Builder::new()
            .stack_size(stack)
            .spawn(move || optimize(&job))
        {
            Ok(worker) => {
                return match worker.join() {
                    Ok(Ok(())) => (0, None),
                    Ok(Err((code, message))) => (code, Some(message)),
                    Err(_) => (1, Some("the optimiser panicked".into())),
                };
            }
            Err(error) => failure = format!("failed to start a thread: {error}"),
        }
    }
    (1, Some(failure))
}

fn optimize(job: &Job) -> Result<(), (u8, String)> {
    // Binaryen reports a file that it cannot open the way it reports a module
    // that it cannot parse; look first.
    if let Err(error) = std::fs::File::open(&job.input) {
        return Err((EXIT_IO, format!("failed to open the input: {error}")));
    }
    options(job.level, job.proposals)
        .run(&job.input, &job.output)
        .map_err(|error| match error {
            OptimizationError::Read { source } => (EXIT_UNREADABLE, one_line(&source.to_string())),
            OptimizationError::ValidateWasmInput => (
                EXIT_UNREADABLE,
                "it takes the module for invalid".to_owned(),
            ),
            OptimizationError::Write { source } => (EXIT_IO, one_line(&source.to_string())),
            other => (1, one_line(&other.to_string())),
        })?;
    check_written(&job.output)
}

/// A full disk leaves a short file and no error on Binaryen's side.
fn check_written(output: &Path) -> Result<(), (u8, String)> {
    let bytes = std::fs::read(output)
        .map_err(|e| (EXIT_IO, format!("failed to read the output back: {e}")))?;
    if crate::wasm::sections(&bytes).is_err() || crate::wasm::kind_of(&bytes).is_err() {
        return Err((EXIT_IO, "the output is incomplete".into()));
    }
    Ok(())
}

fn options(level: Level, proposals: Proposals) -> OptimizationOptions {
    let mut options = match level {
        Level::Off | Level::Fast => OptimizationOptions::new_opt_level_1(),
        Level::Default | Level::Max => OptimizationOptions::new_optimize_for_size_aggressively(),
    };
    match level {
        Level::Off | Level::Fast => {
            options.shrink_level(wasm_opt::ShrinkLevel::Level1);
        }
        // With garbage collection in play, Binaryen's own list has passes for it
        // that would have to be repeated here.
        Level::Default | Level::Max if proposals.uses(GC) => {}
        Level::Default | Level::Max => {
            options.passes.add_default_passes = false;
            for pass in SMALLEST {
                options.add_pass(pass.clone());
            }
        }
    }
    if level == Level::Max {
        options.set_converge();
    }
    options.mvp_features_only();
    for (ours, theirs) in FEATURES {
        if proposals.uses(*ours) {
            options.enable_feature(*theirs);
        }
    }
    options
}

const GC: WasmFeatures = WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES);

/// The crate's name for it is a slip of the pen.
const REORDER_LOCALS: Pass = Pass::RecorderLocals;

/// What `-Oz` runs, with more before its end: repeated constants move into
/// locals, and functions that are called often get short indices. Both have to
/// come before the stack IR is made, since any later pass throws that away.
const SMALLEST: &[Pass] = &[
    Pass::DuplicateFunctionElimination,
    Pass::MemoryPacking,
    Pass::OnceReduction,
    // Each function by itself.
    Pass::SsaNomerge,
    Pass::Dce,
    Pass::RemoveUnusedNames,
    Pass::RemoveUnusedBrs,
    Pass::RemoveUnusedNames,
    Pass::OptimizeInstructions,
    Pass::PickLoadSigns,
    Pass::PrecomputePropagate,
    Pass::CodePushing,
    Pass::SimplifyLocalsNostructure,
    Pass::Vacuum,
    REORDER_LOCALS,
    Pass::RemoveUnusedBrs,
    Pass::MergeLocals,
    Pass::CoalesceLocals,
    Pass::LocalCse,
    Pass::SimplifyLocals,
    Pass::Vacuum,
    REORDER_LOCALS,
    Pass::CoalesceLocals,
    REORDER_LOCALS,
    Pass::Vacuum,
    Pass::CodeFolding,
    Pass::MergeBlocks,
    Pass::RemoveUnusedBrs,
    Pass::RemoveUnusedNames,
    Pass::MergeBlocks,
    Pass::PrecomputePropagate,
    Pass::OptimizeInstructions,
    Pass::Rse,
    Pass::Vacuum,
    // The module as a whole.
    Pass::DaeOptimizing,
    Pass::InliningOptimizing,
    Pass::DuplicateFunctionElimination,
    Pass::DuplicateImportElimination,
    Pass::MergeSimilarFunctions,
    Pass::SimplifyGlobalsOptimizing,
    Pass::RemoveUnusedModuleElements,
    Pass::ReorderGlobals,
    Pass::Directize,
    // What `-Oz` does not do.
    Pass::SimplifyLocalsNostructure,
    Pass::Vacuum,
    REORDER_LOCALS,
    Pass::ConstHoisting,
    Pass::OptimizeInstructions,
    Pass::ReorderFunctions,
    Pass::GenerateStackIr,
    Pass::OptimizeStackIr,
];

/// Which of Binaryen's features a proposal needs.
const FEATURES: &[(WasmFeatures, Feature)] = &[
    (WasmFeatures::THREADS, Feature::Atomics),
    (WasmFeatures::MUTABLE_GLOBAL, Feature::MutableGlobals),
    (WasmFeatures::SATURATING_FLOAT_TO_INT, Feature::TruncSat),
    (
        WasmFeatures::SIMD.union(WasmFeatures::RELAXED_SIMD),
        Feature::Simd,
    ),
    (WasmFeatures::BULK_MEMORY, Feature::BulkMemory),
    (WasmFeatures::SIGN_EXTENSION, Feature::SignExt),
    (
        WasmFeatures::EXCEPTIONS.union(WasmFeatures::LEGACY_EXCEPTIONS),
        Feature::ExceptionHandling,
    ),
    (WasmFeatures::TAIL_CALL, Feature::TailCall),
    (
        WasmFeatures::REFERENCE_TYPES
            .difference(WasmFeatures::CALL_INDIRECT_OVERLONG)
            .union(WasmFeatures::FUNCTION_REFERENCES)
            .union(WasmFeatures::GC),
        Feature::ReferenceTypes,
    ),
    (WasmFeatures::MULTI_VALUE, Feature::Multivalue),
    (
        WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES),
        Feature::Gc,
    ),
    (WasmFeatures::MEMORY64, Feature::Memory64),
    (WasmFeatures::RELAXED_SIMD, Feature::RelaxedSimd),
    (WasmFeatures::EXTENDED_CONST, Feature::ExtendedConst),
    (WasmFeatures::MULTI_MEMORY, Feature::MultiMemory),
];

fn one_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(unix)]
fn limit(job: &Job) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let lower = |resource, to: u64| {
        let hard = getrlimit(resource).maximum;
        let to = hard.map_or(to, |hard| hard.min(to));
        // Best effort: where the system refuses, the parent's clock still holds.
        let _ = setrlimit(
            resource,
            Rlimit {
                current: Some(to),
                maximum: hard,
            },
        );
    };
    if cfg!(target_os = "linux") {
        lower(Resource::As, job.memory);
    }
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    lower(Resource::Cpu, job.time.saturating_mul(processors).max(1));
    lower(Resource::Core, 0);
    // Should the process that wants the result be killed, nobody does any more.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}

#[cfg(not(unix))]
fn limit(_: &Job) {}
