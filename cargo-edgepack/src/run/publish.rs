//! Glue for `publish`: what there is to publish finds its place and is pushed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;

use edgepack::config::{Config, PublishConfig, SignConfig};
use edgepack::destination::{self, Place};
use edgepack::environment;
use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::oci::Digest;
use edgepack::plan::{CargoFlags, Settings};
use edgepack::publish::{self, Bundle, Item, Published, Rules};
use edgepack::registry::credentials;
use edgepack::registry::http::{Options, block_on, block_on_chunks};
use edgepack::registry::layout::{Layout, LayoutReference, Subjects};
use edgepack::registry::reference::{LAYOUT_PREFIX, Repository};
use edgepack::report::{
    AttestationReport, PublishReport, Report, SignatureReport, SignatureState, TagReport, TagState,
};
use edgepack::sign::Format;
use edgepack::sign::attach::Signing;
use edgepack::sign::attestation::Attestation;

use super::App;
use super::attest::Wishes;
use super::build::{Approve, file_metadata};
use super::candidate::{Candidate, in_layout, merged, packed};
use super::compare::Earlier;
use super::place::{self, Asked, Foreseen, Placing};
use super::sign::Signers;
use crate::cli::{Publish, ReportFormat};
use crate::progress::Progress;

/// What flags and variables say about attestations.
struct Switches {
    sbom: Option<bool>,
    provenance: Option<bool>,
}

impl Switches {
    fn new(flags: &Publish) -> Result<Self, Error> {
        let sbom = flags.sbom.wish();
        let provenance = flags.provenance.wish();
        Ok(Switches {
            sbom: sbom.or(environment::switch(environment::PUBLISH_SBOM)?),
            provenance: provenance.or(environment::switch(environment::PUBLISH_PROVENANCE)?),
        })
    }

    /// What is signed has both, unless somebody says otherwise.
    fn wishes(&self, config: &PublishConfig, signed: bool) -> Wishes {
        Wishes {
            sbom: self.sbom.or(config.sbom).unwrap_or(signed),
            provenance: self.provenance.or(config.provenance).unwrap_or(signed),
        }
    }
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
        let placing = Placing {
            overrides,
            need: place::need(flags, cargo),
        };
        // What is wrong with the flags is said before minutes of building, and a
        // password is read before a compiler could take stdin.
        let options = self.options(&flags.access)?;
        let signers = Signers::new(&flags.signing, self.client(options.clone())?)?;
        check_sources(flags)?;
        let earlier = Earlier::new(
            flags.comparing.compare_to.as_deref(),
            options.clone(),
            flags.access.transport.plain_http,
            flags.sources.len(),
        );
        if !flags.sources.is_empty() && cargo.manifest_path.is_none() {
            placing.destination(&PublishConfig::default())?;
            signers.of(&SignConfig::default(), None)?;
        }

        let switches = Switches::new(flags)?;
        let approve = |packages: &[Asked<'_>]| {
            let mut entered = None;
            let wished = packages.iter().map(|package| {
                let signed = signers.of(package.sign, None)?.is_some();
                // The password is for where things are published.
                if let Some(host) = placing
                    .destination(package.publish)?
                    .host()
                    .filter(|_| to_layout.is_none())
                {
                    let first = entered.get_or_insert_with(|| host.to_owned());
                    if first != host && flags.access.username.is_some() {
                        return Err(credentials::one_host([first, host]));
                    }
                    earlier.trust(host);
                }
                Ok(switches.wishes(package.publish, signed))
            });
            let wished = wished.collect::<Result<_, Error>>()?;
            placing.foresee(packages)?;
            Ok(wished)
        };
        let config = match flags.sources[..] {
            [] => Config::default(),
            _ => self.file_config(cargo)?,
        };
        foresee(flags, &config, &placing)?;
        let (mut report, folder, candidates) =
            self.candidates(flags, &config, cargo, &approve, &earlier)?;
        if report.exit_code() != exit_code::OK {
            self.finish(&report, folder.as_ref(), flags.reporting.message_format)?;
            return Ok(report.exit_code());
        }

        let (candidates, placed) = self.places(candidates, &placing)?;
        let items = self.items(&candidates, &placed, to_layout, &signers)?;
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
                        let to = target(item, to_layout);
                        self.printer
                            .warning(&format!("`{}` is not published to {to}", item.name));
                    }
                    self.printer.error(&error);
                    report.fail(&error);
                    code = if code == exit_code::OK {
                        error.exit_code()
                    } else {
                        code
                    };
                }
            }
        }
        self.finish(&report, folder.as_ref(), flags.reporting.message_format)?;
        Ok(code)
    }

    fn places(
        &self,
        candidates: Vec<Candidate>,
        placing: &Placing,
    ) -> Result<(Vec<Candidate>, Vec<Place>), Error> {
        let artifacts: Vec<_> = candidates
            .iter()
            .map(|c| (&c.artifact, &c.publish, &c.manifest.digest))
            .collect();
        let placed = placing.place(&artifacts)?;
        for place in &placed {
            for note in &place.notes {
                self.printer.note(note);
            }
            for warning in &place.warnings {
                self.printer.warning(warning);
            }
        }
        Ok(merged(candidates, placed))
    }

    /// Reads what is to be pushed, and opens the keys that it is signed with.
    fn items(
        &self,
        candidates: &[Candidate],
        placed: &[Place],
        to_layout: Option<&Path>,
        signers: &Signers,
    ) -> Result<Vec<Item>, Error> {
        let mut subjects = BTreeMap::<&Path, Subjects>::new();
        let mut items = Vec::new();
        for (candidate, place) in candidates.iter().zip(placed) {
            let known = match subjects.entry(candidate.layout.folder()) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(candidate.layout.subjects()?),
            };
            let signing = signers.of(&candidate.sign, Some(&|text| self.printer.note(text)))?;
            if signing.is_none() && !candidate.attestations.is_empty() {
                self.printer.note(&format!(
                    "`{}` is not signed, so that no SBOM and no provenance are attached to it",
                    candidate.artifact.name
                ));
            }
            items.push(item(candidate, place, known, to_layout, signing)?);
        }
        Ok(items)
    }

    fn finish(
        &self,
        report: &Report,
        folder: Option<&edgepack::pipeline::Destination>,
        format: ReportFormat,
    ) -> Result<(), Error> {
        self.conclude(report, folder, format, || {
            let references = report
                .published
                .iter()
                .map(|p| format!("{}\n", p.reference));
            self.printer.data(references.collect::<String>().as_bytes())
        })
    }

    /// Builds what has to be built, and lists what is to be published.
    fn candidates(
        &self,
        flags: &Publish,
        config: &Config,
        cargo: &CargoFlags,
        approve: &Approve<'_>,
        earlier: &Earlier,
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
            let (destination, built) = self.build_project(&flags.build, cargo, approve, earlier)?;
            folder = Some(destination);
            for built in built {
                candidates.extend(packed(&built)?);
                reports.push(built.report);
            }
        }
        for source in &flags.sources {
            if let Some(parsed) = LayoutReference::parse(source) {
                let parsed = parsed?;
                candidates.extend(in_layout(&parsed)?);
                if parsed.version.is_none() {
                    for left in parsed.layout.index()?.others_tagged() {
                        self.printer.warning(&format!(
                            "`{left}` in the layout is left out: its digest is no sha256"
                        ));
                    }
                }
            } else {
                let (destination, built) = self.build_file(
                    Path::new(source),
                    config,
                    &flags.build,
                    cargo,
                    approve,
                    earlier,
                )?;
                folder = Some(destination);
                for built in built {
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
        let rules = Rules {
            force: flags.publishing.force,
            skip_existing: flags.publishing.skip_existing,
        };
        let layout = flags.publishing.oci_layout.clone().map(Layout::at);
        if flags.publishing.dry_run {
            let planned = |item| planned(item, layout.as_ref(), rules);
            return Ok(items.iter().map(planned).collect());
        }
        if let Some(layout) = layout {
            return Ok(items
                .iter()
                .map(|item| {
                    self.cancel.check()?;
                    block_on(&self.cancel, publish::copy_to_layout(item, &layout, rules))
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
        let on_wait = || self.printer.last_chunks();
        block_on_chunks(&self.cancel, &client, on_wait, async {
            Ok(publish::publish_all(items, &context).await)
        })
    }
}

/// What would become of an artifact. A layout, which is a folder of the user's, is looked at;
/// a registry is not asked.
fn planned(item: &Item, layout: Option<&Layout>, rules: Rules) -> Result<Published, Error> {
    let mut tags: Vec<_> = item
        .tags
        .iter()
        .map(|tag| (tag.name.clone(), TagState::Set))
        .collect();
    if let Some(layout) = layout {
        tags = publish::tags_in_layout(item, layout, rules)?;
    }
    for (_, state) in &mut tags {
        if *state == TagState::Set {
            *state = TagState::Planned;
        }
    }
    Ok(Published {
        tags,
        signatures: Vec::new(),
        attested: Vec::new(),
        sent: 0,
    })
}

/// Says of what was named what would go wrong once it is built.
fn foresee(flags: &Publish, config: &Config, placing: &Placing) -> Result<(), Error> {
    let overrides = flags.build.overrides().or(environment::overrides()?);
    let variants = Settings::new(config, &overrides).variants;
    let version = flags.build.as_version.as_deref();
    let unconfigured = PublishConfig::default();
    let mut all = Vec::new();
    for source in &flags.sources {
        if let Some(parsed) = LayoutReference::parse(source) {
            for found in in_layout(&parsed?)? {
                let digest = found.manifest.digest.to_string();
                all.push((found.artifact, &unconfigured, digest));
            }
        } else {
            let name = match &flags.build.name {
                Some(name) => name.clone(),
                None => file_metadata(Path::new(source)).name,
            };
            for made in Foreseen::all(&name, version, &variants) {
                let this = format!("{source}\n{:?}", made.variant);
                all.push((made, &config.publish, this));
            }
        }
    }
    let all: Vec<_> = all.iter().map(|(a, c, this)| (a, *c, this)).collect();
    placing.place(&all).map(drop)
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
        (None, Some(_)) => Repository::parse("localhost/layout")?,
        (None, None) => return Err(Error::usage("no repository to publish to")),
    };
    Ok(Item {
        name: candidate.artifact.name.clone(),
        bundle: Bundle::read(&candidate.layout, subjects, &candidate.manifest)?,
        layout: candidate.layout.clone(),
        repository,
        tags: place.tags.clone(),
        signing,
        attestations: candidate.attestations.clone(),
    })
}

/// Where an artifact goes, for messages.
fn target(item: &Item, to_layout: Option<&Path>) -> String {
    to_layout.map_or_else(|| item.repository.to_string(), |l| l.display().to_string())
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
        variant: candidate.artifact.variant.map(|v| v.to_string()),
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
        attestations: attestations(item, published, dry_run),
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

fn attestations(item: &Item, published: &Published, dry_run: bool) -> Vec<AttestationReport> {
    if item.signing.is_none() {
        return Vec::new();
    }
    let states = published.attested.iter().map(|new| match new {
        true => SignatureState::Made,
        false => SignatureState::Unchanged,
    });
    let planned = dry_run.then_some(SignatureState::Planned);
    let states = states.chain(planned.into_iter().cycle());
    let entry = |(attestation, state): (&Attestation, _)| AttestationReport {
        predicate_type: attestation.predicate_type.clone(),
        state,
    };
    item.attestations.iter().zip(states).map(entry).collect()
}

/// What is wrong with the sources is said before any of them is built.
fn check_sources(flags: &Publish) -> Result<(), Error> {
    if flags.sources.len() > 1 && flags.build.name.is_some() {
        return Err(Error::usage("--name goes with one file"));
    }
    let is_layout = |source: &String| source.starts_with(LAYOUT_PREFIX);
    if !flags.sources.is_empty() && flags.sources.iter().all(is_layout) {
        let mut given = flags.build.overrides().flags();
        if flags.build.no_shrink {
            given.retain(|flag| *flag != "--level");
        }
        let named = [
            ("--no-shrink", flags.build.no_shrink),
            ("--name", flags.build.name.is_some()),
            ("--as-version", flags.build.as_version.is_some()),
            ("--sbom", flags.sbom.wish() == Some(true)),
            ("--provenance", flags.provenance.wish() == Some(true)),
        ];
        given.extend(named.iter().filter_map(|(flag, is)| is.then_some(*flag)));
        if !given.is_empty() {
            return Err(Error::Usage {
                message: format!(
                    "{} goes with what is built, and what a layout holds is packed already",
                    given.join(", ")
                ),
                hint: Some("give it to the build that packs it, or publish the .wasm file".into()),
            });
        }
    }
    for source in &flags.sources {
        if let Some(parsed) = LayoutReference::parse(source) {
            parsed?;
            if flags.comparing.compare_to.is_some() {
                return Err(Error::Usage {
                    message: format!(
                        "--compare-to goes with what is built, and `{source}` is pushed as it is"
                    ),
                    hint: Some("leave --compare-to out, or publish the .wasm file".into()),
                });
            }
        } else if Path::new(source).is_dir() {
            let manifest = Path::new(source).join("Cargo.toml");
            let index = Layout::at(source.into()).index();
            let hint = if index.is_ok_and(|index| !index.manifests.is_empty()) {
                format!("for an OCI image layout: cargo edgepack publish {LAYOUT_PREFIX}{source}")
            } else {
                format!(
                    "for a Rust project: cargo edgepack publish --manifest-path {}",
                    manifest.display()
                )
            };
            return Err(Error::Usage {
                message: format!("`{source}` is a folder, not a .wasm file"),
                hint: Some(hint),
            });
        }
    }
    Ok(())
}
