//! Policies: which repositories must be signed by whom.
//!
//! The rules are read in order, and the first whose pattern covers a repository counts.
//! A repository that none covers is refused. `docs/policy.md` describes the file.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use wildmatch::WildMatch;

use crate::config::unknown_key;
use crate::error::Error;
use crate::registry::http::Client;
use crate::sign::attestation::Kind;
use crate::sign::keyless::{self, Root};
use crate::sign::source::{KeySource, VARIABLE_PREFIX};
use crate::sign::trust::{Pattern, Spec, Trust};

mod pattern;

/// What a policy's file is called, where none is named.
pub const FILE: &str = "verify.toml";

/// A policy, as its file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
#[schemars(deny_unknown_fields)]
pub struct Policy {
    /// The rules; the first that covers a repository counts.
    pub rules: Vec<Rule>,
}

/// Who must have signed what is in some repositories: a key, or an identity with who
/// vouches for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
#[schemars(deny_unknown_fields)]
pub struct Rule {
    /// A pattern over `HOST/PATH`; `*` matches any run of characters, `?` any one.
    pub repository: String,
    /// The public key: a path, from the folder of the policy, or `env:NAME`.
    pub key: Option<String>,
    /// Several, of which one must have signed.
    pub keys: Option<Vec<String>>,
    /// Whom the certificate names.
    pub identity: Option<String>,
    /// The same, as a regular expression from `^` to `$`.
    pub identity_regexp: Option<String>,
    /// Who vouches for that name.
    pub issuer: Option<String>,
    /// The same, as a regular expression from `^` to `$`.
    pub issuer_regexp: Option<String>,
    /// The Sigstore that is trusted: a path, from the folder of the policy.
    pub trusted_root: Option<PathBuf>,
    /// Attestations that have to be there, by the same key or identity.
    pub require: Option<Vec<Kind>>,
}

impl Policy {
    /// Reads a policy. `path` is named in errors, and paths in it start from its folder.
    ///
    /// # Errors
    ///
    /// [`Error::Config`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let wrong = |message, hint| config(path, message, hint);
        let table: toml::Table = toml::from_str(text).map_err(|e| {
            wrong(
                e.message().lines().next().unwrap_or_default().to_owned(),
                None,
            )
        })?;
        let json = serde_json::to_value(&table).map_err(|e| Error::Internal(e.to_string()))?;
        let schema = Self::schema();
        if let Some((key, near)) = unknown_key(&json, schema.as_value(), schema.as_value(), "") {
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            return Err(wrong(
                format!("unknown key `{key}`"),
                hint.or(Some("docs/policy.md lists the keys".into())),
            ));
        }
        let mut policy: Policy = serde_path_to_error::deserialize(&json)
            .map_err(|e| wrong(format!("`{}`: {}", e.path(), e.inner()), None))?;
        policy.check(path)?;
        policy.start_from(path.parent().unwrap_or(Path::new("")));
        Ok(policy)
    }

    /// The JSON Schema of the file.
    #[must_use]
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Policy)
    }

    /// Whether each rule says whose signature counts, and only once. Which they are is
    /// not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Config`].
    pub fn check(&self, path: &Path) -> Result<(), Error> {
        if self.rules.is_empty() {
            return Err(config(
                path,
                "it has no rules, and would refuse everything".into(),
                Some("write a [[rules]] with repository and key".into()),
            ));
        }
        for (n, rule) in self.rules.iter().enumerate() {
            let wrong = |what: &str| {
                let name = format!("rules[{n}]");
                config(
                    path,
                    format!("`{name}`: {what}"),
                    Some("docs/policy.md has examples".into()),
                )
            };
            if rule.repository.trim().is_empty() {
                return Err(wrong("it names no repository"));
            }
            pattern::parse(&rule.repository).map_err(|why| wrong(&why))?;
            let names = [
                ("key", &rule.key, &None),
                ("identity", &rule.identity, &rule.identity_regexp),
                ("issuer", &rule.issuer, &rule.issuer_regexp),
            ];
            for (key, value, regexp) in names {
                if value.as_ref().is_some_and(|value| value.trim().is_empty()) {
                    return Err(wrong(&format!("{key} is empty")));
                }
                if value.is_some() && regexp.is_some() {
                    return Err(wrong(&format!("{key} and {key}-regexp exclude each other")));
                }
            }
            // All of them, and not only the rule that is used: a mistake is to be seen now.
            for (key, regexp) in [
                ("identity-regexp", &rule.identity_regexp),
                ("issuer-regexp", &rule.issuer_regexp),
            ] {
                if let Some(regexp) = regexp {
                    Pattern::regexp(regexp, &format!("{}: `rules[{n}].{key}`", path.display()))?;
                }
            }
            let identity = rule.identity.is_some() || rule.identity_regexp.is_some();
            let issuer = rule.issuer.is_some() || rule.issuer_regexp.is_some();
            let ways = [
                rule.key.is_some(),
                rule.keys.is_some(),
                identity || issuer || rule.trusted_root.is_some(),
            ];
            match ways.iter().filter(|way| **way).count() {
                1 if ways[2] && !identity => {
                    return Err(wrong("identity or identity-regexp is missing"));
                }
                1 if ways[2] && !issuer => {
                    return Err(wrong(
                        "issuer is missing: an identity is worth nothing without who vouches for it",
                    ));
                }
                1 if rule.keys.as_ref().is_some_and(Vec::is_empty) => {
                    return Err(wrong("keys is empty"));
                }
                1 => {}
                0 => return Err(wrong("it names neither a key nor an identity")),
                _ => {
                    return Err(wrong(
                        "it is either key, or keys, or an identity, not several",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether the files of each rule, and not only of that which is used, are there and
    /// are keys and trusted roots. Variables may be those of another run. `path` is named
    /// in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], or [`Error::Signature`] where a file is no key to verify with.
    pub fn check_files(&self, path: &Path) -> Result<(), Error> {
        for (n, rule) in self.rules.iter().enumerate() {
            let name = format!("rules[{n}]");
            for key in rule.key.iter().chain(rule.keys.iter().flatten()) {
                let source = KeySource::parse(key).map_err(|e| in_rule(path, &name, e))?;
                if let KeySource::File(_) = source {
                    source.public().map_err(|e| in_rule(path, &name, e))?;
                }
            }
            if let (Some(root), true) = (&rule.trusted_root, keyless::AVAILABLE) {
                Root::read(root).map_err(|e| in_rule(path, &name, e))?;
            }
        }
        Ok(())
    }

    /// Lets paths start from a folder.
    pub fn start_from(&mut self, folder: &Path) {
        for rule in &mut self.rules {
            let keys = rule.key.iter_mut().chain(rule.keys.iter_mut().flatten());
            for key in keys.filter(|key| !key.starts_with(VARIABLE_PREFIX)) {
                *key = folder.join(&*key).display().to_string();
            }
            if let Some(root) = &mut rule.trusted_root {
                *root = folder.join(&*root);
            }
        }
    }

    /// The same, with this Sigstore where a rule names an identity and no other.
    #[must_use]
    pub fn trusting(mut self, root: &Path) -> Self {
        for rule in &mut self.rules {
            if rule.key.is_none() && rule.keys.is_none() {
                rule.trusted_root.get_or_insert_with(|| root.to_owned());
            }
        }
        self
    }

    /// The rule for a repository, or for a layout as `oci:DIR`.
    ///
    /// # Errors
    ///
    /// [`Error::Signature`] where there is none.
    pub fn rule_for(&self, repository: &str) -> Result<&Rule, Error> {
        for rule in &self.rules {
            let pattern = pattern::parse(&rule.repository).map_err(Error::usage)?;
            if WildMatch::new(&pattern).matches(repository) {
                return Ok(rule);
            }
        }
        Err(Error::Signature {
            message: format!("no rule of the policy covers {repository}: it is refused"),
            hint: Some("add a rule that says who must have signed it".into()),
        })
    }
}

impl Rule {
    /// Whose signatures count: one of these.
    ///
    /// # Errors
    ///
    /// As [`Spec::open`].
    pub async fn open(&self, client: &Client) -> Result<Vec<Trust>, Error> {
        let keys = self.key.iter().chain(self.keys.iter().flatten());
        let mut specs: Vec<Spec> = keys
            .map(|key| Spec {
                key: Some(key.clone()),
                ..Spec::default()
            })
            .collect();
        if specs.is_empty() {
            specs.push(Spec {
                key: None,
                identity: self.identity.clone(),
                identity_regexp: self.identity_regexp.clone(),
                issuer: self.issuer.clone(),
                issuer_regexp: self.issuer_regexp.clone(),
                trusted_root: self.trusted_root.clone(),
            });
        }
        let mut trusted = Vec::new();
        for spec in specs {
            trusted.push(spec.open(client).await?);
        }
        Ok(trusted)
    }
}

/// What is wrong with a file, with the rule that names it.
fn in_rule(path: &Path, rule: &str, error: Error) -> Error {
    match error {
        Error::Io {
            path: file, source, ..
        } => config(
            path,
            format!("`{rule}`: failed to read `{}`: {source}", file.display()),
            Some("paths in a policy start from its own folder".into()),
        ),
        Error::Usage { message, hint } => config(path, format!("`{rule}`: {message}"), hint),
        Error::Signature { message, hint } => Error::Signature {
            message: format!("{}: `{rule}`: {message}", path.display()),
            hint,
        },
        other => other,
    }
}

fn config(path: &Path, message: String, hint: Option<String>) -> Error {
    Error::Config {
        manifest: path.to_owned(),
        message,
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::reference::Repository;

    fn read(text: &str) -> Result<Policy, Error> {
        Policy::parse(text, Path::new("/etc/verify.toml"))
    }

    #[test]
    fn the_first_rule_that_covers_counts() {
        let policy = read(
            r#"
            [[rules]]
            repository = "ghcr.io/acme/special"
            key = "keys/special.pub"
            require = ["sbom", "provenance"]
            [[rules]]
            repository = "ghcr.io/acme/*"
            keys = ["/keys/a.pub", "env:B"]
            [[rules]]
            repository = "r.example/*"
            identity-regexp = "^https://github.com/acme/.*$"
            issuer = "https://token.actions.githubusercontent.com"
            "#,
        )
        .unwrap();
        let rule = policy.rule_for("ghcr.io/acme/special").unwrap();
        assert_eq!(rule.key.as_deref(), Some("/etc/keys/special.pub"));
        assert_eq!(rule.require.as_ref().unwrap().len(), 2);
        let rule = policy.rule_for("ghcr.io/acme/other/deep").unwrap();
        assert_eq!(rule.keys.as_ref().unwrap(), &["/keys/a.pub", "env:B"]);
        assert!(
            policy
                .rule_for("r.example/a")
                .unwrap()
                .identity_regexp
                .is_some()
        );
        for none in [
            "ghcr.io/acmee/x",
            "ghcr.io/acme",
            "evil.example/ghcr.io/acme/x",
        ] {
            let error = policy.rule_for(none).unwrap_err();
            assert_eq!(error.exit_code(), crate::exit_code::SIGNATURE);
        }
    }

    #[test]
    fn a_registry_has_one_name() {
        for (pattern, repository) in [
            ("ghcr.io:443/acme/*", "ghcr.io/acme/x"),
            ("index.docker.io/acme/*", "docker.io/acme/x"),
            ("docker.io/demo", "registry-1.docker.io/demo"),
            ("127.1:5000/a?p", "127.0.0.1:5000/app"),
            ("r.example/acme/app", "r.example:443/acme/app"),
            ("*", "r.example/x"),
            ("*.example:5000/*", "r.example:5000/a/b"),
            ("localhost:*", "localhost:5000/a"),
            ("r.example*", "r.example/a"),
            ("*:443/*", "localhost:443/a"),
            (&"*".repeat(20_000), "r.example/x"),
        ] {
            let repository = Repository::parse(repository).unwrap().to_string();
            let rule = format!("[[rules]]\nrepository = \"{pattern}\"\nkey = \"k\"");
            let policy = read(&rule).unwrap();
            assert!(
                policy.rule_for(&repository).is_ok(),
                "{pattern} {repository}"
            );
        }
        for (pattern, words) in [
            ("GHCR.IO/acme/*", "lower case"),
            ("https://ghcr.io/acme/*", "scheme"),
            ("ghcr.io", "does not name a registry"),
            ("demo", "does not name a registry"),
            ("acme/*", "`acme` is no registry"),
            ("ghcr.io/", "path"),
            ("ghcr.io/acme*/", "ends with `/`"),
            ("ghcr.io//*", "ends with `/`"),
            ("ghcr.io/acme/../x", "path"),
            ("*:5000", "no path"),
            ("*.example:443/a", "`:443`"),
            ("127.0.0.1:05000/*", "is no registry"),
            ("ghcr.io/acme\\u0020/*", "` ` in it"),
            ("ghcr.io/{a,b}/*", "`{` in it"),
            ("gh cr*", "` ` in it"),
            ("*.docker.io/acme/*", "`docker.io/PATH`"),
            ("index.docker.*/acme/*", "`docker.io/PATH`"),
            ("docker.io/dem?", "`docker.io/library/dem?`"),
            ("*.", "no path"),
            ("*:05000/*", "`:05000`"),
            ("r.example/acme/-*", "can be like it"),
            ("acm?/*", "can be like it"),
            (
                &format!("r.example/{}", "a*".repeat(500)),
                "1010 characters",
            ),
        ] {
            let rule = format!("[[rules]]\nrepository = \"{pattern}\"\nkey = \"k\"");
            let error = read(&rule).unwrap_err();
            assert!(error.to_string().contains(words), "{pattern}: {error}");
            assert!(error.to_string().contains("`rules[0]`"), "{error}");
            assert_eq!(error.exit_code(), crate::exit_code::USAGE, "{pattern}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, words) in [
            ("", "no rules"),
            ("rules = []", "no rules"),
            ("[[rulse]]", "unknown key `rulse`"),
            (
                "[[rules]]\nrepository = \"*\"\nisuer = \"k\"",
                "unknown key `rules.isuer`",
            ),
            ("[[rules]]\nkey = \"k\"", "no repository"),
            ("[[rules]]\nrepository = \"*\"", "neither a key"),
            (
                "[[rules]]\nrepository = \"r.example/a:1*\"\nkey = \"k\"",
                "neither a tag",
            ),
            (
                "[[rules]]\nrepository = \"r.example/Acme/*\"\nkey = \"k\"",
                "lower case",
            ),
            ("[[rules]]\nrepository = \"*\"\nkeys = []", "keys is empty"),
            (
                "[[rules]]\nrepository = \"*\"\nkey = \"k\"\nidentity = \"i\"",
                "not several",
            ),
            (
                "[[rules]]\nrepository = \"*\"\nidentity = \"i\"",
                "issuer is missing",
            ),
            (
                "[[rules]]\nrepository = \"*\"\nissuer = \"i\"",
                "identity or identity-regexp",
            ),
            (
                "[[rules]]\nrepository = \"*\"\nkey = \"k\"\nrequire = [\"sbmo\"]",
                "rules[0].require",
            ),
            (
                "[[rules]]\nrepository = \"*\"\nidentity = \"\"\nissuer = \"i\"",
                "`rules[0]`: identity is empty",
            ),
            (
                "[[rules]]\nrepository = \"*\"\nidentity = \"i\"\nidentity-regexp = \"^i$\"\nissuer = \"i\"",
                "exclude each other",
            ),
            ("[[rules", ""),
            ("rules = 3", "rules"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.to_string().contains(words), "{text}: {error}");
            assert_eq!(error.exit_code(), crate::exit_code::USAGE, "{text}");
        }
        // As everywhere: what could match a part of a name is no trust.
        let loose = "[[rules]]\nrepository = \"*\"\nidentity-regexp = \".*\"\nissuer = \"i\"";
        let error = read(loose).unwrap_err();
        assert!(
            error.to_string().contains("`rules[0].identity-regexp`"),
            "{error}"
        );
        assert_eq!(error.exit_code(), crate::exit_code::SIGNATURE);
        let hint = read("[[rules]]\nrepository = \"*\"\nisuer = \"k\"")
            .unwrap_err()
            .hint();
        assert_eq!(hint.as_deref(), Some("did you mean `rules.issuer`?"));
    }
}
