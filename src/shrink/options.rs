//! What shrinking is told to do, and the words for it in configuration, flags and
//! variables.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;
use wasmparser::WasmFeatures;

use super::level::{Level, Measure};
use super::recipe::{LOWER_SIGN_EXT, Recipe};
use crate::error::{Error, did_you_mean};
use crate::wasm::proposals::Proposals;

/// Custom sections that are kept where the configuration names none: what hosts,
/// linkers and scanners read. A `*` stands for any run of characters.
pub const DEFAULT_KEEP_SECTIONS: &[&str] = &[
    // Who made it, and from which crates: scanners read these.
    "producers",
    ".dep-v0",
    // What a core module needs to become a component.
    "component-type",
    "component-type:*",
    // Dynamic linking.
    "dylink.0",
    // Read by the hosts that contracts and canisters run on.
    "contractspecv0",
    "contractmetav0",
    "contractenvmetav0",
    "icp:*",
    "runtime_version",
    "runtime_apis",
    // Written by `kwctl annotate`.
    "io.kubewarden.metadata",
];

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How much effort.
    pub level: Level,
    /// What counts as small.
    pub optimize_for: Measure,
    /// Names of the custom sections to keep.
    pub keep_sections: Vec<String>,
    /// Patterns over the names of exports to keep; all where there is none.
    pub keep_exports: Option<Vec<String>>,
    /// Imports that are answered inside the module.
    pub stub_imports: Vec<Stub>,
    /// Proposals that the result must do without.
    pub lower: Vec<Lowering>,
    /// Proposals that the result may use although the input does not.
    pub allow_proposals: Vec<Proposal>,
    /// What the optimiser may take for granted.
    pub assume: Vec<Assumption>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            level: Level::Default,
            optimize_for: Measure::Raw,
            keep_sections: DEFAULT_KEEP_SECTIONS
                .iter()
                .map(|s| (*s).to_owned())
                .collect(),
            keep_exports: None,
            stub_imports: Vec::new(),
            lower: Vec::new(),
            allow_proposals: Vec::new(),
            assume: Vec::new(),
        }
    }
}

impl Options {
    /// Whether they change what the binary offers or asks for, so that the input
    /// cannot ship in place of the result.
    #[must_use]
    pub fn change_the_interface(&self) -> bool {
        self.keep_exports.is_some() || !self.stub_imports.is_empty() || !self.lower.is_empty()
    }
}

impl Options {
    /// Whether they go together.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where nothing may change and something has to.
    pub fn check(&self) -> Result<(), Error> {
        if self.level == Level::Off && self.change_the_interface() {
            return Err(Error::Usage {
                message: "shrink.keep-exports, shrink.stub-imports and shrink.lower change the bytes, and shrink.level is off".into(),
                hint: Some("use --level fast, or leave them out".into()),
            });
        }
        Ok(())
    }
}

/// What a stub does when it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It traps.
    Trap,
    /// It returns this number.
    Value(i64),
}

/// An import that is answered inside the module: `MODULE.FIELD`, `MODULE.FIELD=trap`
/// or `MODULE.FIELD=NUMBER`.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Stub {
    /// A pattern over `MODULE.FIELD`.
    pub import: String,
    /// What happens on a call.
    pub answer: Answer,
}

impl FromStr for Stub {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (import, answer) = match text.rsplit_once('=') {
            None => (text, Answer::Trap),
            Some((import, "trap")) => (import, Answer::Trap),
            Some((import, number)) => {
                let value = number.parse().map_err(|_| {
                    format!("`{text}`: what stands behind `=` is `trap` or a number")
                })?;
                (import, Answer::Value(value))
            }
        };
        if !import.contains('.') {
            return Err(format!(
                "`{text}` is no import: write MODULE.FIELD, such as wasi_snapshot_preview1.random_get"
            ));
        }
        Ok(Stub {
            import: import.to_owned(),
            answer,
        })
    }
}

/// A proposal that is taken out of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Lowering {
    /// `sign-extension`: its instructions become shifts.
    SignExt,
    /// `saturating-float-to-int`: its instructions become calls of functions.
    SaturatingFloatToInt,
    /// `bulk-memory`: copies and fills of memory become calls of functions.
    BulkMemory,
}

impl Lowering {
    /// Every lowering with its name.
    pub const ALL: [(&'static str, Lowering); 3] = [
        ("sign-ext", Lowering::SignExt),
        ("saturating-float-to-int", Lowering::SaturatingFloatToInt),
        ("bulk-memory", Lowering::BulkMemory),
    ];

    /// Names that other tools have for them.
    const OTHERS: [(&'static str, Lowering); 3] = [
        ("sign-extension", Lowering::SignExt),
        ("nontrapping-float-to-int", Lowering::SaturatingFloatToInt),
        ("nontrapping-fptoint", Lowering::SaturatingFloatToInt),
    ];

    /// The name, as it is written in config and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Lowering::SignExt => "sign-ext",
            Lowering::SaturatingFloatToInt => "saturating-float-to-int",
            Lowering::BulkMemory => "bulk-memory",
        }
    }

    /// What the result does without.
    #[must_use]
    pub fn proposal(self) -> Proposals {
        Proposals::of(match self {
            Lowering::SignExt => WasmFeatures::SIGN_EXTENSION,
            Lowering::SaturatingFloatToInt => WasmFeatures::SATURATING_FLOAT_TO_INT,
            Lowering::BulkMemory => WasmFeatures::BULK_MEMORY,
        })
    }

    /// How Binaryen does it; `None` where [`super::lower`] does.
    #[must_use]
    pub fn recipe(self) -> Option<&'static Recipe> {
        match self {
            Lowering::SignExt => Some(&LOWER_SIGN_EXT),
            Lowering::SaturatingFloatToInt | Lowering::BulkMemory => None,
        }
    }
}

impl FromStr for Lowering {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let other = Self::OTHERS.iter().find(|(name, _)| *name == text);
        other.map_or_else(
            || named("lowering", &Self::ALL, text),
            |(_, lowering)| Ok(*lowering),
        )
    }
}

/// A proposal, by the name that `inspect` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Proposal(pub Proposals);

impl FromStr for Proposal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(proposal) = Proposals::named(text) {
            return Ok(Proposal(proposal));
        }
        if let Ok(lowering) = text.parse::<Lowering>() {
            return Ok(Proposal(lowering.proposal()));
        }
        let near = did_you_mean(text, Proposals::all().names())
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Err(format!("unknown proposal `{text}`{near}"))
    }
}

/// Something that the optimiser takes for granted, and that it cannot know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Assumption {
    /// No trap is ever reached.
    TrapsNeverHappen,
    /// Nothing is kept in the first kilobyte of memory.
    LowMemoryUnused,
    /// Floating-point numbers may be computed with as if they were real numbers.
    FastMath,
}

impl Assumption {
    /// Every assumption with its name, which is also that of `wasm-opt`'s flag.
    pub const ALL: [(&'static str, Assumption); 3] = [
        ("traps-never-happen", Assumption::TrapsNeverHappen),
        ("low-memory-unused", Assumption::LowMemoryUnused),
        ("fast-math", Assumption::FastMath),
    ];

    /// The name, as it is written in config and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Assumption::TrapsNeverHappen => "traps-never-happen",
            Assumption::LowMemoryUnused => "low-memory-unused",
            Assumption::FastMath => "fast-math",
        }
    }
}

impl FromStr for Assumption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        named("assumption", &Self::ALL, text)
    }
}

fn named<T: Copy>(what: &str, all: &[(&'static str, T)], text: &str) -> Result<T, String> {
    if let Some((_, value)) = all.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    Err(format!(
        "unknown {what} `{text}`, expected one of {}",
        names.join(", ")
    ))
}

/// Reads a value as flags write it.
macro_rules! from_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

from_text!(Stub, Lowering, Proposal, Assumption);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_that_is_documented_is_the_default() {
        let text = include_str!("../../docs/config.md");
        let (_, list) = text
            .split_once("shrink.keep-sections = [\n    \"producers\", \".dep-v0\",")
            .unwrap();
        let (list, _) = list.split_once("\n]").unwrap();
        let quoted = list.split('"').skip(1).step_by(2);
        let all: Vec<&str> = ["producers", ".dep-v0"].into_iter().chain(quoted).collect();
        assert_eq!(all, DEFAULT_KEEP_SECTIONS);
    }

    #[test]
    fn stubs_as_people_write_them() {
        let of = |text: &str| text.parse::<Stub>().map(|s| (s.import, s.answer));
        assert_eq!(of("a.b"), Ok(("a.b".into(), Answer::Trap)));
        assert_eq!(of("a.b=trap"), Ok(("a.b".into(), Answer::Trap)));
        assert_eq!(of("a.b=52"), Ok(("a.b".into(), Answer::Value(52))));
        assert_eq!(of("a.*=-1"), Ok(("a.*".into(), Answer::Value(-1))));
        for wrong in ["b", "a.b=", "a.b=nosys", ""] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_read_back() {
        for (name, lowering) in Lowering::ALL {
            assert_eq!((name.parse(), lowering.name()), (Ok(lowering), name));
        }
        for (name, lowering) in Lowering::OTHERS {
            assert_eq!(name.parse(), Ok(lowering));
        }
        for (name, assumption) in Assumption::ALL {
            assert_eq!((name.parse(), assumption.name()), (Ok(assumption), name));
        }
        assert_eq!("simd".parse::<Proposal>().unwrap().0.names(), ["simd"]);
        let error = "simdd".parse::<Proposal>().unwrap_err();
        assert!(error.contains("did you mean `simd`?"), "{error}");
    }
}
