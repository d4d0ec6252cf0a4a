//! (IO) Credentials: found where docker and podman keep them, and stored there.
//!
//! Files are looked at in this order: `REGISTRY_AUTH_FILE`; docker's config
//! (`DOCKER_CONFIG`, else `~/.docker`); podman's, below `XDG_RUNTIME_DIR` and below
//! `~/.config`. Podman's files may name a path of a registry: the longest one that
//! holds the repository comes first.
//!
//! Formats: <https://docs.docker.com/reference/cli/docker/login/> and
//! <https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::output::read_at_most;
use crate::registry::reference::{Repository, canonical_host};

mod helper;

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
    /// A bearer token for the registry itself, which is sent there as it is.
    RegistryToken(Secret),
}

/// That one password was given for several registries.
#[must_use]
pub fn one_host(hosts: [&str; 2]) -> Error {
    let [one, other] = hosts;
    Error::Usage {
        message: format!(
            "--username and --password-stdin are for one registry, and not for {one} and {other}"
        ),
        hint: Some(format!(
            "log in to each with: cargo edgepack login {other} --username NAME --password-stdin"
        )),
    }
}

/// What credential helpers have answered: some ask another service, or the user, and a run
/// asks each for a registry once.
#[derive(Default)]
pub struct Helpers(Mutex<HashMap<(String, String), Option<Credential>>>);

impl Helpers {
    fn get(&self, helper: &str, server: &str) -> Result<Option<Credential>, Error> {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = (helper.to_owned(), server.to_owned());
        if let Some(answer) = answers.get(&asked) {
            return Ok(answer.clone());
        }
        let answer = helper::get(helper, server)?;
        answers.insert(asked, answer.clone());
        Ok(answer)
    }
}

/// An entry of `auths`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// The credential for a repository; none where no file knows one.
///
/// # Errors
///
/// [`Error::Registry`] where a file does not parse or a helper fails.
pub fn find(repository: &Repository, helpers: &Helpers) -> Result<Option<Credential>, Error> {
    for file in auth_files() {
        if let Some(found) = find_in(&file, repository, helpers)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn find_in(
    file: &Path,
    repository: &Repository,
    helpers: &Helpers,
) -> Result<Option<Credential>, Error> {
    let Some(config) = read_config(file)? else {
        return Ok(None);
    };
    let entries = match config.get(AUTHS) {
        None | Some(Value::Null) => &Map::new(),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(failed(file, "`auths` is no table")),
    };
    // Entries for a path of the registry come first, the longest before all.
    let mut scope = repository.to_string();
    while scope.contains('/') {
        let mut all = entries.iter();
        let named =
            all.find(|(name, _)| **name == scope || scope_of(name).as_ref() == Some(&scope));
        if let Some(found) = named
            .map(|(_, e)| decode(e, file, &scope))
            .transpose()?
            .flatten()
        {
            return Ok(Some(found));
        }
        scope.truncate(scope.rfind('/').unwrap_or(0));
    }
    let host = repository.host();
    let key = key_of(host);
    if let Some((helper, server)) = helper_for(&config, host) {
        return helpers.get(&helper, &server);
    }
    // An empty one, as docker leaves it beside a helper, hides no other.
    let exact = entries.get_key_value(&key).into_iter();
    let alike = entries.iter().filter(|(name, _)| is_for(name, host));
    for (_, entry) in exact.chain(alike) {
        if let Some(found) = decode(entry, file, host)? {
            return Ok(Some(found));
        }
    }
    let Some(store) = store_of(&config) else {
        return Ok(None);
    };
    let found = helpers.get(&store, &key)?;
    if found.is_none() && key == host && !host.contains(':') {
        // As somebody may have written it who logged in with another tool.
        return helpers.get(&store, &format!("{host}:443"));
    }
    Ok(found)
}

/// Entries for a part of a registry, which come before those for all of it: the file of each,
/// and what it is for.
///
/// # Errors
///
/// [`Error::Io`] or [`Error::Registry`] for a file that cannot be read.
pub fn narrower(host: &str) -> Result<Vec<(PathBuf, String)>, Error> {
    let mut found = Vec::new();
    for file in auth_files() {
        let config = read_config(&file)?.unwrap_or_default();
        let entries = config.get(AUTHS).and_then(Value::as_object);
        let scopes = entries.into_iter().flat_map(Map::keys);
        let scopes = scopes.filter_map(|key| scope_of(key));
        let here = scopes.filter(|scope| scope.split_once('/').is_some_and(|(h, _)| h == host));
        found.extend(here.map(|scope| (file.clone(), scope)));
    }
    Ok(found)
}

/// The helper for a registry, and by what name it knows it.
fn helper_for(config: &Map<String, Value>, host: &str) -> Option<(String, String)> {
    let helpers = config.get("credHelpers")?.as_object()?;
    let key = key_of(host);
    let exact = |name: &str| helpers.get(name).map(|helper| (helper, name.to_owned()));
    let (helper, name) = exact(&key)
        .or_else(|| exact(host).map(|(helper, _)| (helper, key.clone())))
        .or_else(|| {
            let mut all = helpers.iter();
            let (name, helper) = all.find(|(name, _)| key_of(name) == key)?;
            Some((helper, name.clone()))
        })?;
    let helper = helper.as_str().filter(|h| !h.is_empty())?;
    Some((helper.to_owned(), name))
}

/// What a key of `auths` stands for that names a path in a registry, in the one spelling
/// of that.
fn scope_of(key: &str) -> Option<String> {
    let (host, path) = key.split_once('/')?;
    Some(format!("{}/{path}", canonical_host(host)?))
}

/// An entry of `auths`; none where it is empty, as beside a helper.
fn decode(entry: &Value, file: &Path, name: &str) -> Result<Option<Credential>, Error> {
    let senseless = || failed(file, &format!("the entry for {name} makes no sense"));
    let entry: Entry = serde_json::from_value(entry.clone()).map_err(|_| senseless())?;
    if let Some(token) = entry.identitytoken.filter(|t| !t.is_empty()) {
        return Ok(Some(Credential::IdentityToken(Secret::new(token))));
    }
    if let Some(auth) = entry.auth.filter(|a| !a.is_empty()) {
        let unpadded = auth.trim().trim_end_matches('=');
        let pair = base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(unpadded)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(senseless)?;
        let (username, password) = pair.split_once(':').ok_or_else(senseless)?;
        let password = password.trim_end_matches('\0');
        if !(username.is_empty() && password.is_empty()) {
            return Ok(Some(Credential::Password {
                username: username.to_owned(),
                password: Secret::new(password.to_owned()),
            }));
        }
    }
    if let Some((username, password)) = entry.username.zip(entry.password)
        && !(username.is_empty() && password.is_empty())
    {
        return Ok(Some(Credential::Password {
            username,
            password: Secret::new(password),
        }));
    }
    // What else is there does for registries of either kind.
    let token = entry.registrytoken.unwrap_or_default();
    let token = token.trim();
    if token.contains(|c: char| !c.is_ascii_graphic()) {
        return Err(senseless());
    }
    Ok((!token.is_empty()).then(|| Credential::RegistryToken(Secret::new(token.to_owned()))))
}

/// Whether a key of `auths`, which may be an address, is for this registry.
fn is_for(key: &str, host: &str) -> bool {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .and_then(|rest| rest.split('/').next())
        .unwrap_or(key);
    key_of(bare) == key_of(host)
}

fn key_of(host: &str) -> String {
    match canonical_host(host) {
        Some(host) if host == "docker.io" => DOCKER_HUB_KEY.to_owned(),
        Some(host) => host,
        None => host.to_owned(),
    }
}

fn failed(file: &Path, message: &str) -> Error {
    Error::Registry {
        message: format!(
            "failed to read credentials from `{}`: {message}",
            file.display()
        ),
        hint: Some("mend the file, or remove it and log in again".into()),
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
    let bytes = match read_at_most(file, MAX_FILE + 1) {
        Err(e) if matches!(e.kind(), NotFound | NotADirectory) => return Ok(None),
        Err(e) => return Err(unreadable()(e)),
        Ok(bytes) if bytes.len() as u64 > MAX_FILE => {
            return Err(failed(file, "it is far too large"));
        }
        Ok(bytes) => bytes,
    };
    let text = String::from_utf8(bytes).map_err(|_| failed(file, "it is no text"))?;
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

/// Stores a name and a password for a registry in the first auth file, or with its
/// helper, and says where.
///
/// # Errors
///
/// [`Error::Io`] or [`Error::Registry`]; the file is then what it was.
pub fn store(host: &str, username: &str, password: &Secret) -> Result<String, Error> {
    let Some(file) = auth_files().into_iter().next() else {
        return Err(Error::Usage {
            message: "there is no home folder to keep credentials in".into(),
            hint: Some("set DOCKER_CONFIG to a folder".into()),
        });
    };
    let mut config = read_config(&file)?.unwrap_or_default();
    let key = key_of(host);
    let by_store = || Some((store_of(&config)?, key.clone()));
    if let Some((helper, server)) = helper_for(&config, host).or_else(by_store) {
        let entry = json!({"ServerURL": server, "Username": username, "Secret": password.reveal()});
        helper::tell(&helper, "store", &entry.to_string())?;
        // A password of before would be found first.
        drop_entries(&file, &mut config, host)?;
        return Ok(format!("docker-credential-{helper}"));
    }
    let pair = format!("{username}:{}", password.reveal());
    let auth = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut entries = take_entries(&mut config);
    entries.insert(key, json!({ "auth": auth }));
    config.insert(AUTHS.to_owned(), entries.into());
    write(&file, &config)?;
    Ok(file.display().to_string())
}

/// Forgets the credentials of a registry, wherever [`find`] would find them; says
/// where that was.
///
/// # Errors
///
/// [`Error::Io`] or [`Error::Registry`].
pub fn forget(host: &str) -> Result<Vec<String>, Error> {
    let key = key_of(host);
    let mut places = Vec::new();
    for file in auth_files() {
        let Some(mut config) = read_config(&file)? else {
            continue;
        };
        let by_store = || Some((store_of(&config)?, key.clone()));
        if let Some((helper, server)) = helper_for(&config, host).or_else(by_store)
            && helper::knows(&helper, &server)?
        {
            helper::tell(&helper, "erase", &server)?;
            places.push(format!("docker-credential-{helper}"));
        }
        if drop_entries(&file, &mut config, host)? {
            places.push(file.display().to_string());
        }
    }
    Ok(places)
}

/// Takes the entries for a registry out of a file; says whether there were any.
fn drop_entries(file: &Path, config: &mut Map<String, Value>, host: &str) -> Result<bool, Error> {
    let mut entries = take_entries(config);
    let before = entries.len();
    entries.retain(|name, _| !is_for(name, host));
    if entries.len() == before {
        return Ok(false);
    }
    config.insert(AUTHS.to_owned(), entries.into());
    write(file, config)?;
    Ok(true)
}

fn take_entries(config: &mut Map<String, Value>) -> Map<String, Value> {
    match config.remove(AUTHS) {
        Some(Value::Object(entries)) => entries,
        _ => Map::new(),
    }
}

fn store_of(config: &Map<String, Value>) -> Option<String> {
    let name = config.get("credsStore")?.as_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// For its owner's eyes only, and renamed into place.
fn write(file: &Path, config: &Map<String, Value>) -> Result<(), Error> {
    let folder = file.parent().unwrap_or(Path::new("."));
    private_folder(folder).map_err(Error::io("create", folder))?;
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

fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write files to be read")]
mod tests {
    use super::*;

    fn lookup(config: &Value, repository: &str) -> Result<Option<Credential>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        find_in(
            &file,
            &Repository::parse(repository).unwrap(),
            &Helpers::default(),
        )
    }

    fn user(found: Option<Credential>) -> String {
        match found {
            Some(Credential::Password { username, .. }) => username,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn registries_that_others_spelled_otherwise() {
        let config =
            json!({"credHelpers": {"r.example:443": "x", "docker.io": "y", "s.example": ""}});
        let Value::Object(config) = config else {
            panic!("no object");
        };
        let helper = |host: &str| helper_for(&config, host);
        let known = |helper: &str, name: &str| Some((helper.to_owned(), name.to_owned()));
        assert_eq!(helper("r.example"), known("x", "r.example:443"));
        assert_eq!(helper("docker.io"), known("y", DOCKER_HUB_KEY));
        assert_eq!(helper("s.example"), None);
        assert_eq!(helper("r.example:444"), None);
        assert_eq!(
            scope_of("R.example:443/acme/app").as_deref(),
            Some("r.example/acme/app")
        );
        assert_eq!(scope_of(DOCKER_HUB_KEY), None);
    }

    #[test]
    fn the_longest_path_comes_first() {
        // YTpi is a:b, Yzpk is c:d, ZTpm is e:f.
        let config = json!({"auths": {
            "r.example": {"auth": "YTpi"},
            "r.example/x": {"auth": "Yzpk"},
            "https://u.example/v2/": {"auth": "YTpi"},
            "w.example:443": {"auth": "Yzpk"},
            "v.example": {"username": "g", "password": "h"},
            "https://index.docker.io/v1/": {"auth": "ZTpm"},
            "t.example": {"identitytoken": "t"},
            "a.example": {"registrytoken": "a\n"},
            "b.example": {"auth": "Yjpj", "registrytoken": "a"},
            "c.example": {"auth": "Og==", "username": "", "password": "", "registrytoken": "c"},
            "odd.example": {"registrytoken": "a b"},
            "empty.example": {},
        }});
        assert_eq!(user(lookup(&config, "r.example/y").unwrap()), "a");
        assert_eq!(user(lookup(&config, "r.example/x").unwrap()), "c");
        assert_eq!(user(lookup(&config, "r.example/x/z").unwrap()), "c");
        assert_eq!(user(lookup(&config, "r.example/xx").unwrap()), "a");
        assert_eq!(user(lookup(&config, "docker.io/x").unwrap()), "e");
        assert_eq!(user(lookup(&config, "u.example/x").unwrap()), "a");
        assert_eq!(user(lookup(&config, "w.example/x").unwrap()), "c");
        assert_eq!(user(lookup(&config, "v.example/x").unwrap()), "g");
        assert_eq!(lookup(&config, "s.example/x").unwrap(), None);
        assert_eq!(lookup(&config, "empty.example/x").unwrap(), None);
        assert_eq!(
            lookup(&config, "t.example/x").unwrap(),
            Some(Credential::IdentityToken(Secret::new("t".into())))
        );
        assert_eq!(
            lookup(&config, "a.example/x").unwrap(),
            Some(Credential::RegistryToken(Secret::new("a".into())))
        );
        assert_eq!(user(lookup(&config, "b.example/x").unwrap()), "b");
        assert!(lookup(&config, "odd.example/x").is_err());
        assert_eq!(
            lookup(&config, "c.example/x").unwrap(),
            Some(Credential::RegistryToken(Secret::new("c".into())))
        );
    }

    #[test]
    fn what_makes_no_sense_is_an_error_that_tells_no_secret() {
        for config in [
            json!({"auths": {"r.example": {"auth": "s3cret!"}}}),
            json!({"auths": {"r.example": {"auth": "s3cret"}}}),
            json!({"auths": {"r.example": {"auth": 5, "password": "s3cret"}}}),
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
