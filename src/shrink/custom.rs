//! Custom sections: which go before the optimiser sees a module, and what is put back
//! around the result. Names follow their functions through the optimiser; what is
//! about code by its place holds for no other code.

use std::borrow::Cow;

use crate::wasm::interface::Patterns;
use crate::wasm::{CUSTOM_SECTION, Edit, Section, append_section, rewrite, sections};

/// The names of functions, of which the optimiser knows where they go.
pub const NAMES: &str = "name";
/// Sections that speak of code by its place: they hold for the code that they came with.
const OF_THE_CODE: &[&str] = &[".debug_*", "linking", "reloc.*", "metadata.code.*"];

/// A module without the custom sections that `is_kept` does not want: itself where
/// none goes.
pub fn without(
    bytes: &[u8],
    mut is_kept: impl FnMut(&Section<'_>) -> bool,
) -> Result<Cow<'_, [u8]>, wasmparser::Error> {
    let all = sections(bytes)?;
    let kept: Vec<bool> = all
        .iter()
        .map(|section| section.id != CUSTOM_SECTION || is_kept(section))
        .collect();
    if kept.iter().all(|kept| *kept) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut kept = kept.into_iter();
    let edited = rewrite::<wasmparser::Error>(bytes, |_| {
        Ok(if kept.next().unwrap_or(true) {
            Edit::Keep
        } else {
            Edit::Drop
        })
    })?;
    Ok(Cow::Owned(edited))
}

/// Puts the custom sections of `donor` around `module`: those that stood before
/// every other section in front (`dylink.0` has to be first), the rest behind. Those
/// that hold for the donor's code alone stay behind, and their names are pushed to
/// `dropped`.
pub fn with_custom_sections(
    module: Vec<u8>,
    donor: &[u8],
    dropped: &mut Vec<String>,
) -> Result<Vec<u8>, wasmparser::Error> {
    let donated = sections(donor)?;
    let of_the_code = Patterns::new(OF_THE_CODE);
    let front = donated.iter().take_while(|s| s.id == CUSTOM_SECTION);
    let front = front.count();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (place, section) in donated.iter().enumerate() {
        let name = section.name.unwrap_or_default();
        if section.id != CUSTOM_SECTION || name == NAMES {
            continue;
        }
        if of_the_code.cover(name) {
            let name = name.escape_debug();
            dropped.push(format!("`{name}`, which is about code that has changed"));
        } else if place < front {
            before.push(section);
        } else {
            after.push(section);
        }
    }
    if before.is_empty() && after.is_empty() {
        return Ok(module);
    }
    let (header, body) = module.split_at(module.len().min(8));
    let mut out = header.to_vec();
    for section in before {
        append_section(&mut out, section.id, section.payload());
    }
    out.extend_from_slice(body);
    for section in after {
        append_section(&mut out, section.id, section.payload());
    }
    Ok(out)
}
