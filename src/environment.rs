//! (IO) `EDGEPACK_*`: settings from the environment, between flags and configuration.
//!
//! An empty variable counts as unset: pipelines pass those where a user gave nothing.

use std::str::FromStr;

use crate::error::Error;
use crate::plan::Overrides;

/// `EDGEPACK_TARGET`: the compile target.
pub const TARGET: &str = "EDGEPACK_TARGET";
/// `EDGEPACK_PROFILE`: the cargo profile.
pub const PROFILE: &str = "EDGEPACK_PROFILE";
/// `EDGEPACK_SHRINK_LEVEL`: as `shrink.level`.
pub const SHRINK_LEVEL: &str = "EDGEPACK_SHRINK_LEVEL";
/// `EDGEPACK_SHRINK_KEEP_SECTIONS`: as `shrink.keep-sections`, separated by commas.
pub const SHRINK_KEEP_SECTIONS: &str = "EDGEPACK_SHRINK_KEEP_SECTIONS";
/// `EDGEPACK_CHECK_ALLOW_IMPORTS`: as `check.allow-imports`, separated by commas.
pub const CHECK_ALLOW_IMPORTS: &str = "EDGEPACK_CHECK_ALLOW_IMPORTS";
/// `EDGEPACK_BUDGET_RAW`: as `budget.raw`.
pub const BUDGET_RAW: &str = "EDGEPACK_BUDGET_RAW";
/// `EDGEPACK_BUDGET_GZIP`: as `budget.gzip`.
pub const BUDGET_GZIP: &str = "EDGEPACK_BUDGET_GZIP";
/// `EDGEPACK_PUBLISH_VARIANTS`: as `publish.variants`, separated by commas.
pub const PUBLISH_VARIANTS: &str = "EDGEPACK_PUBLISH_VARIANTS";

/// The value of a variable that is set to something.
///
/// # Errors
///
/// [`Error::Usage`] where it is no UTF-8.
pub fn text(name: &str) -> Result<Option<String>, Error> {
    match std::env::var(name) {
        Ok(value) if value.trim().is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Error::usage(format!("{name} is no UTF-8"))),
    }
}

fn parsed<T: FromStr<Err = String>>(name: &str) -> Result<Option<T>, Error> {
    text(name)?
        .map(|value| {
            value
                .trim()
                .parse()
                .map_err(|e| Error::usage(format!("{name}: {e}")))
        })
        .transpose()
}

fn list(name: &str) -> Result<Option<Vec<String>>, Error> {
    Ok(text(name)?.map(|value| {
        value
            .split(',')
            .map(|item| item.trim().to_owned())
            .collect()
    }))
}

/// What the environment says about shrinking, checking and packing.
///
/// # Errors
///
/// [`Error::Usage`] that names the variable whose value is wrong.
pub fn overrides() -> Result<Overrides, Error> {
    Ok(Overrides {
        level: parsed(SHRINK_LEVEL)?,
        keep_sections: list(SHRINK_KEEP_SECTIONS)?,
        allow_imports: list(CHECK_ALLOW_IMPORTS)?,
        budget_raw: parsed(BUDGET_RAW)?,
        budget_gzip: parsed(BUDGET_GZIP)?,
        variants: parsed(PUBLISH_VARIANTS)?,
    })
}
