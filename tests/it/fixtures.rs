//! The fixtures do the same before and after shrinking.

use std::path::Path;

use crate::support::engine::{
    Engine, Outcome, Value, call_core, call_http, instantiate, run_wasip1,
};
use crate::support::tool::Place;

/// Builds a fixture as it is, and shrunk at each level; the module before, and those
/// after.
fn before_and_after(fixture: &str, name: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    let place = Place::new();
    let folder = place.fixture(fixture);
    let manifest = folder.join("Cargo.toml");
    let build = |extra: &[&str]| {
        let mut args = vec!["build", "--workspace", "--manifest-path"];
        args.push(manifest.to_str().unwrap());
        args.extend(extra);
        place.run(args).exits(0);
        std::fs::read(folder.join("target/edgepack").join(format!("{name}.wasm"))).unwrap()
    };
    let before = build(&["--no-shrink"]);
    let after = ["fast", "default", "max"].map(|level| build(&["--level", level]));
    let sizes = [&before, &after[0], &after[1], &after[2]].map(Vec::len);
    assert!(
        sizes[1] < sizes[0] && sizes.is_sorted_by(|a, b| a >= b),
        "{sizes:?}"
    );
    (before, after.into())
}

const ROWS: &str = r#"{"path":"/a","status":200,"ms":12}
{"path":"/b","status":404,"ms":3}
{"path":"/a","status":200,"ms":8.5,"note":"ü \"quoted\""}

{"path":"/c","status":500}
"#;

#[test]
fn transform() {
    let (before, after) = before_and_after("transform", "transform");
    let cases: &[(&[&str], &str)] = &[
        (&[], ROWS),
        (&["--where", "status=200", "--select", "path,ms"], ROWS),
        (
            &[
                "--where",
                "ms>=8",
                "--group-by",
                "path",
                "--count",
                "--sum",
                "ms",
            ],
            ROWS,
        ),
        (&[], "{\"a\":1}\nnot json\n{\"b\":2}\n"),
        (&["--nonsense"], ROWS),
        (&[], ""),
    ];
    for (args, stdin) in cases {
        for engine in Engine::ALL {
            let one = run_wasip1(engine, &before, args, stdin.as_bytes());
            for after in &after {
                let two = run_wasip1(engine, after, args, stdin.as_bytes());
                assert_eq!(one, two, "{engine:?} {args:?}");
            }
        }
    }
    let grouped = run_wasip1(
        Engine::Wasmtime,
        &after[1],
        &["--where", "status=200", "--group-by", "path", "--count"],
        ROWS.as_bytes(),
    );
    assert_eq!(
        String::from_utf8_lossy(&grouped.stdout),
        "{\"path\":\"/a\",\"count\":2}\n"
    );
}

#[test]
fn http() {
    let (before, after) = before_and_after("http", "http-hello");
    for (method, path, body) in [
        ("GET", "/", ""),
        ("POST", "/echo?x=1", "some body"),
        ("GET", "/missing", ""),
        ("PUT", "/ü", "x"),
    ] {
        let path = path.replace('ü', "%C3%BC");
        let one = call_http(&before, method, &path, body.as_bytes()).unwrap();
        assert_eq!(one.status, if path == "/missing" { 404 } else { 200 });
        for after in &after {
            let two = call_http(after, method, &path, body.as_bytes()).unwrap();
            assert_eq!(
                (one.status, &one.headers, &one.body),
                (two.status, &two.headers, &two.body)
            );
        }
    }
}

#[test]
fn plugin() {
    let (before, after) = before_and_after("plugin", "plugin");
    let calls: Vec<(&str, Vec<Value>)> = vec![
        ("gcd", vec![48_i64.into(), 36_i64.into()]),
        ("gcd", vec![i64::MIN.into(), 6_i64.into()]),
        ("percent", vec![1.into(), 8.into()]),
        ("percent", vec![1.into(), 0.into()]),
        (
            "distance",
            vec![0.0.into(), 0.0.into(), 3.0.into(), 4.0.into()],
        ),
    ];
    let calls: Vec<(&str, &[Value])> = calls
        .iter()
        .map(|(name, args)| (*name, args.as_slice()))
        .collect();
    for engine in Engine::ALL {
        let one: Vec<Outcome> = call_core(engine, &before, &calls);
        for after in &after {
            assert_eq!(one, call_core(engine, after, &calls), "{engine:?}");
            assert_eq!(
                slugify(engine, &before, "Héllo, Wörld!  2026"),
                slugify(engine, after, "Héllo, Wörld!  2026")
            );
        }
    }
    assert!(slugify(Engine::Wasmtime, &after[1], "Hello, World!").contains("hello-world"));
}

/// Passes a text through the plugin's memory.
fn slugify(engine: Engine, module: &[u8], text: &str) -> String {
    let mut plugin = instantiate(engine, module).unwrap();
    let len = i32::try_from(text.len()).unwrap();
    let Value::I32(at) = plugin.call("plugin_alloc", &[len.into()]).unwrap()[0] else {
        panic!()
    };
    plugin.write(usize::try_from(at).unwrap(), text.as_bytes());
    let Value::I64(packed) = plugin.call("slugify", &[at.into(), len.into()]).unwrap()[0] else {
        panic!()
    };
    let packed = packed.cast_unsigned();
    let (at, len) = (
        usize::try_from(packed >> 32).unwrap(),
        usize::try_from(packed & 0xffff_ffff).unwrap(),
    );
    String::from_utf8(plugin.read(at, len)).unwrap()
}

#[test]
fn workspace() {
    let (before, after) = before_and_after("workspace", "report");
    for stdin in ["", "one\ntwo\n", ROWS] {
        for engine in Engine::ALL {
            let one = run_wasip1(engine, &before, &[], stdin.as_bytes());
            for after in &after {
                assert_eq!(one, run_wasip1(engine, after, &[], stdin.as_bytes()));
            }
        }
    }
    let (before, after) = before_and_after("workspace", "filter");
    for engine in Engine::ALL {
        let calls: &[(&str, &[Value])] = &[
            ("line", &[]),
            ("keep", &[Value::I32(0)]),
            ("keep", &[Value::I32(10)]),
        ];
        let one = call_core(engine, &before, calls);
        for after in &after {
            assert_eq!(one, call_core(engine, after, calls));
        }
    }
}

#[test]
fn the_readme_shows_what_is_printed() {
    let readme =
        std::fs::read_to_string(crate::support::tool::repository().join("README.md")).unwrap();
    let place = Place::new();
    let folder = place.fixture("transform");
    let manifest = folder.join("Cargo.toml");
    let run = place
        .run([Path::new("build"), Path::new("--manifest-path"), &manifest])
        .exits(0);
    // Times differ from run to run, and the digest with the commit; the rest must not.
    for line in run
        .stderr
        .lines()
        .filter(|l| l.contains("core module") || l.trim_start().starts_with("size "))
    {
        assert!(
            readme.contains(line.trim()),
            "README.md does not show: {line}"
        );
    }
}
