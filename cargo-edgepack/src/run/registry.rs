//! Glue for the commands that speak to registries, but for `publish`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgepack::environment;
use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::inspect::ArtifactInspection;
use edgepack::output::{self, Pending};
use edgepack::pull::{self, Source};
use edgepack::registry::credentials::{self, Credential};
use edgepack::registry::failure::Failure;
use edgepack::registry::http::{Client, Options, block_on};
use edgepack::registry::package;
use edgepack::registry::reference::{self, LAYOUT_PREFIX, Reference};
use edgepack::registry::remote;

use super::{App, verify};
use crate::cli::{Access, Inspect, Login, Logout, MessageFormat, Pull, Transport};
use crate::progress::Progress;

const LOGIN_EXAMPLE: &str = "printenv REGISTRY_TOKEN | cargo edgepack login …";

impl App {
    pub(super) fn client(&self, options: Options) -> Result<Arc<Client>, Error> {
        let printer = Arc::clone(&self.printer);
        let on_retry = move |failure: &Failure, wait: Duration| printer.retry(failure, wait);
        Ok(Arc::new(Client::new(options, Box::new(on_retry))?))
    }

    /// How to speak to registries: flags over variables. Reads the password.
    pub(super) fn options(&self, access: &Access) -> Result<Options, Error> {
        let mut options = self.transport(&access.transport)?;
        if let Some(username) = &access.username {
            check_name(username)?;
            options.credential = Some(Credential::Password {
                username: username.clone(),
                password: self.read_password(LOGIN_EXAMPLE)?,
            });
        }
        Ok(options)
    }

    #[expect(
        clippy::unused_self,
        reason = "options come from the app, whatever it reads them from"
    )]
    fn transport(&self, transport: &Transport) -> Result<Options, Error> {
        let mut options = environment::registry_options()?;
        if !transport.ca_file.is_empty() {
            options.ca_files.clone_from(&transport.ca_file);
        }
        Ok(options)
    }

    pub(super) fn pull(&self, flags: &Pull) -> Result<u8, Error> {
        let to_stdout = flags.output.as_os_str() == "-";
        if to_stdout && matches!(flags.reporting.message_format, MessageFormat::Json) {
            return Err(Error::Usage {
                message: "with `-o -` the module goes to stdout, and there is no place for JSON"
                    .into(),
                hint: Some("write the module to a file, or leave --message-format out".into()),
            });
        }
        let mut options = self.options(&flags.access)?;
        let wkg = match &flags.package {
            Some(_) => package::Config::of_user()?,
            None => package::Config::default(),
        };
        options.plain_http.extend(wkg.plain_http());
        let swallowed = flags.demands.policy.as_deref();
        let swallowed = swallowed.filter(|v| flags.package.is_none() && verify::is_reference(v));
        let reference = flags.reference.as_deref().or(swallowed);
        if flags.access.transport.plain_http
            && let Some(text) = reference.filter(|t| !t.starts_with(LAYOUT_PREFIX))
        {
            options
                .plain_http
                .push(Reference::parse(text)?.repository.host().to_owned());
        }
        let demands = self.demands(&flags.demands)?;
        let read = demands.files(&flags.demands);
        let read = read.iter().map(PathBuf::as_path);
        output::refuse_input(&flags.output, read, "name another file with --output")?;
        let client = self.client(options)?;
        let target = if to_stdout {
            PathBuf::from("standard output")
        } else {
            flags.output.clone()
        };
        let progress = Progress::new(&self.printer, vec![target.display().to_string()]);
        let on_progress = |blob: &edgepack::oci::Descriptor, done: u64| progress.pulled(blob, done);
        // A folder that is not there is found out before anything is fetched.
        let mut pending = if to_stdout {
            Pending::nowhere()?
        } else {
            Pending::new(&target)?
        };
        let (resolved, pulled, verified) = block_on(&self.cancel, async {
            let mut source = match (&flags.package, reference) {
                (Some(package), _) => {
                    Source::remote(&wkg.locate(package, &client).await?, &client)?
                }
                (None, Some(text)) => Source::parse(text, &client)?,
                (None, None) => return Err(Error::usage("no reference to pull")),
            };
            let verified = demands.check(&mut source, &client).await?;
            // Of an index, that is what is signed, and not the manifest in it.
            let verified = verified.map(|(digest, outcome)| (source.name(&digest), outcome));
            let resolved = pull::resolve(&source).await?;
            let pulled =
                pull::fetch(&source, &resolved, &mut pending, &target, &on_progress).await?;
            Ok((resolved, pulled, verified))
        })?;
        progress.end();
        self.cancel.check()?;
        if to_stdout {
            pending.read_all(|bytes| self.printer.data(bytes))?;
        } else {
            pending.finish()?;
        }
        self.printer.pulled(&target, &resolved, &pulled);
        if let Some((name, outcome)) = &verified {
            self.printer.verified(name, outcome);
        }
        let verified = verified.map(|(_, outcome)| outcome);
        match flags.reporting.message_format {
            MessageFormat::Human if to_stdout => {}
            MessageFormat::Human => self
                .printer
                .data(format!("{}\n", resolved.reference).as_bytes())?,
            MessageFormat::Json => self.printer.json(&serde_json::json!({
                "reference": resolved.reference,
                "digest": resolved.descriptor.digest,
                "kind": pulled.kind,
                "size": pulled.size,
                "sha256": pulled.digest.hex(),
                "wasm": flags.output,
                "signature": verified.as_ref().map(|v| &v.signature),
                "attestations": verified.as_ref().map(verify::attestations),
            }))?,
        }
        Ok(exit_code::OK)
    }

    pub(super) fn inspect_artifact(&self, text: &str, flags: &Inspect) -> Result<u8, Error> {
        let mut options = self.options(&flags.access)?;
        if flags.access.transport.plain_http && !text.starts_with(LAYOUT_PREFIX) {
            options
                .plain_http
                .push(Reference::parse(text)?.repository.host().to_owned());
        }
        let client = self.client(options)?;
        let (resolved, wasm) = block_on(&self.cancel, async {
            let source = Source::parse(text, &client)?;
            let resolved = pull::resolve(&source).await?;
            // A component's config says what it asks for; that of a module does not.
            if ArtifactInspection::new(&resolved).component.is_some() {
                return Ok((resolved, None));
            }
            let mut pending = Pending::nowhere()?;
            pull::fetch(
                &source,
                &resolved,
                &mut pending,
                Path::new(text),
                &|_, _| {},
            )
            .await?;
            let wasm = output::read_wasm(pending.path())?;
            Ok((resolved, Some(wasm)))
        })?;
        let mut found = ArtifactInspection::new(&resolved);
        let show = |found: &ArtifactInspection| {
            if flags.json {
                self.printer.pretty_json(found)
            } else {
                self.printer.artifact(found)
            }
        };
        match wasm {
            None => show(&found).map(|()| exit_code::OK),
            Some(wasm) => self.inspect_wasm(wasm, Path::new(text), |module| {
                found.module = Some(module.clone());
                show(&found)
            }),
        }
    }

    pub(super) fn login(&self, flags: &Login) -> Result<u8, Error> {
        let host = reference::parse_host(&flags.host)?;
        check_name(&flags.username)?;
        let mut options = self.transport(&flags.transport)?;
        if flags.transport.plain_http {
            options.plain_http.push(host.clone());
        }
        let password = self.read_password(LOGIN_EXAMPLE)?;
        let credential = Credential::Password {
            username: flags.username.clone(),
            password: password.clone(),
        };
        let client = self.client(options)?;
        if !block_on(&self.cancel, remote::ping(&client, &host, credential))? {
            self.printer.warning(&format!(
                "{host} lets anybody in up to here: whether the password is right shows when it is asked for"
            ));
        }
        let place = credentials::store(&host, &flags.username, &password)?;
        self.printer.note(&format!(
            "logged in to {host}; the credentials are in {place}"
        ));
        for (file, scope) in credentials::narrower(&host)? {
            self.printer.warning(&format!(
                "`{}` has another entry for {scope}, which comes first there",
                file.display()
            ));
        }
        Ok(exit_code::OK)
    }

    pub(super) fn logout(&self, flags: &Logout) -> Result<u8, Error> {
        let host = reference::parse_host(&flags.host)?;
        let places = credentials::forget(&host)?;
        if places.is_empty() {
            self.printer
                .note(&format!("there were no credentials for {host}"));
        } else {
            let places = places.join(", ");
            self.printer
                .note(&format!("logged out of {host}: taken out of {places}"));
        }
        for (file, scope) in credentials::narrower(&host)? {
            self.printer.warning(&format!(
                "`{}` still has an entry for {scope}",
                file.display()
            ));
        }
        Ok(exit_code::OK)
    }
}

/// <https://www.rfc-editor.org/rfc/rfc7617#section-2>
fn check_name(username: &str) -> Result<(), Error> {
    if username.is_empty() {
        return Err(Error::Usage {
            message: "the name of the user is empty".into(),
            hint: Some("give it with --username NAME; a variable may not be set".into()),
        });
    }
    if username.contains(':') || username.contains(char::is_control) {
        return Err(Error::Usage {
            message: "there is no `:` and no control character in the name of a user".into(),
            hint: Some("give the name alone; the password is read from stdin".into()),
        });
    }
    Ok(())
}

/// Whether what `inspect` was given is an artifact and no file.
pub(super) fn reference_in(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    let artifact = text.starts_with(LAYOUT_PREFIX) || Reference::parse(text).is_ok();
    (artifact && !path.exists()).then_some(text)
}
