//! Glue for the commands that sign and verify.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
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
use edgepack::sign::keyless::{self, Keyless, Settings, token};
use edgepack::sign::signer::Signer;
use edgepack::sign::source::{self as keys, KeySource};
use edgepack::sign::statement::is_about;
use edgepack::sign::{Format, embedded};
use edgepack::source;

use super::{App, verify};
use crate::cli::{Access, FormatArg, Keygen, KeylessFlags, Sign, SignMode};

/// What to sign each artifact with: flags over variables over configuration. A key is
/// opened once, and an identity asked for once, however many artifacts it signs.
pub(super) struct Signers {
    flags: SignConfig,
    token: Option<token::Source>,
    formats: Vec<Format>,
    epoch: Option<Timestamp>,
    client: Arc<Client>,
    opened: RefCell<BTreeMap<With, Arc<Signing>>>,
    said: RefCell<BTreeSet<String>>,
    /// Whether not to sign is an error.
    must: bool,
}

/// What signs, before it is opened.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum With {
    Key(KeySource),
    Identity(Settings),
}

impl With {
    /// The files that are read for it.
    pub(super) fn files(&self) -> Vec<&Path> {
        match self {
            With::Key(key) => key.file().into_iter().collect(),
            With::Identity(Settings {
                signing_config,
                trusted_root,
                token,
            }) => [
                signing_config.as_deref(),
                trusted_root.as_deref(),
                token.file(),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
    }
}

impl Signers {
    pub(super) fn new(flags: &crate::cli::Signing, client: Arc<Client>) -> Result<Self, Error> {
        let mode = flags.sign.map(|mode| match mode {
            SignMode::None => config::SignMode::None,
            SignMode::Key => config::SignMode::Key,
            SignMode::Auto => config::SignMode::Auto,
            SignMode::Keyless => config::SignMode::Keyless,
        });
        let mode = asked(
            mode,
            "--sign",
            flags.key.is_some(),
            flags.keyless.identity_token.is_some(),
        )?;
        Self::of_flags(
            mode,
            flags.key.as_ref(),
            &flags.keyless,
            &flags.signature_format,
            client,
        )
    }

    fn of_flags(
        mode: Option<config::SignMode>,
        key: Option<&String>,
        keyless: &KeylessFlags,
        format: &[FormatArg],
        client: Arc<Client>,
    ) -> Result<Self, Error> {
        let variables = environment::signing()?;
        let token = keyless.identity_token.as_deref();
        Ok(Signers {
            flags: SignConfig {
                mode: mode.or(variables.mode),
                key: key.cloned().or(variables.key),
                signing_config: keyless.signing_config.clone().or(variables.signing_config),
                trusted_root: keyless.trusted_root.clone().or(variables.trusted_root),
                embed: None,
            },
            token: token.map(token::Source::parse).transpose()?,
            formats: formats(format),
            epoch: source::source_date_epoch()?,
            client,
            opened: RefCell::default(),
            said: RefCell::default(),
            must: false,
        })
    }

    /// How artifacts of a package are signed; none where they are not. `note` is told
    /// what may surprise, each thing once.
    pub(super) fn of(
        &self,
        config: &SignConfig,
        note: Option<&dyn Fn(&str)>,
    ) -> Result<Option<Arc<Signing>>, Error> {
        let with = self.with(config, note)?;
        with.map(|with| self.open(&with)).transpose()
    }

    fn with(
        &self,
        config: &SignConfig,
        note: Option<&dyn Fn(&str)>,
    ) -> Result<Option<With>, Error> {
        let note = |text: &str| {
            if let Some(note) = note
                && self.said.borrow_mut().insert(text.to_owned())
            {
                note(text);
            }
        };
        let asked = self.flags.mode.or(config.mode);
        let key = self.flags.key.as_ref().or(config.key.as_ref());
        let key = key.map(|key| KeySource::parse(key));
        let identity = |token| {
            let file = |flag: &Option<PathBuf>, config: &Option<PathBuf>| {
                flag.as_ref().or(config.as_ref()).cloned()
            };
            With::Identity(Settings {
                token,
                signing_config: file(&self.flags.signing_config, &config.signing_config),
                trusted_root: file(&self.flags.trusted_root, &config.trusted_root),
            })
        };
        let with = match asked.unwrap_or(config::SignMode::Auto) {
            config::SignMode::None => return Ok(None),
            config::SignMode::Keyless => identity(match &self.token {
                Some(token) => token.clone(),
                None => token::Source::required()?,
            }),
            config::SignMode::Key => With::Key(key.ok_or_else(|| {
                no_key(if self.must {
                    KEY_OF_SIGN
                } else {
                    KEY_OF_PUBLISH
                })
            })??),
            config::SignMode::Auto => {
                let ambient = if keyless::AVAILABLE {
                    token::Source::ambient()?
                } else {
                    None
                };
                let how = if asked.is_some() {
                    ""
                } else {
                    "; --sign none leaves that out"
                };
                match (ambient, key) {
                    (Some(token), key) => {
                        let name = token.name();
                        let aside = match key {
                            Some(_) => ", and not with the key that is named",
                            None => "",
                        };
                        note(&format!("signing without a key, with {name}{aside}{how}"));
                        identity(token)
                    }
                    (None, Some(key)) => {
                        let key = key?;
                        if !self.must {
                            note(&format!("signing with {}{how}", key.name()));
                        }
                        With::Key(key)
                    }
                    (None, None) if self.must => return Err(no_key(KEY_OF_SIGN)),
                    (None, None) => {
                        note(&nothing_to_sign_with(asked.is_some()));
                        return Ok(None);
                    }
                }
            }
        };
        if let With::Identity(settings) = &with
            && settings.token.is_exposed()
        {
            note(
                "others on this machine can read the identity token on the command line: env:NAME and @FILE keep it from them",
            );
        }
        Ok(Some(with))
    }

    /// In which formats it signs.
    fn formats(&self, with: &With) -> Vec<Format> {
        let mut formats = self.formats.clone();
        if let With::Identity(_) = with {
            formats.retain(|&format| format == Format::Bundle);
        }
        formats
    }

    /// Opens it while other work goes on.
    async fn open_beside(&self, with: &With) -> Result<Arc<Signing>, Error> {
        let With::Key(key) = with else {
            return self.open(with);
        };
        let signer = Signer::Key(key.signing_beside().await?);
        Ok(Arc::new(Signing {
            signer: Arc::new(signer),
            formats: self.formats.clone(),
            epoch: self.epoch,
        }))
    }

    pub(super) fn open(&self, with: &With) -> Result<Arc<Signing>, Error> {
        if let Some(opened) = self.opened.borrow().get(with) {
            return Ok(Arc::clone(opened));
        }
        let formats = self.formats(with);
        let signer = match with {
            With::Key(key) => Signer::Key(key.signing()?),
            With::Identity(settings) => {
                if formats.is_empty() {
                    return Err(Error::Usage {
                        message: "without a key there are bundles alone: the older form has no place for today's proofs".into(),
                        hint: Some("leave the format out".into()),
                    });
                }
                let client = Arc::clone(&self.client);
                Signer::Keyless(Box::new(Keyless::new(settings.clone(), client)?))
            }
        };
        let signing = Arc::new(Signing {
            signer: Arc::new(signer),
            formats,
            epoch: self.epoch,
        });
        self.opened
            .borrow_mut()
            .insert(with.clone(), Arc::clone(&signing));
        Ok(signing)
    }
}

/// To name a key, or a token, is to ask for its use.
fn asked(
    mode: Option<config::SignMode>,
    flag: &str,
    key: bool,
    token: bool,
) -> Result<Option<config::SignMode>, Error> {
    use config::SignMode::{Key, Keyless, None as Not};
    match (mode, key, token) {
        (_, true, true) => Err(Error::usage(
            "--key and --identity-token exclude each other",
        )),
        (Some(Not | Keyless), true, _) => Err(Error::usage(format!(
            "--key has no use with {flag} none or keyless"
        ))),
        (Some(Not | Key), _, true) => Err(Error::usage(format!(
            "--identity-token has no use with {flag} none or key"
        ))),
        (mode, true, _) => Ok(mode.or(Some(Key))),
        (_, _, true) => Ok(Some(Keyless)),
        (mode, ..) => Ok(mode),
    }
}

/// Where a key may be named. `sign` has no project whose configuration it could read.
const KEY_OF_SIGN: &str = "--key PATH or EDGEPACK_SIGNING_KEY";
const KEY_OF_PUBLISH: &str = "--key PATH, EDGEPACK_SIGNING_KEY or sign.key";

fn no_key(places: &str) -> Error {
    Error::Usage {
        message: "there is no key to sign with".into(),
        hint: Some(format!(
            "name one with {places}; cargo edgepack keygen makes one"
        )),
    }
}

/// What is said where `auto` finds neither.
fn nothing_to_sign_with(asked: bool) -> String {
    let blank = [environment::SIGNING_KEY, environment::IDENTITY_TOKEN];
    let why = match blank.into_iter().find(|name| environment::is_blank(name)) {
        Some(name) => format!("{name} is set to nothing"),
        None => match token::Source::in_this_ci().filter(|_| keyless::AVAILABLE) {
            Some(remedy) => {
                format!("there is no key, and the CI gives this job no identity ({remedy})")
            }
            None => "there is no key, and no CI that gives an identity".into(),
        },
    };
    let silence = if asked {
        ""
    } else {
        "; with --sign none this note is not made"
    };
    format!("this run signs nothing: {why}{silence}")
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
        if let Some(file) = verify::file(&flags.reference) {
            let client = self.client(self.options(&flags.access)?)?;
            let (signers, with) = self.signers_of(flags, client)?;
            return self.sign_file(file, (&signers, &with), flags);
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
        let (signers, with) = self.signers_of(flags, Arc::clone(&client))?;
        let (name, by, signed, attested) = block_on(&self.cancel, async {
            let mut source = Source::parse_for(&flags.reference, &client, Rights::Push)?;
            // An encrypted key takes longer to open than all that the registry does.
            let key = signers.open_beside(&with);
            let formats = signers.formats(&with);
            let (signing, (manifest, bytes, ready)) =
                source.prepare_beside(&formats, signers.epoch, key).await?;
            let name = source.name(&manifest.digest);
            for sbom in attestations.iter().filter(|a| a.predicate_type == SBOM) {
                is_about(&sbom.predicate, &bytes).map_err(|refusal| Error::Signature {
                    message: format!("the SBOM cannot be attested to {name}: {refusal}"),
                    hint: Some("attest the SBOM that was made with this artifact".into()),
                })?;
            }
            let signed = attach::sign(source.place(), &manifest, &signing, &ready).await?;
            let mut attested = Vec::new();
            for attestation in &attestations {
                let place = source.place();
                let new = attach::attest(place, &manifest, attestation, &signing, &ready).await?;
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

    /// With what the command `sign` signs.
    fn signers_of(&self, flags: &Sign, client: Arc<Client>) -> Result<(Signers, With), Error> {
        let mode = asked(
            flags.keyless.then_some(config::SignMode::Keyless),
            "--sign",
            flags.key.is_some(),
            flags.identity.identity_token.is_some(),
        )?;
        let mut signers = Signers::of_flags(
            mode,
            flags.key.as_ref(),
            &flags.identity,
            &flags.format,
            client,
        )?;
        signers.must = true;
        // Not to sign, in the environment, is about publishing.
        let not = Some(config::SignMode::None);
        if signers.flags.mode.is_none() || signers.flags.mode == not {
            signers.flags.mode = Some(config::SignMode::Auto);
        }
        let say = |text: &str| self.printer.note(text);
        let with = signers.with(&SignConfig::default(), Some(&say))?;
        Ok((signers, with.ok_or_else(|| no_key(KEY_OF_SIGN))?))
    }

    pub(super) fn keygen(&self, flags: &Keygen) -> Result<u8, Error> {
        let standard = if flags.embed { "ed25519" } else { "cosign" };
        let prefix = flags.output_key_prefix.as_deref().unwrap_or(standard);
        if prefix.is_empty() || prefix.ends_with('/') {
            return Err(Error::usage("--output-key-prefix names no file"));
        }
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
            self.read_password("printenv KEY_PASSWORD | cargo edgepack keygen …")?
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
