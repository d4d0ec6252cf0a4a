//! Functions that differ in nothing but what they call and in constants, as generics
//! leave them behind: they are merged at `max`, and do what they did.

use std::fmt::Write as _;

use edgepack::shrink::Level;
use edgepack::wasm::Kind;
use edgepack::wasm::proposals::{used_by, validate_with};

use crate::generated::{calls, noise};
use crate::support::engine::{Engine, Value, call_core};
use crate::support::shrinking::Shrinking;
use crate::support::tool::Place;

/// Numbers from noise.
struct Draw(std::vec::IntoIter<u8>);

impl Draw {
    fn below(&mut self, bound: u8) -> u8 {
        self.0.next().unwrap() % bound
    }
}

/// What can be called in place of each other, by type: results, traps, and what is seen
/// in memory, in a global and through a table.
const HELPERS: &str = r"
    (func $i0 (param i32) (result i32) (i32.add (local.get 0) (i32.const 77)))
    (func $i1 (param i32) (result i32) (i32.mul (local.get 0) (global.get $g)))
    (func $i2 (param i32) (result i32) (i32.div_s (i32.const 1000) (i32.sub (local.get 0) (i32.const 3))))
    (func $i3 (param i32) (result i32)
        (call_indirect (type $unary) (local.get 0) (i32.and (local.get 0) (i32.const 7))))
    (func $v0 (param i32) (global.set $g (i32.add (global.get $g) (local.get 0))))
    (func $v1 (param i32) (i32.store (i32.and (local.get 0) (i32.const 0xff)) (global.get $g)))
    (func $v2 (param i32) (if (i32.gt_u (local.get 0) (i32.const 0xf0000000)) (then unreachable)))
    (func $v3 (param i32) (call $v0 (i32.load (i32.and (local.get 0) (i32.const 0x3ffff)))))
    (func $l0 (param i64 f64) (result i64) (i64.xor (local.get 0) (i64.reinterpret_f64 (local.get 1))))
    (func $l1 (param i64 f64) (result i64) (i64.rotl (local.get 0) (i64.const 13)))
    (func $l2 (param i64 f64) (result i64) (i64.trunc_f64_s (local.get 1)))
    (func $l3 (param i64 f64) (result i64) (i64.sub (i64.const 5) (local.get 0)))
    (func $n0) (func $n1 (global.set $g (i32.const 1)))
    (func $n2 (call $v1 (i32.const 8))) (func $n3 (call $v0 (i32.const -9)))";

/// A module of three families of functions.
fn families(seed: u64) -> Vec<u8> {
    let mut draw = Draw(noise(seed ^ 0xface, 4096).into_iter());
    let tail_calls = seed % 4 == 3;
    let table = ["(table", "(table (export \"table\")"][usize::from(draw.below(2))];
    let mut text = format!(
        "(module (type $unary (func (param i32) (result i32)))
            (memory (export \"memory\") 2) (global $g (export \"g\") (mut i32) (i32.const 11))
            {table} 5 funcref) (elem (i32.const 0) $i0 $i1 $i2 $i0) {HELPERS}"
    );
    for family in 0..3 {
        // What the members have in common, with a hole wherever they may differ.
        let length = 10 + draw.below(20);
        let pattern: Vec<(u8, u8)> = (0..length)
            .map(|_| (draw.below(6), draw.below(255)))
            .collect();
        let members = 2 + draw.below(4);
        for member in 0..members {
            let _ = write!(
                text,
                "(func (export \"f{family}-{member}\") (param i32 i64 f64) (result i32) (local i32)"
            );
            for (kind, constant) in &pattern {
                let helper = if draw.below(3) == 0 {
                    draw.below(4)
                } else {
                    constant % 4
                };
                let value = if draw.below(8) == 0 {
                    draw.below(200)
                } else {
                    *constant
                };
                let _ = match kind {
                    0 => write!(
                        text,
                        "(local.set 3 (i32.xor (local.get 3) (call $i{helper} (local.get 0))))"
                    ),
                    1 => write!(
                        text,
                        "(call $v{helper} (i32.add (local.get 3) (i32.const {value})))"
                    ),
                    2 => write!(
                        text,
                        "(local.set 1 (call $l{helper} (local.get 1) (local.get 2)))"
                    ),
                    3 => write!(text, "(call $n{helper})"),
                    4 => write!(
                        text,
                        "(local.set 0 (i32.rotr (local.get 0) (i32.const {constant})))
                        (if (i32.lt_s (local.get 0) (i32.const {value})) (then (call $n{helper})))"
                    ),
                    _ => write!(
                        text,
                        "(local.set 3 (i32.sub (i32.mul (local.get 3) (i32.const {constant}))
                        (i32.wrap_i64 (local.get 1))))"
                    ),
                };
            }
            let last = draw.below(4);
            let call = ["call", "return_call"][usize::from(tail_calls)];
            let _ = write!(text, "({call} $i{last} (local.get 3)))");
        }
    }
    text.push(')');
    wat::parse_str(text).unwrap()
}

#[test]
fn merged_functions_do_what_they_did() {
    let shrinking = Shrinking::new();
    let others = [
        vec![Value::from(2), Value::from(-1_i64), Value::from(1e300)],
        vec![Value::from(-5), Value::from(1_i64 << 40), Value::from(0.25)],
        vec![Value::from(3), Value::from(0_i64), Value::from(f64::NAN)],
    ];
    let (seeds, mut smaller) = (40_usize, 0);
    for seed in 0..seeds {
        let before = families(seed as u64);
        let [at_default, after] =
            [Level::Default, Level::Max].map(|l| shrinking.shrink(&before, l).unwrap());
        smaller += usize::from(after.len() * 100 < at_default.len() * 99);
        validate_with(&after, used_by(&before, Kind::Core).unwrap()).unwrap();
        let mut all = calls(&before);
        let names: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
        for args in &others {
            all.extend(names.iter().map(|name| (name.clone(), args.clone())));
        }
        let all: Vec<(&str, &[Value])> = all.iter().map(|(n, a)| (n.as_str(), &a[..])).collect();
        for engine in Engine::ALL {
            let [before, after] = [&before, &after].map(|module| call_core(engine, module, &all));
            assert_eq!(before, after, "seed {seed} in {engine:?}");
        }
    }
    let merged = shrinking.merged();
    assert!(
        merged * 2 > seeds && smaller * 2 > seeds,
        "{merged} were merged, {smaller} are smaller for it, of {seeds}"
    );
}

/// A host may look behind the end of the table, and so may the module.
#[test]
fn the_table_stays_as_it_is() {
    let place = Place::new();
    let module = families(1);
    place.write("in.wasm", &module);
    let report = place
        .run([
            "shrink",
            "in.wasm",
            "-o",
            "out.wasm",
            "--level",
            "max",
            "--message-format",
            "json",
        ])
        .exits(0)
        .json();
    let candidates = report["packages"][0]["modules"][0]["candidates"]
        .as_array()
        .unwrap();
    let merged: Vec<_> = candidates
        .iter()
        .filter(|c| c["recipe"] == "merged")
        .collect();
    assert_eq!(merged[0]["round"], 1, "{candidates:?}");
    assert!(merged[0]["size"].is_u64(), "{candidates:?}");
    // Everything is merged in the first round.
    assert_eq!(merged[1]["size"], serde_json::Value::Null);
    assert_eq!(merged[1]["outcome"], "lost");
    assert_eq!(
        merged[1]["message"],
        "no functions differ by a callee alone"
    );
    let shrunk = std::fs::read(place.join("out.wasm")).unwrap();
    let [before, after] = [&module, &shrunk].map(|module| tables(module));
    assert_eq!(before, after);
}

/// Tables, and how many functions are put into them.
fn tables(module: &[u8]) -> (Vec<wasmparser::TableType>, u32) {
    use wasmparser::{ElementItems, Parser, Payload};
    let (mut tables, mut elements) = (Vec::new(), 0);
    for payload in Parser::new(0).parse_all(module) {
        match payload.unwrap() {
            Payload::TableSection(section) => {
                tables.extend(section.into_iter().map(|table| table.unwrap().ty));
            }
            Payload::ElementSection(section) => {
                for segment in section {
                    elements += match segment.unwrap().items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    };
                }
            }
            _ => {}
        }
    }
    (tables, elements)
}
