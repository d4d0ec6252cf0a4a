//! Glue for signatures of files: in a bundle beside them, or inside.

use std::path::{Path, PathBuf};

use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::output;
use edgepack::registry::http::block_on;
use edgepack::registry::reference::{LAYOUT_PREFIX, Reference};
use edgepack::sign::refusal::Refusal;
use edgepack::sign::source::KeySource;
use edgepack::sign::trust::{SignedBy, Spec, Trust};
use edgepack::sign::{blob, embedded};
use edgepack::wasm::Wasm;

use super::App;
use super::sign::{Signers, With};
use crate::cli::{Sign, Verify};

const EMBEDDED_KEY: &str =
    "name the public key of who signed it, and nothing else: --key PATH, made by keygen --embed";
/// A bundle beside a file is read up to this size.
const MAX_BUNDLE: u64 = 1 << 20;
/// A file that is signed, or checked, up to this one: a module, or an archive.
const MAX_FILE: u64 = u32::MAX as u64;

/// The file that is meant, where it is one and no artifact. What reads as a reference is
/// one, whatever files there are: else a file of that name, in a folder of somebody else's,
/// would be verified in place of the artifact. `./` before a path makes it a path.
pub(super) fn file(text: &str) -> Option<&Path> {
    let path = Path::new(text);
    if Reference::parse(text).is_ok() || text.starts_with(LAYOUT_PREFIX) {
        return None;
    }
    let named_so = path.extension().is_some_and(|e| e == "wasm");
    (path.is_file() || named_so).then_some(path)
}

impl App {
    pub(super) fn sign_file(
        &self,
        file: &Path,
        (signers, with): (&Signers, &With),
        flags: &Sign,
    ) -> Result<u8, Error> {
        if !flags.format.is_empty() || !flags.attest.is_empty() || flags.sbom.is_some() {
            return Err(Error::Usage {
                message: "--format, --attest and --sbom go with an artifact, not with a file"
                    .into(),
                hint: Some("sign what was published, or what is in a layout".into()),
            });
        }
        let bundle = flags
            .bundle
            .clone()
            .unwrap_or_else(|| blob::bundle_path(file));
        let to_stdout = bundle.as_os_str() == "-";
        if !to_stdout {
            let inputs = with.files().into_iter().chain([file]);
            output::refuse_input(&bundle, inputs, "name another file with --bundle")?;
        }
        let bytes = output::read_small(file, MAX_FILE)?;
        let signer = &signers.open(with)?.signer;
        let (made, by) = block_on(&self.cancel, async {
            let made = signer.bundle_of_file(&bytes).await?;
            Ok((made, signer.signed_by().await?))
        })?;
        if to_stdout {
            self.printer.data(&made)?;
            self.printer
                .signed_file(file, Path::new("standard output"), &by);
            return Ok(exit_code::OK);
        }
        output::write(&bundle, &made)?;
        self.printer.signed_file(file, &bundle, &by);
        self.printer
            .data(format!("{}\n", bundle.display()).as_bytes())?;
        Ok(exit_code::OK)
    }

    pub(super) fn embed(&self, flags: &Sign) -> Result<u8, Error> {
        let key = flags.key.as_ref().ok_or_else(|| Error::Usage {
            message: "there is no key to sign with".into(),
            hint: Some("name one with --key PATH; cargo edgepack keygen --embed makes one".into()),
        })?;
        let key = KeySource::parse(key)?;
        if let Some(out) = &flags.output {
            output::refuse_input(out, key.file(), "name another file with --output")?;
        }
        let key = embedded::SecretKey::open(&key)?;
        self.rewrite(flags, |wasm| embedded::embed(wasm, &key))
    }

    pub(super) fn detach(&self, flags: &Sign) -> Result<u8, Error> {
        self.rewrite(flags, embedded::detach)
    }

    /// Writes a file anew.
    fn rewrite(
        &self,
        flags: &Sign,
        change: impl FnOnce(&Wasm) -> Result<Vec<u8>, Error>,
    ) -> Result<u8, Error> {
        let file = file(&flags.reference).ok_or_else(|| Error::Usage {
            message: format!("`{}` is no file", flags.reference),
            hint: Some("a signature stands inside a .wasm file, before it is published".into()),
        })?;
        let changed = change(&output::read_wasm(file)?)?;
        let to = flags.output.as_deref().unwrap_or(file);
        if to.as_os_str() == "-" {
            self.printer.data(&changed)?;
        } else {
            output::write(to, &changed)?;
            self.printer
                .data(format!("{}\n", to.display()).as_bytes())?;
        }
        Ok(exit_code::OK)
    }

    /// Checks a file against its bundle.
    pub(super) fn verify_file(
        &self,
        file: &Path,
        trust: &Trust,
        flags: &Verify,
    ) -> Result<u8, Error> {
        let bytes = output::read_small(file, MAX_FILE)?;
        let path: PathBuf = flags
            .bundle
            .clone()
            .unwrap_or_else(|| blob::bundle_path(file));
        if flags.bundle.is_none() && !path.exists() {
            return Err(Error::Signature {
                message: format!(
                    "`{}` is not signed: there is no `{}`",
                    file.display(),
                    path.display()
                ),
                hint: Some(
                    "name its bundle with --bundle, or check a signature inside with --embedded"
                        .into(),
                ),
            });
        }
        let bundle = output::read_small(&path, MAX_BUNDLE).map_err(|error| match error {
            Error::Usage { message, hint } => Error::Signature { message, hint },
            other => other,
        })?;
        let by = blob::check(&bundle, &bytes, trust).map_err(|refusal| Error::Signature {
            message: format!(
                "`{}` has no signature that holds: the bundle `{}`: {refusal}",
                file.display(),
                path.display()
            ),
            hint: Some(match refusal.other_form() {
                Some(hint) => hint.to_owned(),
                None => Refusal::hint(refusal.is_by_others(), trust, "file"),
            }),
        })?;
        self.printer
            .verified_file(file, &path.display().to_string(), &by);
        self.tell(
            file,
            flags,
            &serde_json::json!({"format": "bundle", "bundle": path}),
            &by,
        )
    }

    /// Checks the signature inside a file.
    pub(super) fn verify_embedded(&self, flags: &Verify) -> Result<u8, Error> {
        let [reference] = &flags.references[..] else {
            return Err(Error::Usage {
                message: "--embedded goes with one file".into(),
                hint: Some("run it for each of them".into()),
            });
        };
        let file = file(reference).ok_or_else(|| Error::Usage {
            message: format!("`{reference}` is no file"),
            hint: Some("fetch it first: cargo edgepack pull REF -o FILE".into()),
        })?;
        let spec = flags.demands.trust.spec();
        let key = spec.key.as_ref().ok_or_else(|| Error::Usage {
            message: "nothing says who must have signed".into(),
            hint: Some(EMBEDDED_KEY.into()),
        })?;
        let key_alone = Spec {
            key: Some(key.clone()),
            ..Spec::default()
        };
        if spec != key_alone {
            return Err(Error::Usage {
                message: "a signature inside names no identity".into(),
                hint: Some(EMBEDDED_KEY.into()),
            });
        }
        let key = embedded::PublicKey::open(&KeySource::parse(key)?)?;
        embedded::verify(&output::read_wasm(file)?, &key)?;
        let by = SignedBy::Key {
            kind: "Ed25519",
            fingerprint: key.fingerprint(),
        };
        self.printer.verified_file(file, "inside", &by);
        self.tell(file, flags, &serde_json::json!({"format": "embedded"}), &by)
    }

    fn tell(
        &self,
        file: &Path,
        flags: &Verify,
        signature: &serde_json::Value,
        by: &SignedBy,
    ) -> Result<u8, Error> {
        if flags.json {
            let mut signature = signature.clone();
            if let (Some(all), Ok(serde_json::Value::Object(by))) =
                (signature.as_object_mut(), serde_json::to_value(by))
            {
                all.extend(by);
            }
            self.printer
                .json(&serde_json::json!({"file": file, "signature": signature}))?;
        } else {
            self.printer
                .data(format!("{}\n", file.display()).as_bytes())?;
        }
        Ok(exit_code::OK)
    }
}
