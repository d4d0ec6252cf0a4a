//! The configuration: `[package.metadata.edgepack]` over
//! `[workspace.metadata.edgepack]`.
//!
//! It is read in two steps: raw tables, in which unknown keys are refused, and
//! then one [`Config`] with the package's keys over the workspace's. Defaults are
//! not applied here but in [`crate::plan`], where flags come first.
//! `docs/config.md` describes every key.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, did_you_mean};
use crate::levers::BuildSize;
use crate::pack::Variants;
use crate::policy::{Policy, Rule};
use crate::shrink::{Assumption, Level, Lowering, Measure, Proposal, Stub};
use crate::sign::source::VARIABLE_PREFIX;
use crate::size::ByteCount;

/// The table's name below `metadata`.
pub const TABLE: &str = "edgepack";

/// `[package.metadata.edgepack]` or `[workspace.metadata.edgepack]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
#[schemars(deny_unknown_fields)]
pub struct Config {
    /// The compile target, such as `wasm32-wasip2`.
    pub target: Option<String>,
    /// The cargo profile.
    pub profile: Option<String>,
    /// `true` for a package that is no Wasm: it is left out unless named by `-p`.
    pub skip: Option<bool>,
    /// How it is compiled.
    pub build: BuildConfig,
    /// How to make it smaller.
    pub shrink: ShrinkConfig,
    /// What it may be.
    pub check: CheckConfig,
    /// How large it may be.
    pub budget: BudgetConfig,
    /// Where it goes.
    pub publish: PublishConfig,
    /// How it is signed.
    pub sign: SignConfig,
    /// Who must have signed what others publish.
    pub verify: VerifyConfig,
}

/// `verify`: a [policy](crate::policy), for `verify --policy` and `pull --policy`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
#[schemars(deny_unknown_fields)]
pub struct VerifyConfig {
    /// The rules; the first that covers a repository counts.
    pub rules: Option<Vec<Rule>>,
}

/// `build`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
#[schemars(deny_unknown_fields)]
pub struct BuildConfig {
    /// How far the compiler goes for a small binary: `off`, `stable` or `nightly`.
    pub size: Option<BuildSize>,
}

/// `shrink`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
#[schemars(deny_unknown_fields)]
pub struct ShrinkConfig {
    /// How much effort: `off`, `fast`, `default` or `max`.
    pub level: Option<Level>,
    /// Which size counts: `raw`, `gzip` or `zstd`.
    pub optimize_for: Option<Measure>,
    /// Custom sections to keep, in place of the default list; `*` matches any run
    /// of characters.
    pub keep_sections: Option<Vec<String>>,
    /// Exports to keep; the others go, with all that only they reach. `*` matches any
    /// run of characters.
    pub keep_exports: Option<Vec<String>>,
    /// Imports that are answered inside the module: `MODULE.FIELD`, which traps, or
    /// `MODULE.FIELD=NUMBER`, which returns the number.
    pub stub_imports: Option<Vec<Stub>>,
    /// Proposals that the result does without: `sign-ext`.
    pub lower: Option<Vec<Lowering>>,
    /// Proposals that the result may use although the input does not.
    pub allow_proposals: Option<Vec<Proposal>>,
    /// What the optimiser may take for granted, at your risk: `traps-never-happen`,
    /// `low-memory-unused`, `fast-math`.
    pub assume: Option<Vec<Assumption>>,
}

/// `check`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
#[schemars(deny_unknown_fields)]
pub struct CheckConfig {
    /// Imports that the module may have; `*` matches any run of characters.
    pub allow_imports: Option<Vec<String>>,
}

/// `budget`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
#[schemars(deny_unknown_fields)]
pub struct BudgetConfig {
    /// The largest size of the module.
    pub raw: Option<ByteCount>,
    /// The largest size of the module after gzip.
    pub gzip: Option<ByteCount>,
}

/// Tags that would be none: nobody finds what is published without one.
fn some_tags<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let tags = Option::<Vec<String>>::deserialize(from)?;
    if tags.as_ref().is_some_and(Vec::is_empty) {
        return Err(serde::de::Error::custom(
            "the list of tags is empty; the default is `{version}`",
        ));
    }
    Ok(tags)
}

/// `publish`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
#[schemars(deny_unknown_fields)]
pub struct PublishConfig {
    /// `HOST/PATH`, with `{name}` and `{variant}`.
    pub repository: Option<String>,
    /// Tag patterns, with `{version}`, `{major}`, `{minor}`, `{patch}` and `{name}`.
    #[serde(deserialize_with = "some_tags")]
    #[schemars(extend("minItems" = 1))]
    pub tags: Option<Vec<String>>,
    /// The forms of the artifact: `wasm`, `compat`, `kubewarden`.
    pub variants: Option<Variants>,
    /// Registries that are spoken to without TLS, as `HOST:PORT`.
    pub plain_http: Option<Vec<String>>,
    /// Whether an SBOM is written, and attached to what is signed.
    pub sbom: Option<bool>,
    /// Whether provenance is attached to what is signed.
    pub provenance: Option<bool>,
}

/// `sign`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
#[schemars(deny_unknown_fields)]
pub struct SignConfig {
    /// When to sign.
    pub mode: Option<SignMode>,
    /// A path, from the folder of the manifest that names it, or `env:NAME`.
    pub key: Option<String>,
    /// The key of a signature inside the module: as for `key`.
    pub embed: Option<String>,
    /// The Sigstore to sign with without a key: a file of cosign's form, from the folder
    /// of the manifest that names it.
    pub signing_config: Option<PathBuf>,
    /// The Sigstore that such signatures are checked with, in the same way.
    pub trusted_root: Option<PathBuf>,
}

/// `sign.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignMode {
    /// Not at all.
    None,
    /// With the key.
    Key,
    /// With the identity that the CI gives, and no key.
    Keyless,
    /// Keyless in a CI that gives an identity, else with the key where one is set.
    Auto,
}

impl std::str::FromStr for SignMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(SignMode::None),
            "key" => Ok(SignMode::Key),
            "keyless" => Ok(SignMode::Keyless),
            "auto" => Ok(SignMode::Auto),
            _ => Err(format!(
                "`{text}` is no way to sign: none, key, keyless and auto are"
            )),
        }
    }
}

impl Config {
    /// Reads the `edgepack` table of a manifest's `metadata`; all unset where there
    /// is none. `manifest` is named in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an unknown key or a value of the wrong form.
    pub fn from_metadata(metadata: &Value, manifest: &Path) -> Result<Self, Error> {
        let table = match metadata.get(TABLE) {
            None | Some(Value::Null) => return Ok(Config::default()),
            Some(table) => table,
        };
        let wrong = |message, hint| Error::Config {
            manifest: manifest.to_owned(),
            message,
            hint,
        };
        let schema = Self::schema();
        if let Some((key, near)) = unknown_key(table, schema.as_value(), schema.as_value(), "") {
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            return Err(wrong(
                format!("unknown key `{key}`"),
                hint.or(Some("docs/config.md lists the keys".into())),
            ));
        }
        let mut config: Config = serde_path_to_error::deserialize(table)
            .map_err(|e| wrong(format!("`{}`: {}", e.path(), e.inner()), None))?;
        let SignConfig {
            key,
            embed,
            signing_config,
            trusted_root,
            ..
        } = &mut config.sign;
        if let Some(folder) = manifest.parent() {
            let keys = [key, embed].into_iter().flatten();
            for key in keys.filter(|key| !key.starts_with(VARIABLE_PREFIX)) {
                *key = folder.join(&*key).display().to_string();
            }
            for file in [signing_config, trusted_root].into_iter().flatten() {
                *file = folder.join(&*file);
            }
        }
        if let Some(rules) = config.verify.rules.take() {
            let mut policy = Policy { rules };
            policy.check(manifest)?;
            policy.start_from(manifest.parent().unwrap_or(Path::new("")));
            config.verify.rules = Some(policy.rules);
        }
        Ok(config)
    }

    /// The JSON Schema of the table.
    #[must_use]
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Config)
    }

    /// This table's keys over those of `base`.
    #[must_use]
    pub fn over(self, base: Config) -> Config {
        Config {
            target: self.target.or(base.target),
            profile: self.profile.or(base.profile),
            skip: self.skip.or(base.skip),
            build: BuildConfig {
                size: self.build.size.or(base.build.size),
            },
            shrink: ShrinkConfig {
                level: self.shrink.level.or(base.shrink.level),
                optimize_for: self.shrink.optimize_for.or(base.shrink.optimize_for),
                keep_sections: self.shrink.keep_sections.or(base.shrink.keep_sections),
                keep_exports: self.shrink.keep_exports.or(base.shrink.keep_exports),
                stub_imports: self.shrink.stub_imports.or(base.shrink.stub_imports),
                lower: self.shrink.lower.or(base.shrink.lower),
                allow_proposals: self.shrink.allow_proposals.or(base.shrink.allow_proposals),
                assume: self.shrink.assume.or(base.shrink.assume),
            },
            check: CheckConfig {
                allow_imports: self.check.allow_imports.or(base.check.allow_imports),
            },
            budget: BudgetConfig {
                raw: self.budget.raw.or(base.budget.raw),
                gzip: self.budget.gzip.or(base.budget.gzip),
            },
            publish: PublishConfig {
                repository: self.publish.repository.or(base.publish.repository),
                tags: self.publish.tags.or(base.publish.tags),
                variants: self.publish.variants.or(base.publish.variants),
                plain_http: self.publish.plain_http.or(base.publish.plain_http),
                sbom: self.publish.sbom.or(base.publish.sbom),
                provenance: self.publish.provenance.or(base.publish.provenance),
            },
            sign: SignConfig {
                mode: self.sign.mode.or(base.sign.mode),
                key: self.sign.key.or(base.sign.key),
                embed: self.sign.embed.or(base.sign.embed),
                signing_config: self.sign.signing_config.or(base.sign.signing_config),
                trusted_root: self.sign.trusted_root.or(base.sign.trusted_root),
            },
            verify: VerifyConfig {
                rules: self.verify.rules.or(base.verify.rules),
            },
        }
    }
}

/// The first key that the schema does not know, with its path and a near name.
pub(crate) fn unknown_key(
    table: &Value,
    schema: &Value,
    root: &Value,
    path: &str,
) -> Option<(String, Option<String>)> {
    if let (Value::Array(items), Some(schema)) = (table, schema.get("items")) {
        let schema = resolved(schema, root);
        return items
            .iter()
            .find_map(|item| unknown_key(item, schema, root, path));
    }
    let (Value::Object(table), Value::Object(known)) = (table, schema.get("properties")?) else {
        return None;
    };
    for (key, value) in table {
        let here = format!("{path}{key}");
        let Some(property) = known.get(key) else {
            let near = did_you_mean(key, known.keys().map(String::as_str))
                .map(|near| format!("{path}{near}"))
                .or_else(|| elsewhere(key, root));
            return Some((here, near));
        };
        let property = resolved(property, root);
        if let Some(found) = unknown_key(value, property, root, &format!("{here}.")) {
            return Some(found);
        }
    }
    None
}

/// What a schema refers to, where it does.
fn resolved<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
    schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| root.pointer(reference.strip_prefix('#')?))
        .unwrap_or(schema)
}

/// Where a key that stands in the wrong table belongs.
fn elsewhere(key: &str, root: &Value) -> Option<String> {
    let tables = root.get("properties")?.as_object()?;
    tables.iter().find_map(|(table, property)| {
        let definition = root.pointer(property.get("$ref")?.as_str()?.strip_prefix('#')?)?;
        definition
            .get("properties")?
            .get(key)
            .map(|_| format!("{table}.{key}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(table: &Value) -> Result<Config, Error> {
        Config::from_metadata(&json!({ "edgepack": table }), Path::new("Cargo.toml"))
    }

    #[test]
    fn reads_every_documented_key() {
        let config = read(&json!({
            "target": "wasm32-wasip2", "profile": "release", "skip": false, "build": {"size": "nightly"},
            "shrink": {"level": "default", "keep-sections": ["producers"], "optimize-for": "gzip",
                "keep-exports": ["run"], "stub-imports": ["env.now=0"], "lower": ["sign-ext"],
                "allow-proposals": ["simd"], "assume": ["fast-math"]},
            "check": {"allow-imports": ["wasi:cli/*"]},
            "budget": {"raw": "1 MiB", "gzip": 400},
            "publish": {"repository": "example.com/a", "tags": ["{version}"], "variants": ["wasm", "compat"], "plain-http": ["r.example"], "sbom": true, "provenance": false},
            "sign": {"mode": "auto", "key": "env:KEY", "signing-config": "s.json", "trusted-root": "t.json"},
            "verify": {"rules": [{"repository": "ghcr.io/acme/*", "key": "k.pub", "require": ["sbom"]}]},
        }))
        .unwrap();
        assert_eq!(config.budget.raw, Some(ByteCount(1 << 20)));
        assert_eq!(config.budget.gzip, Some(ByteCount(400)));
        assert_eq!(config.build.size, Some(BuildSize::Nightly));
        assert_eq!(config.shrink.level, Some(Level::Default));
        assert_eq!(config.shrink.optimize_for, Some(Measure::Gzip));
    }

    #[test]
    fn refuses_unknown_keys_with_a_suggestion() {
        for (table, key, near) in [
            (json!({"tagret": "x"}), "tagret", "target"),
            (
                json!({"shrink": {"levle": "max"}}),
                "shrink.levle",
                "shrink.level",
            ),
            (
                json!({"shrink": {"keep_sections": []}}),
                "shrink.keep_sections",
                "shrink.keep-sections",
            ),
            (
                json!({"allow-imports": []}),
                "allow-imports",
                "check.allow-imports",
            ),
        ] {
            let error = read(&table).unwrap_err();
            assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
            assert_eq!(error.hint(), Some(format!("did you mean `{near}`?")));
            assert_eq!(error.exit_code(), crate::exit_code::USAGE);
        }
        assert!(read(&json!({"qqqq": 1})).unwrap_err().hint().is_some());
    }

    #[test]
    fn names_the_key_whose_value_is_wrong() {
        for (table, text) in [
            (json!({"shrink": {"level": "fsat"}}), "shrink.level"),
            (
                json!({"shrink": {"optimize-for": "xz"}}),
                "shrink.optimize-for",
            ),
            (json!({"budget": {"raw": "lots"}}), "budget.raw"),
            (
                json!({"check": {"allow-imports": "all"}}),
                "check.allow-imports",
            ),
            (json!({"shrink": 3}), "shrink"),
            (
                json!({"publish": {"variants": ["wsam"]}}),
                "publish.variants",
            ),
            (json!({"publish": {"variants": []}}), "is empty"),
            (json!({"publish": {"tags": []}}), "publish.tags"),
            (json!({"publish": {"tags": []}}), "is empty"),
            (json!("x"), ""),
        ] {
            let error = read(&table).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn the_package_comes_before_the_workspace() {
        let workspace =
            read(&json!({"budget": {"raw": 1, "gzip": 2}, "profile": "small"})).unwrap();
        let package = read(&json!({"budget": {"raw": 3}})).unwrap();
        let config = package.over(workspace);
        assert_eq!(
            (config.budget.raw, config.budget.gzip),
            (Some(ByteCount(3)), Some(ByteCount(2)))
        );
        assert_eq!(config.profile.as_deref(), Some("small"));
    }
}
