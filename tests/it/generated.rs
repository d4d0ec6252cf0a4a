//! Modules that nobody would write: whatever validates before validates after,
//! with no new proposals, and does the same.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arbitrary::Unstructured;
use edgepack::shrink::Level;
use edgepack::wasm::Kind;
use edgepack::wasm::proposals::{used_by, validate_with};
use wasm_smith::{Component, Config, Module};

use crate::support::engine::{Engine, Trap, Value, call_core};
use crate::support::shrinking::Shrinking;
use crate::support::tool::Place;

/// Bytes that are the same for the same seed (splitmix64).
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn count(default: u64) -> u64 {
    std::env::var("EDGEPACK_GENERATED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

/// Proposals that `check` names.
fn proposals(place: &Place, file: &str) -> Vec<String> {
    let report = place
        .run(["check", file, "--message-format", "json"])
        .exits(0)
        .json();
    let features = report["packages"][0]["features"]
        .as_array()
        .unwrap()
        .clone();
    features
        .iter()
        .map(|f| f.as_str().unwrap().to_owned())
        .collect()
}

/// Shrinks a file, at a level that changes with the seed, and checks what came out
/// against what went in.
fn shrink(place: &Place, file: &str, seed: u64) -> Vec<u8> {
    let level = ["default", "fast", "max"][usize::try_from(seed % 3).unwrap()];
    let done = place.run(["shrink", file, "-o", "out.wasm", "--level", level]);
    assert_eq!(done.code, 0, "seed {seed}: {}", done.stderr);
    assert!(
        !done.stderr.contains("optimizer-rejected"),
        "seed {seed}: {}",
        done.stderr
    );
    let (before, after) = (
        fs::read(place.join(file)).unwrap(),
        fs::read(place.join("out.wasm")).unwrap(),
    );
    assert!(
        after.len() <= before.len(),
        "seed {seed}: {} > {}",
        after.len(),
        before.len()
    );
    let known = proposals(place, file);
    for proposal in proposals(place, "out.wasm") {
        assert!(known.contains(&proposal), "seed {seed}: {proposal} is new");
    }
    after
}

#[test]
fn core_modules_with_every_proposal() {
    for seed in 0..count(60) {
        let place = Place::new();
        let bytes = noise(seed, 4000);
        let mut input = Unstructured::new(&bytes);
        let mut config: Config = input.arbitrary().unwrap();
        config.max_memories = config.max_memories.max(1);
        let Ok(module) = Module::new(config, &mut input) else {
            continue;
        };
        place.write("in.wasm", module.to_bytes());
        shrink(&place, "in.wasm", seed);
    }
}

/// The search gives the same bytes on one processor as on all of them.
#[cfg(target_os = "linux")]
#[test]
fn max_does_not_depend_on_processors() {
    use crate::support::tool::run;
    let mut compared = 0;
    for seed in 0..count(5) {
        let place = Place::new();
        let bytes = noise(seed ^ 0xfeed, 20_000);
        let config = Config {
            min_funcs: 20,
            max_imports: 0,
            gc_enabled: false,
            ..Config::default()
        };
        let Ok(module) = Module::new(config, &mut Unstructured::new(&bytes)) else {
            continue;
        };
        place.write("in.wasm", module.to_bytes());
        let all = ["shrink", "in.wasm", "--level", "max", "-o", "all.wasm"];
        place.run(all).exits(0);
        let one = place.command(["shrink", "in.wasm", "--level", "max", "-o", "one.wasm"]);
        let mut pinned = std::process::Command::new("taskset");
        pinned
            .args(["-c", "0"])
            .arg(one.get_program())
            .args(one.get_args())
            .current_dir(place.path())
            .env("EDGEPACK_CACHE_DIR", place.join(".other-cache"));
        run(&mut pinned).exits(0);
        let read = |name| fs::read(place.join(name)).unwrap();
        assert_eq!(read("all.wasm"), read("one.wasm"), "seed {seed}");
        compared += 1;
    }
    assert!(compared > 0);
}

#[test]
fn components() {
    for seed in 0..count(40) {
        let place = Place::new();
        let bytes = noise(seed ^ 0xc0de, 3000);
        let Ok(component) = Component::new(Config::default(), &mut Unstructured::new(&bytes))
        else {
            continue;
        };
        let bytes = component.to_bytes();
        place.write("in.wasm", &bytes);
        // The generator lags behind the validator in what it takes for valid.
        if place.run(["check", "in.wasm"]).code == 0 {
            shrink(&place, "in.wasm", seed);
        }
    }
}

/// A small module that ends on its own, with proposals that change with the seed.
fn terminating(seed: u64) -> Option<Vec<u8>> {
    let with = |bit: u64| seed & (1 << bit) != 0;
    let bytes = noise(
        seed ^ 0xbeef,
        1500 + usize::try_from(seed % 7).unwrap() * 800,
    );
    let config = Config {
        allow_start_export: false,
        bulk_memory_enabled: true,
        canonicalize_nans: true,
        disallow_traps: with(0),
        exceptions_enabled: false,
        export_everything: true,
        gc_enabled: false,
        max_imports: 0,
        max_memory32_bytes: 1 << 20,
        max_tables: 2,
        memory64_enabled: false,
        min_funcs: 3,
        multi_value_enabled: with(1),
        reference_types_enabled: with(2),
        relaxed_simd_enabled: false,
        saturating_float_to_int_enabled: with(3),
        sign_extension_ops_enabled: with(4),
        simd_enabled: with(5),
        tail_call_enabled: with(6),
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    };
    let mut module = Module::new(config, &mut Unstructured::new(&bytes)).ok()?;
    // Endless loops and recursion end in a trap that is the same on both sides.
    module.ensure_termination(1_000).ok()?;
    Some(module.to_bytes())
}

/// What was seen.
#[derive(Default)]
struct Seen {
    modules: AtomicUsize,
    calls: AtomicUsize,
    /// Of two traps the other came first: Binaryen may put one instruction that traps
    /// before another.
    other_traps: AtomicUsize,
    /// Wasmi gave two answers where Wasmtime gave one.
    wasmi_alone: AtomicUsize,
}

impl Seen {
    /// Whether what the engine answers changed in more than the kind of a trap.
    fn differs(&self, engine: Engine, modules: [&[u8]; 2], calls: &[(&str, &[Value])]) -> bool {
        let [before, after] = modules.map(|module| call_core(engine, module, calls));
        if before.len() != after.len() {
            return true;
        }
        let mut differs = false;
        for (before, after) in before.iter().zip(&after) {
            match (before, after) {
                (Err(before), Err(after)) => {
                    // A trap that is certain may become this one: hosts are not told which.
                    if before != after && *after != Trap::Unreachable {
                        self.other_traps.fetch_add(1, Ordering::Relaxed);
                    }
                }
                _ => differs |= before != after,
            }
        }
        differs
    }

    /// Takes the module of that seed through each level; what went wrong.
    fn module(&self, seed: u64, shrinking: &Shrinking) -> Option<String> {
        let before = terminating(seed)?;
        let used = used_by(&before, Kind::Core).ok()?;
        let calls = calls(&before);
        let calls: Vec<(&str, &[Value])> = calls
            .iter()
            .map(|(n, a)| (n.as_str(), a.as_slice()))
            .collect();
        self.modules.fetch_add(1, Ordering::Relaxed);
        self.calls.fetch_add(calls.len(), Ordering::Relaxed);
        for level in [Level::Fast, Level::Default, Level::Max] {
            let told = |what: &str| Some(format!("seed {seed} at {}: {what}", level.name()));
            let after = match shrinking.shrink(&before, level) {
                Ok(after) => after,
                Err(why) => return told(&why),
            };
            if after.len() > before.len() {
                return told("it is larger");
            }
            if let Err(invalid) = validate_with(&after, used) {
                return told(&format!("{invalid:?}"));
            }
            let both = [&before[..], &after[..]];
            // Compiling takes longer than all else, so Wasmtime is asked now and then, and
            // where Wasmi sees a difference.
            let in_wasmi = self.differs(Engine::Wasmi, both, &calls);
            if (in_wasmi || seed.is_multiple_of(16)) && self.differs(Engine::Wasmtime, both, &calls)
            {
                return told("other results");
            }
            if in_wasmi {
                self.wasmi_alone.fetch_add(1, Ordering::Relaxed);
            }
        }
        None
    }
}

/// In this process, so that only the optimiser's own has to be started for each module.
#[test]
fn thousands_of_modules_give_the_same_results_at_each_level() {
    let shrinking = Shrinking::new();
    let seeds = count(2200);
    let (next, all) = (AtomicU64::new(0), Seen::default());
    let broken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    if let Some(wrong) = all.module(seed, &shrinking) {
                        broken.lock().unwrap().push(wrong);
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let [modules, calls, traps, alone] =
        [all.modules, all.calls, all.other_traps, all.wasmi_alone].map(AtomicUsize::into_inner);
    let optimised = shrinking.optimised();
    let told = format!(
        "{modules} modules, {calls} calls, {optimised} times optimised, {traps} other traps, {alone} times Wasmi alone"
    );
    assert!(
        modules as u64 >= seeds * 9 / 10 && calls > modules,
        "{told}"
    );
    assert!(optimised > modules * 2, "{told}");
    assert!(
        traps <= 2 + calls / 200 && alone <= 2 + calls / 1000,
        "{told}"
    );
}

/// A call of each exported function, with numbers that are not all alike.
pub fn calls(module: &[u8]) -> Vec<(String, Vec<Value>)> {
    use wasmparser::{ExternalKind, Parser, Payload, ValType};
    let (mut types, mut functions, mut exports) = (Vec::new(), Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload.unwrap() {
            Payload::TypeSection(section) => {
                types.extend(section.into_iter_err_on_gc_types().map(Result::unwrap));
            }
            Payload::FunctionSection(section) => {
                functions.extend(section.into_iter().map(Result::unwrap));
            }
            Payload::ExportSection(section) => {
                exports.extend(
                    section
                        .into_iter()
                        .map(Result::unwrap)
                        .filter(|e| e.kind == ExternalKind::Func),
                );
            }
            _ => {}
        }
    }
    exports
        .iter()
        .filter_map(|export| {
            let ty = &types[functions[export.index as usize] as usize];
            let args: Option<Vec<Value>> = ty
                .params()
                .iter()
                .enumerate()
                .map(|(i, param)| {
                    let i = i32::try_from(i).unwrap() + 3;
                    Some(match param {
                        ValType::I32 => Value::from(i),
                        ValType::I64 => Value::from(i64::from(i) << 33),
                        ValType::F32 => Value::from(1.5_f32),
                        ValType::F64 => Value::from(f64::from(-i)),
                        ValType::V128 | ValType::Ref(_) => return None,
                    })
                })
                .collect();
            Some((export.name.to_owned(), args?))
        })
        .collect()
}
