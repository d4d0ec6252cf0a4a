//! (IO) `EDGEPACK_*`: settings from the environment, between flags and configuration.
//!
//! An empty variable counts as unset: pipelines pass those where a user gave nothing.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::config::SignConfig;
use crate::destination;
use crate::error::Error;
use crate::plan::{Embed, Overrides};
use crate::registry::http::Options;
use crate::registry::reference::canonical_host;

/// `EDGEPACK_TARGET`: the compile target.
pub const TARGET: &str = "EDGEPACK_TARGET";
/// `EDGEPACK_PROFILE`: the cargo profile.
pub const PROFILE: &str = "EDGEPACK_PROFILE";
/// `EDGEPACK_BUILD_SIZE`: as `build.size`.
pub const BUILD_SIZE: &str = "EDGEPACK_BUILD_SIZE";
/// `EDGEPACK_SHRINK_LEVEL`: as `shrink.level`.
pub const SHRINK_LEVEL: &str = "EDGEPACK_SHRINK_LEVEL";
/// `EDGEPACK_SHRINK_OPTIMIZE_FOR`: as `shrink.optimize-for`.
pub const SHRINK_OPTIMIZE_FOR: &str = "EDGEPACK_SHRINK_OPTIMIZE_FOR";
/// `EDGEPACK_SHRINK_KEEP_SECTIONS`: as `shrink.keep-sections`, separated by commas.
pub const SHRINK_KEEP_SECTIONS: &str = "EDGEPACK_SHRINK_KEEP_SECTIONS";
/// `EDGEPACK_SHRINK_KEEP_EXPORTS`: as `shrink.keep-exports`, separated by commas.
pub const SHRINK_KEEP_EXPORTS: &str = "EDGEPACK_SHRINK_KEEP_EXPORTS";
/// `EDGEPACK_SHRINK_STUB_IMPORTS`: as `shrink.stub-imports`, separated by commas.
pub const SHRINK_STUB_IMPORTS: &str = "EDGEPACK_SHRINK_STUB_IMPORTS";
/// `EDGEPACK_SHRINK_LOWER`: as `shrink.lower`, separated by commas.
pub const SHRINK_LOWER: &str = "EDGEPACK_SHRINK_LOWER";
/// `EDGEPACK_SHRINK_ALLOW_PROPOSALS`: as `shrink.allow-proposals`, separated by commas.
pub const SHRINK_ALLOW_PROPOSALS: &str = "EDGEPACK_SHRINK_ALLOW_PROPOSALS";
/// `EDGEPACK_SHRINK_ASSUME`: as `shrink.assume`, separated by commas.
pub const SHRINK_ASSUME: &str = "EDGEPACK_SHRINK_ASSUME";
/// `EDGEPACK_WASM_OPT`: as `--wasm-opt`.
pub const WASM_OPT: &str = "EDGEPACK_WASM_OPT";
/// `EDGEPACK_CHECK_ALLOW_IMPORTS`: as `check.allow-imports`, separated by commas.
pub const CHECK_ALLOW_IMPORTS: &str = "EDGEPACK_CHECK_ALLOW_IMPORTS";
/// `EDGEPACK_BUDGET_RAW`: as `budget.raw`.
pub const BUDGET_RAW: &str = "EDGEPACK_BUDGET_RAW";
/// `EDGEPACK_BUDGET_GZIP`: as `budget.gzip`.
pub const BUDGET_GZIP: &str = "EDGEPACK_BUDGET_GZIP";
/// `EDGEPACK_PUBLISH_VARIANTS`: as `publish.variants`, separated by commas.
pub const PUBLISH_VARIANTS: &str = "EDGEPACK_PUBLISH_VARIANTS";

/// `EDGEPACK_PUBLISH_REPOSITORY`: as `publish.repository`.
pub const PUBLISH_REPOSITORY: &str = "EDGEPACK_PUBLISH_REPOSITORY";
/// `EDGEPACK_PUBLISH_TAGS`: as `--tag`, separated by commas.
pub const PUBLISH_TAGS: &str = "EDGEPACK_PUBLISH_TAGS";
/// `EDGEPACK_PUBLISH_PLAIN_HTTP`: as `publish.plain-http`, separated by commas.
pub const PUBLISH_PLAIN_HTTP: &str = "EDGEPACK_PUBLISH_PLAIN_HTTP";
/// `EDGEPACK_PUBLISH_SBOM`: as `publish.sbom`.
pub const PUBLISH_SBOM: &str = "EDGEPACK_PUBLISH_SBOM";
/// `EDGEPACK_PUBLISH_PROVENANCE`: as `publish.provenance`.
pub const PUBLISH_PROVENANCE: &str = "EDGEPACK_PUBLISH_PROVENANCE";
/// `EDGEPACK_SIGN_MODE`: as `sign.mode`.
pub const SIGN_MODE: &str = "EDGEPACK_SIGN_MODE";
/// `EDGEPACK_SIGNING_KEY`: as `sign.key`.
pub const SIGNING_KEY: &str = "EDGEPACK_SIGNING_KEY";
/// Where a GitLab job has its identity token. <https://docs.gitlab.com/ci/yaml/signing_examples/>
pub const IDENTITY_TOKEN: &str = "SIGSTORE_ID_TOKEN";
/// `EDGEPACK_SIGN_EMBED`: as `sign.embed`.
pub const SIGN_EMBED: &str = "EDGEPACK_SIGN_EMBED";
/// `EDGEPACK_SIGNING_CONFIG`: as `sign.signing-config`.
pub const SIGNING_CONFIG: &str = "EDGEPACK_SIGNING_CONFIG";
/// `EDGEPACK_TRUSTED_ROOT`: as `sign.trusted-root`; also for what is verified.
pub const TRUSTED_ROOT: &str = "EDGEPACK_TRUSTED_ROOT";
/// `EDGEPACK_CA_FILE`: as `--ca-file`.
pub const CA_FILE: &str = "EDGEPACK_CA_FILE";
/// `EDGEPACK_RETRY_BASE_MS`: milliseconds before a request is first tried again.
pub const RETRY_BASE_MS: &str = "EDGEPACK_RETRY_BASE_MS";
/// `EDGEPACK_REGISTRY_TIMEOUT`: seconds after which a silent connection is given up.
pub const REGISTRY_TIMEOUT: &str = "EDGEPACK_REGISTRY_TIMEOUT";

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

fn plain_http() -> Result<Vec<String>, Error> {
    let hosts = list(PUBLISH_PLAIN_HTTP)?.unwrap_or_default();
    match hosts.iter().find(|host| canonical_host(host).is_none()) {
        None => Ok(hosts),
        Some(wrong) => Err(Error::Usage {
            message: format!("{PUBLISH_PLAIN_HTTP}: `{wrong}` is no registry"),
            hint: Some("write hosts alone, such as registry.example:5000".into()),
        }),
    }
}

/// Whether a variable is set, and to nothing: a secret that a CI does not have looks so.
#[must_use]
pub fn is_blank(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| value.trim().is_empty())
}

/// The value of a variable that is set to something, parsed.
///
/// # Errors
///
/// [`Error::Usage`] that names the variable.
pub fn parsed<T: FromStr<Err = String>>(name: &str) -> Result<Option<T>, Error> {
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

fn parsed_list<T: FromStr<Err = String>>(name: &str) -> Result<Option<Vec<T>>, Error> {
    let Some(items) = list(name)? else {
        return Ok(None);
    };
    let parse = |item: &String| {
        item.parse()
            .map_err(|e| Error::usage(format!("{name}: {e}")))
    };
    items.iter().map(parse).collect::<Result<_, _>>().map(Some)
}

/// What the environment says about shrinking, checking and packing.
///
/// # Errors
///
/// [`Error::Usage`] that names the variable whose value is wrong.
pub fn overrides() -> Result<Overrides, Error> {
    Ok(Overrides {
        level: parsed(SHRINK_LEVEL)?,
        optimize_for: parsed(SHRINK_OPTIMIZE_FOR)?,
        keep_sections: list(SHRINK_KEEP_SECTIONS)?,
        keep_exports: list(SHRINK_KEEP_EXPORTS)?,
        stub_imports: parsed_list(SHRINK_STUB_IMPORTS)?,
        lower: parsed_list(SHRINK_LOWER)?,
        allow_proposals: parsed_list(SHRINK_ALLOW_PROPOSALS)?,
        assume: parsed_list(SHRINK_ASSUME)?,
        allow_imports: list(CHECK_ALLOW_IMPORTS)?,
        budget_raw: parsed(BUDGET_RAW)?,
        budget_gzip: parsed(BUDGET_GZIP)?,
        variants: parsed(PUBLISH_VARIANTS)?,
        embed: text(SIGN_EMBED)?.map(Embed::With),
    })
}

/// What the environment says about where artifacts go.
///
/// # Errors
///
/// [`Error::Usage`] that names the variable whose value is wrong.
pub fn destination() -> Result<destination::Overrides, Error> {
    Ok(destination::Overrides {
        repository: text(PUBLISH_REPOSITORY)?.map(|r| r.trim().to_owned()),
        tags: list(PUBLISH_TAGS)?,
    })
}

/// Whether a variable says `true` or `false`.
///
/// # Errors
///
/// [`Error::Usage`] that names the variable.
pub fn switch(name: &str) -> Result<Option<bool>, Error> {
    match text(name)?.as_deref().map(str::trim) {
        None => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(other) => Err(Error::usage(format!(
            "{name}: `{other}` is neither true nor false"
        ))),
    }
}

/// What the environment says about signing.
///
/// # Errors
///
/// [`Error::Usage`] that names the variable whose value is wrong.
pub fn signing() -> Result<SignConfig, Error> {
    Ok(SignConfig {
        mode: parsed(SIGN_MODE)?,
        key: text(SIGNING_KEY)?,
        embed: None,
        signing_config: text(SIGNING_CONFIG)?.map(PathBuf::from),
        trusted_root: trusted_root()?,
    })
}

/// The Sigstore that is trusted.
///
/// # Errors
///
/// [`Error::Usage`] where it is no UTF-8.
pub fn trusted_root() -> Result<Option<PathBuf>, Error> {
    Ok(text(TRUSTED_ROOT)?.map(PathBuf::from))
}

/// What the environment says about speaking to registries, over the defaults.
///
/// # Errors
///
/// [`Error::Usage`] that names the variable whose value is wrong.
pub fn registry_options() -> Result<Options, Error> {
    let number = |name| -> Result<Option<u64>, Error> {
        text(name)?
            .map(|v| {
                v.trim()
                    .parse()
                    .map_err(|_| Error::usage(format!("{name}: `{v}` is no whole number")))
            })
            .transpose()
    };
    let defaults = Options::default();
    Ok(Options {
        plain_http: plain_http()?,
        ca_files: text(CA_FILE)?.map(PathBuf::from).into_iter().collect(),
        backoff: number(RETRY_BASE_MS)?.map_or(defaults.backoff, Duration::from_millis),
        timeout: number(REGISTRY_TIMEOUT)?.map_or(defaults.timeout, |s| {
            Duration::from_secs(s.clamp(1, 86_400))
        }),
        ..defaults
    })
}
