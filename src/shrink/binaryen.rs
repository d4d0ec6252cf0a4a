//! (IO) The other side of [`super::worker`]: Binaryen, linked in, in a process
//! that may die. Which passes it runs is the [`super::recipe`]'s to say.
#![expect(
    clippy::disallowed_methods,
    reason = "the input's size decides whether the module was read"
)]

use std::path::{Path, PathBuf};

use wasm_opt::base::{
    Feature, FeatureSet, Module, ModuleReader, ModuleWriter, PassOptions, PassRunner, validate_wasm,
};
use wasmparser::WasmFeatures;

use super::dispatch::{self, Refusal};
use super::limits;
use super::options::Assumption;
use super::recipe::{MERGE, Passes, Recipe};
use super::worker::{EXIT_IO, EXIT_NOTHING, EXIT_UNREADABLE};
use crate::wasm::has_names;
use crate::wasm::proposals::Proposals;

/// Binaryen recurses over expressions; deeply nested code needs a deep stack. The
/// first that the system grants is taken.
const STACKS: [usize; 3] = [1 << 30, 64 << 20, 8 << 20];

/// Constants that are added to addresses go into loads and stores. It stands where
/// Binaryen's own list has it, and only where low addresses are taken for unused.
const FOLDING: &str = "optimize-added-constants-propagate";
/// The pass behind it.
const BEHIND_FOLDING: &str = "code-pushing";

/// What the process that holds Binaryen is asked to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// A bare core module.
    pub input: PathBuf,
    /// Where the optimised module goes.
    pub output: PathBuf,
    /// The name of the recipe.
    pub recipe: String,
    /// What the module may use.
    pub proposals: Proposals,
    /// What is taken for granted.
    pub assume: Vec<Assumption>,
    /// Address space for this process, in bytes.
    pub memory: u64,
    /// CPU time for this process, in seconds for each processor.
    pub time: u64,
}

/// Does the work and returns the exit code, with a line for stderr where it is
/// not 0. The process should end right after: it has limits now.
#[must_use]
pub fn run(job: Job) -> (u8, Option<String>) {
    limits::limit(job.memory, job.time);
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
    let recipe = Recipe::named(&job.recipe)
        .ok_or_else(|| (EXIT_IO, format!("there is no recipe `{}`", job.recipe)))?;
    let merged = if recipe.merges {
        Some(merge(job)?)
    } else {
        None
    };
    let input = merged.as_ref().unwrap_or(&job.input);
    let names = has_names(&bytes_of(input)?);
    let mut module = read(input, job.proposals)?;
    run_passes(&mut module, recipe, &job.assume, names);
    write(&mut module, &job.output, names).map(drop)
}

fn bytes_of(file: &Path) -> Result<Vec<u8>, (u8, String)> {
    std::fs::read(file).map_err(|error| (EXIT_IO, format!("failed to read a file: {error}")))
}

fn read(input: &Path, proposals: Proposals) -> Result<Module, (u8, String)> {
    let mut module = Module::new();
    let (enabled, disabled) = features(proposals);
    module.apply_features(enabled, disabled);
    let mut reader = ModuleReader::new();
    reader.set_dwarf(false);
    reader
        .read_binary(input, &mut module, None)
        .map_err(|error| (EXIT_UNREADABLE, one_line(&error.to_string())))?;
    if !validate_wasm(&mut module) {
        let message = "it takes the module for invalid".to_owned();
        return Err((EXIT_UNREADABLE, message));
    }
    Ok(module)
}

fn write(module: &mut Module, output: &Path, names: bool) -> Result<Vec<u8>, (u8, String)> {
    let mut writer = ModuleWriter::new();
    writer.set_debug_info(names);
    writer
        .write_binary(module, output)
        .map_err(|error| (EXIT_IO, one_line(&error.to_string())))?;
    read_back(output)
}

/// Merges similar functions, as if references to functions were there, and writes the
/// module without them to a file beside the output.
fn merge(job: &Job) -> Result<PathBuf, (u8, String)> {
    let refused = |refusal: Refusal| {
        let code = match refusal {
            Refusal::Nothing => EXIT_NOTHING,
            Refusal::Unknown(_) => EXIT_UNREADABLE,
        };
        (code, refusal.to_string())
    };
    let input = bytes_of(&job.input)?;
    dispatch::check_input(&input, job.proposals).map_err(refused)?;
    let references = Proposals::of(
        WasmFeatures::REFERENCE_TYPES | WasmFeatures::FUNCTION_REFERENCES | WasmFeatures::GC,
    );
    let mut module = read(&job.input, job.proposals.with(references))?;
    {
        let mut runner = PassRunner::new(&mut module);
        for pass in MERGE {
            runner.add(pass);
        }
        runner.run();
    }
    let place = job.output.with_extension("merged");
    let merged = write(&mut module, &place, has_names(&input))?;
    let lowered = dispatch::lower(&merged).map_err(refused)?;
    std::fs::write(&place, lowered)
        .map_err(|error| (EXIT_IO, format!("failed to write a file: {error}")))?;
    Ok(place)
}

fn run_passes(module: &mut Module, recipe: &Recipe, assume: &[Assumption], names: bool) {
    let mut options = PassOptions::new();
    options.set_optimize_level(recipe.optimize.into());
    options.set_shrink_level(recipe.shrink.into());
    options.set_debug_info(names);
    for assumption in assume {
        match assumption {
            Assumption::TrapsNeverHappen => options.set_traps_never_happen(true),
            Assumption::LowMemoryUnused => options.set_low_memory_unused(true),
            Assumption::FastMath => options.set_fast_math(true),
        }
    }
    let mut runner = PassRunner::new_with_options(module, options);
    match recipe.passes {
        Passes::Default => runner.add_default_optimization_passes(),
        Passes::Groups(groups) => {
            let folds = assume.contains(&Assumption::LowMemoryUnused);
            for pass in groups.iter().copied().flatten() {
                if folds && *pass == BEHIND_FOLDING {
                    runner.add(FOLDING);
                }
                runner.add(pass);
            }
        }
        // None of these has a name that [`Recipe::named`] knows.
        Passes::Flags(_) => {}
    }
    runner.run();
}

/// What Binaryen may use, and what it may not.
fn features(proposals: Proposals) -> (FeatureSet, FeatureSet) {
    let (mut enabled, mut disabled) = (FeatureSet::new(), FeatureSet::new());
    enabled.set_mvp();
    disabled.set_all();
    for (ours, theirs) in FEATURES {
        if proposals.uses(*ours) {
            enabled.set(*theirs, true);
            disabled.set(*theirs, false);
        }
    }
    (enabled, disabled)
}

/// A full disk leaves a short file and no error on Binaryen's side.
fn read_back(output: &Path) -> Result<Vec<u8>, (u8, String)> {
    let bytes = std::fs::read(output)
        .map_err(|e| (EXIT_IO, format!("failed to read the output back: {e}")))?;
    if crate::wasm::sections(&bytes).is_err() || crate::wasm::kind_of(&bytes).is_err() {
        return Err((EXIT_IO, "the output is incomplete".into()));
    }
    Ok(bytes)
}

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

#[cfg(test)]
mod tests {
    use wasm_opt::base::pass_registry::get_registered_names;

    use super::*;
    use crate::shrink::recipe;

    #[test]
    fn every_pass_of_every_recipe_is_there() {
        let known = get_registered_names();
        assert!(known.iter().any(|k| k == FOLDING));
        for recipe in recipe::ALL {
            let Passes::Groups(groups) = recipe.passes else {
                continue;
            };
            for pass in groups.concat() {
                assert!(known.iter().any(|k| k == pass), "{}: {pass}", recipe.name);
            }
        }
    }
}
