//! Signs with an identity: a certificate for a new key, an entry in the log, a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::Url;
use sigstore_sign::crypto::parse_certificate_info;
use sigstore_sign::oidc::IdentityToken;
use sigstore_sign::trust_root::SigningConfig;
use sigstore_sign::types::Bundle;
use sigstore_sign::{Error as Failed, SigningContext, SigningServices};
use tokio::sync::OnceCell;

use super::Settings;
use super::root::{self, Root};
use super::token::{self, Token};
use crate::error::Error;
use crate::oci::Digest;
use crate::registry::failure::{Failure, printable};
use crate::registry::http::Client;
use crate::registry::reference::is_loopback;
use crate::sign::trust::{Identity, Pattern, SignedBy, Trust};

/// A token that ends sooner is not used.
const MARGIN: u64 = 5;
/// How often services are tried again.
const RETRIES: u32 = 2;

/// What is signed.
enum What<'a> {
    /// A statement about a manifest.
    Statement(&'a [u8], &'a Digest),
    /// The bytes of a file.
    File(&'a [u8]),
}

/// Who signs without a key.
pub struct Keyless {
    settings: Settings,
    client: Arc<Client>,
    given: Option<(SigningServices, Option<Root>)>,
    public: OnceCell<(SigningServices, Option<Root>)>,
    token: tokio::sync::Mutex<Option<Token>>,
    signed_by: Mutex<Option<SignedBy>>,
}

impl std::fmt::Debug for Keyless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyless({:?})", self.settings)
    }
}

impl Keyless {
    /// Reads the files that settings name, and the token where it is at hand; nothing is
    /// asked for yet.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Usage`] where a file is not what it should be;
    /// [`Error::Signature`] where the token is none.
    pub fn new(settings: Settings, client: Arc<Client>) -> Result<Self, Error> {
        let given = match (&settings.signing_config, &settings.trusted_root) {
            (Some(config), trusted) => {
                let unusable =
                    |why: String| root::unusable(config, "signing config", "signing-config", &why);
                let text = root::read(config)?;
                let parsed =
                    SigningConfig::from_json(&text).map_err(|e| unusable(e.to_string()))?;
                let services = services(&parsed).map_err(unusable)?;
                let root = trusted.as_deref().map(Root::read).transpose()?;
                Some((services, root))
            }
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Error::Usage {
                    message: "--trusted-root says whom to trust, and not where to sign".into(),
                    hint: Some("name the services to sign with: --signing-config FILE".into()),
                });
            }
        };
        let token = settings.token.read()?;
        if let Some(token) = &token {
            check_time(token, &settings)?;
        }
        Ok(Keyless {
            settings,
            client,
            given,
            public: OnceCell::new(),
            token: tokio::sync::Mutex::new(token),
            signed_by: Mutex::default(),
        })
    }

    async fn services(&self) -> Result<&(SigningServices, Option<Root>), Error> {
        if let Some(given) = &self.given {
            return Ok(given);
        }
        self.public
            .get_or_try_init(|| async {
                let (root, config) = root::public(&self.client).await?;
                let services = services(&config).map_err(|why| Error::Signature {
                    message: format!("the public instance of Sigstore cannot be used: {why}"),
                    hint: Some(
                        "a newer version may know it; --signing-config names another one".into(),
                    ),
                })?;
                Ok((services, Some(root)))
            })
            .await
    }

    /// The token; another one where it has ended and there is a way to get one.
    async fn token(&self) -> Result<Token, Error> {
        let mut slot = self.token.lock().await;
        if let Some(token) = slot.as_ref().filter(|t| !t.expires_within(MARGIN)) {
            return Ok(token.clone());
        }
        let token = self.settings.token.fetch(&self.client).await?;
        check_time(&token, &self.settings)?;
        Ok(slot.insert(token).clone())
    }

    /// What accepts its signatures, where this is known beforehand.
    ///
    /// # Errors
    ///
    /// As [`Keyless::bundle`].
    pub async fn trust(&self) -> Result<Option<Trust>, Error> {
        let (_, Some(root)) = self.services().await? else {
            return Ok(None);
        };
        let token = self.token().await?;
        Ok(Some(Trust::Identity(Arc::new(Identity {
            subject: Pattern::Exact(token.subject()),
            issuer: Pattern::Exact(token.issuer().to_owned()),
            root: root.clone(),
        }))))
    }

    /// Who signs: whom its certificate named, or else is going to name.
    ///
    /// # Errors
    ///
    /// As [`Keyless::bundle`].
    pub async fn signed_by(&self) -> Result<SignedBy, Error> {
        let known = self.known().clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let token = self.token().await?;
        Ok(SignedBy::Certificate {
            identity: printable(&token.subject()),
            issuer: printable(token.issuer()),
        })
    }

    /// Signs a statement about this manifest; a bundle's bytes, which verify where there
    /// is a trusted root.
    ///
    /// # Errors
    ///
    /// [`Error::Registry`] where a service cannot be reached, [`Error::Signature`] where
    /// it refuses, or gives what does not verify.
    pub async fn bundle(&self, manifest: &Digest, statement: &[u8]) -> Result<Vec<u8>, Error> {
        self.make(&What::Statement(statement, manifest)).await
    }

    /// Signs a file's bytes; a bundle's bytes.
    ///
    /// # Errors
    ///
    /// As [`Keyless::bundle`].
    pub async fn bundle_of_file(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        self.make(&What::File(bytes)).await
    }

    async fn make(&self, what: &What<'_>) -> Result<Vec<u8>, Error> {
        let (services, root) = self.services().await?;
        let signed = self.sign(services, what).await?;
        let json = signed
            .to_json()
            .map_err(|e| Error::Internal(e.to_string()))?
            .into_bytes();
        let (subject, issuer) = named(&signed)?;
        if let Some(root) = root {
            let identity = Identity {
                subject: Pattern::Exact(subject.clone()),
                issuer: Pattern::Exact(issuer.clone()),
                root: root.clone(),
            };
            let checked = match what {
                What::Statement(statement, manifest) => {
                    root.check(&json, statement, manifest, &identity)
                }
                What::File(bytes) => root.check_file(&json, bytes, &identity),
            };
            checked.map_err(|why| Error::Signature {
                message: format!(
                    "what the services signed does not verify with the trusted root: {why}"
                ),
                hint: Some(
                    "check that --signing-config and --trusted-root are of the same Sigstore"
                        .into(),
                ),
            })?;
        }
        *self.known() = Some(SignedBy::Certificate {
            identity: printable(&subject),
            issuer: printable(&issuer),
        });
        Ok(json)
    }

    async fn sign(&self, services: &SigningServices, what: &What<'_>) -> Result<Bundle, Error> {
        let addresses = [
            Some(services.fulcio_url()),
            Some(services.rekor_url()),
            services.tsa_url(),
        ];
        let here = addresses.into_iter().flatten().all(is_here);
        // Replies are bounded by time alone: the crates call `Response::bytes`, and of
        // reqwest neither a client nor a layer of its connections can limit a body.
        let http = self.client.for_services(here)?;
        let context = SigningContext::new(services.clone()).with_http_client(http);
        let mut attempt = 0;
        loop {
            let token = self.token().await?;
            // Its words could repeat the token.
            let parsed = IdentityToken::from_jwt(token.reveal()).map_err(|_| Error::Signature {
                message: format!("{} lacks what Sigstore needs", self.settings.token.name()),
                hint: Some("ask its issuer for one with the audience `sigstore`".into()),
            })?;
            let signer = context.signer(parsed);
            let made = match what {
                What::Statement(statement, _) => signer.sign_raw_statement(statement).await,
                What::File(bytes) => signer.sign(*bytes).await,
            };
            let error = match made {
                Ok(bundle) => return Ok(bundle),
                Err(error) => explain(&error, services, &token),
            };
            if !matches!(error, Error::Registry { .. }) || attempt == RETRIES {
                return Err(error);
            }
            let failure = Failure::broken("signing without a key", error.to_string());
            self.client
                .back_off(failure, attempt)
                .await
                .map_err(|_| error)?;
            attempt += 1;
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<SignedBy>> {
        self.signed_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where to sign; each address is one that a token may be sent to.
fn services(config: &SigningConfig) -> Result<SigningServices, String> {
    let services = SigningServices::from_signing_config(config).map_err(|e| {
        let why = e.to_string();
        if why.contains("one service") {
            format!(r#"{why}: one of each kind is asked here, as with "selector": "ANY""#)
        } else {
            why
        }
    })?;
    let addresses = [
        Some(services.fulcio_url()),
        Some(services.rekor_url()),
        services.tsa_url(),
    ];
    for address in addresses.into_iter().flatten() {
        let url = Url::parse(address).map_err(|_| format!("`{address}` is no address"))?;
        token::require_secrecy(&url, address).map_err(|e| e.to_string())?;
    }
    Ok(services)
}

fn is_here(address: &str) -> bool {
    Url::parse(address).is_ok_and(|url| url.host_str().is_some_and(is_loopback))
}

fn check_time(token: &Token, settings: &Settings) -> Result<(), Error> {
    if token.expires_within(0) {
        return Err(Error::Signature {
            message: format!("{} is not valid any more", settings.token.name()),
            hint: Some("such tokens last some minutes: ask for a new one".into()),
        });
    }
    Ok(())
}

/// Whom a certificate names, and who vouches for it.
fn named(bundle: &Bundle) -> Result<(String, String), Error> {
    let info = bundle
        .signing_certificate()
        .and_then(|certificate| parse_certificate_info(certificate).ok())
        .ok_or_else(|| Error::Signature {
            message: "the certificate authority sent no certificate that makes sense".into(),
            hint: Some("check its address in the signing config".into()),
        })?;
    let subject = info.identity.as_ref().map_or("", |i| i.as_str());
    Ok((subject.to_owned(), info.issuer.unwrap_or_default()))
}

/// Which service failed, and whether it could not be reached or did not want to.
fn explain(error: &Failed, services: &SigningServices, token: &Token) -> Error {
    use {sigstore_sign::fulcio as ca, sigstore_sign::rekor as log, sigstore_sign::tsa};
    let (who, address, status) = match error {
        Failed::Fulcio(ca::Error::Http(_)) => {
            ("the certificate authority", services.fulcio_url(), None)
        }
        Failed::Fulcio(ca::Error::Status { status, .. }) => (
            "the certificate authority",
            services.fulcio_url(),
            Some(*status),
        ),
        Failed::Fulcio(_) => (
            "the certificate authority",
            services.fulcio_url(),
            Some(200),
        ),
        Failed::Rekor(log::Error::Http(_)) => ("the log", services.rekor_url(), None),
        Failed::Rekor(log::Error::Status { status, .. }) => {
            ("the log", services.rekor_url(), Some(*status))
        }
        Failed::Rekor(_) => ("the log", services.rekor_url(), Some(200)),
        // The crate does not tell a status from a connection that failed.
        Failed::Tsa(tsa::Error::Http(_)) => (
            "the timestamp authority",
            services.tsa_url().unwrap_or_default(),
            None,
        ),
        Failed::Tsa(_) => (
            "the timestamp authority",
            services.tsa_url().unwrap_or_default(),
            Some(200),
        ),
        _ => {
            return Error::Signature {
                message: format!(
                    "failed to sign: {}",
                    printable(&token.redact(&error.to_string()))
                ),
                hint: None,
            };
        }
    };
    // First out with the token, then short: a cut could leave a part of it.
    let words = printable(&token.redact(&error.to_string()));
    match status {
        None | Some(429 | 500..) => Error::Registry {
            message: format!("{who} {address} cannot be reached, or fails: {words}"),
            hint: Some(
                "try again later; a key (--key) signs without services, and publish --sign none does not sign"
                    .into(),
            ),
        },
        Some(300..400) => Error::Signature {
            message: format!("{who} {address} redirects, and an identity token is not sent elsewhere: {words}"),
            hint: Some("write the address that it redirects to into the signing config".into()),
        },
        Some(200) => Error::Signature {
            message: format!("the reply of {who} {address} makes no sense: {words}"),
            hint: Some("check the addresses in the signing config".into()),
        },
        Some(_) => Error::Signature {
            message: format!("{who} {address} refuses to take part: {words}"),
            hint: Some(
                if matches!(error, Failed::Fulcio(_)) {
                    "check that the token is for the audience `sigstore`, and that its issuer is known there"
                } else {
                    "check its address and its majorApiVersion in the signing config"
                }
                .into(),
            ),
        },
    }
}
