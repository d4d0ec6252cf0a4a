//! What is known about a registry while it is spoken to: how, what it asks for, and which
//! addresses are its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use reqwest::Url;

use crate::registry::auth::Challenge;
use crate::registry::failure::Failure;
use crate::registry::reference::{api_host, canonical_host, is_loopback};

/// What is known about a registry.
#[derive(Debug)]
pub struct Host {
    pub(super) name: String,
    plain_allowed: bool,
    /// Addresses, its own or not, that were named for plain HTTP.
    plain: Vec<Url>,
    scheme: Mutex<Scheme>,
    challenge: Mutex<Option<Challenge>>,
    ignores_mounts: AtomicBool,
}

/// How it is spoken to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scheme {
    /// `http` or `https`.
    pub value: &'static str,
    /// Whether it was found out, or is settled.
    pub certain: bool,
}

impl Host {
    /// A registry that nothing is known about yet. It is spoken to without TLS where
    /// it is one of the hosts that are named for that, `plain`, or on this machine.
    #[must_use]
    pub fn new(name: &str, plain: &[String], tls_first: bool) -> Self {
        let loopback = is_loopback(name);
        let named = plain
            .iter()
            .any(|h| h == name || canonical_host(h).is_some_and(|h| h == name));
        let addresses = plain.iter().map(|h| Url::parse(&format!("http://{h}/")));
        Host {
            name: name.to_owned(),
            plain_allowed: named || loopback,
            plain: addresses.flatten().collect(),
            scheme: Mutex::new(Scheme {
                value: if named || (loopback && !tls_first) {
                    "http"
                } else {
                    "https"
                },
                certain: named || !loopback,
            }),
            challenge: Mutex::default(),
            ignores_mounts: AtomicBool::new(false),
        }
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_near(&self) -> bool {
        is_loopback(&self.name)
    }

    /// Whether it was seen to begin an upload where it was asked to mount what it has.
    #[must_use]
    pub fn ignores_mounts(&self) -> bool {
        self.ignores_mounts.load(Ordering::Relaxed)
    }

    /// Notes that it was.
    pub fn set_ignores_mounts(&self) {
        self.ignores_mounts.store(true, Ordering::Relaxed);
    }

    pub(super) fn scheme(&self) -> Scheme {
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_scheme(&self, value: &'static str, certain: bool) {
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Scheme { value, certain };
    }

    pub(super) fn challenge(&self) -> Option<Challenge> {
        self.challenge
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_challenge(&self, challenge: &Challenge) {
        let mut slot = self
            .challenge
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *slot = Some(challenge.clone());
    }

    /// The address of a path in the registry.
    pub(super) fn url(&self, path: &str) -> Result<Url, Failure> {
        let text = format!("{}://{}{path}", self.scheme().value, api_host(&self.name));
        Url::parse(&text).map_err(|e| Failure::protocol(text, e.to_string()))
    }

    /// Whether an address that the registry gave may be gone to.
    pub(super) fn allows(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => true,
            "http" => {
                let host = url.host_str().unwrap_or_default();
                let mut plain = self.plain.iter();
                self.plain_allowed
                    && self.scheme().value == "http"
                    && (self.is_own(url)
                        || is_loopback(host)
                        || plain.any(|named| named.origin() == url.origin()))
            }
            _ => false,
        }
    }

    /// What to do about an address that may not be gone to.
    pub(super) fn way_out(&self, url: &Url) -> Option<String> {
        let host = url.host_str().filter(|_| url.scheme() == "http")?;
        let own = self.url("/").ok()?;
        if own.scheme() == "https" && own.host_str() == Some(host) {
            return Some(
                "the registry does not know that it is reached by TLS: have the proxy before it send \
                 `X-Forwarded-Proto: https`, or the registry name relative addresses (`http.relativeurls` of docker-registry)"
                    .into(),
            );
        }
        (own.scheme() == "http").then(|| {
            let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
            format!(
                "where you trust {host}{port} without TLS too, name it in `publish.plain-http` or EDGEPACK_PUBLISH_PLAIN_HTTP"
            )
        })
    }

    pub(super) fn is_own(&self, url: &Url) -> bool {
        self.url("/").is_ok_and(|own| own.origin() == url.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_needs_no_name_is_the_same_place() {
        for (name, plain, given, own) in [
            ("r.example:443", false, "https://r.example/v2/", true),
            ("r.example", false, "https://r.example:443/v2/", true),
            ("r.example:80", true, "http://r.example/v2/", true),
            ("r.example", false, "https://r.example:444/v2/", false),
            ("r.example:443", false, "https://s.example/v2/", false),
            ("docker.io", false, "https://registry-1.docker.io/v2/", true),
            ("docker.io", false, "https://docker.io/v2/", false),
        ] {
            let named = if plain { &[name.to_owned()][..] } else { &[] };
            let host = Host::new(name, named, false);
            let given = Url::parse(given).unwrap();
            assert_eq!(host.is_own(&given), own, "{name} {given}");
            assert_eq!(host.allows(&given), own || !plain, "{name} {given}");
        }
    }

    #[test]
    fn hosts_without_tls_that_are_named() {
        let plain = ["r.example:5000", "s.example", "T.example:9000"].map(str::to_owned);
        for (name, given, allowed, way_out) in [
            ("r.example:5000", "http://s.example/x", true, ""),
            ("r.example:5000", "http://t.example:9000/x", true, ""),
            (
                "r.example:5000",
                "http://t.example/x",
                false,
                "t.example without",
            ),
            (
                "r.example:5000",
                "http://u.example:81/",
                false,
                "u.example:81 without",
            ),
            ("r.example:5000", "ftp://s.example/x", false, ""),
            // What comes by TLS stays there.
            ("u.example", "http://s.example/x", false, ""),
            ("u.example", "http://u.example/x", false, "X-Forwarded"),
            ("u.example:444", "http://u.example/x", false, "relativeurls"),
        ] {
            let host = Host::new(name, &plain, false);
            let given = Url::parse(given).unwrap();
            assert_eq!(host.allows(&given), allowed, "{name} {given}");
            let said = host.way_out(&given).unwrap_or_default();
            let fits = allowed || (said.contains(way_out) && said.is_empty() == way_out.is_empty());
            assert!(fits, "{name} {given}: {said}");
        }
    }
}
