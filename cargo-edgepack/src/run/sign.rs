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
use edgepack::sbom::PREDICATE_TYPE as SBOM;
use edgepack::sign::attach::{self, Signing};
use edgepack::sign::attestation::Attestation;
use edgepack::sign::signer::Signer;
use edgepack::sign::source::{self as keys, KeySource};
use edgepack::sign::verify::is_about;
use edgepack::sign::{Format, embedded};
use edgepack::source;

use super::{App, registry, verify};
use crate::cli::{Access, FormatArg, Keygen, Sign, SignMode};

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
    pub(super) fn client_for(
        &self,
        reference: &str,
        access: &Access,
    ) -> Result<Arc<Client>, Error> {
        let mut options = self.options(access)?;
        if access.transport.plain_http && !reference.starts_with(LAYOUT_PREFIX) {
            options
                .plain_http
                .push(Reference::parse(reference)?.repository.host().to_owned());
        }
        self.client(options)
    }

    pub(super) fn sign(&self, flags: &Sign) -> Result<u8, Error> {
        if flags.detach {
            return self.detach(flags);
        }
        if flags.embed {
            return self.embed(flags);
        }
        if flags.output.is_some() {
            return Err(Error::usage("--output goes with --embed and --detach"));
        }
        let key = match &flags.key {
            Some(key) => key.clone(),
            None => environment::signing()?.key.ok_or_else(no_key)?,
        };
        let key = KeySource::parse(&key)?;
        if let Some(file) = verify::file(&flags.reference) {
            return self.sign_file(file, &key, flags);
        }
        if flags.bundle.is_some() {
            return Err(Error::usage("--bundle goes with a file"));
        }
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
        let attestations = attestations(flags)?;
        let client = self.client_for(&flags.reference, &flags.access)?;
        let signing = Signing {
            signer: Arc::new(Signer::Key(key.signing()?)),
            formats: formats(&flags.format),
            epoch: source::source_date_epoch()?,
        };
        let (name, by, signed, attested) = block_on(&self.cancel, async {
            let mut source = Source::parse_for(&flags.reference, &client, Rights::Push)?;
            let (manifest, bytes) = source.pin().await?;
            let name = source.name(&manifest.digest);
            for sbom in attestations.iter().filter(|a| a.predicate_type == SBOM) {
                is_about(&sbom.predicate, &bytes).map_err(|refusal| Error::Signature {
                    message: format!("the SBOM cannot be attested to {name}: {refusal}"),
                    hint: Some("attest the SBOM that was made with this artifact".into()),
                })?;
            }
            let signed = attach::sign(source.place(), &manifest, &bytes, &signing).await?;
            let mut attested = Vec::new();
            for attestation in &attestations {
                let place = source.place();
                let new = attach::attest(place, &manifest, &bytes, attestation, &signing).await?;
                attested.push((attestation.predicate_type.as_str(), new));
            }
            let by = signing.signer.signed_by().await?;
            Ok((name, by, signed, attested))
        })?;
        self.printer
            .signed(&name, &flags.reference, &by, &signed, &attested);
        self.printer.data(format!("{name}\n").as_bytes())?;
        Ok(exit_code::OK)
    }

    pub(super) fn keygen(&self, flags: &Keygen) -> Result<u8, Error> {
        let standard = if flags.embed { "ed25519" } else { "cosign" };
        let prefix = flags.output_key_prefix.as_deref().unwrap_or(standard);
        let paths = keys::pair_paths(prefix);
        keys::refuse_existing(&paths)?;
        if flags.embed {
            let made = embedded::generate();
            keys::write_files(&paths, &made.secret, &made.public)?;
            let [private, public] = &paths;
            self.printer.note(&format!(
                "the private key is in {}, not encrypted; the public one in {}",
                private.display(),
                public.display(),
            ));
            self.printer
                .data(format!("{}\n{}\n", private.display(), public.display()).as_bytes())?;
            return Ok(exit_code::OK);
        }
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

/// What files say that is to be attested.
fn attestations(flags: &Sign) -> Result<Vec<Attestation>, Error> {
    let sbom = flags.sbom.iter().map(|file| (SBOM, file));
    let others = flags
        .attest
        .iter()
        .map(|(kind, file)| (kind.as_str(), file));
    sbom.chain(others)
        .map(|(predicate_type, file)| Attestation::read(predicate_type, file))
        .collect()
}
