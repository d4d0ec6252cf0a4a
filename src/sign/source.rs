//! (IO) Where keys and passwords come from: files and variables, never arguments.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::key::{self, Generated, PASSWORD, PublicKey, SigningKey};
use crate::environment::{IDENTITY_TOKEN, SIGN_EMBED, SIGNING_KEY};
use crate::error::Error;
use crate::output::read_at_most;
use crate::registry::credentials::Secret;

/// What stands before the name of a variable that holds a key.
pub const VARIABLE_PREFIX: &str = "env:";
/// A file that is larger is no key.
const MAX_KEY: u64 = 64 << 10;

/// Where a key is: a path, or `env:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// In a variable.
    Variable(String),
}

/// What is longer is neither a path nor the name of a variable.
const MAX_NAME: usize = 300;
/// Variables that hold secrets of signing wherever they are set, by mistake too: some put
/// the key itself where its place is to be named.
const SECRETS: [&str; 6] = [
    PASSWORD,
    SIGNING_KEY,
    SIGN_EMBED,
    IDENTITY_TOKEN,
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
];

/// Files that GitHub's runner reads behind a step: whoever can write there changes what
/// later steps get to see, and which programs they run.
const RUNNER_FILES: [&str; 5] = [
    "GITHUB_ENV",
    "GITHUB_OUTPUT",
    "GITHUB_PATH",
    "GITHUB_STATE",
    "GITHUB_STEP_SUMMARY",
];

/// The variables that are kept from what a project depends on: those that hold secrets,
/// and those that name files of the runner. `keys` are those that are set, each a path or
/// `env:NAME`.
pub fn secret_variables<'a>(keys: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let named = keys
        .into_iter()
        .filter_map(|key| key.strip_prefix(VARIABLE_PREFIX))
        // Of these, setting or removing one is no use, or is refused.
        .filter(|name| !name.is_empty() && !name.contains(['=', '\0']));
    SECRETS
        .into_iter()
        .chain(RUNNER_FILES)
        .chain(named)
        .map(str::to_owned)
        .collect()
}

impl KeySource {
    /// Parses a path or `env:NAME`. The key itself is refused, and not repeated.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.contains("-----BEGIN") {
            return Err(Error::Usage {
                message:
                    "a key was given in place of its path: others may be able to read it there"
                        .into(),
                hint: Some("write a path, or env:NAME for a variable that holds the key".into()),
            });
        }
        // Base64 in one line: not repeated by any error either.
        if text.len() > MAX_NAME {
            return Err(Error::Usage {
                message: format!(
                    "what is given as a key has {} characters, and is neither a path nor env:NAME",
                    text.len()
                ),
                hint: Some("write a path, or env:NAME for a variable that holds the key".into()),
            });
        }
        match text.strip_prefix(VARIABLE_PREFIX) {
            Some("") => Err(Error::usage("`env:` names no variable")),
            Some(name) => Ok(KeySource::Variable(name.to_owned())),
            None if text == "-" => Err(Error::Usage {
                message: "`--key` takes a path or env:NAME, and does not read standard input"
                    .into(),
                hint: Some("write ./- for a file of that name".into()),
            }),
            None if text.starts_with('-') => Err(Error::Usage {
                message: "`--key` takes a path or env:NAME, and a flag follows it".into(),
                hint: Some("write ./-NAME for a file whose name begins with `-`".into()),
            }),
            None if text.is_empty() => Err(Error::usage("the path of the key is empty")),
            None => Ok(KeySource::File(text.into())),
        }
    }

    /// For people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            KeySource::File(path) => format!("the key `{}`", path.display()),
            KeySource::Variable(name) => format!("the key in {name}"),
        }
    }

    /// The file that it is in, where it is in one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            KeySource::File(path) => Some(path),
            KeySource::Variable(_) => None,
        }
    }

    /// The key's bytes, in whatever form.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Usage`], or [`Error::Signature`] where it is too large.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        match self {
            KeySource::Variable(_) => Ok(self.read()?.reveal().as_bytes().to_vec()),
            KeySource::File(path) => self.read_file(path),
        }
    }

    fn read_file(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let bytes = read_at_most(path, MAX_KEY + 1).map_err(Error::io("read", path))?;
        if bytes.len() as u64 > MAX_KEY {
            return Err(Error::Signature {
                message: format!("{} is too large for a key", self.name()),
                hint: Some("name the file that holds the key alone".into()),
            });
        }
        Ok(bytes)
    }

    fn read(&self) -> Result<Secret, Error> {
        let text = match self {
            KeySource::Variable(name) => {
                crate::environment::text(name)?.ok_or_else(|| Error::Usage {
                    message: format!("the variable {name}, which shall hold the key, is not set"),
                    hint: Some(format!(
                        "set {name} to the key itself; a path stands alone, without `env:`"
                    )),
                })?
            }
            KeySource::File(path) => {
                let bytes = self.read_file(path)?;
                String::from_utf8(bytes).map_err(|e| Error::Signature {
                    message: format!("{} is no PEM", self.name()),
                    hint: Some(other_encoding(e.as_bytes()).into()),
                })?
            }
        };
        Ok(Secret::new(text))
    }

    /// The key to verify with.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Usage`], or [`Error::Signature`] where it is no such key.
    pub fn public(&self) -> Result<PublicKey, Error> {
        PublicKey::parse(self.read()?.reveal(), &self.name())
    }

    /// The key to sign with, opened with the password in `COSIGN_PASSWORD`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Usage`], or [`Error::Signature`] where it is no such key.
    pub fn signing(&self) -> Result<SigningKey, Error> {
        SigningKey::parse(self.read()?.reveal(), &self.name(), password)
    }

    /// [`KeySource::signing`] on another thread.
    ///
    /// # Errors
    ///
    /// The same.
    pub async fn signing_beside(&self) -> Result<SigningKey, Error> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.signing())
            .await
            .map_err(|e| Error::Internal(format!("failed to open the key: {e}")))?
    }
}

/// How to get at PEM from what is no text.
fn other_encoding(bytes: &[u8]) -> &'static str {
    match (bytes, bytes.len()) {
        ([0xff, 0xfe, ..] | [0xfe, 0xff, ..], _) => "it is UTF-16: save it as UTF-8",
        // In wasmsign2's form: what it is, and the key, or both keys.
        (_, 33 | 65) => {
            "a key of keygen --embed is for signatures inside modules: sign --embed, verify --embedded"
        }
        ([0x30, ..], _) => {
            "it may be DER; openssl makes PEM of it: openssl pkey -pubin -inform DER -in FILE, or, of a private key, openssl pkcs8 -topk8 -nocrypt -inform DER -in FILE"
        }
        _ => "a key begins with a line `-----BEGIN …-----` and ends with one `-----END …-----`",
    }
}

/// What `COSIGN_PASSWORD` holds. Set to nothing, it is the empty password.
///
/// # Errors
///
/// [`Error::Usage`] where it is no UTF-8.
pub fn password() -> Result<Option<Secret>, Error> {
    match std::env::var(PASSWORD) {
        Ok(text) => Ok(Some(Secret::new(text))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Error::usage(format!("{PASSWORD} is no UTF-8")))
        }
    }
}

/// The names of the files of a key pair, as cosign calls them.
#[must_use]
pub fn pair_paths(prefix: &str) -> [PathBuf; 2] {
    ["key", "pub"].map(|end| PathBuf::from(format!("{prefix}.{end}")))
}

/// Refuses to write over a key: what it signed could not be signed again.
///
/// # Errors
///
/// [`Error::Usage`].
pub fn refuse_existing(paths: &[PathBuf]) -> Result<(), Error> {
    for path in paths {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
    }
    Ok(())
}

fn exists(path: &Path) -> Error {
    Error::Usage {
        message: format!(
            "`{}` is there already, and is left as it is",
            path.display()
        ),
        hint: Some("choose another name with --output-key-prefix".into()),
    }
}

/// Makes a key pair and writes both files, the private one for its owner alone.
/// Neither takes the place of a file that is there.
///
/// # Errors
///
/// [`Error::Usage`] where one of them is there, or [`Error::Io`].
pub fn write_pair([private, public]: &[PathBuf; 2], password: &Secret) -> Result<Generated, Error> {
    let made = key::generate(password)?;
    let paths = [private.clone(), public.clone()];
    write_files(&paths, made.private.as_bytes(), made.public.as_bytes())?;
    Ok(made)
}

/// Writes the two files of a pair, the private one for its owner alone. Neither takes the
/// place of a file that is there.
///
/// # Errors
///
/// [`Error::Usage`] where one of them is there, or [`Error::Io`].
pub fn write_files(
    [private, public]: &[PathBuf; 2],
    private_key: &[u8],
    public_key: &[u8],
) -> Result<(), Error> {
    write_new(private, private_key, 0o600)?;
    if let Err(error) = write_new(public, public_key, 0o644) {
        // Half a pair is worth nothing, and would be in the way next time.
        let _ = std::fs::remove_file(private);
        return Err(error);
    }
    Ok(())
}

#[cfg_attr(not(unix), expect(unused_variables, reason = "modes are unix's"))]
fn write_new(path: &Path, contents: &[u8], mode: u32) -> Result<(), Error> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = || Error::io("write", path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".edgepack-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    let mut file = builder.tempfile_in(folder).map_err(failed())?;
    file.write_all(contents).map_err(failed())?;
    file.as_file().sync_all().map_err(failed())?;
    file.persist_noclobber(path).map_err(|e| {
        if e.error.kind() == std::io::ErrorKind::AlreadyExists {
            exists(path)
        } else {
            failed()(e.error)
        }
    })?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at what was written")]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_no_argument() {
        let error = KeySource::parse("-----BEGIN PRIVATE KEY-----\nMIGH").unwrap_err();
        assert!(!error.to_string().contains("MIGH"));
        assert_eq!(
            KeySource::parse("env:KEY").unwrap(),
            KeySource::Variable("KEY".into())
        );
        assert!(KeySource::parse("env:").is_err());
        assert!(KeySource::parse("").is_err());
        assert!(KeySource::parse("--json").is_err());
    }

    #[test]
    fn what_is_no_text_has_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        let utf16 = "\u{feff}-----BEGIN"
            .encode_utf16()
            .flat_map(u16::to_le_bytes);
        for (bytes, words) in [
            (utf16.collect(), "UTF-16"),
            (
                [&[0x30, 0x59][..], &[0xff; 89]].concat(),
                "openssl pkey -pubin -inform DER",
            ),
            (vec![0xff; 33], "sign --embed"),
            (vec![0xff; 34], "-----BEGIN"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = KeySource::File(path.clone()).public().unwrap_err();
            let hint = error.hint().unwrap_or_default();
            assert!(hint.contains(words), "{words}: {hint}");
        }
    }

    #[test]
    fn nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("k").display().to_string();
        let paths = pair_paths(&prefix);
        let password = Secret::new(String::new());
        write_pair(&paths, &password).unwrap();
        assert!(refuse_existing(&paths).is_err());
        let before = std::fs::read(&paths[0]).unwrap();
        assert!(write_pair(&paths, &password).is_err());
        assert_eq!(std::fs::read(&paths[0]).unwrap(), before);
        std::fs::remove_file(&paths[0]).unwrap();
        assert!(write_pair(&paths, &password).is_err());
        assert!(!paths[0].exists());
    }
}
