//! The commands that sign and verify.
//!
//! `--key` takes what begins with `-` too: a key that was given in place of its path is
//! refused without being repeated, which the parser would do.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use edgepack::sign::Format;
use edgepack::sign::attestation::{self, Kind};
use edgepack::sign::{source, trust::Spec};

use super::Access;

/// `--sign`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SignMode {
    /// Not at all.
    None,
    /// With the key.
    Key,
    /// With the identity that the CI gives, and no key.
    Keyless,
    /// Keyless in a CI that gives an identity, else with the key where one is set, else
    /// not at all.
    Auto,
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// A Sigstore bundle that refers to the artifact: cosign 2.6 and later.
    Bundle,
    /// The tag sha256-….sig: every cosign.
    Legacy,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Bundle => Format::Bundle,
            FormatArg::Legacy => Format::Legacy,
        }
    }
}

/// How `publish` signs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signing")]
pub struct Signing {
    /// How to sign, before a tag is set [default: key with --key, keyless with
    /// --identity-token, else auto].
    #[arg(long, value_name = "MODE", value_enum)]
    pub sign: Option<SignMode>,
    /// The key to sign with: a path, or env:NAME for a variable that holds it. The
    /// password is taken from `COSIGN_PASSWORD`.
    #[arg(long, value_name = "PATH|env:NAME", allow_hyphen_values = true)]
    pub key: Option<String>,
    /// With which identity, without a key.
    #[command(flatten)]
    pub keyless: KeylessFlags,
    /// Write signatures in this format alone; may be repeated [default: both with a
    /// key, bundle without].
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub signature_format: Vec<FormatArg>,
}

impl Signing {
    /// The variables that hold what to sign with.
    pub fn secret_variables(&self) -> Vec<String> {
        let token = self.keyless.identity_token.as_deref().map(str::trim);
        source::secret_variables(self.key.as_deref().into_iter().chain(token))
    }
}

/// Signing without a key.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signing")]
pub struct KeylessFlags {
    /// Sign without a key, with this token: env:NAME for a variable that holds it, @FILE,
    /// or the token, which others on this machine can then read [default: that of the
    /// CI: GitHub, GitLab].
    #[arg(long, value_name = "env:NAME|@FILE|TOKEN", allow_hyphen_values = true)]
    pub identity_token: Option<String>,
    /// The Sigstore to sign with, in cosign's form [default: the public instance].
    #[arg(long, value_name = "FILE")]
    pub signing_config: Option<PathBuf>,
    /// The Sigstore that what was signed is checked with, in cosign's form.
    #[arg(long, value_name = "FILE")]
    pub trusted_root: Option<PathBuf>,
}

/// `sign`.
#[derive(Debug, Args)]
pub struct Sign {
    /// HOST/PATH:TAG, HOST/PATH@DIGEST, or `oci:DIR:TAG` for an OCI image layout; or a
    /// file of any kind, whose signature goes into a bundle beside it.
    #[arg(value_name = "REF|FILE")]
    pub reference: String,
    /// The key: a path, or env:NAME for a variable that holds it. The password is taken
    /// from `COSIGN_PASSWORD` [default: the CI's identity, else what
    /// `EDGEPACK_SIGNING_KEY` names].
    #[arg(long, value_name = "PATH|env:NAME", allow_hyphen_values = true)]
    pub key: Option<String>,
    /// Sign without a key, with the identity that the CI gives.
    #[arg(long, conflicts_with = "key")]
    pub keyless: bool,
    /// With which identity.
    #[command(flatten)]
    pub identity: KeylessFlags,
    /// Write this format alone; may be repeated [default: both with a key; in a layout
    /// and without a key, bundle].
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: Vec<FormatArg>,
    /// Attest what this file says too: TYPE is sbom, provenance, or the URI of a predicate's
    /// type, and the file holds the predicate in JSON; may be repeated.
    #[arg(long, value_name = "TYPE=FILE", value_parser = attest)]
    pub attest: Vec<(String, PathBuf)>,
    /// Attest this CycloneDX SBOM too: the same as --attest sbom=FILE.
    #[arg(long, value_name = "FILE")]
    pub sbom: Option<PathBuf>,
    /// Where the bundle of a file goes; `-` is standard output [default: FILE.sigstore.json].
    #[arg(long, value_name = "OUT", conflicts_with_all = ["embed", "detach", "format", "attest", "sbom"])]
    pub bundle: Option<PathBuf>,
    /// Put the signature into the file itself, with a key from keygen --embed.
    #[arg(long, conflicts_with_all = ["detach", "format", "attest", "sbom"])]
    pub embed: bool,
    /// Take the signature out of the file: the bytes are what they were before.
    #[arg(long, conflicts_with_all = ["key", "format", "attest", "sbom"])]
    pub detach: bool,
    /// Where the file goes, with --embed and --detach [default: FILE itself].
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// How to speak to the registry.
    #[command(flatten)]
    pub access: Access,
}

fn attest(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((kind, file)) if !file.is_empty() => {
            Ok((attestation::predicate_type(kind)?, file.into()))
        }
        _ => Err("write TYPE=FILE, such as sbom=demo.cdx.json".into()),
    }
}

/// Who must have signed. Whether that is said, and only once, the library checks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Who must have signed")]
pub struct TrustFlags {
    /// The holder of this public key: a path, or env:NAME for a variable that holds it.
    #[arg(long, value_name = "PATH|env:NAME", allow_hyphen_values = true)]
    pub key: Option<String>,
    /// Whom the certificate names: a workflow's address, or a mail address.
    #[arg(long, value_name = "NAME")]
    pub certificate_identity: Option<String>,
    /// The same, as a regular expression from ^ to $.
    #[arg(long, value_name = "REGEXP")]
    pub certificate_identity_regexp: Option<String>,
    /// Who vouches for that name: the OIDC provider's address.
    #[arg(long, value_name = "URL")]
    pub certificate_oidc_issuer: Option<String>,
    /// The same, as a regular expression from ^ to $.
    #[arg(long, value_name = "REGEXP")]
    pub certificate_oidc_issuer_regexp: Option<String>,
    /// The Sigstore that is trusted, in cosign's form [default: the public instance].
    #[arg(long, value_name = "FILE")]
    pub trusted_root: Option<PathBuf>,
}

impl TrustFlags {
    /// For the library.
    pub fn spec(&self) -> Spec {
        Spec {
            key: self.key.clone(),
            identity: self.certificate_identity.clone(),
            identity_regexp: self.certificate_identity_regexp.clone(),
            issuer: self.certificate_oidc_issuer.clone(),
            issuer_regexp: self.certificate_oidc_issuer_regexp.clone(),
            trusted_root: self.trusted_root.clone(),
        }
    }
}

/// What must hold of an artifact.
#[derive(Debug, Args)]
#[command(next_help_heading = "Who must have signed")]
pub struct Demands {
    /// Whose signature counts.
    #[command(flatten)]
    pub trust: TrustFlags,
    /// Ask for this attestation too, by the same signer: sbom or provenance; may be
    /// repeated.
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub require: Vec<Kind>,
    /// Let a policy say who must have signed; what no rule of it covers is refused
    /// [default: verify.toml, else verify.rules in Cargo.toml].
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "")]
    pub policy: Option<String>,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// HOST/PATH:TAG, HOST/PATH@DIGEST, or `oci:DIR:TAG` for an OCI image layout; or a
    /// file with its bundle, or a .wasm file with a signature inside.
    #[arg(value_name = "REF|FILE", required_unless_present = "policy")]
    pub references: Vec<String>,
    /// What must hold.
    #[command(flatten)]
    pub demands: Demands,
    /// The bundle of a file [default: FILE.sigstore.json].
    #[arg(long, value_name = "FILE", conflicts_with_all = ["embedded", "require", "policy"])]
    pub bundle: Option<PathBuf>,
    /// Check the signature inside the file.
    #[arg(long, conflicts_with_all = ["require", "policy"])]
    pub embedded: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// How to speak to the registry.
    #[command(flatten)]
    pub access: Access,
}

/// `keygen`.
#[derive(Debug, Args)]
pub struct Keygen {
    /// What the two files are called, without .key and .pub [default: cosign, or ed25519
    /// with --embed].
    #[arg(long, value_name = "NAME")]
    pub output_key_prefix: Option<String>,
    /// Read the password from stdin, and not from `COSIGN_PASSWORD`.
    #[arg(long)]
    pub password_stdin: bool,
    /// Make a key for signatures inside modules: Ed25519, not encrypted.
    #[arg(long, conflicts_with = "password_stdin")]
    pub embed: bool,
}
