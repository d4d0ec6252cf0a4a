//! What `publish --oci-layout` writes, what is read back from it, and what is refused
//! before anything is built.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::support::artifact::{module, sha256};
use crate::support::registry::Registry;
use crate::support::tool::Place;

/// The entries of a layout that have a tag, with their digests.
fn entries(place: &Place, layout: &str) -> BTreeMap<String, String> {
    let index = fs::read(place.join(layout).join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    entries
        .map(|entry| {
            let tag = &entry["annotations"]["org.opencontainers.image.ref.name"];
            let digest = entry["digest"].as_str().unwrap().to_owned();
            (tag.as_str().unwrap().to_owned(), digest)
        })
        .collect()
}

fn workspace(place: &Place, publish: &str) {
    let manifest = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [\"alpha\", \"beta\"]\n\
         [workspace.metadata.edgepack.publish]\n{publish}\n"
    );
    place.write("Cargo.toml", manifest);
    for name in ["alpha", "beta"] {
        let manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        place.write(&format!("{name}/Cargo.toml"), manifest);
        place.write(&format!("{name}/src/main.rs"), "fn main() {}\n");
    }
}

#[test]
fn everything_arrives_in_one_layout() {
    let place = Place::new();
    workspace(
        &place,
        "repository = \"registry.example/ws/{name}\"\ntags = [\"latest\", \"{version}\"]\n\
         variants = [\"wasm\", \"compat\"]",
    );
    let args = ["publish", "--workspace", "--oci-layout", "out"];
    let report = place
        .run([&args[..], &["--message-format=json"]].concat())
        .exits(0)
        .json();
    let found = entries(&place, "out");
    let mut names: Vec<_> = found.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "alpha-compat:0.1.0",
            "alpha-compat:latest",
            "alpha:0.1.0",
            "alpha:latest",
            "beta-compat:0.1.0",
            "beta-compat:latest",
            "beta:0.1.0",
            "beta:latest",
        ]
    );
    // The report names the entries, and each names its artifact.
    for published in report["published"].as_array().unwrap() {
        for tag in published["tags"].as_array().unwrap() {
            assert_eq!(found[tag["name"].as_str().unwrap()], published["digest"]);
        }
    }
    // Once more, nothing is in the way.
    place.run(args).exits(0);
    assert_eq!(entries(&place, "out"), found);
    let wasm = fs::read(place.join("target/edgepack/beta.wasm")).unwrap();
    for name in ["beta:0.1.0", "beta-compat:latest"] {
        let reference = format!("oci:out:{name}");
        place.run(["pull", &reference, "-o", "out.wasm"]).exits(0);
        assert_eq!(fs::read(place.join("out.wasm")).unwrap(), wasm, "{name}");
    }
    // And from there to a registry, each to its repository.
    let registry = Registry::start();
    let repository = registry.reference("ws/{name}");
    place
        .run(["publish", "oci:out", "--repository", &repository])
        .exits(0);
    for name in ["alpha", "alpha-compat", "beta", "beta-compat"] {
        let tags = registry.tags(&format!("ws/{name}"));
        assert_eq!(tags["0.1.0"], found[&format!("{name}:0.1.0")]);
        assert_eq!(tags["latest"], found[&format!("{name}:latest")]);
    }
}

#[test]
fn one_artifact_goes_by_its_tag() {
    let place = Place::new();
    place.write("a.wasm", module(1000, 1));
    let publish = |more: &[&str]| {
        let fixed = ["publish", "a.wasm", "--as-version", "3.0.0"];
        place.run([&fixed, more].concat())
    };
    publish(&["--oci-layout", "one", "--variant", "compat"]).exits(0);
    assert!(entries(&place, "one").keys().eq(["3.0.0"]));
    let forms = ["--name", "v", "--variant", "compat", "--variant", "wasm"];
    let done = publish(&[&forms[..], &["--oci-layout", "forms"]].concat()).exits(0);
    assert_eq!(done.stdout.lines().count(), 2);
    assert!(
        entries(&place, "forms")
            .keys()
            .eq(["v-compat:3.0.0", "v:3.0.0"])
    );
}

#[test]
fn what_would_meet_is_refused_before_it_is_built() {
    let place = Place::new();
    workspace(&place, "variants = [\"wasm\", \"compat\"]");
    let registry = Registry::start();
    let same = registry.reference("acme/all");
    for more in [&[][..], &["--dry-run"]] {
        let args = ["publish", "--workspace", "--repository", &same];
        place
            .run([&args, more].concat())
            .exits(2)
            .says("`alpha` and `beta` would both become")
            .says("put {name} into the repository");
    }
    for name in ["a", "b", "c/a"] {
        let wasm = module(1000, sha256(name.as_bytes()).bytes().map(u64::from).sum());
        place.write(&format!("{name}.wasm"), wasm);
    }
    let version = ["--as-version", "1.0.0"];
    let files = ["publish", "a.wasm", "b.wasm", "--repository", &same];
    place
        .run([&files, &version[..]].concat())
        .exits(2)
        .says("`a` and `b` would both become");
    let files = ["publish", "a.wasm", "c/a.wasm", "--oci-layout", "out"];
    place
        .run([&files, &version[..]].concat())
        .exits(2)
        .says("two artifacts called `a` would both become `1.0.0` in the layout");
    assert!(!place.join("target").exists() && !place.join("out").exists());
    assert!(registry.requests().is_empty());
}

/// Two releases of one package, each in a layout of its own.
fn releases(place: &Place) {
    for (n, version) in [(1, "2.1.0"), (2, "2.1.1")] {
        let file = format!("{n}.wasm");
        place.write(&file, module(1000, n));
        let fixed = ["publish", &file, "--name", "nm", "--as-version", version];
        let tags = ["-t", "{version}", "-t", "{major}.{minor}", "-t", "latest"];
        let layout = format!("L{n}");
        place
            .run([&fixed[..], &tags, &["--oci-layout", &layout]].concat())
            .exits(0);
        assert!(
            entries(place, &layout)
                .keys()
                .eq(["2.1", version, "latest"])
        );
    }
}

#[test]
fn a_bare_tag_is_no_name() {
    let place = Place::new();
    releases(&place);
    let registry = Registry::start();
    let repository = registry.reference("nm/{name}");
    let publish = |source: &str| place.run(["publish", source, "--repository", &repository]);
    publish("oci:L1").exits(0);
    let tags = registry.tags("nm/nm");
    assert!(tags.keys().eq(["2.1", "2.1.0", "latest"]), "{tags:?}");
    // Tags that move do so out of a layout too; a version does not.
    publish("oci:L2").exits(0);
    let tags = registry.tags("nm/nm");
    let second = &entries(&place, "L2")["2.1.1"];
    assert_eq!([&tags["latest"], &tags["2.1"], &tags["2.1.1"]], [second; 3]);
    publish("oci:L1:latest").exits(0);
    let first = &entries(&place, "L1")["2.1.0"];
    assert_eq!(registry.tags("nm/nm")["latest"], *first);
    place
        .run([
            "publish",
            "oci:L2:2.1.1",
            "--repository",
            &repository,
            "-t",
            "2.1.0",
        ])
        .exits(6)
        .says("names another artifact already");
}

#[test]
fn all_tags_of_an_artifact_are_looked_at_together() {
    let place = Place::new();
    releases(&place);
    let registry = Registry::start();
    let repository = registry.reference("nm/app");
    let publish = |source: &str, more: &[&str]| {
        place.run([&["publish", source, "--repository", &repository], more].concat())
    };
    let done = publish("oci:L1", &[]).exits(0);
    assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);
    publish("oci:L2", &[]).exits(0);
    // Its version is there: the old one takes nothing back.
    publish("oci:L1", &["--skip-existing"]).exits(0);
    let second = &entries(&place, "L2")["2.1.1"];
    let tags = registry.tags("nm/app");
    assert_eq!([&tags["latest"], &tags["2.1"]], [second; 2]);
    // One that is taken keeps all from being set.
    let other = Registry::start();
    let repository = other.reference("nm/app");
    let taken = [
        "publish",
        "oci:L2:2.1.1",
        "--repository",
        &repository,
        "-t",
        "2.1.0",
    ];
    place.run(taken).exits(0);
    place
        .run(["publish", "oci:L1", "--repository", &repository])
        .exits(6);
    assert!(other.tags("nm/app").keys().eq(["2.1.0"]));
}

#[test]
fn without_a_tag_it_is_latest() {
    let place = Place::new();
    releases(&place);
    place
        .run(["publish", "oci:L2", "--oci-layout", "L1"])
        .exits(0);
    let all = entries(&place, "L1");
    assert!(all.keys().eq(["2.1", "2.1.0", "2.1.1", "latest"]));
    place.run(["pull", "oci:L1", "-o", "out.wasm"]).exits(0);
    let read = |name: &str| fs::read(place.join(name)).unwrap();
    assert_eq!(read("out.wasm"), {
        place
            .run(["pull", "oci:L1:2.1.1", "-o", "2.1.1.wasm"])
            .exits(0);
        read("2.1.1.wasm")
    });
    // What is taken is said without trying.
    let taken = [
        "publish",
        "1.wasm",
        "--as-version",
        "2.1.1",
        "--oci-layout",
        "L1",
    ];
    place
        .run([&taken[..], &["--dry-run"]].concat())
        .exits(6)
        .says("--force");
    place
        .run([&taken[..], &["--dry-run", "--force"]].concat())
        .exits(0);
    assert_eq!(entries(&place, "L1"), all);
    // Where there is none, the tags are named.
    for version in ["1.0.0", "1.1.0"] {
        let file = [
            "publish",
            if version == "1.0.0" {
                "1.wasm"
            } else {
                "2.wasm"
            },
        ];
        let more = ["--as-version", version, "--oci-layout", "L3"];
        place.run([&file[..], &more].concat()).exits(0);
    }
    place
        .run(["pull", "oci:L3", "-o", "none.wasm"])
        .exits(6)
        .says("it has 1.0.0, 1.1.0");
}

#[test]
fn a_file_without_a_version_fills_no_version_in() {
    let place = Place::new();
    place.write("a.wasm", module(1000, 1));
    for pattern in ["{version}", "v{major}"] {
        place
            .run(["publish", "a.wasm", "--oci-layout", "out", "--tag", pattern])
            .exits(2)
            .says(pattern)
            .says("--as-version");
    }
    assert!(!place.join("target").exists() && !place.join("out").exists());
    place
        .run([
            "publish",
            "a.wasm",
            "--oci-layout",
            "out",
            "--tag",
            "{name}-x",
        ])
        .exits(0);
    assert!(entries(&place, "out").keys().eq(["a-x"]));
    let wrong = ["--as-version", "1.0.0", "--tag", "v{version}+x"];
    place
        .run([&["publish", "a.wasm", "--oci-layout", "out"], &wrong[..]].concat())
        .exits(2)
        .says("the tag pattern `v{version}+x` makes");
}

#[test]
fn a_repository_that_is_missing_is_named_where_it_would_count() {
    let place = Place::new();
    workspace(&place, "repository = \"registry.example/ws/{name}\"");
    place.write("a.wasm", module(1000, 1));
    let cargo_toml = "[package.metadata.edgepack.publish]";
    place
        .run(["publish", "a.wasm"])
        .exits(2)
        .says("--manifest-path")
        .says_not(cargo_toml);
    // It does help.
    place
        .run([
            "publish",
            "a.wasm",
            "--manifest-path",
            "alpha/Cargo.toml",
            "--dry-run",
        ])
        .exits(0)
        .says("registry.example/ws/a");
    place
        .run(["publish", "oci:target/edgepack/oci"])
        .exits(2)
        .says("--repository")
        .says_not(cargo_toml)
        .says_not("--manifest-path");
    workspace(&place, "");
    place
        .run(["publish", "--workspace"])
        .exits(2)
        .says(cargo_toml);
}

#[test]
fn mistakes_are_named_and_passwords_are_not() {
    let place = Place::new();
    workspace(&place, "tags = []");
    place
        .run([
            "publish",
            "--workspace",
            "--repository",
            "registry.example/{name}",
        ])
        .exits(2)
        .says("the list of tags is empty");
    place.write("a.wasm", module(1000, 1));
    for repository in [
        "user:hunter2@registry.example/x",
        "user:hunter2@registry.example/{nmae}",
    ] {
        place
            .run(["publish", "a.wasm", "--repository", repository])
            .exits(2)
            .says("--password-stdin")
            .says_not("hunter2");
    }
    let long = format!("registry.example/{}", "a".repeat(300));
    place
        .run(["publish", "a.wasm", "--repository", &long])
        .exits(2)
        .says("the path is too long");
    // Other things are called so too.
    place.write("alpha/index.json", "[]");
    place
        .run(["publish", "alpha", "--repository", "registry.example/x"])
        .exits(2)
        .says("cargo edgepack publish --manifest-path alpha/Cargo.toml");
    place
        .run(["publish", "a.wasm", "--oci-layout", "out"])
        .exits(0);
    place
        .run(["publish", "out", "--repository", "registry.example/x"])
        .exits(2)
        .says("cargo edgepack publish oci:out");
    let done = place
        .run(["pull", "oci:out", "-o", "-", "--message-format", "json"])
        .exits(2)
        .says("stdout");
    assert_eq!(done.stdout, "");
}
