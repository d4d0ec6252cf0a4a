//! Packages by name: `NAMESPACE:NAME@VERSION`, found where wkg would find them.
//!
//! wkg's own configuration says which registry a namespace belongs to, and the
//! registry says at a well-known address where in which OCI registry its packages are.
//!
//! Conventions: <https://github.com/bytecodealliance/wasm-pkg-tools>.
#![expect(
    clippy::disallowed_methods,
    reason = "this module reads another tool's configuration"
)]

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use cargo_metadata::semver::Version;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::environment;
use crate::error::Error;
use crate::json;
use crate::oci::tag_from_version;
use crate::registry::credentials::{Credential, Secret, one_host};
use crate::registry::failure::{Failure, describe};
use crate::registry::http::{Client, MAX_REPLY, read_body};
use crate::registry::reference::{Reference, Repository, canonical_host, is_loopback};
use crate::registry::remote::{Remote, Rights};
use crate::registry::session::{Request, Session};

const WELL_KNOWN: &str = "/.well-known/wasm-pkg/registry.json";
/// What a registry answers that has no such file, or guards all that it has.
const ABSENT: [StatusCode; 3] = [
    StatusCode::NOT_FOUND,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
];
const OCI: &str = "oci";
/// What wkg falls back on for two namespaces.
const FALLBACKS: &[(&str, &str)] = &[("wasi", "wasi.dev"), ("ba", "bytecodealliance.org")];

/// `NAMESPACE:NAME[@VERSION]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    namespace: String,
    name: String,
    version: Option<Version>,
}

impl FromStr for Package {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is no package: write NAMESPACE:NAME@VERSION, such as wasi:http@0.2.3")
        };
        let (id, version) = match text.split_once('@') {
            Some((id, version)) => (id, Some(version)),
            None => (text, None),
        };
        let (namespace, name) = id.split_once(':').ok_or_else(wrong)?;
        if !is_label(namespace) || !is_label(name) {
            return Err(wrong());
        }
        let version = version
            .map(|v| {
                v.parse()
                    .map_err(|e| format!("`{v}` is no semantic version: {e}"))
            })
            .transpose()?;
        Ok(Package {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version,
        })
    }
}

/// A kebab-case name: <https://github.com/WebAssembly/component-model/blob/main/design/mvp/WIT.md#identifiers>.
fn is_label(text: &str) -> bool {
    text.split('-').all(|word| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

/// The part of wkg's configuration that says where packages are.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    default_registry: Option<String>,
    namespace_registries: HashMap<String, toml::Value>,
    package_registry_overrides: HashMap<String, toml::Value>,
    registry: HashMap<String, RegistryTable>,
    /// `WKG_REGISTRY`, which comes before all of it.
    #[serde(skip)]
    chosen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RegistryTable {
    oci: OciTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OciTable {
    protocol: Option<String>,
    auth: Option<Auth>,
}

/// Holds a password.
#[derive(Deserialize)]
#[serde(transparent)]
struct Auth(toml::Value);

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth(…)")
    }
}

#[derive(Deserialize)]
struct NameAndPassword {
    username: String,
    password: String,
}

impl OciTable {
    /// The name and the password: in a table, or as `NAME:PASSWORD` in Base64.
    fn credential(&self) -> Option<Result<Credential, ()>> {
        let pair = match self.auth.as_ref()?.0.clone() {
            toml::Value::String(text) => {
                let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
                    .decode(text.trim().trim_end_matches('='));
                let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
                text.as_deref()
                    .and_then(|text| text.split_once(':'))
                    .map(|(name, password)| (name.to_owned(), password.to_owned()))
            }
            table => table
                .try_into::<NameAndPassword>()
                .ok()
                .map(|pair| (pair.username, pair.password)),
        };
        Some(
            pair.ok_or(())
                .map(|(username, password)| Credential::Password {
                    username,
                    password: Secret::new(password),
                }),
        )
    }
}

/// What a registry says about itself, or a configuration in its place.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    preferred_protocol: Option<String>,
    oci: Option<OciMetadata>,
    oci_registry: Option<String>,
    oci_namespace_prefix: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OciMetadata {
    registry: Option<String>,
    namespace_prefix: Option<String>,
}

impl Config {
    /// Reads the user's configuration of wkg: `WKG_CONFIG_FILE`, else
    /// `wasm-pkg/config.toml` in the folder for configurations; empty where there is none.
    /// `WKG_REGISTRY` names one registry for all packages.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Usage`].
    pub fn of_user() -> Result<Self, Error> {
        use etcetera::BaseStrategy;
        let named = std::env::var_os("WKG_CONFIG_FILE")
            .filter(|v| !v.is_empty())
            .map(PathBuf::from);
        let explicit = named.is_some();
        let path = named.or_else(|| {
            let base = etcetera::choose_base_strategy().ok()?;
            Some(base.config_dir().join("wasm-pkg").join("config.toml"))
        });
        let path = path.unwrap_or_default();
        let config: Result<Self, Error> = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|e| Error::Usage {
                // The whole text could quote a secret.
                message: format!(
                    "`{}` is no configuration of wkg: {}",
                    path.display(),
                    e.message()
                ),
                hint: None,
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !explicit => Ok(Self::default()),
            Err(e) => Err(Error::io("read", path)(e)),
        };
        Ok(Config {
            chosen: environment::text("WKG_REGISTRY")?,
            ..config?
        })
    }

    /// What it gives a package's registry to be let in with. What stands under the name of
    /// another one than that of its OCI registry counts where this configuration has joined
    /// the two, and not where the registry itself names somebody else.
    fn credential(
        &self,
        registry: &str,
        host: &str,
        fetched: bool,
    ) -> Result<Option<Credential>, Error> {
        let names = [Some(host), Some(registry).filter(|_| !fetched)];
        let found = names.into_iter().flatten().find_map(|name| {
            let name = canonical_host(name)?;
            let mut tables = self.registry.iter();
            let table = tables.find(|(key, _)| canonical_host(key).as_ref() == Some(&name));
            table?.1.oci.credential()
        });
        found.transpose().map_err(|()| {
            Error::usage(format!(
                "what wkg's configuration gives to log in to {registry} makes no sense"
            ))
        })
    }

    /// Registries that it says are spoken to without TLS.
    #[must_use]
    pub fn plain_http(&self) -> Vec<String> {
        self.registry
            .iter()
            .filter(|(_, table)| table.oci.protocol.as_deref() == Some("http"))
            .map(|(host, _)| host.clone())
            .collect()
    }

    /// The registry that a package belongs to, and its metadata where they stand here.
    fn registry_of(&self, package: &Package) -> Result<(String, Option<Metadata>), Error> {
        if let Some(registry) = &self.chosen {
            return Ok((registry.clone(), None));
        }
        let id = format!("{}:{}", package.namespace, package.name);
        let mapping = self
            .package_registry_overrides
            .get(&id)
            .or_else(|| self.namespace_registries.get(&package.namespace));
        match mapping {
            Some(toml::Value::String(registry)) => return Ok((registry.clone(), None)),
            Some(toml::Value::Table(table)) => {
                let registry = table.get("registry").and_then(toml::Value::as_str);
                let metadata = table
                    .get("metadata")
                    .cloned()
                    .map(toml::Value::try_into::<Metadata>);
                if let (Some(registry), Some(Ok(metadata))) = (registry, metadata) {
                    return Ok((registry.to_owned(), Some(metadata)));
                }
            }
            Some(_) => {}
            None => {
                let fallback = FALLBACKS
                    .iter()
                    .find(|(n, _)| *n == package.namespace)
                    .map(|(_, r)| (*r).to_owned());
                return self.default_registry.clone().or(fallback).map(|r| (r, None)).ok_or_else(|| Error::Usage {
                    message: format!("no registry is known for the namespace `{}`", package.namespace),
                    hint: Some(format!(
                        "add one to wkg's config.toml: [namespace_registries] {} = \"registry.example\"",
                        package.namespace
                    )),
                });
            }
        }
        Err(Error::usage(format!(
            "wkg's configuration of `{id}` makes no sense"
        )))
    }

    /// Finds out what reference a package has. Without a version it is the highest
    /// one that is no prerelease.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] or [`Error::Registry`].
    pub async fn locate(
        &self,
        package: &Package,
        client: &Arc<Client>,
    ) -> Result<Reference, Error> {
        let (registry, metadata) = self.registry_of(package)?;
        let fetched = metadata.is_none();
        let metadata = match metadata {
            Some(metadata) => metadata,
            None => fetch_metadata(client, &registry).await?,
        };
        if let Some(protocol) = metadata.preferred_protocol.as_deref().filter(|p| *p != OCI) {
            return Err(Error::Registry {
                message: format!(
                    "{registry} serves packages by `{}`, not by OCI",
                    crate::registry::failure::printable(protocol)
                ),
                hint: None,
            });
        }
        let oci = metadata.oci.unwrap_or_default();
        let host = oci.registry.or(metadata.oci_registry);
        let host = host.unwrap_or_else(|| registry.clone());
        // The prefix is joined as it is.
        let prefix = oci
            .namespace_prefix
            .or(metadata.oci_namespace_prefix)
            .unwrap_or_default();
        let repository = Repository::parse(&format!(
            "{host}/{prefix}{}/{}",
            package.namespace, package.name
        ))
        .map_err(|error| {
            if !fetched {
                return error;
            }
            let why = crate::registry::failure::printable(&error.to_string());
            Error::Registry {
                message: format!(
                    "{registry} says where its packages are, and it makes no sense: {why}"
                ),
                hint: None,
            }
        })?;
        if fetched && client.options.credential.is_some() && repository.host() != registry {
            return Err(one_host([&registry, repository.host()]));
        }
        if let Some(credential) = self.credential(&registry, repository.host(), fetched)? {
            client.configure(repository.host(), credential);
        }
        let tag = match &package.version {
            Some(version) => tag_from_version(&version.to_string()),
            None => highest(client, &repository).await?,
        };
        Ok(Reference {
            repository,
            tag: Some(tag),
            digest: None,
        })
    }
}

async fn fetch_metadata(client: &Arc<Client>, registry: &str) -> Result<Metadata, Error> {
    crate::registry::reference::parse_host(registry).or_else(|e| {
        if is_loopback(registry) {
            Ok(String::new())
        } else {
            Err(e)
        }
    })?;
    let session = Session::new(Arc::clone(client), registry, Vec::new(), None);
    let reply = session
        .send(&Request::new(Method::GET, WELL_KNOWN), |s| {
            s.is_success() || ABSENT.contains(&s)
        })
        .await;
    let reply = match reply {
        Ok(reply) if reply.status().is_success() => reply,
        Ok(_) => return Ok(Metadata::default()),
        // What it asks for is not given to whoever answers here.
        Err(failure) if failure.status.is_some_and(|s| ABSENT.contains(&s)) => {
            return Ok(Metadata::default());
        }
        Err(failure) => return Err(failure.into()),
    };
    let what = describe(&Method::GET, reply.url());
    let body = read_body(&what, reply, MAX_REPLY, client.options.timeout).await?;
    json::object(&body).map_err(|why| {
        Failure::protocol(
            what,
            format!("the registry's metadata make no sense: {why}"),
        )
        .into()
    })
}

async fn highest(client: &Arc<Client>, repository: &Repository) -> Result<String, Error> {
    let tags = Remote::open(client, repository, Rights::Pull)?
        .tags()
        .await?;
    tags.into_iter()
        .filter_map(|tag| Some((tag.replace('_', "+").parse::<Version>().ok()?, tag)))
        .filter(|(version, _)| version.pre.is_empty())
        .max()
        .map(|(_, tag)| tag)
        .ok_or_else(|| Error::Registry {
            message: format!("{repository} has no released version"),
            hint: Some("name a version: NAMESPACE:NAME@VERSION".into()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_packages() {
        let package: Package = "wasi:http@0.2.3".parse().unwrap();
        assert_eq!(
            (package.namespace.as_str(), package.name.as_str()),
            ("wasi", "http")
        );
        assert!(
            "my-org:my-lib2"
                .parse::<Package>()
                .unwrap()
                .version
                .is_none()
        );
        for wrong in [
            "",
            "wasi",
            "wasi:",
            ":http",
            "wasi:http@",
            "wasi:http@1",
            "a/b:c",
            "a:b/c",
            "a-:b",
            "1a:b",
        ] {
            assert!(wrong.parse::<Package>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn follows_wkgs_configuration() {
        let config: Config = toml::from_str(
            r#"
            default_registry = "default.example"
            [namespace_registries]
            plain = "plain.example"
            full = { registry = "x", metadata = { preferredProtocol = "oci", oci = { registry = "localhost:5000", namespacePrefix = "pre/" } } }
            [package_registry_overrides]
            "plain:special" = "special.example"
            [registry."localhost:5000".oci]
            protocol = "http"
            [registry."r.example"]
            default = "warg"
            "#,
        )
        .unwrap();
        let registry = |id: &str| config.registry_of(&id.parse().unwrap()).unwrap();
        assert_eq!(registry("plain:x").0, "plain.example");
        assert_eq!(registry("plain:special").0, "special.example");
        assert_eq!(registry("other:x").0, "default.example");
        let (_, metadata) = registry("full:x");
        assert_eq!(
            metadata.unwrap().oci.unwrap().namespace_prefix.as_deref(),
            Some("pre/")
        );
        assert_eq!(config.plain_http(), ["localhost:5000"]);
        let empty = Config::default();
        assert_eq!(
            empty.registry_of(&"wasi:http".parse().unwrap()).unwrap().0,
            "wasi.dev"
        );
        assert!(
            empty
                .registry_of(&"mine:x".parse().unwrap())
                .unwrap_err()
                .hint()
                .is_some()
        );
    }
}
