//! Recipes: which of Binaryen's passes are run, in which order and how hard they
//! try, under names that reports show.
//!
//! They are data, so that they can be told apart in the report and tried beside
//! each other by [`super::search`]. Lists of passes are for the Binaryen that is
//! linked in, whose passes are known; an external `wasm-opt` gets the flags that
//! every version has. What they make of modules is measured in
//! `docs/performance.md`.
//!
//! Spec of the passes: <https://github.com/WebAssembly/binaryen/wiki/Optimizer-Cookbook>.

use wasmparser::WasmFeatures;

use super::level::{Level, Measure};
use crate::wasm::proposals::Proposals;

/// One way to make a module smaller.
#[derive(Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Its name, in reports and for the worker.
    pub name: &'static str,
    /// Binaryen's optimize level.
    pub optimize: u8,
    /// Binaryen's shrink level.
    pub shrink: u8,
    /// Whether functions that differ by constants and callees are merged first, on
    /// any host: [`super::dispatch`].
    pub merges: bool,
    /// What is run.
    pub passes: Passes,
}

/// The passes of a recipe.
#[derive(Debug, PartialEq, Eq)]
pub enum Passes {
    /// The list that Binaryen has for the levels. Only this one has passes for
    /// garbage collection.
    Default,
    /// These groups, one after the other.
    Groups(&'static [&'static [&'static str]]),
    /// What these flags of an external `wasm-opt` stand for.
    Flags(&'static [&'static str]),
}

/// Who runs recipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The Binaryen that is linked in.
    Own,
    /// A `wasm-opt` that the user named.
    External,
}

impl Recipe {
    /// The recipe of that name; those of an external `wasm-opt` have no need of it.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Recipe> {
        ALL.iter().copied().find(|recipe| recipe.name == name)
    }
}

/// Every recipe of the Binaryen that is linked in.
pub const ALL: &[&Recipe] = &[
    &QUICK,
    &OZ,
    &SMALLEST,
    &REBUILT,
    &ANALYSED,
    &REBUILT_PLAIN,
    &ANALYSED_PLAIN,
    &MERGED,
    &TWICE,
    &MERGED_TWICE,
    &LOWER_SIGN_EXT,
];

/// What gains most for its time.
const QUICK: Recipe = Recipe {
    name: "quick",
    optimize: 2,
    shrink: 1,
    merges: false,
    passes: Passes::Groups(&[BEFORE, SHORT, ORDER]),
};

/// Those of `-Oz` as they are.
const OZ: Recipe = Recipe {
    name: "oz",
    optimize: 2,
    shrink: 2,
    merges: false,
    passes: Passes::Default,
};

/// Those of `-Oz` but for some that gain next to nothing, with more before their end:
/// repeated constants move into locals, and functions that are called often get short
/// indices. Both have to come before the stack IR is made, since any later pass throws
/// that away.
const SMALLEST: Recipe = Recipe {
    name: "smallest",
    optimize: 2,
    shrink: 2,
    merges: false,
    passes: Passes::Groups(&[BEFORE, LEAN, MODULE, CONSTANTS, ORDER, STACK]),
};

/// The control flow is taken apart and built anew, which on compiled code is often
/// shorter, and everything is optimised before and twice after.
const REBUILT: Recipe = Recipe {
    name: "rebuilt",
    optimize: 2,
    shrink: 2,
    merges: false,
    passes: Passes::Groups(&[
        BEFORE, FUNCTIONS, MODULE, REBUILD, BEFORE, FUNCTIONS, MODULE, BEFORE, FUNCTIONS, MODULE,
        TIDY, CONSTANTS, ORDER, STACK,
    ]),
};

/// The same, with an analysis of which values can reach which place.
const ANALYSED: Recipe = Recipe {
    name: "analysed",
    optimize: 2,
    shrink: 2,
    merges: false,
    passes: Passes::Groups(&[
        BEFORE, FUNCTIONS, MODULE, REBUILD, BEFORE, FLOW, FUNCTIONS, MODULE, BEFORE, FUNCTIONS,
        MODULE, TIDY, CONSTANTS, ORDER, STACK,
    ]),
};

/// `rebuilt`, after functions that differ by their callees were merged. A call through
/// a dispatcher takes longer, so no lower level does that; and what is compressed
/// afterwards gains nothing, since repetition compresses well.
const MERGED: Recipe = Recipe {
    name: "merged",
    merges: true,
    ..REBUILT
};

/// Everything twice, for modules with exceptions: those cannot be taken apart.
const TWICE: Recipe = Recipe {
    name: "twice",
    optimize: 2,
    shrink: 2,
    merges: false,
    passes: Passes::Groups(&[
        BEFORE, FUNCTIONS, MODULE, BEFORE, FUNCTIONS, MODULE, TIDY, CONSTANTS, ORDER, STACK,
    ]),
};

/// The same, after functions that differ by their callees were merged.
const MERGED_TWICE: Recipe = Recipe {
    name: "merged-twice",
    merges: true,
    ..TWICE
};

/// What merges functions whose callees differ, where Binaryen may use references.
pub const MERGE: &[&str] = &["duplicate-function-elimination", "merge-similar-functions"];

/// `rebuilt` for what is compressed afterwards.
const REBUILT_PLAIN: Recipe = Recipe {
    name: "rebuilt-plain",
    optimize: 2,
    shrink: 2,
    merges: false,
    passes: Passes::Groups(&[
        BEFORE, FUNCTIONS, MODULE, REBUILD, BEFORE, FUNCTIONS, MODULE, BEFORE, FUNCTIONS, MODULE,
        STACK,
    ]),
};

/// `analysed` for what is compressed afterwards.
const ANALYSED_PLAIN: Recipe = Recipe {
    name: "analysed-plain",
    optimize: 2,
    shrink: 2,
    merges: false,
    passes: Passes::Groups(&[
        BEFORE, FLOW, FUNCTIONS, MODULE, BEFORE, FUNCTIONS, MODULE, STACK,
    ]),
};

/// Replaces the instructions of the sign-extension proposal by shifts.
pub const LOWER_SIGN_EXT: Recipe = Recipe {
    name: "lower-sign-ext",
    optimize: 0,
    shrink: 0,
    merges: false,
    passes: Passes::Groups(&[&["signext-lowering"]]),
};

/// What an external `wasm-opt` does for inner loops.
const EXTERNAL_QUICK: Recipe = Recipe {
    name: "external-o1",
    optimize: 1,
    shrink: 0,
    merges: false,
    passes: Passes::Flags(&["-O1"]),
};

/// Its passes for size.
const EXTERNAL_OZ: Recipe = Recipe {
    name: "external-oz",
    optimize: 2,
    shrink: 2,
    merges: false,
    passes: Passes::Flags(&["-Oz"]),
};

/// The same, until they gain nothing.
const EXTERNAL_CONVERGED: Recipe = Recipe {
    name: "external-oz-converge",
    optimize: 2,
    shrink: 2,
    merges: false,
    passes: Passes::Flags(&["-Oz", "--converge"]),
};

/// What comes before the functions.
const BEFORE: &[&str] = &[
    "duplicate-function-elimination",
    "memory-packing",
    "once-reduction",
];

/// Each function by itself: as in `-Oz`.
const FUNCTIONS: &[&str] = &[
    "ssa-nomerge",
    "dce",
    "remove-unused-names",
    "remove-unused-brs",
    "remove-unused-names",
    "optimize-instructions",
    "pick-load-signs",
    "precompute-propagate",
    "code-pushing",
    "simplify-locals-nostructure",
    "vacuum",
    "reorder-locals",
    "remove-unused-brs",
    "merge-locals",
    "coalesce-locals",
    "local-cse",
    "simplify-locals",
    "vacuum",
    "reorder-locals",
    "coalesce-locals",
    "reorder-locals",
    "vacuum",
    "code-folding",
    "merge-blocks",
    "remove-unused-brs",
    "remove-unused-names",
    "merge-blocks",
    "precompute-propagate",
    "optimize-instructions",
    "rse",
    "vacuum",
];

/// Each function by itself, and what nobody calls: in a third of the time of
/// Binaryen's passes of level 1 for size.
const SHORT: &[&str] = &[
    "dce",
    "remove-unused-names",
    "remove-unused-brs",
    "optimize-instructions",
    "simplify-locals",
    "vacuum",
    "reorder-locals",
    "coalesce-locals",
    "reorder-locals",
    "merge-blocks",
    "remove-unused-brs",
    "vacuum",
    "duplicate-function-elimination",
    "remove-unused-module-elements",
    "reorder-globals",
];

/// The same without what costs an eighth of the time and gains a ten-thousandth of the
/// size.
const LEAN: &[&str] = &[
    "ssa-nomerge",
    "remove-unused-names",
    "remove-unused-brs",
    "remove-unused-names",
    "optimize-instructions",
    "pick-load-signs",
    "code-pushing",
    // Of many locals that nobody uses, the next pass makes hard work.
    "reorder-locals",
    "coalesce-locals",
    "local-cse",
    "simplify-locals",
    "reorder-locals",
    "coalesce-locals",
    "vacuum",
    "code-folding",
    "merge-blocks",
    "remove-unused-brs",
    "remove-unused-names",
    "merge-blocks",
    "precompute-propagate",
    "optimize-instructions",
    "rse",
    "vacuum",
];

/// The module as a whole: as in `-Oz`.
const MODULE: &[&str] = &[
    "dae-optimizing",
    "inlining-optimizing",
    "duplicate-function-elimination",
    "duplicate-import-elimination",
    "merge-similar-functions",
    "simplify-globals-optimizing",
    "remove-unused-module-elements",
    "reorder-globals",
    "directize",
];

/// Control flow as a graph of blocks, and back.
const REBUILD: &[&str] = &["flatten", "rereloop"];

/// Which values can reach which place.
const FLOW: &[&str] = &["gufa-optimizing"];

/// Behind the passes that work on the whole module. `-Oz` does not do that.
const TIDY: &[&str] = &["simplify-locals-nostructure", "vacuum", "reorder-locals"];

/// Repeated constants move into locals: shorter, but what is compressed afterwards
/// gets longer, since repetition compresses well.
const CONSTANTS: &[&str] = &["const-hoisting", "optimize-instructions"];

/// Functions that are called often get short indices.
const ORDER: &[&str] = &["reorder-functions"];

/// The form that is written. No pass may follow.
const STACK: &[&str] = &["generate-stack-ir", "optimize-stack-ir"];

const EXCEPTIONS: WasmFeatures = WasmFeatures::EXCEPTIONS.union(WasmFeatures::LEGACY_EXCEPTIONS);
const GC: WasmFeatures = WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES);

/// What is tried, in rounds: each round starts from the best result before it, and
/// one that gains nothing is the last.
#[must_use]
pub fn rounds(
    program: Program,
    level: Level,
    measure: Measure,
    proposals: Proposals,
) -> Vec<&'static [&'static Recipe]> {
    match program {
        Program::Own => own(level, measure, proposals),
        Program::External => external(level),
    }
}

fn external(level: Level) -> Vec<&'static [&'static Recipe]> {
    match level {
        Level::Off => Vec::new(),
        Level::Fast => vec![&[&EXTERNAL_QUICK]],
        // Once on the module, and once on what came out smallest.
        Level::Default => vec![&[&EXTERNAL_OZ]; 2],
        Level::Max => vec![
            &[&EXTERNAL_OZ, &EXTERNAL_CONVERGED],
            &[&EXTERNAL_CONVERGED],
            &[&EXTERNAL_CONVERGED],
            &[&EXTERNAL_CONVERGED],
        ],
    }
}

fn own(level: Level, measure: Measure, proposals: Proposals) -> Vec<&'static [&'static Recipe]> {
    // With garbage collection in play, Binaryen's own list has passes for it that
    // would have to be repeated here.
    if proposals.uses(GC) && level != Level::Fast {
        return match level {
            Level::Max => vec![&[&OZ]; 4],
            _ => vec![&[&OZ]],
        };
    }
    let compressed = measure != Measure::Raw;
    if level == Level::Max && !compressed && proposals.uses(EXCEPTIONS) {
        return vec![
            &[&SMALLEST, &TWICE, &MERGED_TWICE],
            &[&TWICE, &MERGED_TWICE],
            &[&TWICE, &MERGED_TWICE],
        ];
    }
    match level {
        Level::Off => Vec::new(),
        Level::Fast => vec![&[&QUICK]],
        // What is compressed afterwards is smaller without what SMALLEST adds.
        Level::Default if compressed => vec![&[&OZ]],
        Level::Default => vec![&[&SMALLEST]],
        Level::Max if compressed => vec![
            &[&OZ, &REBUILT_PLAIN, &ANALYSED_PLAIN, &SMALLEST],
            &[&REBUILT_PLAIN, &ANALYSED_PLAIN],
            &[&REBUILT_PLAIN, &ANALYSED_PLAIN],
        ],
        Level::Max => vec![
            &[&SMALLEST, &REBUILT, &ANALYSED, &MERGED],
            &[&REBUILT, &ANALYSED, &MERGED],
            &[&REBUILT, &ANALYSED, &MERGED],
            &[&REBUILT, &ANALYSED, &MERGED],
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_that_is_tried_can_be_named() {
        for (_, level) in Level::ALL {
            for (_, measure) in Measure::ALL {
                for proposals in [Proposals::none(), Proposals::all()] {
                    for recipe in rounds(Program::Own, level, measure, proposals).concat() {
                        assert_eq!(Recipe::named(recipe.name), Some(recipe));
                    }
                }
            }
        }
        assert_eq!(Recipe::named("none"), None);
    }

    #[test]
    fn max_begins_with_all_that_default_tries() {
        for (_, measure) in Measure::ALL {
            for proposals in [Proposals::none(), Proposals::all()] {
                for program in [Program::Own, Program::External] {
                    let first = |level| rounds(program, level, measure, proposals)[0];
                    for recipe in first(Level::Default) {
                        assert!(first(Level::Max).contains(recipe), "{}", recipe.name);
                    }
                }
            }
        }
    }
}
