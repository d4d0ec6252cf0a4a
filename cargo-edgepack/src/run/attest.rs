//! Glue for what is told about artifacts: SBOMs and provenance.

use std::path::Path;

use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::oci::Digest;
use edgepack::output;
use edgepack::pack::Timestamp;
use edgepack::pipeline::Destination;
use edgepack::plan::{CargoFlags, PackagePlan};
use edgepack::project::{Project, Whole};
use edgepack::provenance::{self, Run, Toolchain};
use edgepack::report::{PackageReport, Report};
use edgepack::sbom::cargo::{self, Lock, Units};
use edgepack::sbom::{self, Subject};
use edgepack::shrink::{Optimizer, Options};
use edgepack::sign::attestation::{Attestation, Kind};
use edgepack::source::{self, ci};
use edgepack::wasm::Wasm;
use edgepack::wasm::metadata::{self, Metadata};

use super::App;
use super::build::{Built, file_metadata};
use super::compare::Earlier;
use super::place::Asked;
use crate::cli::{ReportFormat, Sbom};

/// What is to be told about an artifact.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    pub sbom: bool,
    pub provenance: bool,
}

/// What can be told about an artifact.
#[derive(Clone, Debug, Default)]
pub(super) struct Attested {
    /// The SBOM, as it stands in files.
    pub sbom: Option<Vec<u8>>,
    pub provenance: Option<Attestation>,
}

impl Attested {
    /// As it is signed.
    pub fn attestations(&self) -> Result<Vec<Attestation>, Error> {
        let mut all = Vec::new();
        if let Some(sbom) = &self.sbom {
            all.push(Attestation {
                predicate_type: Kind::Sbom.predicate_type().to_owned(),
                predicate: serde_json::from_slice(sbom)
                    .map_err(|e| Error::Internal(e.to_string()))?,
            });
        }
        all.extend(self.provenance.clone());
        Ok(all)
    }
}

/// What all artifacts of a run of cargo have in common, and the lock file's sums.
#[derive(Default)]
pub(super) struct RunOf {
    run: Run,
    lock: Lock,
}

/// How a package was compiled.
pub(super) struct Compiled<'a> {
    pub package: &'a PackagePlan,
    pub example: bool,
    pub units: &'a Units,
    /// There where an SBOM is asked for.
    pub graph: Option<&'a Whole>,
    pub flags: &'a CargoFlags,
    pub rustflags: &'a [String],
    /// There where provenance is asked for.
    pub toolchain: Option<&'a Toolchain>,
    pub created: Timestamp,
}

/// A binary that came as a file, as it was before anything happened to it.
pub(super) struct File {
    name: String,
    digest: Option<Digest>,
    metadata: Option<Metadata>,
}

impl File {
    pub fn new(path: &Path, wasm: &Wasm, wishes: Wishes) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str());
        File {
            name: name.to_string_lossy().into_owned(),
            digest: wishes.provenance.then(|| Digest::of(wasm.bytes())),
            // What does not parse is found by the stages.
            metadata: wishes
                .sbom
                .then(|| metadata::read(wasm.bytes()).unwrap_or_default()),
        }
    }
}

impl App {
    /// What is known once something was compiled, which may have changed `Cargo.lock`;
    /// nothing where nothing is asked for.
    pub(super) fn run_of(
        &self,
        project: &Project,
        revision: Option<&String>,
        wishes: Wishes,
    ) -> Result<RunOf, Error> {
        let mut known = RunOf::default();
        if !wishes.sbom && !wishes.provenance {
            return Ok(known);
        }
        let lock = project.lock_file()?;
        if wishes.sbom {
            let text = lock
                .as_deref()
                .map(String::from_utf8_lossy)
                .unwrap_or_default();
            known.lock = Lock::parse(&text);
        }
        if wishes.provenance {
            let root = project.metadata.workspace_root.as_std_path();
            known.run = Run {
                source: source::describe(root, revision.cloned(), &project.target_dir),
                lock: lock.as_deref().map(Digest::of),
                ..self.run_of_file()
            };
        }
        Ok(known)
    }

    fn run_of_file(&self) -> Run {
        Run {
            builder: ci::builder(),
            optimizers: self
                .worker
                .producers()
                .into_iter()
                .map(|p| p.name)
                .collect(),
            ..Run::default()
        }
    }

    /// Tells about what came as a file, and writes the SBOM.
    pub(super) fn attest_file(
        &self,
        file: &File,
        report: &mut PackageReport,
        options: &Options,
        created: Timestamp,
        to: &Destination,
    ) -> Result<Attested, Error> {
        let sbom = match &file.metadata {
            Some(metadata) => {
                self.doubt(metadata, &report.name);
                let graph = sbom::Graph::of_binary(&report.name, &report.version, metadata);
                Some(make_sbom(&graph, report, created)?)
            }
            None => None,
        };
        let provenance = file.digest.as_ref().map(|digest| {
            let run = self.run_of_file();
            provenance::of_file(&run, &report.name, &file.name, digest, options)
        });
        write_sbom(sbom, provenance, report, to)
    }

    pub(super) fn sbom(&self, flags: &Sbom, cargo: &CargoFlags) -> Result<u8, Error> {
        let created = source::source_date_epoch()?.unwrap_or_default();
        let file = flags.file.as_deref();
        output::refuse_input(&flags.output, file, "name another file with --output")?;
        let sbom = match &flags.file {
            Some(file) => {
                let wasm = output::read_wasm(file)?;
                let mut named = file_metadata(file);
                if let Some(name) = &flags.flags.name {
                    named.name.clone_from(name);
                }
                if let Some(version) = &flags.flags.as_version {
                    named.version.clone_from(version);
                }
                let metadata = metadata::read(wasm.bytes()).unwrap_or_default();
                self.doubt(&metadata, &named.name);
                let graph = sbom::Graph::of_binary(&named.name, &named.version, &metadata);
                let digest = Digest::of(wasm.bytes());
                let subject = Subject {
                    name: &named.name,
                    version: &named.version,
                    sha256: digest.hex(),
                    target: None,
                };
                sbom::make(&graph, &subject, created)?
            }
            None => match self.sbom_of_project(flags, cargo)? {
                Ok(sbom) => sbom,
                Err(code) => return Ok(code),
            },
        };
        if flags.output.as_os_str() == "-" {
            self.printer.data(&sbom)?;
        } else {
            output::write(&flags.output, &sbom)?;
        }
        Ok(exit_code::OK)
    }

    /// Says what an SBOM of a binary lacks.
    fn doubt(&self, metadata: &Metadata, name: &str) {
        if metadata.unreadable {
            self.printer.note(&format!(
                "the list of crates in {name} (`{}`) cannot be read: the SBOM is without them",
                metadata::DEPENDENCIES_SECTION
            ));
        }
    }

    /// Builds; the exit code where the module is not to be used.
    fn sbom_of_project(
        &self,
        flags: &Sbom,
        cargo: &CargoFlags,
    ) -> Result<Result<Vec<u8>, u8>, Error> {
        let several = |what: &str, hint: String| Error::Usage {
            message: format!("there are several {what}, and an SBOM is about one module"),
            hint: Some(hint),
        };
        let approve = |packages: &[Asked<'_>]| {
            if packages.len() > 1 {
                let hint = "choose one with -p; build --sbom writes one for each";
                return Err(several("packages", hint.into()));
            }
            let wishes = Wishes {
                sbom: true,
                provenance: false,
            };
            Ok(vec![wishes; packages.len()])
        };
        let (destination, built) =
            self.build_project(&flags.flags, cargo, &approve, &Earlier::none())?;
        let (reports, sboms): (Vec<_>, Vec<_>) = built
            .into_iter()
            .map(
                |Built {
                     report, attested, ..
                 }| (report, attested.sbom),
            )
            .unzip();
        let report = Report::new(reports);
        self.conclude(&report, Some(&destination), ReportFormat::Human, || Ok(()))?;
        if report.exit_code() != exit_code::OK {
            return Ok(Err(report.exit_code()));
        }
        let mut sboms = sboms.into_iter().flatten();
        match (sboms.next(), sboms.next()) {
            (Some(sbom), None) => Ok(Ok(sbom)),
            _ => Err(several(
                "modules",
                "choose one with --bin NAME or --lib; build --sbom writes one for each".into(),
            )),
        }
    }
}

/// Tells about what was compiled, and writes the SBOM.
pub(super) fn attest_package(
    known: &RunOf,
    compiled: &Compiled<'_>,
    report: &mut PackageReport,
    to: &Destination,
) -> Result<Attested, Error> {
    let Compiled { package, units, .. } = *compiled;
    let sbom = match compiled.graph {
        Some(graph) => {
            let of = cargo::graph(graph, &known.lock, units, &package.id, compiled.example);
            Some(make_sbom(&of, report, compiled.created)?)
        }
        None => None,
    };
    let none = std::collections::BTreeSet::new();
    let features: Vec<String> = units
        .get(&package.id)
        .unwrap_or(&none)
        .iter()
        .cloned()
        .collect();
    let provenance = compiled.toolchain.map(|toolchain| {
        provenance::of_package(
            &known.run,
            &provenance::Compiled {
                artifact: &report.name,
                plan: package,
                flags: compiled.flags,
                rustflags: compiled.rustflags,
                features: &features,
                toolchain,
            },
        )
    });
    write_sbom(sbom, provenance, report, to)
}

fn make_sbom(
    graph: &sbom::Graph,
    report: &PackageReport,
    created: Timestamp,
) -> Result<Vec<u8>, Error> {
    let subject = Subject {
        name: &report.name,
        version: &report.version,
        sha256: &report.sha256,
        target: report.target.as_deref(),
    };
    sbom::make(graph, &subject, created)
}

/// An SBOM of an earlier run would be about another module: it goes.
fn write_sbom(
    sbom: Option<Vec<u8>>,
    provenance: Option<Attestation>,
    report: &mut PackageReport,
    to: &Destination,
) -> Result<Attested, Error> {
    let path = to.sbom_path(&report.name);
    match &sbom {
        // Where nothing was written there is nothing that it could be about.
        Some(sbom) if report.wasm.is_some() => {
            output::write_into_new(&path, sbom)?;
            report.sbom = Some(path);
        }
        _ => output::remove_stale(&path)?,
    }
    Ok(Attested { sbom, provenance })
}
