//! Glue for `plan`: what would be built, and what of it changed.

use edgepack::build::CargoConfig;
use edgepack::changes::{self, Changes};
use edgepack::ci::matrix::{
    Job, MAX_GITHUB, MAX_GITLAB, Matrix, Template, child_pipeline, distinct,
};
use edgepack::destination::{Artifact, Destination, Need};
use edgepack::environment;
use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::plan::{
    CargoFlags, PackagePlan, Plan, Planned, PlannedArtifact, PlannedPackage, Skipped,
};
use edgepack::project::Project;

use super::App;
use super::init::folder_in_repository;
use crate::cli::{self, MatrixFor, MessageFormat};

impl App {
    pub(super) fn plan(&self, flags: &cli::Plan, cargo: &CargoFlags) -> Result<u8, Error> {
        let template = match &flags.template {
            Some(text) => text.parse()?,
            None => Template::default(),
        };
        distinct(&flags.input)?;
        let overrides = environment::overrides()?;
        let config = CargoConfig::load()?;
        let project = Project::load(cargo, &self.cancel)?;
        let plan = Plan::new(
            &project,
            cargo,
            &overrides,
            config.build_target().as_deref(),
        )?;
        let changes = match &flags.since {
            Some(revision) => changes::since(revision, &project)?,
            None => Changes::everything("every package is asked for"),
        };
        if let (Some(why), true) = (&changes.all, flags.since.is_some()) {
            self.printer.note(&format!("everything is planned: {why}"));
        }
        let mut packages = Vec::new();
        for package in &plan.packages {
            if let Some(why) = changes.reason(&package.id) {
                let why = flags.since.is_some().then(|| why.to_owned());
                packages.push(planned(&project, cargo, package, why)?);
            }
        }
        packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        let jobs: Vec<Job> = packages.iter().map(job).collect();
        match flags.matrix {
            Some(MatrixFor::Github) => {
                self.warn_of_limit(jobs.len(), MAX_GITHUB, "GitHub runs 256 jobs of a matrix");
                self.printer.json(&Matrix { include: &jobs })?;
            }
            Some(MatrixFor::Gitlab) => {
                self.warn_of_limit(
                    jobs.len(),
                    MAX_GITLAB,
                    "GitLab includes 150 files in a pipeline",
                );
                if template.is_placeholder() && !jobs.is_empty() {
                    self.printer.warning(&format!(
                        "this build is no release and does not know its component: name one with --template \
                         ({} is written)",
                        template.entry()
                    ));
                }
                let folder = folder_in_repository(&project);
                let pipeline = child_pipeline(&jobs, &folder, &template, &flags.input);
                self.printer.data(pipeline.as_bytes())?;
            }
            None => {
                let planned = Planned {
                    since: flags.since.clone(),
                    packages,
                    skipped: plan
                        .skipped
                        .iter()
                        .map(|(name, reason)| Skipped {
                            name: name.clone(),
                            reason: (*reason).to_owned(),
                        })
                        .collect(),
                };
                match flags.reporting.message_format {
                    MessageFormat::Json => self.printer.json(&planned)?,
                    MessageFormat::Human => self.printer.planned(&planned)?,
                }
            }
        }
        Ok(exit_code::OK)
    }

    fn warn_of_limit(&self, jobs: usize, limit: usize, why: &str) {
        if jobs > limit {
            self.printer.warning(&format!(
                "there are {jobs} packages, and {why}: choose some with -p or --exclude"
            ));
        }
    }
}

fn job(package: &PlannedPackage) -> Job {
    Job {
        package: package.package.clone(),
        version: package.version.clone(),
        target: package.target.clone(),
    }
}

fn planned(
    project: &Project,
    flags: &CargoFlags,
    package: &PackagePlan,
    changed: Option<String>,
) -> Result<PlannedPackage, Error> {
    let overrides = environment::destination()?;
    // Without a repository there is no place yet, and that is no error here.
    let destination = Destination::new(&overrides, &package.publish, Need::None)?;
    let variants = package.settings.variants.as_slice();
    let mut artifacts = Vec::new();
    let targets = &project.metadata[&package.id].targets;
    for target in targets.iter().filter(|t| flags.targets.select(t)) {
        let name = package.artifact_name(target);
        for &variant in variants {
            let place = destination.place(Artifact {
                name: &name,
                version: Some(&package.metadata.version),
                variant: Some(variant),
                one_of_several: variants.len() > 1,
                moves: false,
            })?;
            artifacts.push(PlannedArtifact {
                name: name.clone(),
                variant: variant.to_string(),
                repository: place.repository.as_ref().map(ToString::to_string),
                tags: place.tags.into_iter().map(|t| t.name).collect(),
            });
        }
    }
    Ok(PlannedPackage {
        name: package.metadata.name.clone(),
        package: package.spec.clone(),
        version: package.metadata.version.clone(),
        target: package.target.clone(),
        profile: package.profile.clone(),
        changed,
        artifacts,
    })
}
