//! Attestations: statements about an artifact that are signed, and what they have to
//! hold to be of use.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::refusal::Refusal;
use super::statement::{MAX_ATTESTATION, Wanted};
use crate::error::{Error, did_you_mean};
use crate::output;
use crate::registry::failure::printable;
use crate::{provenance, sbom};

/// So deep is what can be read inside a statement, of which it is one level.
const MAX_DEPTH: usize = 126;

/// A predicate above this size makes a bundle that nobody reads: there it is in Base64,
/// beside a signature, a certificate and what a log says.
const MAX_PREDICATE: u64 = MAX_ATTESTATION / 4 * 3 - (64 << 10);

/// What is attested, or is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Attestation {
    /// The type of the predicate: a URI.
    pub predicate_type: String,
    /// The predicate.
    pub predicate: Value,
}

impl Attestation {
    /// Reads a predicate from a file of JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Signature`] where it is no such predicate.
    pub fn read(predicate_type: &str, file: &Path) -> Result<Self, Error> {
        let wrong = |why: String, hint: Option<&str>| Error::Signature {
            message: format!("`{}` cannot be attested: {why}", file.display()),
            hint: hint.map(str::to_owned),
        };
        let bytes = output::read_small(file, MAX_ATTESTATION)?;
        let predicate: Value = serde_json::from_slice(&bytes)
            .map_err(|e| wrong(format!("it is no JSON: {e}"), None))?;
        is_kept(&bytes, &predicate).map_err(|why| wrong(why.into(), None))?;
        let held = serde_json::to_vec(&predicate).map_or(0, |json| json.len() as u64);
        if held > MAX_PREDICATE {
            return Err(wrong(
                format!("of its {held} bytes {MAX_PREDICATE} are read when verifying"),
                None,
            ));
        }
        if predicate.get("_type").is_some() && predicate.get("predicate").is_some() {
            return Err(wrong(
                "it is a whole statement".into(),
                Some("a file with what stands in its `predicate` alone is needed"),
            ));
        }
        let wanted = Wanted::of_type(predicate_type);
        if let Some(kind) = wanted.kind() {
            kind.check(&predicate)
                .map_err(|refusal| wrong(refusal.to_string(), None))?;
        }
        Ok(Attestation {
            predicate_type: predicate_type.to_owned(),
            predicate,
        })
    }
}

/// Whether what was read says what its JSON says, and can be read again inside a statement.
///
/// # Errors
///
/// Why not.
fn is_kept(json: &[u8], read: &Value) -> Result<(), &'static str> {
    let (mut depth, mut names, mut rest) = (0_usize, 0_usize, json);
    while let [first, behind @ ..] = rest {
        rest = behind;
        match first {
            b'"' => {
                while let [c, behind @ ..] = rest {
                    rest = match (c, behind) {
                        (b'\\', [_, behind @ ..]) => behind,
                        _ => behind,
                    };
                    if *c == b'"' {
                        break;
                    }
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b':' => names += 1,
            b'-' | b'0'..=b'9' => {
                let is_number = |c: &u8| c.is_ascii_alphanumeric() || b"+-.".contains(c);
                let end = rest.iter().position(|c| !is_number(c));
                let (digits, behind) = rest.split_at(end.unwrap_or(rest.len()));
                let whole = digits.iter().all(u8::is_ascii_digit);
                if whole && !fits(*first, digits) {
                    return Err("it has a whole number of more than 64 bits");
                }
                rest = behind;
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err("it is nested too deeply");
        }
    }
    if names != count_names(read) {
        return Err("it has a name twice in one object");
    }
    Ok(())
}

/// Whether a whole number is kept as it is.
fn fits(first: u8, digits: &[u8]) -> bool {
    let digits = String::from_utf8_lossy(digits);
    let text = format!("{}{digits}", char::from(first));
    text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok()
}

fn count_names(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.len() + map.values().map(count_names).sum::<usize>(),
        Value::Array(list) => list.iter().map(count_names).sum(),
        _ => 0,
    }
}

/// The attestations that have short names.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A CycloneDX SBOM.
    Sbom,
    /// SLSA provenance.
    Provenance,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Sbom, Kind::Provenance];

    /// As it is written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sbom => "sbom",
            Kind::Provenance => "provenance",
        }
    }

    /// The type of the predicate.
    #[must_use]
    pub fn predicate_type(self) -> &'static str {
        match self {
            Kind::Sbom => sbom::PREDICATE_TYPE,
            Kind::Provenance => provenance::PREDICATE_TYPE,
        }
    }

    /// Whether a predicate is what its type says, as far as those who read it rely on.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`].
    pub fn check(self, predicate: &Value) -> Result<(), Refusal> {
        let missing = |what: &str| Refusal::Malformed {
            kind: self.name(),
            why: what.to_owned(),
        };
        let text = |pointer: &str| predicate.pointer(pointer).and_then(Value::as_str);
        match self {
            Kind::Sbom => {
                if text("/bomFormat") != Some("CycloneDX") {
                    return Err(missing("its bomFormat is not CycloneDX"));
                }
                if text("/specVersion").is_none() {
                    return Err(missing("it has no specVersion"));
                }
                // One that has none may leave the list out.
                if predicate
                    .get("components")
                    .is_some_and(|list| !list.is_array())
                {
                    return Err(missing("its components are no list"));
                }
            }
            Kind::Provenance => {
                for (pointer, name) in [
                    ("/buildDefinition/buildType", "buildDefinition.buildType"),
                    ("/runDetails/builder/id", "runDetails.builder.id"),
                ] {
                    if text(pointer).is_none_or(str::is_empty) {
                        return Err(missing(&format!("it has no {name}")));
                    }
                }
            }
        }
        Ok(())
    }

    /// What is told of a predicate that was checked: names and values.
    #[must_use]
    pub fn facts(self, predicate: &Value) -> Vec<(&'static str, Value)> {
        let text = |pointer: &str| {
            let value = predicate.pointer(pointer)?.as_str()?;
            Some(Value::from(printable(value)))
        };
        let facts = match self {
            Kind::Sbom => vec![
                ("serial_number", text("/serialNumber")),
                (
                    "components",
                    predicate["components"].as_array().map(|c| c.len().into()),
                ),
            ],
            Kind::Provenance => vec![
                ("build_type", text("/buildDefinition/buildType")),
                ("builder", text("/runDetails/builder/id")),
                (
                    "source",
                    text("/buildDefinition/externalParameters/source/uri").or_else(|| {
                        text("/buildDefinition/externalParameters/workflow/repository")
                    }),
                ),
                (
                    "commit",
                    text("/buildDefinition/externalParameters/source/digest/gitCommit").or_else(
                        || text("/buildDefinition/resolvedDependencies/0/digest/gitCommit"),
                    ),
                ),
            ],
        };
        facts
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Kind::ALL.map(Kind::name);
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| match did_you_mean(text, names) {
                Some(near) => format!("`{text}` is no attestation; did you mean `{near}`?"),
                None => format!("`{text}` is no attestation: sbom and provenance are"),
            })
    }
}

/// The type of a predicate: `sbom`, `provenance`, cosign's short names, or a URI.
///
/// # Errors
///
/// Words for whoever wrote it.
pub fn predicate_type(text: &str) -> Result<String, String> {
    // <https://github.com/sigstore/cosign/blob/main/doc/cosign_attest.md>
    let short = match text {
        "sbom" | "cyclonedx" => sbom::PREDICATE_TYPE,
        "provenance" | "slsaprovenance1" => provenance::PREDICATE_TYPE,
        "slsaprovenance" | "slsaprovenance02" => "https://slsa.dev/provenance/v0.2",
        "spdx" | "spdxjson" => "https://spdx.dev/Document",
        "link" => "https://in-toto.io/Link/v1",
        "vuln" => "https://cosign.sigstore.dev/attestation/vuln/v1",
        "openvex" => "https://openvex.dev/ns",
        // The parser leaves out what must not be shown.
        uri if reqwest::Url::parse(uri).is_ok()
            && !uri.contains(|c: char| c.is_control() || c.is_whitespace()) =>
        {
            uri
        }
        _ => {
            return Err(format!(
                "`{}` is no type of an attestation: write sbom, provenance, or a URI",
                printable(text)
            ));
        }
    };
    if short == super::statement::SIGNATURE {
        return Err(format!("`{text}` is the type of a signature"));
    }
    Ok(short.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn predicates_are_looked_at() {
        let good = json!({"bomFormat": "CycloneDX", "specVersion": "1.5", "components": []});
        assert_eq!(Kind::Sbom.check(&good), Ok(()));
        let short = json!({"bomFormat": "CycloneDX", "specVersion": "1.5"});
        assert_eq!(Kind::Sbom.check(&short), Ok(()));
        for bad in [
            json!({}),
            json!("CycloneDX"),
            json!({"bomFormat": "SPDX", "specVersion": "1.5", "components": []}),
            json!({"bomFormat": "CycloneDX", "components": []}),
            json!({"bomFormat": "CycloneDX", "specVersion": "1.5", "components": {}}),
        ] {
            assert!(Kind::Sbom.check(&bad).is_err(), "{bad}");
            assert!(Kind::Provenance.check(&bad).is_err(), "{bad}");
        }
        let good = json!({
            "buildDefinition": {"buildType": "https://b.example"},
            "runDetails": {"builder": {"id": "https://b.example"}},
        });
        assert_eq!(Kind::Provenance.check(&good), Ok(()));
    }

    #[test]
    fn what_is_read_is_what_the_file_says() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for (text, words) in [
            (
                r#"{"a\"\\": ":{[\"1", "b": {"a\"\\": [-1.5e40, true]}}"#,
                "",
            ),
            (
                r#"{"a": [0, -0, 18446744073709551615, -9223372036854775808]}"#,
                "",
            ),
            (r#"{"a": [0.1, 1e3, 12345678901234567890123.0]}"#, ""),
            (r#"{"a": [18446744073709551616]}"#, "64 bits"),
            (r#"{"a": -9223372036854775809}"#, "64 bits"),
            (r#"[{"a": 1, "b": {}, "a": 1}]"#, "twice"),
            (&nested(126), ""),
            (&nested(127), "deeply"),
        ] {
            let Ok(read) = serde_json::from_str(text) else {
                panic!("{text}");
            };
            let error = is_kept(text.as_bytes(), &read).err().unwrap_or_default();
            assert!(
                error.contains(words) && error.is_empty() == words.is_empty(),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn types_have_short_names() {
        assert_eq!("sbom".parse(), Ok(Kind::Sbom));
        assert!(
            "sbmo"
                .parse::<Kind>()
                .unwrap_err()
                .contains("did you mean `sbom`")
        );
        assert_eq!(
            predicate_type("cyclonedx").as_deref(),
            Ok(sbom::PREDICATE_TYPE)
        );
        assert!(predicate_type("https://x.example/a").is_ok());
        for none in [
            "nonsense",
            "https://x.example/\u{1b}[31m",
            "https://x.example/a\n",
        ] {
            let error = predicate_type(none).unwrap_err();
            assert!(!error.contains(char::is_control), "{error}");
        }
        assert!(predicate_type(super::super::statement::SIGNATURE).is_err());
    }
}
