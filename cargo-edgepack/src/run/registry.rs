//! Glue for the commands that speak to registries.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgepack::config::SignConfig;
use edgepack::destination::{self, Artifact, Place, refuse_collisions};
use edgepack::environment;
use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::inspect::ArtifactInspection;
use edgepack::oci::Digest;
use edgepack::output::{self, Pending};
use edgepack::pack::Variant;
use edgepack::publish::{self, Bundle, Item, Published, Rules};
use edgepack::pull::{self, Source};
use edgepack::registry::credentials::{self, Credential, Secret};
use edgepack::registry::failure::Failure;
use edgepack::registry::http::{Client, Options, block_on};
use edgepack::registry::layout::{Layout, LayoutReference, Subjects, tag_of};
use edgepack::registry::package;
use edgepack::registry::reference::{self, LAYOUT_PREFIX, Reference, Repository};
use edgepack::registry::remote;
use edgepack::report::{
    OciReport, PublishReport, Report, SignatureReport, SignatureState, TagReport, TagState,
};
use edgepack::sign::attach::Signing;
use edgepack::sign::source::KeySource;
use edgepack::sign::{Format, verify};

use super::sign::Signers;
use super::{App, Approve, Built, write_report};
use crate::cli::{Access, Inspect, Login, Logout, MessageFormat, Publish, Pull, Transport};
use crate::progress::Progress;
use edgepack::plan::CargoFlags;

const LOGIN_EXAMPLE: &str = "printenv REGISTRY_TOKEN | cargo edgepack login …";
/// A password that is longer is none.
const MAX_PASSWORD: u64 = 1 << 20;

/// An artifact in a layout that has to find its place.
struct Candidate {
    name: String,
    version: Option<String>,
    variant: Option<Variant>,
    one_of_several: bool,
    layout: Layout,
    manifest: edgepack::oci::Descriptor,
    publish: edgepack::config::PublishConfig,
    sign: SignConfig,
}

impl App {
    pub(super) fn publish(&self, flags: &Publish, cargo: &CargoFlags) -> Result<u8, Error> {
        let overrides = destination::Overrides {
            repository: flags.publishing.repository.clone(),
            tags: flags.publishing.tags.clone(),
        };
        let variables = environment::destination()?;
        let overrides = destination::Overrides {
            repository: overrides.repository.or(variables.repository),
            tags: overrides.tags.or(variables.tags),
        };
        let to_layout = flags.publishing.oci_layout.as_deref();
        let destination_of = |config: &edgepack::config::PublishConfig| {
            destination::Destination::new(&overrides, config, to_layout.is_some())
        };
        // What is wrong with the flags is said before minutes of building, and a
        // password is read before a compiler could take stdin.
        let options = self.options(&flags.access)?;
        let signers = Signers::new(&flags.signing)?;
        let quiet = |_: &str| {};
        if !flags.sources.is_empty() && cargo.manifest_path.is_none() {
            for source in &flags.sources {
                if let Some(parsed) = LayoutReference::parse(source) {
                    parsed?;
                }
            }
            destination_of(&edgepack::config::PublishConfig::default())?;
            signers.of(&SignConfig::default(), &quiet)?;
        }

        let (mut report, folder, candidates) = self.candidates(flags, cargo, &|config, sign| {
            signers.of(sign, &quiet)?;
            destination_of(config).map(|_| ())
        })?;
        if report.exit_code() != exit_code::OK {
            self.finish(
                &report,
                folder.as_ref(),
                flags.build.reporting.message_format,
            )?;
            return Ok(report.exit_code());
        }

        let mut placed = Vec::new();
        for candidate in &candidates {
            let place = destination_of(&candidate.publish)?.place(Artifact {
                name: &candidate.name,
                version: candidate.version.as_deref(),
                variant: candidate.variant,
                one_of_several: candidate.one_of_several,
            })?;
            for note in &place.notes {
                self.printer.note(note);
            }
            for warning in &place.warnings {
                self.printer.warning(warning);
            }
            placed.push(place);
        }
        let triples = candidates.iter().zip(&placed);
        refuse_collisions(triples.map(|(c, p)| (c.name.as_str(), p, &c.manifest.digest)))?;

        let mut subjects = BTreeMap::<&Path, Subjects>::new();
        let mut items = Vec::new();
        for (candidate, place) in candidates.iter().zip(&placed) {
            let known = match subjects.entry(candidate.layout.folder()) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(candidate.layout.subjects()?),
            };
            let signing = signers.of(&candidate.sign, &|text| self.printer.note(text))?;
            items.push(item(candidate, place, known, to_layout, signing)?);
        }
        let plain: Vec<String> = candidates
            .iter()
            .flat_map(|c| c.publish.plain_http.clone().unwrap_or_default())
            .collect();
        let results = self.push(&items, flags, options, plain)?;

        let mut code = exit_code::OK;
        for ((candidate, item), result) in candidates.iter().zip(&items).zip(results) {
            match result {
                Ok(published) => {
                    let entry = publish_report(
                        candidate,
                        item,
                        to_layout,
                        &published,
                        flags.publishing.dry_run,
                    );
                    self.printer.published(&entry, item);
                    report.published.push(entry);
                }
                Err(error) => {
                    if items.len() > 1 {
                        self.printer
                            .warning(&format!("`{}` is not published", item.name));
                    }
                    self.printer.error(&error);
                    code = if code == exit_code::OK {
                        error.exit_code()
                    } else {
                        code
                    };
                }
            }
        }
        self.finish(
            &report,
            folder.as_ref(),
            flags.build.reporting.message_format,
        )?;
        Ok(code)
    }

    fn finish(
        &self,
        report: &Report,
        folder: Option<&edgepack::pipeline::Destination>,
        format: MessageFormat,
    ) -> Result<(), Error> {
        if let Some(folder) = folder {
            write_report(report, folder)?;
        }
        match format {
            MessageFormat::Json => self.printer.json(report),
            MessageFormat::Human => {
                let references: Vec<_> = report
                    .published
                    .iter()
                    .map(|p| p.reference.as_str())
                    .collect();
                let mut lines = references.join(
                    "
",
                );
                if !lines.is_empty() {
                    lines.push('\n');
                }
                self.printer.data(lines.as_bytes())
            }
        }
    }

    /// Builds what has to be built, and lists what is to be published.
    fn candidates(
        &self,
        flags: &Publish,
        cargo: &CargoFlags,
        approve: &Approve<'_>,
    ) -> Result<
        (
            Report,
            Option<edgepack::pipeline::Destination>,
            Vec<Candidate>,
        ),
        Error,
    > {
        let mut candidates = Vec::new();
        let mut reports = Vec::new();
        let mut folder = None;
        if flags.sources.is_empty() {
            let (destination, built) = self.build_project(&flags.build, cargo, approve)?;
            folder = Some(destination);
            for built in built {
                candidates.extend(packed(&built)?);
                reports.push(built.report);
            }
        }
        for source in &flags.sources {
            if let Some(parsed) = LayoutReference::parse(source) {
                candidates.extend(in_layout(&parsed?)?);
            } else {
                let (destination, built) =
                    self.build_file(Path::new(source), &flags.build, cargo)?;
                folder = Some(destination);
                for built in built {
                    approve(&built.publish, &built.sign)?;
                    candidates.extend(packed(&built)?);
                    reports.push(built.report);
                }
            }
        }
        Ok((Report::new(reports), folder, candidates))
    }

    fn push(
        &self,
        items: &[Item],
        flags: &Publish,
        mut options: Options,
        plain: Vec<String>,
    ) -> Result<Vec<Result<Published, Error>>, Error> {
        if flags.publishing.dry_run {
            return Ok(items
                .iter()
                .map(|item| {
                    Ok(Published {
                        tags: item
                            .tags
                            .iter()
                            .map(|t| (t.name.clone(), TagState::Planned))
                            .collect(),
                        signatures: Vec::new(),
                        sent: 0,
                    })
                })
                .collect());
        }
        let rules = Rules {
            force: flags.publishing.force,
            skip_existing: flags.publishing.skip_existing,
        };
        if let Some(layout) = &flags.publishing.oci_layout {
            let layout = Layout::at(layout.clone());
            return Ok(items
                .iter()
                .map(|item| {
                    self.cancel.check()?;
                    let signatures =
                        block_on(&self.cancel, publish::copy_to_layout(item, &layout, rules))?;
                    Ok(Published {
                        tags: item
                            .tags
                            .iter()
                            .map(|t| (t.name.clone(), TagState::Set))
                            .collect(),
                        signatures,
                        sent: 0,
                    })
                })
                .collect());
        }
        options.plain_http.extend(plain);
        if flags.access.transport.plain_http {
            options
                .plain_http
                .extend(items.iter().map(|i| i.repository.host().to_owned()));
        }
        let client = self.client(options)?;
        let progress = Progress::new(
            &self.printer,
            items.iter().map(|i| i.name.clone()).collect(),
        );
        let on_event = |event: publish::Event<'_>| progress.published(event);
        let context = publish::Context {
            client: &client,
            cache: &self.cache,
            rules,
            on_event: &on_event,
        };
        block_on(&self.cancel, async {
            Ok(publish::publish_all(items, &context).await)
        })
    }

    pub(super) fn client(&self, options: Options) -> Result<Arc<Client>, Error> {
        let printer = Arc::clone(&self.printer);
        let on_retry = move |failure: &Failure, wait: Duration| printer.retry(failure, wait);
        Ok(Arc::new(Client::new(options, Box::new(on_retry))?))
    }

    /// How to speak to registries: flags over variables. Reads the password.
    pub(super) fn options(&self, access: &Access) -> Result<Options, Error> {
        let mut options = self.transport(&access.transport)?;
        if let Some(username) = &access.username {
            options.credential = Some(Credential::Password {
                username: username.clone(),
                password: read_password(LOGIN_EXAMPLE)?,
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
        let mut options = self.options(&flags.access)?;
        let wkg = match &flags.package {
            Some(_) => package::Config::of_user()?,
            None => package::Config::default(),
        };
        options.plain_http.extend(wkg.plain_http());
        if flags.access.transport.plain_http
            && let Some(text) = flags
                .reference
                .as_deref()
                .filter(|t| !t.starts_with(LAYOUT_PREFIX))
        {
            options
                .plain_http
                .push(Reference::parse(text)?.repository.host().to_owned());
        }
        let key = match &flags.key {
            Some(key) => Some(KeySource::parse(key)?.public()?),
            None => None,
        };
        let client = self.client(options)?;
        let to_stdout = flags.output.as_os_str() == "-";
        let target = if to_stdout {
            PathBuf::from("/dev/stdout")
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
            let mut source = match (&flags.package, &flags.reference) {
                (Some(package), _) => {
                    Source::remote(&wkg.locate(package, &client).await?, &client)?
                }
                (None, Some(text)) => Source::parse(text, &client)?,
                (None, None) => return Err(Error::usage("no reference to pull")),
            };
            let verified = match &key {
                Some(key) => {
                    let (manifest, _) = source.pin().await?;
                    Some(verify::verify(source.place(), &manifest.digest, key).await?)
                }
                None => None,
            };
            let resolved = pull::resolve(&source).await?;
            let pulled =
                pull::fetch(&source, &resolved, &mut pending, &target, &on_progress).await?;
            Ok((resolved, pulled, verified))
        })?;
        progress.end();
        self.cancel.check()?;
        if to_stdout {
            return pending
                .read_all(|bytes| self.printer.data(bytes))
                .map(|()| exit_code::OK);
        }
        pending.finish()?;
        self.printer.pulled(&target, &resolved, &pulled);
        if let (Some(key), Some(verified)) = (&key, &verified) {
            self.printer.verified(&resolved.reference, key, verified);
        }
        match flags.reporting.message_format {
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
        let mut options = self.transport(&flags.transport)?;
        if flags.transport.plain_http {
            options.plain_http.push(host.clone());
        }
        let password = read_password(LOGIN_EXAMPLE)?;
        let credential = Credential::Password {
            username: flags.username.clone(),
            password: password.clone(),
        };
        let client = self.client(options)?;
        block_on(&self.cancel, remote::ping(&client, &host, credential))?;
        let place = credentials::store(&host, &flags.username, &password)?;
        self.printer.note(&format!(
            "logged in to {host}; the credentials are in {place}"
        ));
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
        Ok(exit_code::OK)
    }
}

/// Whether what `inspect` was given is an artifact and no file.
pub(super) fn reference_in(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    let artifact = text.starts_with(LAYOUT_PREFIX) || Reference::parse(text).is_ok();
    (artifact && !path.exists()).then_some(text)
}

/// From stdin, without the newline that `echo` puts behind it.
pub(super) fn read_password(example: &str) -> Result<Secret, Error> {
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_PASSWORD)
        .read_to_string(&mut text)
        .map_err(Error::io("read", "stdin"))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(Error::Usage {
            message: "there is no password on stdin".into(),
            hint: Some(format!("pipe it in, for example: {example}")),
        });
    }
    Ok(Secret::new(password.to_owned()))
}

/// What the pack stage made of a module.
fn packed(built: &Built) -> Result<Vec<Candidate>, Error> {
    let several = built.report.artifacts.len() > 1;
    let candidate = |artifact: &OciReport| {
        let layout = Layout::at(artifact.layout.clone());
        Ok(Candidate {
            name: built.report.name.clone(),
            version: built.version.clone(),
            variant: artifact.variant.parse().ok(),
            one_of_several: several,
            manifest: layout.resolve(Some(artifact.manifest_digest.as_str()))?,
            layout,
            publish: built.publish.clone(),
            sign: built.sign.clone(),
        })
    };
    built.report.artifacts.iter().map(candidate).collect()
}

/// What a reference to a layout stands for: one artifact, or all that have a tag.
fn in_layout(reference: &LayoutReference) -> Result<Vec<Candidate>, Error> {
    let LayoutReference { layout, version } = reference;
    let mut entries = Vec::new();
    if version.is_none() {
        entries = layout.index()?.manifests;
        entries.retain(|m| tag_of(m).is_some());
    }
    if entries.is_empty() {
        entries.push(layout.resolve(version.as_deref())?);
    }
    Ok(entries
        .into_iter()
        .map(|entry| {
            // Ours are called NAME:VERSION, others have the version alone.
            let tag = tag_of(&entry).map(str::to_owned);
            let (name, version) = match tag.as_deref().and_then(|t| t.rsplit_once(':')) {
                Some((name, version)) => (name.to_owned(), Some(version.to_owned())),
                None => (tag.clone().unwrap_or_else(|| "artifact".into()), tag),
            };
            Candidate {
                name: name.rsplit('/').next().unwrap_or(&name).to_owned(),
                version,
                variant: None,
                one_of_several: false,
                layout: layout.clone(),
                manifest: entry,
                publish: edgepack::config::PublishConfig::default(),
                sign: SignConfig::default(),
            }
        })
        .collect())
}

fn item(
    candidate: &Candidate,
    place: &Place,
    subjects: &Subjects,
    to_layout: Option<&Path>,
    signing: Option<Arc<Signing>>,
) -> Result<Item, Error> {
    let repository = match (&place.repository, to_layout) {
        (Some(repository), _) => repository.clone(),
        (None, Some(_)) => Repository::parse(&format!(
            "localhost/{}",
            candidate.name.to_ascii_lowercase()
        ))?,
        (None, None) => return Err(Error::usage("no repository to publish to")),
    };
    Ok(Item {
        name: candidate.name.clone(),
        bundle: Bundle::read(&candidate.layout, subjects, &candidate.manifest)?,
        layout: candidate.layout.clone(),
        repository,
        tags: place.tags.clone(),
        signing,
    })
}

fn publish_report(
    candidate: &Candidate,
    item: &Item,
    to_layout: Option<&Path>,
    published: &Published,
    dry_run: bool,
) -> PublishReport {
    let digest: Digest = item.bundle.manifest.digest.clone();
    let repository = match to_layout {
        Some(layout) => format!("{LAYOUT_PREFIX}{}", layout.display()),
        None => item.repository.to_string(),
    };
    PublishReport {
        name: item.name.clone(),
        variant: candidate.variant.map(|v| v.to_string()),
        reference: format!("{repository}@{digest}"),
        repository,
        digest,
        tags: published
            .tags
            .iter()
            .map(|(name, state)| TagReport {
                name: name.clone(),
                state: *state,
            })
            .collect(),
        signatures: signatures(item, to_layout, published, dry_run),
        size: item.bundle.size(),
        sent: published.sent,
        dry_run,
    }
}

fn signatures(
    item: &Item,
    to_layout: Option<&Path>,
    published: &Published,
    dry_run: bool,
) -> Vec<SignatureReport> {
    if let (Some(signing), true) = (&item.signing, dry_run) {
        let planned = |format: &&Format| to_layout.is_none() || **format == Format::Bundle;
        return signing
            .formats
            .iter()
            .filter(planned)
            .map(|format| SignatureReport {
                format: format.to_string(),
                state: SignatureState::Planned,
            })
            .collect();
    }
    published
        .signatures
        .iter()
        .map(|signed| SignatureReport {
            format: signed.format.to_string(),
            state: if signed.new {
                SignatureState::Made
            } else {
                SignatureState::Unchanged
            },
        })
        .collect()
}
