//! What becomes of a module when the optimiser does all that it should not.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::finding::Severity;
use crate::wasm::sections;

type Answer = fn(&[u8]) -> Result<Vec<u8>, OptimizeError>;

/// Answers with what it was made with, and counts how often it was asked.
struct Answers {
    answer: Answer,
    asked: AtomicUsize,
}

impl Answers {
    fn with(answer: Answer) -> Self {
        Answers {
            answer,
            asked: AtomicUsize::new(0),
        }
    }
}

impl Optimizer for Answers {
    fn producers(&self) -> Vec<Producer> {
        vec![Producer {
            name: "answers".into(),
            program: recipe::Program::Own,
        }]
    }

    fn optimize(&self, module: &[u8], _: &Attempt<'_>) -> Result<Vec<u8>, OptimizeError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        (self.answer)(module)
    }
}

const MODULE: &str = r#"(module
    (@custom "name-of-mine" "abc") (@custom "producers" "\00")
    (func $named (export "f") (param i32) (result i32) local.get 0))"#;

fn wasm(text: &str) -> Validated {
    validate::validate(Wasm::new(wat::parse_str(text).unwrap()).unwrap()).unwrap()
}

fn with(optimizer: &Answers, text: &str, cache: &Cache) -> Shrunk {
    shrink(&wasm(text), &Options::default(), optimizer, cache).unwrap()
}

fn custom_sections(wasm: &Wasm) -> Vec<String> {
    let all = sections(wasm.bytes()).unwrap();
    all.iter()
        .filter_map(|s| s.name.map(str::to_owned))
        .collect()
}

fn codes(shrunk: &Shrunk) -> Vec<Code> {
    shrunk.findings.iter().map(|f| f.code).collect()
}

#[test]
fn whatever_goes_wrong_costs_the_optimisers_own_work_only() {
    let cases: [(Answer, Option<Code>); 6] = [
        (
            |_| Err(OptimizeError::Failed("signal 11".into())),
            Some(Code::OptimizerFailed),
        ),
        (
            |_| Err(OptimizeError::Unreadable("too new".into())),
            Some(Code::OptimizerUnreadable),
        ),
        (|_| Ok(b"nonsense".to_vec()), Some(Code::OptimizerRejected)),
        (
            |m| Ok(m[..m.len() - 2].to_vec()),
            Some(Code::OptimizerRejected),
        ),
        (
            |_| {
                Ok(wat::parse_str(r#"(module (func (export "f") (param i32) (result i32) local.get 0 i32.extend8_s))"#).unwrap())
            },
            Some(Code::OptimizerUnreadable),
        ),
        (
            |m| Ok([m, &[0, 9, 1, b'x', 0, 0, 0, 0, 0, 0, 0]].concat()),
            None,
        ),
    ];
    for (answer, code) in cases {
        let shrunk = with(&Answers::with(answer), MODULE, &Cache::disabled());
        assert_eq!(
            custom_sections(&shrunk.wasm),
            ["producers"],
            "it is stripped all the same"
        );
        let expected: Vec<Code> = code.into_iter().chain([Code::SectionsDropped]).collect();
        assert_eq!(codes(&shrunk), expected);
        assert!(shrunk.findings.iter().all(|f| f.severity < Severity::Error));
        proposals::validate_with(shrunk.wasm.bytes(), Proposals::none()).unwrap();
    }
}

#[test]
fn an_optimiser_that_cannot_run_ends_the_command() {
    let answers = Answers::with(|_| Err(OptimizeError::Fatal(Error::Interrupted)));
    let outcome = shrink(
        &wasm(MODULE),
        &Options::default(),
        &answers,
        &Cache::disabled(),
    );
    assert!(matches!(outcome, Err(Error::Interrupted)));
}

#[test]
fn nothing_is_optimised_twice() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path().to_owned());
    for answer in [(|m| Ok(m.to_vec())) as Answer, |_| {
        Err(OptimizeError::Unreadable("too new".into()))
    }] {
        let answers = Answers::with(answer);
        let text = if answer(b"").is_ok() {
            MODULE.to_owned()
        } else {
            MODULE.replace("\"f\"", "\"g\"")
        };
        let first = with(&answers, &text, &cache);
        let second = with(&answers, &text, &cache);
        assert_eq!(answers.asked.load(Ordering::SeqCst), 1);
        assert_eq!((first.cached(), second.cached()), (false, true));
        assert_eq!(first.wasm, second.wasm);
        assert_eq!(codes(&first), codes(&second));
    }
    // Debug names are gone before the key is made: a module that differs in them
    // alone is the same.
    let answers = Answers::with(|m| Ok(m.to_vec()));
    with(&answers, &MODULE.replace("$named", "$otherwise"), &cache);
    assert_eq!(answers.asked.load(Ordering::SeqCst), 0);
    // A crash may have been the machine's fault: it is tried again.
    let answers = Answers::with(|_| Err(OptimizeError::Failed("signal 9".into())));
    for _ in 0..2 {
        with(&answers, &MODULE.replace("\"f\"", "\"h\""), &cache);
    }
    assert_eq!(answers.asked.load(Ordering::SeqCst), 2);
}

#[test]
fn every_core_module_of_a_component_is_reached() {
    const COMPONENT: &str = r"(component
        (core module $a (func $x (result i32) i32.const 1))
        (component (core module $b (func $y (result i32) i32.const 2))
            (component (core module $c (func $z (result i32) i32.const 3)))))";
    let answers = Answers::with(|m| Ok(m.to_vec()));
    let shrunk = with(&answers, COMPONENT, &Cache::disabled());
    assert_eq!(
        (shrunk.modules.len(), answers.asked.load(Ordering::SeqCst)),
        (3, 3)
    );
    crate::validate::validate(shrunk.wasm).unwrap();
}

#[test]
fn off_leaves_every_byte() {
    let wasm = wasm(MODULE);
    let options = Options {
        level: Level::Off,
        ..Options::default()
    };
    let answers = Answers::with(|_| Err(OptimizeError::Failed(String::new())));
    let shrunk = shrink(&wasm, &options, &answers, &Cache::disabled()).unwrap();
    assert_eq!(shrunk.wasm, *wasm.wasm());
    assert_eq!(shrunk.findings, []);
}

#[test]
fn dylink_stays_in_front() {
    let text = r#"(module (@custom "dylink.0" (before first) "\01\04\00\00\00\00") (@custom "producers" "\00")
        (func $unused) (func (export "f") (result i32) i32.const 1))"#;
    let answers = Answers::with(|_| {
        Ok(wat::parse_str(r#"(module (func (export "f") (result i32) i32.const 1))"#).unwrap())
    });
    let shrunk = with(&answers, text, &Cache::disabled());
    let all = sections(shrunk.wasm.bytes()).unwrap();
    assert_eq!(all.first().unwrap().name, Some("dylink.0"));
    assert_eq!(all.last().unwrap().name, Some("producers"));
}
