//! How much effort goes into shrinking, and what counts as small: the words for
//! it in configuration, flags and variables.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::did_you_mean;

/// How much effort goes into shrinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The bytes stay as they are.
    Off,
    /// Strip, and one quick optimisation: for inner loops.
    Fast,
    /// At least what `wasm-opt -Oz` does.
    #[default]
    Default,
    /// A search over ways to make it smaller.
    Max,
}

impl Level {
    /// Every level with its name.
    pub const ALL: [(&'static str, Level); 4] = [
        ("off", Level::Off),
        ("fast", Level::Fast),
        ("default", Level::Default),
        ("max", Level::Max),
    ];

    /// The name, as it is written in config and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_of(&Self::ALL, &self)
    }
}

/// Which size counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// That of the file as it is.
    #[default]
    Raw,
    /// That after gzip at its highest level.
    Gzip,
    /// That after zstd.
    Zstd,
}

impl Measure {
    /// Every measure with its name.
    pub const ALL: [(&'static str, Measure); 3] = [
        ("raw", Measure::Raw),
        ("gzip", Measure::Gzip),
        ("zstd", Measure::Zstd),
    ];

    /// The name, as it is written in config and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_of(&Self::ALL, &self)
    }

    /// The size of `bytes` in this measure.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> u64 {
        match self {
            Measure::Raw => bytes.len() as u64,
            Measure::Gzip => crate::size::gzip_size(bytes),
            Measure::Zstd => crate::size::zstd_size(bytes),
        }
    }
}

fn name_of<T: PartialEq>(all: &[(&'static str, T)], value: &T) -> &'static str {
    all.iter()
        .find(|(_, other)| other == value)
        .map_or("", |(name, _)| name)
}

/// The value that `text` names, or a message that lists them all.
fn parse<T: Copy>(what: &str, all: &[(&'static str, T)], text: &str) -> Result<T, String> {
    if let Some((_, value)) = all.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let near = did_you_mean(text, names.iter().copied())
        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    Err(format!(
        "unknown {what} `{text}`, expected one of {}{near}",
        names.join(", ")
    ))
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse("level", &Self::ALL, text)
    }
}

impl std::str::FromStr for Measure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse("measure", &Self::ALL, text)
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Measure {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for (name, level) in Level::ALL {
            assert_eq!(name.parse(), Ok(level));
            assert_eq!(level.name(), name);
        }
        for (name, measure) in Measure::ALL {
            assert_eq!(name.parse(), Ok(measure));
            assert_eq!(measure.name(), name);
        }
        let error = "gzp".parse::<Measure>().unwrap_err();
        assert!(error.contains("did you mean `gzip`?"), "{error}");
    }

    #[test]
    fn repetition_counts_less_once_compressed() {
        let text = b"the quick brown fox ".repeat(1000);
        assert_eq!(Measure::Raw.of(&text), 20_000);
        assert!(Measure::Gzip.of(&text) < 500);
        assert!(Measure::Zstd.of(&text) < 500);
    }
}
