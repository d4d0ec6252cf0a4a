//! Completions and the manual.

use crate::support::tool::Place;

/// What only the tool itself calls.
const HIDDEN: [&str; 2] = ["optimize-worker", "optimize-external"];

#[test]
fn completions_know_what_users_may_call() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let text = place.run(["completions", shell]).exits(0).stdout;
        for word in ["cargo-edgepack", "publish", "message-format", "github"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
        for hidden in HIDDEN {
            assert!(!text.contains(hidden), "{shell}: {hidden}");
        }
    }
    place.run(["completions", "tcsh"]).exits(2);
}

#[test]
fn a_page_for_each_command() {
    let place = Place::new();
    let main = place.run(["man"]).exits(0).stdout;
    assert!(main.contains(".TH cargo-edgepack 1"), "{main}");
    assert!(main.contains("Exit codes"), "{main}");
    place.run(["man", "-o", "pages"]).exits(0);
    let files = place.files();
    for name in [
        "cargo-edgepack.1",
        "cargo-edgepack-build.1",
        "cargo-edgepack-plan.1",
    ] {
        assert!(files.contains(&format!("pages/{name}")), "{files:?}");
    }
    for hidden in HIDDEN {
        assert!(!files.iter().any(|f| f.contains(hidden)), "{files:?}");
        assert!(!main.contains(hidden), "{main}");
    }
    let page = std::fs::read_to_string(place.join("pages/cargo-edgepack-build.1")).unwrap();
    assert!(page.contains(r"cargo edgepack build"), "{page}");
}
