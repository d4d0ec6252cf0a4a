//! Glue for the commands that sign and verify.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use edgepack::config::{self, SignConfig};
use edgepack::environment;
use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::pack::Timestamp;
use edgepack::pull::Source;
use edgepack::registry::credentials::Secret;
use edgepack::registry::http::{Client, block_on};
use edgepack::registry::layout::LayoutReference;
use edgepack::registry::reference::{LAYOUT_PREFIX, Reference};
use edgepack::registry::remote::Rights;
use edgepack::sign::attach::{self, Signing};
use edgepack::sign::signer::Signer;
use edgepack::sign::source::{self as keys, KeySource};
use edgepack::sign::statement::Wanted;
use edgepack::sign::{Format, verify};
use edgepack::source;

use super::{App, registry};
use crate::cli::{Access, FormatArg, Keygen, Sign, SignMode, Verify};

/// What to sign each artifact with: flags over variables over configuration. A key is
/// opened once, however many artifacts it signs.
pub(super) struct Signers {
    flags: SignConfig,
    formats: Vec<Format>,
    epoch: Option<Timestamp>,
    opened: RefCell<BTreeMap<KeySource, Arc<Signing>>>,
}

impl Signers {
    pub(super) fn new(flags: &crate::cli::Signing) -> Result<Self, Error> {
        let mode = flags.sign.map(|mode| match mode {
            SignMode::None => config::SignMode::None,
            SignMode::Key => config::SignMode::Key,
            SignMode::Auto => config::SignMode::Auto,
            SignMode::Keyless => config::SignMode::Keyless,
        });
        if mode == Some(config::SignMode::None) && flags.key.is_some() {
            return Err(Error::usage("--key has no use with --sign none"));
        }
        let variables = environment::signing()?;
        // To name a key is to ask for its use.
        let mode = mode.or(flags.key.is_some().then_some(config::SignMode::Key));
        Ok(Signers {
            flags: SignConfig {
                mode: mode.or(variables.mode),
                key: flags.key.clone().or(variables.key),
            },
            formats: formats(&flags.signature_format),
            epoch: source::source_date_epoch()?,
            opened: RefCell::default(),
        })
    }

    /// How artifacts of a package are signed; none where they are not. `note` is told
    /// why not, where that may surprise.
    pub(super) fn of(
        &self,
        config: &SignConfig,
        note: &dyn Fn(&str),
    ) -> Result<Option<Arc<Signing>>, Error> {
        let asked = self.flags.mode.or(config.mode);
        let key = self.flags.key.as_ref().or(config.key.as_ref());
        match (asked.unwrap_or(config::SignMode::Auto), key) {
            (config::SignMode::None, _) => Ok(None),
            (config::SignMode::Keyless, _) => Err(Error::Usage {
                message: "signing without a key (keyless) is not there yet".into(),
                hint: Some("sign with a key: --sign key --key PATH".into()),
            }),
            (config::SignMode::Auto, None) => {
                if asked.is_some() {
                    note("there is no key to sign with: what is published is not signed");
                }
                Ok(None)
            }
            (config::SignMode::Key, None) => Err(no_key()),
            (config::SignMode::Key | config::SignMode::Auto, Some(key)) => {
                self.open(&KeySource::parse(key)?).map(Some)
            }
        }
    }

    fn open(&self, key: &KeySource) -> Result<Arc<Signing>, Error> {
        if let Some(opened) = self.opened.borrow().get(key) {
            return Ok(Arc::clone(opened));
        }
        let signing = Arc::new(Signing {
            signer: Arc::new(Signer::Key(key.signing()?)),
            formats: self.formats.clone(),
            epoch: self.epoch,
        });
        self.opened
            .borrow_mut()
            .insert(key.clone(), Arc::clone(&signing));
        Ok(signing)
    }
}

fn no_key() -> Error {
    Error::Usage {
        message: "there is no key to sign with".into(),
        hint: Some(
            "name one with --key PATH, EDGEPACK_SIGNING_KEY or sign.key; cargo edgepack keygen makes one"
                .into(),
        ),
    }
}

fn formats(flags: &[FormatArg]) -> Vec<Format> {
    let chosen: Vec<Format> = flags.iter().map(|&f| f.into()).collect();
    Format::ALL
        .into_iter()
        .filter(|f| chosen.is_empty() || chosen.contains(f))
        .collect()
}

impl App {
    /// The client for a command about one reference.
    fn client_for(&self, reference: &str, access: &Access) -> Result<Arc<Client>, Error> {
        let mut options = self.options(access)?;
        if access.transport.plain_http && !reference.starts_with(LAYOUT_PREFIX) {
            options
                .plain_http
                .push(Reference::parse(reference)?.repository.host().to_owned());
        }
        self.client(options)
    }

    pub(super) fn sign(&self, flags: &Sign) -> Result<u8, Error> {
        let key = match &flags.key {
            Some(key) => key.clone(),
            None => environment::signing()?.key.ok_or_else(no_key)?,
        };
        if LayoutReference::parse(&flags.reference)
            .transpose()?
            .is_some()
            && flags.format.contains(&FormatArg::Legacy)
        {
            return Err(Error::Usage {
                message: "a layout takes bundles alone: the older form is a tag of a registry"
                    .into(),
                hint: Some("leave --format out, or sign what is in a registry".into()),
            });
        }
        let client = self.client_for(&flags.reference, &flags.access)?;
        let signing = Signing {
            signer: Arc::new(Signer::Key(KeySource::parse(&key)?.signing()?)),
            formats: formats(&flags.format),
            epoch: source::source_date_epoch()?,
        };
        let (name, by, signed) = block_on(&self.cancel, async {
            let mut source = Source::parse_for(&flags.reference, &client, Rights::Push)?;
            let (manifest, bytes) = source.pin().await?;
            let signed = attach::sign(source.place(), &manifest, &bytes, &signing).await?;
            let by = signing.signer.signed_by().await?;
            Ok((source.name(&manifest.digest), by, signed))
        })?;
        self.printer.signed(&name, &flags.reference, &by, &signed);
        self.printer.data(format!("{name}\n").as_bytes())?;
        Ok(exit_code::OK)
    }

    pub(super) fn verify(&self, flags: &Verify) -> Result<u8, Error> {
        let client = self.client_for(&flags.reference, &flags.access)?;
        let (name, manifest, verified) = block_on(&self.cancel, async {
            let trust = flags.trust.spec().open(&client).await?;
            let mut source = Source::parse(&flags.reference, &client)?;
            let (manifest, _) = source.pin().await?;
            let wanted = Wanted::SIGNATURE;
            let verified =
                verify::verify(source.place(), &manifest.digest, &wanted, &trust).await?;
            Ok((source.name(&manifest.digest), manifest, verified))
        })?;
        self.printer.verified(&name, &verified);
        if flags.json {
            self.printer.json(&serde_json::json!({
                "reference": name,
                "digest": manifest.digest,
                "signature": verified,
            }))?;
        } else {
            self.printer.data(format!("{name}\n").as_bytes())?;
        }
        Ok(exit_code::OK)
    }

    pub(super) fn keygen(&self, flags: &Keygen) -> Result<u8, Error> {
        let paths = keys::pair_paths(&flags.output_key_prefix);
        keys::refuse_existing(&paths)?;
        let password: Secret = if flags.password_stdin {
            registry::read_password("printenv KEY_PASSWORD | cargo edgepack keygen …")?
        } else {
            keys::password()?.ok_or_else(|| {
                Error::Usage {
                message: "there is no password for the new key".into(),
                hint: Some(
                    "set COSIGN_PASSWORD (to nothing for none), or pipe it in with --password-stdin"
                        .into(),
                ),
            }
            })?
        };
        let made = keys::write_pair(&paths, &password)?;
        let [private, public] = &paths;
        self.printer.note(&format!(
            "the private key is in {}, encrypted; the public one in {}, with the fingerprint {}",
            private.display(),
            public.display(),
            made.fingerprint
        ));
        self.printer
            .data(format!("{}\n{}\n", private.display(), public.display()).as_bytes())?;
        Ok(exit_code::OK)
    }
}
