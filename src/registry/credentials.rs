//! (IO) Credentials: found where docker and podman keep them, and stored there.
//!
//! Files are looked at in this order: `REGISTRY_AUTH_FILE`; docker's config
//! (`DOCKER_CONFIG`, else `~/.docker`); podman's, below `XDG_RUNTIME_DIR` and below
//! `~/.config`. Podman's files may name a path of a registry: the longest one that
//! holds the repository comes first. The crate `docker_credential` decodes entries
//! and asks helpers.
//!
//! Formats: <https://docs.docker.com/reference/cli/docker/login/> and
//! <https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>.
#![expect(
    clippy::disallowed_methods,
    reason = "this module reads and writes other tools' auth files"
)]

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::registry::reference::Repository;

/// What docker calls its hub in auth files.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
const AUTHS: &str = "auths";
/// Auth files are small.
const MAX_FILE: u64 = 4 << 20;

/// Something that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being printed.
    #[must_use]
    pub fn new(text: String) -> Self {
        Secret(text)
    }

    /// The text, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// What a user proves to be somebody with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password, or an access token in its place.
    Password {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token of `OAuth2`, which docker calls identity token.
    IdentityToken(Secret),
}

/// The credential for a repository; none where no file knows one.
///
/// # Errors
///
/// [`Error::Registry`] where a file does not parse or a helper fails.
pub fn find(repository: &Repository) -> Result<Option<Credential>, Error> {
    for file in auth_files() {
        if let Some(found) = find_in(&file, repository)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn find_in(file: &Path, repository: &Repository) -> Result<Option<Credential>, Error> {
    let Some(config) = read_config(file)? else {
        return Ok(None);
    };
    let text = Value::Object(config.clone()).to_string();
    for server in servers(&config, repository) {
        match docker_credential::get_credential_from_reader(text.as_bytes(), &server) {
            Ok(DockerCredential::UsernamePassword(username, password)) => {
                if username.is_empty() && password.is_empty() {
                    continue;
                }
                return Ok(Some(Credential::Password {
                    username,
                    password: Secret::new(password),
                }));
            }
            Ok(DockerCredential::IdentityToken(token)) if !token.is_empty() => {
                return Ok(Some(Credential::IdentityToken(Secret::new(token))));
            }
            Ok(DockerCredential::IdentityToken(_))
            | Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            // Every helper says "not found" by failing with these words on stdout. What
            // else it prints there may be a secret.
            Err(CredentialRetrievalError::HelperFailure { stdout, .. })
                if stdout.to_ascii_lowercase().contains("not found") => {}
            Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
                return Err(failed(file, &format!("`{helper}` failed for {server}")));
            }
            Err(CredentialRetrievalError::HelperCommunicationError) => {
                let helper = helper_of(&config, &server).unwrap_or_default();
                return Err(Error::Registry {
                    message: format!(
                        "failed to start `docker-credential-{helper}`, which `{}` names for {server}",
                        file.display()
                    ),
                    hint: Some(
                        "install it, or take it out of that file: credsStore, credHelpers".into(),
                    ),
                });
            }
            Err(CredentialRetrievalError::MalformedHelperResponse) => {
                return Err(failed(
                    file,
                    "the credential helper's answer makes no sense",
                ));
            }
            Err(_) => {
                return Err(failed(
                    file,
                    &format!("the entry for {server} makes no sense"),
                ));
            }
        }
    }
    Ok(None)
}

/// The keys under which an entry for the repository may stand, best first.
fn servers(config: &Map<String, Value>, repository: &Repository) -> Vec<String> {
    let known = |key: &str| config.get(AUTHS).and_then(|a| a.get(key)).is_some();
    let mut servers = Vec::new();
    let mut scope = format!("{repository}");
    while let Some((parent, _)) = scope.rsplit_once('/') {
        if known(&scope) {
            servers.push(scope.clone());
        }
        scope = parent.to_owned();
    }
    servers.push(key_of(repository.host()));
    servers
}

fn key_of(host: &str) -> String {
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB_KEY.to_owned(),
        host => host.to_owned(),
    }
}

fn failed(file: &Path, message: &str) -> Error {
    Error::Registry {
        message: format!(
            "failed to read credentials from `{}`: {message}",
            file.display()
        ),
        hint: Some(
            "log in again: cargo edgepack login HOST --username NAME --password-stdin".into(),
        ),
    }
}

fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
}

fn docker_config() -> Option<PathBuf> {
    let folder =
        set("DOCKER_CONFIG").or_else(|| Some(etcetera::home_dir().ok()?.join(".docker")))?;
    Some(folder.join("config.json"))
}

fn auth_files() -> Vec<PathBuf> {
    const PODMAN: &str = "containers/auth.json";
    [
        set("REGISTRY_AUTH_FILE"),
        docker_config(),
        set("XDG_RUNTIME_DIR").map(|folder| folder.join(PODMAN)),
        etcetera::home_dir()
            .ok()
            .map(|home| home.join(".config").join(PODMAN)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The parsed file; none where there is no such file.
fn read_config(file: &Path) -> Result<Option<Map<String, Value>>, Error> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let unreadable = || Error::io("read", file);
    match std::fs::metadata(file) {
        Err(e) if matches!(e.kind(), NotFound | NotADirectory) => return Ok(None),
        Err(e) => return Err(unreadable()(e)),
        Ok(meta) if meta.len() > MAX_FILE => return Err(failed(file, "it is far too large")),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(file).map_err(unreadable())?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    // Where it does not parse, the parser's words could quote a secret.
    match serde_json::from_str(&text) {
        Ok(Value::Object(config)) => Ok(Some(config)),
        Ok(_) => Err(failed(file, "it holds no JSON object")),
        Err(e) => Err(failed(
            file,
            &format!("no JSON at line {}, column {}", e.line(), e.column()),
        )),
    }
}

/// Stores a name and a password for a registry where docker would, and says where.
///
/// # Errors
///
/// [`Error::Io`] or [`Error::Registry`]; the file is then what it was.
pub fn store(host: &str, username: &str, password: &Secret) -> Result<String, Error> {
    let file = own_file()?;
    let mut config = read_config(&file)?.unwrap_or_default();
    let key = key_of(host);
    if let Some(helper) = helper_of(&config, &key) {
        let entry = json!({"ServerURL": key, "Username": username, "Secret": password.reveal()});
        run_helper(&helper, "store", &entry.to_string())?;
        return Ok(format!("docker-credential-{helper}"));
    }
    let auth = base64::engine::general_purpose::STANDARD
        .encode(format!("{username}:{}", password.reveal()));
    let mut entries = take_entries(&mut config);
    entries.insert(key, json!({ "auth": auth }));
    config.insert(AUTHS.to_owned(), entries.into());
    write(&file, &config)?;
    Ok(file.display().to_string())
}

/// Forgets the credentials of a registry; says whether there were any.
///
/// # Errors
///
/// [`Error::Io`] or [`Error::Registry`].
pub fn forget(host: &str) -> Result<bool, Error> {
    let file = own_file()?;
    let Some(mut config) = read_config(&file)? else {
        return Ok(false);
    };
    let key = key_of(host);
    if let Some(helper) = helper_of(&config, &key) {
        run_helper(&helper, "erase", &key)?;
        return Ok(true);
    }
    let mut entries = take_entries(&mut config);
    let known = entries.remove(&key).is_some();
    config.insert(AUTHS.to_owned(), entries.into());
    if known {
        write(&file, &config)?;
    }
    Ok(known)
}

fn own_file() -> Result<PathBuf, Error> {
    set("REGISTRY_AUTH_FILE")
        .or_else(docker_config)
        .ok_or_else(|| Error::Usage {
            message: "there is no home folder to keep credentials in".into(),
            hint: Some("set DOCKER_CONFIG to a folder".into()),
        })
}

fn take_entries(config: &mut Map<String, Value>) -> Map<String, Value> {
    match config.remove(AUTHS) {
        Some(Value::Object(entries)) => entries,
        _ => Map::new(),
    }
}

fn helper_of(config: &Map<String, Value>, key: &str) -> Option<String> {
    config
        .get("credHelpers")
        .and_then(|helpers| helpers.get(key))
        .or_else(|| config.get("credsStore"))
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

/// The secret goes in by stdin; what the helper prints is not shown.
fn run_helper(helper: &str, action: &str, input: &str) -> Result<(), Error> {
    let program = format!("docker-credential-{helper}");
    let failed = |message: String| {
        Error::Tool {
        program: program.clone(),
        message,
        hint: Some("docker's config names it as the place for credentials: install it, or take credsStore out".into()),
    }
    };
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input fails by its status.
        let _ = stdin.write_all(input.as_bytes());
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("{action} ended with {status}"))),
        Err(e) => Err(failed(e.to_string())),
    }
}

/// For its owner's eyes only, and renamed into place.
fn write(file: &Path, config: &Map<String, Value>) -> Result<(), Error> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    // Through a link to what it names, so that renaming does not replace the link.
    let target = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let folder = target.parent().unwrap_or(folder);
    let text = serde_json::to_string_pretty(config).map_err(|e| Error::Internal(e.to_string()))?;
    // Temporary files are made with mode 0600.
    let mut temporary =
        tempfile::NamedTempFile::new_in(folder).map_err(Error::io("write", file))?;
    temporary
        .write_all(text.as_bytes())
        .and_then(|()| temporary.write_all(b"\n"))
        .map_err(Error::io("write", file))?;
    temporary
        .persist(&target)
        .map_err(|e| Error::io("write", file)(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(config: &Value, repository: &str) -> Result<Option<Credential>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        find_in(&file, &Repository::parse(repository).unwrap())
    }

    fn user(found: Option<Credential>) -> String {
        match found {
            Some(Credential::Password { username, .. }) => username,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_longest_path_comes_first() {
        // YTpi is a:b, Yzpk is c:d, ZTpm is e:f.
        let config = json!({"auths": {
            "r.example": {"auth": "YTpi"},
            "r.example/x": {"auth": "Yzpk"},
            "https://index.docker.io/v1/": {"auth": "ZTpm"},
            "t.example": {"identitytoken": "t"},
            "empty.example": {},
        }});
        assert_eq!(user(lookup(&config, "r.example/y").unwrap()), "a");
        assert_eq!(user(lookup(&config, "r.example/x").unwrap()), "c");
        assert_eq!(user(lookup(&config, "r.example/x/z").unwrap()), "c");
        assert_eq!(user(lookup(&config, "r.example/xx").unwrap()), "a");
        assert_eq!(user(lookup(&config, "docker.io/x").unwrap()), "e");
        assert_eq!(lookup(&config, "s.example/x").unwrap(), None);
        assert_eq!(lookup(&config, "empty.example/x").unwrap(), None);
        assert_eq!(
            lookup(&config, "t.example/x").unwrap(),
            Some(Credential::IdentityToken(Secret::new("t".into())))
        );
    }

    #[test]
    fn what_makes_no_sense_is_an_error_that_tells_no_secret() {
        for config in [
            json!({"auths": {"r.example": {"auth": "s3cret!"}}}),
            json!({"auths": {"r.example": {"auth": "s3cret"}}}),
            json!({"auths": "s3cret"}),
            json!("s3cret"),
            json!({"credsStore": "is-not-there-s3"}),
        ] {
            let error = lookup(&config, "r.example/x").unwrap_err();
            assert_eq!(error.exit_code(), crate::exit_code::REGISTRY, "{error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        assert_eq!(format!("{:?}", Secret::new("x".into())), "<redacted>");
    }
}
