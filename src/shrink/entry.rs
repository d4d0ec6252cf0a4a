//! What the cache holds for a core module, and whether it can have come of it: a key
//! cannot be checked against a result, and others may write to the cache too.

use crate::finding::{Code, Finding};
use crate::wasm::surface;

/// The outcome of a search.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// A smaller form, and the recipe that gave it.
    Module {
        /// Its name.
        recipe: String,
        /// The module.
        bytes: Vec<u8>,
    },
    /// The optimiser cannot read the module, for this reason.
    Unreadable(String),
    /// Nothing was smaller.
    Nothing,
}

impl Entry {
    /// The bytes to keep.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Entry::Module { recipe, bytes } => {
                // Names are short; one that is not would be cut, and is shown only.
                let name = &recipe.as_bytes()[..recipe.len().min(255)];
                let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
                [&[0, len], name, bytes].concat()
            }
            Entry::Unreadable(message) => [&[1], message.as_bytes()].concat(),
            Entry::Nothing => vec![2],
        }
    }

    /// What [`Self::encode`] made the bytes from.
    pub fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        match tag {
            0 => {
                let (len, rest) = rest.split_first()?;
                let (recipe, _) = rest.split_at_checked(usize::from(*len))?;
                let recipe = String::from_utf8_lossy(recipe).into_owned();
                // In place: modules are large.
                bytes.drain(..2 + usize::from(bytes[1]));
                Some(Entry::Module { recipe, bytes })
            }
            1 => Some(Entry::Unreadable(
                String::from_utf8_lossy(rest).into_owned(),
            )),
            2 if rest.is_empty() => Some(Entry::Nothing),
            _ => None,
        }
    }

    /// Why it cannot have come of this module; none where it can.
    pub fn departure(&self, bare: &[u8]) -> Option<String> {
        match self {
            Entry::Module { bytes, .. } => surface::departure(bare, bytes)
                .unwrap_or_else(|error| Some(format!("it does not parse: {error}"))),
            Entry::Unreadable(_) | Entry::Nothing => None,
        }
    }
}

/// Says that something in the cache was no form of the module.
pub(crate) fn mismatch(why: &str) -> Finding {
    Finding::new(
        Code::CacheMismatch,
        format!("a result in the cache is not of this module ({why}): it was removed, and the module was shrunk again"),
    )
    .with_hint(
        "somebody wrote to the cache who should not: see who can write to what `cargo edgepack cache --from` takes, \
         and clean this one with `cargo edgepack cache --clear`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back() {
        for entry in [
            Entry::Module {
                recipe: "smallest".into(),
                bytes: b"\0asm".to_vec(),
            },
            Entry::Unreadable("too new".into()),
            Entry::Nothing,
        ] {
            assert_eq!(Entry::decode(entry.encode()), Some(entry));
        }
        for broken in [&b""[..], &[0], &[0, 9, b'x'], &[2, 0], &[3]] {
            assert_eq!(Entry::decode(broken.to_vec()), None);
        }
    }
}
