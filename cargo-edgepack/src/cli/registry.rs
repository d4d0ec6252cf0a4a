//! The commands that speak to registries.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use edgepack::registry::reference::LAYOUT_PREFIX;

use super::cargo::OF_A_PROJECT;
use super::{
    BuildFlags, Comparing, Demands, ProvenanceSwitch, Reporting, Results, SbomSwitch, Signing,
};

/// `publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// A .wasm file to take in place of a Rust project, or `oci:DIR:TAG` for what an
    /// OCI image layout holds, as it is; several may be given.
    #[arg(id = "file", value_name = "FILE", conflicts_with_all = OF_A_PROJECT)]
    pub sources: Vec<String>,
    /// Where it goes.
    #[command(flatten)]
    pub publishing: Publishing,
    /// How to sign.
    #[command(flatten)]
    pub signing: Signing,
    /// Whether an SBOM is attested.
    #[command(flatten)]
    pub sbom: SbomSwitch,
    /// Whether provenance is.
    #[command(flatten)]
    pub provenance: ProvenanceSwitch,
    /// How to speak to the registry.
    #[command(flatten)]
    pub access: Access,
    /// How to build.
    #[command(flatten)]
    pub build: BuildFlags,
    /// What it is compared with.
    #[command(flatten)]
    pub comparing: Comparing,
    /// What is reported.
    #[command(flatten)]
    pub reporting: Results,
}

/// Where artifacts go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Publishing")]
pub struct Publishing {
    /// The repository, as HOST/PATH; {name} and {variant} are filled in.
    #[arg(long, value_name = "HOST/PATH")]
    pub repository: Option<String>,
    /// A tag, where {version}, {major}, {minor}, {patch} and {name} are filled in;
    /// may be repeated [default: {version}, or latest where there is no version].
    #[arg(
        short,
        long = "tag",
        visible_alias = "tags",
        value_name = "TAG",
        value_delimiter = ','
    )]
    pub tags: Option<Vec<String>>,
    /// Build and say what would be pushed; ask no registry.
    #[arg(long)]
    pub dry_run: bool,
    /// Write into this OCI image layout in place of a registry.
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new().map(layout_folder))]
    pub oci_layout: Option<PathBuf>,
    /// Where this artifact is there already, leave tags such as `latest` to what they name.
    #[arg(long)]
    pub skip_existing: bool,
    /// Move tags that name another artifact.
    #[arg(long)]
    pub force: bool,
}

/// The folder, where it is named as a reference names it.
fn layout_folder(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|p| p.strip_prefix(LAYOUT_PREFIX)) {
        Some(folder) => folder.into(),
        None => path,
    }
}

/// How to speak to a registry. Credentials come from docker's and podman's files
/// where none are given.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registry")]
pub struct Access {
    /// The name to log in with, for this run alone.
    #[arg(short, long, value_name = "NAME", requires = "password_stdin")]
    pub username: Option<String>,
    /// Read the password from stdin.
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
    #[command(flatten)]
    pub transport: Transport,
}

/// TLS, or none.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registry")]
pub struct Transport {
    /// Speak HTTP without TLS to the registries named; on this machine it is found out.
    #[arg(long)]
    pub plain_http: bool,
    /// Trust the certificates in this PEM file too; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Vec<PathBuf>,
}

/// `pull`.
#[derive(Debug, Args)]
pub struct Pull {
    /// HOST/PATH:TAG, HOST/PATH@DIGEST, or `oci:DIR:TAG` for an OCI image layout.
    #[arg(
        value_name = "REF",
        required_unless_present_any = ["package", "policy"],
        conflicts_with = "package"
    )]
    pub reference: Option<String>,
    /// A package by its name, found where wkg would find it.
    #[arg(long, value_name = "NAMESPACE:NAME@VERSION")]
    pub package: Option<edgepack::registry::package::Package>,
    /// Where the module goes; `-` stands for stdout.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Write nothing unless this holds.
    #[command(flatten)]
    pub demands: Demands,
    /// How to speak to the registry.
    #[command(flatten)]
    pub access: Access,
    /// What is reported.
    #[command(flatten)]
    pub reporting: Reporting,
}

/// `login`.
#[derive(Debug, Args)]
pub struct Login {
    /// The registry's host.
    #[arg(value_name = "HOST")]
    pub host: String,
    /// The name.
    #[arg(short, long, value_name = "NAME")]
    pub username: String,
    /// Read the password from stdin, the only way to give it.
    #[arg(long, required = true)]
    pub password_stdin: bool,
    #[command(flatten)]
    pub transport: Transport,
}

/// `logout`.
#[derive(Debug, Args)]
pub struct Logout {
    /// The registry's host.
    #[arg(value_name = "HOST")]
    pub host: String,
}
