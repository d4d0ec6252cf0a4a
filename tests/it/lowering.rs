//! Proposals that are taken out: the module runs in an interpreter that lacks them, and
//! gives and does what it did.

use std::fs;

use crate::support::engine::{Engine, Value, call_core, call_without};
use crate::support::tool::Place;

const CONVERSIONS: &[&str] = &[
    "i32.trunc_sat_f32_s",
    "i32.trunc_sat_f32_u",
    "i32.trunc_sat_f64_s",
    "i32.trunc_sat_f64_u",
    "i64.trunc_sat_f32_s",
    "i64.trunc_sat_f32_u",
    "i64.trunc_sat_f64_s",
    "i64.trunc_sat_f64_u",
];

/// Whether an interpreter of WebAssembly 1.0 takes and runs the module; or why not.
fn in_an_old_host(module: &[u8]) -> Result<(), String> {
    let mut config = wasmi::Config::default();
    config
        .wasm_sign_extension(false)
        .wasm_saturating_float_to_int(false)
        .wasm_bulk_memory(false)
        .wasm_reference_types(false)
        .wasm_multi_value(false);
    call_without(&config, module, "run", ())
}

/// Takes the proposals out at each level; what the calls gave before and after has to
/// be the same.
fn compare(text: &str, lower: &str, calls: &[(&str, &[Value])]) {
    let place = Place::new();
    let before = wat::parse_str(text).unwrap();
    place.write("in.wasm", &before);
    assert!(in_an_old_host(&before).is_err());
    for level in ["fast", "default", "max"] {
        let args = ["shrink", "in.wasm", "-o", "out.wasm", "--level", level];
        let report = place
            .run([&args[..], &["--lower", lower, "--message-format", "json"]].concat())
            .exits(0)
            .json();
        assert_eq!(report["packages"][0]["features"], serde_json::json!([]));
        let after = fs::read(place.join("out.wasm")).unwrap();
        in_an_old_host(&after).unwrap();
        for engine in Engine::ALL {
            let [before, after] = [&before, &after].map(|module| call_core(engine, module, calls));
            for ((call, before), after) in calls.iter().zip(before).zip(after) {
                assert_eq!(before, after, "{call:?} at {level} in {engine:?}");
            }
        }
    }
}

/// The nearest float.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
fn float(number: f64) -> f32 {
    number as f32
}

#[test]
fn conversions_saturate_without_their_instructions() {
    let mut text = r#"(module (func (export "run"))"#.to_owned();
    for name in CONVERSIONS {
        let (from, to) = (&name[14..17], &name[..3]);
        let function = format!(
            "(func (export \"{name}\") (param {from}) (result {to}) ({name} (local.get 0)))"
        );
        text.push_str(&function);
    }
    text.push(')');
    let mut numbers = vec![
        0.0,
        -0.0,
        0.5,
        -0.5,
        -0.999,
        -1.0,
        1.5,
        f64::NAN,
        f64::INFINITY,
    ];
    numbers.extend([f64::NEG_INFINITY, f64::MIN_POSITIVE, 1e300, -1e300]);
    for power in [31, 32, 63, 64] {
        let edge = 2_f64.powi(power);
        // The next that a double and a float can hold, on both sides.
        let near = [
            edge.next_down(),
            edge.next_up(),
            edge - 0.5,
            edge + 0.5,
            edge - 1.5,
        ];
        let floats = [float(edge).next_down(), float(edge).next_up()].map(f64::from);
        for number in near
            .into_iter()
            .chain(floats)
            .chain([edge, edge - 1.0, edge + 1.0])
        {
            numbers.extend([number, -number]);
        }
    }
    let args: Vec<[[Value; 1]; 2]> = numbers
        .iter()
        .map(|n| [[Value::from(float(*n))], [Value::from(*n)]])
        .collect();
    let mut calls: Vec<(&str, &[Value])> = Vec::new();
    for name in CONVERSIONS {
        let is_double = usize::from(&name[14..17] == "f64");
        calls.extend(args.iter().map(|a| (*name, &a[is_double][..])));
    }
    assert!(calls.len() > 400);
    compare(&text, "saturating-float-to-int", &calls);
}

#[test]
fn memory_is_copied_and_filled_without_the_instructions() {
    // `sum` tells one memory from another.
    let text = r#"(module (memory (export "memory") 2) (data (i32.const 65500) "0123456789abcdefghijklmnopqrstuvwxyz!")
        (func (export "run") (memory.copy (i32.const 1) (i32.const 65500) (i32.const 30)))
        (func (export "copy") (param i32 i32 i32) (memory.copy (local.get 0) (local.get 1) (local.get 2)))
        (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
        (func (export "grow") (drop (memory.grow (i32.const 1))))
        (func (export "sum") (result i64) (local $at i32) (local $sum i64)
            (loop $next
                (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 1099511628211))
                    (i64.load8_u (local.get $at))))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const 131072))))
            (local.get $sum)))"#;
    let end = 131_072;
    let mut all: Vec<(&str, [i32; 3])> = Vec::new();
    for length in [0, 1, 7, 8, 9, 16, 23, 31] {
        // Apart, the same place, and overlapping by every distance that matters.
        for distance in [-40, -9, -8, -7, -1, 0, 1, 3, 8, 15, 40] {
            all.push(("copy", [65_510 + distance, 65_510, length]));
        }
        all.push(("fill", [65_520, 0x1234_56f0 + length, length]));
        all.push(("fill", [end - length, 7, length]));
        all.push(("copy", [end - length, 65_500, length]));
        all.push(("copy", [0, end - length, length]));
        // Beyond the end, and around.
        for over in [1, 8, i32::MAX, -1, -8] {
            let start = end.wrapping_sub(length).wrapping_add(over);
            all.push(("fill", [start, 9, length]));
            all.push(("copy", [start, 65_500, length]));
            all.push(("copy", [65_500, start, length]));
        }
    }
    all.extend([
        ("copy", [0, 0, 300_000]),
        ("fill", [16, 3, 300_000]),
        ("fill", [0, 255, end]),
        ("fill", [0, 1, end + 1]),
    ]);
    let args: Vec<(&str, [Value; 3])> = all
        .iter()
        .map(|(name, args)| (*name, args.map(Value::from)))
        .collect();
    let mut calls: Vec<(&str, &[Value])> = vec![("run", &[])];
    for (name, args) in &args {
        calls.push((name, args));
    }
    // After the memory has grown, what was beyond it is in it.
    calls.insert(calls.len() / 2, ("sum", &[]));
    calls.push(("sum", &[]));
    calls.push(("grow", &[]));
    calls.extend(args.iter().skip(5).step_by(11).map(|(n, a)| (*n, &a[..])));
    calls.push(("sum", &[]));
    compare(text, "bulk-memory", &calls);
}

#[test]
fn what_cannot_be_taken_out_is_said() {
    let place = Place::new();
    let text = r#"(module (memory 1) (data $d "x") (func (export "f")
        (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))))"#;
    place.write("m.wasm", wat::parse_str(text).unwrap());
    let args = ["shrink", "m.wasm", "-o", "o.wasm", "--lower", "bulk-memory"];
    place
        .run(args)
        .exits(2)
        .says("`bulk-memory` cannot be lowered: it writes data segments as it runs")
        .says("leave it out of shrink.lower");
    // A segment that nobody reads takes the proposal too.
    let text = r#"(module (memory 1) (data "x") (func (export "f")))"#;
    place.write("m.wasm", wat::parse_str(text).unwrap());
    place
        .run(args)
        .exits(2)
        .says("`bulk-memory` cannot be lowered: passive data segments");
    assert!(!place.join("o.wasm").exists());
}
