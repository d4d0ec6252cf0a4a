//! Names: where an artifact is, or is going to be.
//!
//! Parsed once, so that nothing behind this module handles a reference as text.
//! The grammar is that of the distribution spec, with one thing more: the registry
//! has to be named, since a build that leaves it out would go to a public one.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>.

use std::fmt;
use std::net::IpAddr;

use crate::error::Error;
use crate::oci::Digest;

/// What stands before the path of an image layout.
pub const LAYOUT_PREFIX: &str = "oci:";
/// The tag of a reference that names none.
pub const LATEST: &str = "latest";

/// The longest path: more is too much for the databases of some registries.
const MAX_PATH: usize = 255;
/// The one name of the Docker Hub.
pub const DOCKER_HUB: &str = "docker.io";
/// What else it answers to.
pub const DOCKER_HUB_HOSTS: [&str; 3] = [
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
];

/// `HOST[:PORT]/PATH`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    host: String,
    path: String,
}

impl Repository {
    /// Parses `HOST/PATH`. Upper-case letters are lowered, as no registry takes
    /// them: compare with the text to tell the user.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], with what to write instead.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let reference = Reference::parse(text)?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err(Error::Usage {
                message: format!("`{text}` names more than a repository"),
                hint: Some(format!(
                    "write {}, and the tag with --tag",
                    reference.repository
                )),
            });
        }
        Ok(reference.repository)
    }

    /// The registry, in its one spelling: a host, and its port where it is an unusual one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository's path in the registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The last part of the path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The repository in the same registry with `suffix` behind its path.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> Self {
        Repository {
            host: self.host.clone(),
            path: format!("{}{suffix}", self.path),
        }
    }

    /// `HOST/PATH@DIGEST`.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> String {
        format!("{self}@{digest}")
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

/// A repository with a tag, a digest, both or neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The repository.
    pub repository: Repository,
    /// The tag.
    pub tag: Option<String>,
    /// The digest; where there is one, the tag is there for people alone.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses `HOST/PATH[:TAG][@DIGEST]`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], with what to write instead.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |message: String, hint: Option<&str>| Error::Usage {
            message,
            hint: hint.map(str::to_owned),
        };
        refuse_credentials(text)?;
        for scheme in ["https://", "http://", "docker://", "oci://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                let plain = if scheme == "http://" {
                    ", with --plain-http"
                } else {
                    ""
                };
                return Err(wrong(
                    format!("`{text}` begins with a scheme"),
                    Some(&format!("write {rest}{plain}")),
                ));
            }
        }
        let (host, rest) = text
            .split_once('/')
            .and_then(|(host, rest)| Some((canonical_host(host)?, rest)))
            .ok_or_else(|| {
                wrong(
                    format!("`{text}` does not name a registry"),
                    Some("write HOST/PATH, such as ghcr.io/acme/demo or localhost:5000/demo"),
                )
            })?;
        // The name alone is lowered: tags may have upper case.
        let name_ends = rest.find([':', '@']).unwrap_or(rest.len());
        let (path, version) = rest.split_at(name_ends);
        let path = path.to_ascii_lowercase();
        let malformed = |what: &str| {
            wrong(
                format!("`{text}` is no reference: {what}"),
                Some("a reference is HOST/PATH:TAG or HOST/PATH@sha256:…, the path in lower case"),
            )
        };
        let path = match host.as_str() {
            // What has no owner there belongs to the hub itself.
            DOCKER_HUB if !path.contains('/') => format!("library/{path}"),
            _ => path,
        };
        if path.len() > MAX_PATH {
            return Err(wrong(
                format!(
                    "`{text}`: the path is too long: it has {} characters, and registries take {MAX_PATH}",
                    path.len()
                ),
                Some("choose a shorter one"),
            ));
        }
        if !is_path(&path) {
            return Err(wrong(
                format!("`{text}`: registries do not take the path `{path}`"),
                Some(
                    "a path has parts of letters and digits with `.`, `_`, `__` or `-` between them, separated by `/`",
                ),
            ));
        }
        let (tag, digest) = match version.split_once('@') {
            Some((tag, digest)) => (tag, Some(digest)),
            None => (version, None),
        };
        let tag = match tag.strip_prefix(':') {
            Some(tag) if is_tag(tag) => Some(tag.to_owned()),
            None if tag.is_empty() => None,
            _ => return Err(malformed("what stands behind the path is no tag")),
        };
        let digest = digest.map(str::parse).transpose().map_err(|e: String| {
            wrong(e, Some("digests are sha256: and 64 lower-case hex digits"))
        })?;
        Ok(Reference {
            repository: Repository { host, path },
            tag,
            digest,
        })
    }

    /// What stands in a request: the digest, else the tag, else `latest`.
    #[must_use]
    pub fn version(&self) -> &str {
        self.digest
            .as_ref()
            .map(Digest::as_str)
            .or(self.tag.as_deref())
            .unwrap_or(LATEST)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            Some(digest) => write!(f, "{}@{digest}", self.repository),
            None => write!(f, "{}:{}", self.repository, self.version()),
        }
    }
}

/// Refuses `USER:PASSWORD@HOST/PATH`, and repeats none of it. Behind the one `@` that a
/// reference may have stands a digest, and never a path.
///
/// # Errors
///
/// [`Error::Usage`] that says how to log in.
pub fn refuse_credentials(text: &str) -> Result<(), Error> {
    let Some((before, behind)) = text.rsplit_once('@') else {
        return Ok(());
    };
    let bare = before.split_once("://").map_or(before, |(_, rest)| rest);
    let digest = ["sha256:", "sha512:"].iter().any(|a| behind.starts_with(a));
    if behind.contains('/') || (!bare.contains('/') && !digest) {
        return Err(Error::Usage {
            message: "what stands before the `@` is no part of a reference: it holds no user and no password".into(),
            hint: Some(
                "write HOST/PATH; give them with --username NAME --password-stdin, or once with cargo edgepack login HOST"
                    .into(),
            ),
        });
    }
    Ok(())
}

/// The one spelling of a registry's name, so that nothing that is said of a registry is
/// passed by writing it in another way: lower case, addresses in their usual form, without
/// the port that needs no name, and the Docker Hub as `docker.io`. None where the first
/// part of a reference is a folder and no registry.
#[must_use]
pub fn canonical_host(text: &str) -> Option<String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port))
            if !name.ends_with(':') && (!name.contains(':') || name.ends_with(']')) =>
        {
            (name, Some(port))
        }
        _ => (text, None),
    };
    if port.is_some_and(|p| p.starts_with(['0', '+']) || p.parse::<u16>().is_err()) {
        return None;
    }
    if !is_host_name(name, port.is_some()) {
        return None;
    }
    // `127.1` and `0x7f.0.0.1` are addresses too.
    let url = reqwest::Url::parse(&format!("https://{name}/")).ok()?;
    let name = match url.host_str()? {
        name if DOCKER_HUB_HOSTS.contains(&name) => DOCKER_HUB,
        name => name,
    };
    Some(match port {
        // On this machine it tells a registry with TLS from one without.
        Some("443") if !is_loopback(name) => name.to_owned(),
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    })
}

fn is_host_name(name: &str, has_port: bool) -> bool {
    if let Some(inner) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let labels = name.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    labels && (name.contains('.') || has_port || name.eq_ignore_ascii_case("localhost"))
}

/// A registry's host, as `login` takes it, in its one spelling.
///
/// # Errors
///
/// [`Error::Usage`].
pub fn parse_host(text: &str) -> Result<String, Error> {
    refuse_credentials(text)?;
    canonical_host(text).ok_or_else(|| Error::Usage {
        message: format!("`{text}` is no registry"),
        hint: Some("write its host alone, such as ghcr.io or localhost:5000".into()),
    })
}

/// Whether a host, with or without a port, is this machine: plain HTTP does not
/// leave it.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit())
                && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The host that answers for a registry's name.
#[must_use]
pub fn api_host(host: &str) -> &str {
    match host {
        DOCKER_HUB => "registry-1.docker.io",
        host => host,
    }
}

/// Whether a path is one that registries take: the spec's expression, which takes
/// a regex engine tens of milliseconds to compile.
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>
fn is_path(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |part: &str| {
        let ends = part.starts_with(is_word) && part.ends_with(is_word);
        let mut separators = part.split(is_word).filter(|s| !s.is_empty());
        ends && separators.all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
    };
    text.split('/').all(is_part)
}

/// Whether a tag is one that registries take.
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>
#[must_use]
pub fn is_tag(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_registries_take() {
        let digest = Digest::of(b"x");
        for (text, host, path, version) in [
            ("ghcr.io/acme/demo", "ghcr.io", "acme/demo", "latest"),
            ("ghcr.io/acme/demo:1.2.3", "ghcr.io", "acme/demo", "1.2.3"),
            ("GHCR.io/Acme/Demo:RC1", "ghcr.io", "acme/demo", "RC1"),
            ("localhost/demo", "localhost", "demo", "latest"),
            (
                "r.example/a-b/c__d/e.f_g--h",
                "r.example",
                "a-b/c__d/e.f_g--h",
                "latest",
            ),
            ("localhost:5000/a/b:t", "localhost:5000", "a/b", "t"),
            ("[::1]:5000/a:t", "[::1]:5000", "a", "t"),
            ("docker.io/demo:1", "docker.io", "library/demo", "1"),
            // One registry has one name.
            (
                "Index.Docker.io/demo",
                "docker.io",
                "library/demo",
                "latest",
            ),
            ("registry-1.docker.io:443/a/b", "docker.io", "a/b", "latest"),
            ("registry.hub.docker.com/a/b", "docker.io", "a/b", "latest"),
            ("ghcr.io:443/acme/demo", "ghcr.io", "acme/demo", "latest"),
            ("localhost:443/demo", "localhost:443", "demo", "latest"),
            ("127.1:5000/a", "127.0.0.1:5000", "a", "latest"),
            ("0xa.0.0.1/a", "10.0.0.1", "a", "latest"),
            ("[0:0::0001]:5000/a", "[::1]:5000", "a", "latest"),
            (
                &format!("r.example/a@{digest}"),
                "r.example",
                "a",
                digest.as_str(),
            ),
            (
                &format!("r.example/a:1@{digest}"),
                "r.example",
                "a",
                digest.as_str(),
            ),
        ] {
            let parsed = Reference::parse(text).unwrap();
            assert_eq!(
                (
                    parsed.repository.host(),
                    parsed.repository.path(),
                    parsed.version()
                ),
                (host, path, version),
                "{text}"
            );
        }
    }

    #[test]
    fn credentials_are_not_repeated() {
        for text in [
            "user:hunter2@ghcr.io/a/b",
            "user:hunter2@ghcr.io/a/b:1",
            "https://user:hunter2@ghcr.io/a/b",
            "user:hunter2@ghcr.io",
            "user:hun/hunter2@ghcr.io/a/{nmae}",
        ] {
            let error = Reference::parse(text).unwrap_err();
            assert!(!format!("{error} {:?}", error.hint()).contains("hunter2"));
            assert!(error.hint().unwrap().contains("login"), "{error}");
        }
        let error = Reference::parse(&format!("ghcr.io/{}", "a".repeat(300))).unwrap_err();
        assert!(
            error.to_string().contains("too long: it has 300"),
            "{error}"
        );
    }

    #[test]
    fn refuses_the_rest_with_a_hint() {
        for text in [
            "",
            "demo",
            "acme/demo",
            "/demo",
            "ghcr.io/",
            "ghcr.io",
            "https://ghcr.io/acme/demo",
            "ghcr.io/acme demo",
            "ghcr.io/acme/demo:",
            "ghcr.io/acme/demo:a/b",
            "ghcr.io/acme/../demo",
            "ghcr.io/acme//demo",
            "ghcr.io/acme/demo/",
            "ghcr.io/acme/a..b",
            "ghcr.io/acme/a___b",
            "ghcr.io/acme/-b",
            "ghcr.io/acme/é",
            &format!("ghcr.io/{}", "a".repeat(256)),
            "ghcr.io/acme/demo@sha256:12",
            "ghcr.io/acme/demo@sha512:00",
            "ghcr.io:99999/demo",
            "ghcr.io:0443/demo",
            "ghcr.io:+443/demo",
            "127.0.0.1:05000/demo",
            "localhost:0/demo",
            "ghcr.io./demo",
            "-x.example/demo",
        ] {
            let error = Reference::parse(text).unwrap_err();
            assert!(error.hint().is_some(), "{text}: {error}");
            assert_eq!(error.exit_code(), crate::exit_code::USAGE);
        }
        assert!(Repository::parse("ghcr.io/a/b:1").is_err());
    }

    #[test]
    fn knows_this_machine() {
        for host in [
            "localhost",
            "localhost:1",
            "127.0.0.1:5000",
            "127.3.2.1",
            "[::1]:80",
            "a.localhost:5000",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "example.com",
            "10.0.0.1:5000",
            "localhost.example.com",
            "127.0.0.1.example.com",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
