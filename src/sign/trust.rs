//! Who must have signed: the holder of a key, or an identity that a certificate names.
//!
//! An identity is worth nothing without who vouches for it, so that the issuer is always
//! asked for too. Patterns are matched as a whole, and one that could match a part is
//! refused: `github.com/acme` is in `https://evil.example/github.com/acme`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use regex_syntax::hir::Look;
use serde::Serialize;

use super::key::PublicKey;
use super::keyless::Root;
use super::source::KeySource;
use crate::error::Error;
use crate::oci::Digest;
use crate::registry::http::Client;

/// A pattern takes no more memory than this.
const MAX_PATTERN: usize = 1 << 20;

/// Whose signatures count.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Of whoever holds the key to this one.
    Key(PublicKey),
    /// Of whom a certificate names.
    Identity(Arc<Identity>),
}

/// Whom certificates shall name, and whose certificates these are.
#[derive(Debug)]
pub struct Identity {
    /// The subject: a mail address, or a workflow's address.
    pub subject: Pattern,
    /// Who vouches for it: the address of the OIDC provider.
    pub issuer: Pattern,
    /// The services that are trusted.
    pub root: Root,
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignedBy {
    /// The holder of a key.
    Key {
        /// The algorithm.
        kind: &'static str,
        /// The digest of the key in DER.
        fingerprint: Digest,
    },
    /// Whom the certificate names.
    Certificate {
        /// The subject.
        identity: String,
        /// Who vouches for it.
        issuer: String,
    },
}

impl From<&PublicKey> for SignedBy {
    fn from(key: &PublicKey) -> Self {
        SignedBy::Key {
            kind: key.kind(),
            fingerprint: key.fingerprint(),
        }
    }
}

impl fmt::Display for SignedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignedBy::Key { kind, fingerprint } => write!(f, "{kind}, {fingerprint}"),
            SignedBy::Certificate { identity, issuer } => write!(f, "{identity}, by {issuer}"),
        }
    }
}

/// What a name in a certificate shall be.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// This.
    Exact(String),
    /// A regular expression, for the whole name.
    Regexp(Box<regex::Regex>),
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Exact(text) => write!(f, "`{text}`"),
            Pattern::Regexp(regexp) => write!(f, "what matches `{regexp}`"),
        }
    }
}

impl Pattern {
    /// The name itself.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where it is empty.
    pub fn exact(text: &str, name: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::usage(format!("{name} is empty")));
        }
        Ok(Pattern::Exact(text.to_owned()))
    }

    /// A regular expression that matches a whole name, from `^` to `$`, in each of its
    /// alternatives. `name` says in errors which one it is.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where it is none, [`Error::Signature`] where it could match a part.
    pub fn regexp(text: &str, name: &str) -> Result<Self, Error> {
        let senseless = |why: String| Error::Usage {
            message: format!("{name} is no regular expression: {why}"),
            hint: Some("quote it for the shell, and write `.` in a name as `\\.`".into()),
        };
        let parsed = regex_syntax::parse(text).map_err(|e| senseless(e.to_string()))?;
        let looks = parsed.properties();
        if !looks.look_set_prefix().contains(Look::Start)
            || !looks.look_set_suffix().contains(Look::End)
        {
            return Err(Error::Signature {
                message: format!(
                    "{name} `{text}` has no anchors: it would also match where somebody else's name contains such a part"
                ),
                hint: Some(
                    r"let it begin with ^ and end with $, as in '^https://github\.com/ACME/.*$'"
                        .into(),
                ),
            });
        }
        let regexp = regex::RegexBuilder::new(text)
            .size_limit(MAX_PATTERN)
            .dfa_size_limit(MAX_PATTERN)
            .build()
            .map_err(|e| senseless(e.to_string()))?;
        Ok(Pattern::Regexp(Box::new(regexp)))
    }

    /// Whether a name is what it shall be.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::Exact(text) => text == name,
            Pattern::Regexp(regexp) => regexp.is_match(name),
        }
    }
}

/// Whose signatures shall count, as flags and files of configuration say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// A path or `env:NAME`.
    pub key: Option<String>,
    /// The subject of the certificate.
    pub identity: Option<String>,
    /// The same, as a regular expression.
    pub identity_regexp: Option<String>,
    /// Who vouches for it.
    pub issuer: Option<String>,
    /// The same, as a regular expression.
    pub issuer_regexp: Option<String>,
    /// A file with the services that are trusted; else those of the public instance.
    pub trusted_root: Option<PathBuf>,
}

impl Spec {
    /// Whether it says anything.
    #[must_use]
    pub fn is_some(&self) -> bool {
        *self != Spec::default()
    }

    /// Reads the key, or the services that are trusted; the client is used where these
    /// have to be fetched.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where it is neither the one nor the other, else what reading or
    /// fetching gives.
    pub async fn open(&self, client: &Client) -> Result<Trust, Error> {
        let named = self.identity.is_some() || self.identity_regexp.is_some();
        let vouched = self.issuer.is_some() || self.issuer_regexp.is_some();
        if let Some(key) = &self.key {
            if named || vouched || self.trusted_root.is_some() {
                return Err(Error::usage(
                    "it is either a key or an identity that must have signed, not both",
                ));
            }
            return Ok(Trust::Key(KeySource::parse(key)?.public()?));
        }
        let pattern = |exact: &Option<String>, regexp: &Option<String>, flag: &str| {
            match (
            exact, regexp,
        ) {
            (Some(exact), None) => Pattern::exact(exact, flag),
            (None, Some(regexp)) => Pattern::regexp(regexp, &format!("{flag}-regexp")),
            (Some(_), Some(_)) => Err(Error::usage(format!(
                "{flag} and {flag}-regexp exclude each other"
            ))),
            (None, None) => Err(Error::Usage {
                message: if named || vouched {
                    format!("{flag} or {flag}-regexp is missing: an identity is worth nothing without who vouches for it")
                } else {
                    "nothing says who must have signed".into()
                },
                hint: Some(
                    "name a public key with --key, or both --certificate-identity and --certificate-oidc-issuer".into(),
                ),
            }),
        }
        };
        let subject = pattern(
            &self.identity,
            &self.identity_regexp,
            "--certificate-identity",
        )?;
        let issuer = pattern(
            &self.issuer,
            &self.issuer_regexp,
            "--certificate-oidc-issuer",
        )?;
        let root = Root::open(self.trusted_root.as_deref(), client).await?;
        Ok(Trust::Identity(Arc::new(Identity {
            subject,
            issuer,
            root,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_the_whole_name() {
        for good in [
            "^https://github.com/acme/.*$",
            "^(a|b)$",
            r"\Aa\z",
            "^a$|^b$",
            "^$",
        ] {
            assert!(Pattern::regexp(good, "x").is_ok(), "{good}");
        }
        for part in [
            "", ".*", "^a", "a$", "^a|b$", r"^a\$", "(?m)^a$", "^a$|b", "^?a$",
        ] {
            let error = Pattern::regexp(part, "x").unwrap_err();
            assert!(error.to_string().contains("no anchors"), "{part}: {error}");
            assert_eq!(error.exit_code(), crate::exit_code::SIGNATURE);
        }
        assert!(Pattern::regexp("^(a$", "x").is_err());
        assert!(Pattern::regexp("^a{1000}{1000}{1000}$", "x").is_err());
        let pattern = Pattern::regexp("^a.c$", "x").unwrap();
        assert!(pattern.matches("abc") && !pattern.matches("abcd") && !pattern.matches("a\nc"));
        assert!(Pattern::exact("", "x").is_err());
    }
}
