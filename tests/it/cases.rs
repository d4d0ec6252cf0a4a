//! Runs the cases in `tests/cli/`: each file is a module or component in the text
//! format that carries its own command line and what has to come of it.
//!
//! ```text
//! ;; RUN: check % --allow-import env.log
//! ;; EXIT: 3
//! ;; STDERR: error[import-not-allowed]
//! ;; NOT: env.log`
//! ```
//!
//! `%` stands for the binary. STDOUT, STDERR and NOT (on neither) may be repeated.

use std::fs;

use crate::support::tool::{Place, repository};

#[test]
fn cases() {
    let mut files: Vec<_> = fs::read_dir(repository().join("tests/cli"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 10);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let all = |key: &str| -> Vec<String> {
            let prefix = format!(";; {key}: ");
            text.lines()
                .filter_map(|l| l.strip_prefix(&prefix))
                .map(str::to_owned)
                .collect()
        };
        let place = Place::new();
        place.write(
            "case.wasm",
            wat::parse_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display())),
        );
        let runs = all("RUN");
        assert!(!runs.is_empty(), "{} has no RUN", file.display());
        let (mut stdout, mut stderr, mut code) = (String::new(), String::new(), 0);
        for run in &runs {
            let args: Vec<String> = run
                .split_whitespace()
                .map(|w| {
                    if w == "%" {
                        "case.wasm".to_owned()
                    } else {
                        w.to_owned()
                    }
                })
                .collect();
            let done = place.run(args);
            stdout += &done.stdout;
            stderr += &done.stderr;
            code = done.code;
        }
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let shown = format!("{name}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        let expected = all("EXIT").first().map_or(0, |c| c.parse().unwrap());
        assert_eq!(code, expected, "{shown}");
        for wanted in all("STDOUT") {
            assert!(stdout.contains(&wanted), "stdout lacks `{wanted}`: {shown}");
        }
        for wanted in all("STDERR") {
            assert!(stderr.contains(&wanted), "stderr lacks `{wanted}`: {shown}");
        }
        for unwanted in all("NOT") {
            assert!(
                !stdout.contains(&unwanted) && !stderr.contains(&unwanted),
                "`{unwanted}`: {shown}"
            );
        }
    }
}
