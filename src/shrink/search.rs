//! The search for the smallest form of one core module.
//!
//! Candidates are tried in rounds ([`super::recipe::rounds`]): all of a round start
//! from the same module, each in a process of its own, and the smallest result is
//! what the next round starts from. The number of candidates is bounded, not the
//! time, and ties go to the one that stands first in the list; so the result is the
//! same on any number of cores. A candidate that crashes, meets a limit or writes
//! something invalid is out, and nothing else is lost.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::level::{Level, Measure};
use super::options::Assumption;
use super::recipe::{self, Program, Recipe};
use crate::error::Error;
use crate::wasm::proposals::{self, Proposals};
use crate::wasm::{DATA_COUNT_SECTION, Edit, rewrite, sections};

/// Binaryen takes up to this many bytes of memory for each byte of a module.
const MEMORY_FACTOR: u64 = 100;
/// Candidates that run beside each other share this much memory.
const MEMORY: u64 = 4 << 30;

/// Why the optimiser gave nothing back.
#[derive(Debug)]
pub enum OptimizeError {
    /// It cannot read this module, and never will: the module uses something newer.
    Unreadable(String),
    /// There is nothing in this module that the recipe is for.
    Nothing(String),
    /// It crashed.
    Failed(String),
    /// It met a limit of time or was killed: on another day it may get further.
    Limit(String),
    /// It could not be run at all, which is no fault of the module's.
    Fatal(Error),
}

/// One thing to try.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Which of [`Optimizer::producers`].
    pub producer: usize,
    /// What is run.
    pub recipe: &'static Recipe,
    /// What the module may use, and the result too.
    pub proposals: Proposals,
    /// What is taken for granted.
    pub assume: &'a [Assumption],
    /// How many processors it may use; 0 for all.
    pub threads: usize,
}

/// A program that an [`Optimizer`] can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its name and version: results of different ones do not share a cache entry.
    pub name: String,
    /// Whose recipes it runs.
    pub program: Program,
}

/// Something that makes a core module smaller.
pub trait Optimizer: Sync {
    /// The programs that it can run; the first is [`Program::Own`].
    fn producers(&self) -> Vec<Producer>;

    /// Makes one attempt at a core module that validates with the attempt's proposals.
    ///
    /// # Errors
    ///
    /// [`OptimizeError`]; all but `Fatal` cost this attempt only.
    fn optimize(&self, module: &[u8], attempt: &Attempt<'_>) -> Result<Vec<u8>, OptimizeError>;
}

/// How a candidate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Its result is what ships.
    Won,
    /// Its result was the smallest of its round, and a later round made it smaller.
    Base,
    /// Another one was smaller, or equal and earlier; or there was nothing to do.
    Lost,
    /// It crashed.
    Failed,
    /// It met a limit.
    Limit,
    /// It could not read the module.
    Unreadable,
    /// What it wrote was not valid, or not within the module's proposals.
    Rejected,
}

impl Outcome {
    /// The word for it in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Won => "won",
            Outcome::Base => "base",
            Outcome::Lost => "lost",
            Outcome::Failed => "failed",
            Outcome::Limit => "limit",
            Outcome::Unreadable => "unreadable",
            Outcome::Rejected => "rejected",
        }
    }
}

/// A candidate that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// The round in which it was tried, from 1.
    pub round: usize,
    /// Which optimiser, with its version.
    pub producer: String,
    /// Which recipe.
    pub recipe: String,
    /// The size of its result in the measure that counts; null where there is none.
    pub size: Option<u64>,
    /// Wall-clock time in seconds. Candidates of one round run beside each other.
    pub seconds: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// What it said, where it gave no result.
    pub message: Option<String>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    /// How much effort.
    pub level: Level,
    /// What counts as small.
    pub measure: Measure,
    /// What the result may use.
    pub proposals: Proposals,
    /// What is taken for granted.
    pub assume: &'a [Assumption],
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The smallest result; none where nothing gave a smaller one than the module.
    pub module: Option<Vec<u8>>,
    /// What was tried, in order.
    pub candidates: Vec<Candidate>,
}

impl Found {
    /// The candidate whose result ships.
    #[must_use]
    pub fn winner(&self) -> Option<&Candidate> {
        self.candidates.iter().find(|c| c.outcome == Outcome::Won)
    }
}

/// Looks for the smallest form of a bare module.
///
/// # Errors
///
/// Where the optimiser cannot be run at all, or the run was interrupted.
pub fn search(module: &[u8], goal: &Goal<'_>, optimizer: &dyn Optimizer) -> Result<Found, Error> {
    let producers = optimizer.producers();
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut best: Option<(usize, Vec<u8>)> = None;
    let mut smallest = goal.measure.of(module);
    let rounds: Vec<_> = producers
        .iter()
        .map(|p| recipe::rounds(p.program, goal.level, goal.measure, goal.proposals))
        .collect();
    for round in 0..rounds.iter().map(Vec::len).max().unwrap_or_default() {
        let start = best.as_ref().map_or(module, |(_, bytes)| bytes);
        let recipes = rounds.iter().enumerate().flat_map(|(producer, rounds)| {
            let recipes = rounds.get(round).copied().unwrap_or_default();
            recipes.iter().map(move |recipe| (producer, *recipe))
        });
        let attempts: Vec<Attempt<'_>> = recipes
            .map(|(producer, recipe)| Attempt {
                producer,
                recipe,
                proposals: goal.proposals,
                assume: goal.assume,
                threads: 0,
            })
            .collect();
        let mut gained = false;
        let mut next = None;
        for (attempt, tried) in attempts.iter().zip(all(start, &attempts, goal, optimizer)?) {
            let index = candidates.len();
            let mut candidate = Candidate {
                round: round + 1,
                producer: producers[attempt.producer].name.clone(),
                recipe: attempt.recipe.name.to_owned(),
                size: None,
                seconds: tried.seconds,
                outcome: Outcome::Lost,
                message: None,
            };
            match tried.result {
                Ok((size, bytes)) => {
                    candidate.size = Some(size);
                    if size < smallest && bytes.len() <= module.len() {
                        smallest = size;
                        gained = true;
                        next = Some((index, bytes));
                    }
                }
                Err((outcome, message)) => {
                    candidate.outcome = outcome;
                    candidate.message = Some(message);
                }
            }
            candidates.push(candidate);
        }
        if let Some((index, _)) = &next {
            if let Some((before, _)) = &best {
                candidates[*before].outcome = Outcome::Base;
            }
            candidates[*index].outcome = Outcome::Won;
            best = next;
        }
        if !gained {
            break;
        }
    }
    Ok(Found {
        module: best.map(|(_, bytes)| bytes),
        candidates,
    })
}

struct Tried {
    seconds: f64,
    result: Result<(u64, Vec<u8>), (Outcome, String)>,
}

/// Makes all attempts, as many beside each other as there are processors and
/// memory for; the results stand in the order of the attempts.
fn all(
    module: &[u8],
    attempts: &[Attempt<'_>],
    goal: &Goal<'_>,
    optimizer: &dyn Optimizer,
) -> Result<Vec<Tried>, Error> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let fit = MEMORY / (module.len() as u64).saturating_mul(MEMORY_FACTOR).max(1);
    let jobs = usize::try_from(fit)
        .unwrap_or(usize::MAX)
        .clamp(1, processors)
        .min(attempts.len());
    if jobs <= 1 {
        return attempts
            .iter()
            .map(|attempt| one(module, attempt, goal, optimizer))
            .collect();
    }
    let next = AtomicUsize::new(0);
    let done: Vec<Mutex<Option<Result<Tried, Error>>>> =
        attempts.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(index) = Some(next.fetch_add(1, Ordering::SeqCst))
                    .filter(|index| *index < attempts.len())
                {
                    let attempt = Attempt {
                        threads: processors.div_ceil(jobs),
                        ..attempts[index]
                    };
                    let tried = one(module, &attempt, goal, optimizer);
                    if let Ok(mut slot) = done[index].lock() {
                        *slot = Some(tried);
                    }
                }
            });
        }
    });
    done.into_iter()
        .map(|slot| {
            slot.into_inner()
                .ok()
                .flatten()
                .unwrap_or_else(|| Err(Error::Internal("a candidate was lost".into())))
        })
        .collect()
}

/// Makes one attempt and judges what comes back.
fn one(
    module: &[u8],
    attempt: &Attempt<'_>,
    goal: &Goal<'_>,
    optimizer: &dyn Optimizer,
) -> Result<Tried, Error> {
    let started = Instant::now();
    let result = match optimizer.optimize(module, attempt) {
        Ok(bytes) => judged(bytes, module, goal),
        Err(OptimizeError::Unreadable(message)) => Err((Outcome::Unreadable, message)),
        Err(OptimizeError::Nothing(message)) => Err((Outcome::Lost, message)),
        Err(OptimizeError::Failed(message)) => Err((Outcome::Failed, message)),
        Err(OptimizeError::Limit(message)) => Err((Outcome::Limit, message)),
        Err(OptimizeError::Fatal(error)) => return Err(error),
    };
    Ok(Tried {
        seconds: started.elapsed().as_secs_f64(),
        result,
    })
}

fn judged(
    bytes: Vec<u8>,
    module: &[u8],
    goal: &Goal<'_>,
) -> Result<(u64, Vec<u8>), (Outcome, String)> {
    let bytes = without_new_data_count(bytes, module);
    let Err(invalid) = proposals::validate_with(&bytes, goal.proposals) else {
        return Ok((goal.measure.of(&bytes), bytes));
    };
    let problem = invalid
        .problems
        .first()
        .map_or_else(String::new, ToString::to_string);
    let only_newer = invalid
        .problems
        .iter()
        .all(|p| p.missing_wasm_feature().is_some());
    Err(if only_newer {
        let message = format!("it cannot keep to the module's own proposals: {problem}");
        (Outcome::Unreadable, message)
    } else {
        (Outcome::Rejected, problem)
    })
}

/// Binaryen writes a data count section wherever bulk memory is in play. A module
/// that had none needs none, and without it loads on hosts that know only
/// `memory.copy` and `memory.fill` of that proposal.
pub(super) fn without_new_data_count(optimized: Vec<u8>, input: &[u8]) -> Vec<u8> {
    let has_one = |bytes: &[u8]| {
        sections(bytes).is_ok_and(|all| all.iter().any(|s| s.id == DATA_COUNT_SECTION))
    };
    if has_one(input) {
        return optimized;
    }
    let without = rewrite::<wasmparser::Error>(&optimized, |section| {
        Ok(if section.id == DATA_COUNT_SECTION {
            Edit::Drop
        } else {
            Edit::Keep
        })
    });
    without.unwrap_or(optimized)
}
