//! JSON that others wrote: what is wrong with it is told in the words of JSON, whatever the
//! types are called that it is read into.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::registry::failure::printable;

/// Reads a JSON object.
///
/// # Errors
///
/// What is wrong with it, fit to be printed.
pub fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err("it is no JSON object".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let words = error.to_string();
        printable(&match error.classify() {
            Category::Data => translated(&words),
            Category::Io | Category::Syntax | Category::Eof => words,
        })
    })
}

/// `invalid type: null, expected struct Manifest at line 1 column 4`, for people.
fn translated(words: &str) -> String {
    let Some((found, expected)) = words.rsplit_once(", expected ") else {
        return words.to_owned();
    };
    let (kind, place) = match expected.rfind(" at line ") {
        Some(at) => expected.split_at(at),
        None => (expected, ""),
    };
    let kind = match kind.split(' ').next().unwrap_or_default() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "i8" | "i16" | "i32" | "i64" | "f32" | "f64" => "a number",
        "struct" | "map" => "an object",
        "enum" | "variant" => "another value",
        _ => match kind {
            "a map" => "an object",
            "a sequence" => "a list",
            other => other,
        },
    };
    format!("{found}, expected {kind}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Index, Manifest};

    #[test]
    fn errors_name_no_types_of_ours() {
        let manifest = |rest: &str| {
            let text = format!(r#"{{"schemaVersion":2,"config":{rest}}}"#);
            object::<Manifest>(text.as_bytes()).unwrap_err()
        };
        for no_object in ["null", "[2]", " \n", "", "<html>", "\"{\""] {
            let error = object::<Manifest>(no_object.as_bytes()).unwrap_err();
            assert_eq!(error, "it is no JSON object", "{no_object}");
        }
        let config = r#"{"mediaType":"a","digest":"sha256:0","size":"1"}"#;
        for (error, says) in [
            (
                manifest("null"),
                "invalid type: null, expected an object at line 1",
            ),
            (manifest(config), "sha256"),
            (manifest(r#"{},"layers":{}"#), "missing field"),
            (
                object::<Manifest>(br#"{"schemaVersion":"x, expected u8"}"#).unwrap_err(),
                r#"invalid type: string "x, expected u8", expected a whole number at line 1 column 33"#,
            ),
            (
                object::<Index>(br#"{"schemaVersion":-1}"#).unwrap_err(),
                "invalid value: integer `-1`, expected a whole number",
            ),
            (
                object::<Index>(br#"{"schemaVersion":2,"manifests":[5]}"#).unwrap_err(),
                "expected an object",
            ),
            (
                object::<Index>(br#"{"schemaVersion":2,"#).unwrap_err(),
                "EOF while parsing",
            ),
        ] {
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
