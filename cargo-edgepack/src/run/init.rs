//! Glue for `init`: files that a project begins with. Whatever is there and was changed
//! stays as it is, so that a second run changes nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "looks at the files that are there"
)]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use edgepack::build::CargoConfig;
use edgepack::ci::matrix::Template;
use edgepack::ci::pin;
use edgepack::ci::starter::{
    Action, INCLUDED, MARK, PIPELINE, Surroundings, WORKFLOW, other_stage, pipeline, says,
    settings, with_settings, workflow,
};
use edgepack::config::TABLE;
use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::output;
use edgepack::plan::{CargoFlags, Overrides, Plan};
use edgepack::project::Project;
use edgepack::source;

use super::App;
use crate::cli::{Ci, Init};

impl App {
    pub(super) fn init(&self, flags: &Init) -> Result<u8, Error> {
        let action = match &flags.action {
            Some(text) => Action::parse(text)?,
            None if flags.ci.contains(&Ci::Github) => pin::action()?,
            None => Action::default(),
        };
        let template: Template = match &flags.template {
            Some(text) => text.parse()?,
            None => Template::default(),
        };
        let mut cargo = CargoFlags {
            manifest_path: flags.manifest_path.clone(),
            ..CargoFlags::default()
        };
        let mut project = Project::load(&cargo, &self.cancel)?;
        let root = project.metadata.workspace_root.join("Cargo.toml");
        if !flags.ci.is_empty() && root.is_file() {
            // What is written runs in the workspace's folder, wherever we are.
            cargo.manifest_path = Some(root.into_std_path_buf());
            project = Project::load(&cargo, &self.cancel)?;
        }
        let config = CargoConfig::load()?;
        let target = config.build_target();
        let plan = Plan::new(&project, &cargo, &Overrides::default(), target.as_deref())?;
        if flags.ci.is_empty() {
            return self.settle(&project, &plan);
        }
        let top = repository(&project);
        let surroundings = Surroundings {
            folder: folder_in_repository(&project),
            several: plan.packages.len() > 1 || plan.packages.iter().any(|p| p.name_by_target),
        };
        if flags.ci.contains(&Ci::Github) {
            if action.is_placeholder() {
                self.unreleased("action", "--action OWNER/REPOSITORY/PATH@SHA");
            }
            let contents = workflow(&action, &surroundings);
            self.put(&top.join(WORKFLOW), &contents, flags.force)?;
        }
        if flags.ci.contains(&Ci::Gitlab) {
            if template.is_placeholder() {
                self.unreleased("component", "--template 'component: …'");
            }
            self.put_pipeline(&top, &template, &surroundings, flags.force)?;
        }
        Ok(exit_code::OK)
    }

    fn unreleased(&self, what: &str, flag: &str) {
        self.printer.warning(&format!(
            "this build is no release and does not know its {what}: put the right one in place of OWNER, or name it with {flag}"
        ));
    }

    /// The pipeline, beside one that is there and does something else.
    fn put_pipeline(
        &self,
        top: &Path,
        template: &Template,
        surroundings: &Surroundings,
        force: bool,
    ) -> Result<(), Error> {
        let main = top.join(PIPELINE);
        match read(&main)? {
            Some(there) if there.trim().is_empty() => {
                self.put(&main, &pipeline(template, surroundings, None), true)
            }
            Some(there) if !there.starts_with(MARK) => {
                let includes = says(&there, INCLUDED);
                let uses = says(&there, "/edgepack@") || says(&there, "edgepack/template.yml");
                if uses && !includes {
                    self.printer.note(&format!(
                        "`{}` uses edgepack already and is left alone",
                        main.display()
                    ));
                    return Ok(());
                }
                let stage = other_stage(&there);
                let contents = pipeline(template, surroundings, stage.as_deref());
                self.put(&top.join(INCLUDED), &contents, force)?;
                if let Some(stage) = stage {
                    self.printer.note(&format!(
                        "`{}` has no stage `build`: the job is in `{stage}`, its first one",
                        main.display()
                    ));
                }
                if !includes {
                    self.printer.note(&format!(
                        "`{}` is yours and is left alone; add to its `include`:\n  - local: {INCLUDED}",
                        main.display()
                    ));
                }
                Ok(())
            }
            _ => self.put(&main, &pipeline(template, surroundings, None), force),
        }
    }

    /// Writes a file that is not there.
    fn put(&self, path: &Path, contents: &str, force: bool) -> Result<(), Error> {
        // `.github` may be a link to anywhere.
        let folders = path.ancestors().skip(1).take_while(|folder| {
            folder
                .file_name()
                .is_some_and(|name| name == ".github" || name == "workflows" || name == ".gitlab")
        });
        for folder in folders {
            if folder.is_symlink() {
                return Err(Error::Usage {
                    message: format!(
                        "`{}` is a link: nothing is written behind it",
                        folder.display()
                    ),
                    hint: Some("make it a folder of the repository".into()),
                });
            }
        }
        match read(path)? {
            // Git writes lines as Windows ends them, if it is told to.
            Some(there) if there.replace("\r\n", "\n") == contents => {
                self.printer
                    .note(&format!("`{}` is as it should be", path.display()));
                return Ok(());
            }
            Some(_) if !force => {
                self.printer.note(&format!(
                    "`{}` was changed and is left alone; --force would replace it by:",
                    path.display()
                ));
                for line in contents.lines() {
                    self.printer.step(line);
                }
                return Ok(());
            }
            _ => {}
        }
        output::write_into_new(path, contents.as_bytes())?;
        self.printer
            .data(format!("{}\n", path.display()).as_bytes())
    }

    /// Gives the manifest a table to begin with.
    fn settle(&self, project: &Project, plan: &Plan) -> Result<u8, Error> {
        let (manifest, there, text) = match &plan.packages[..] {
            [only] => {
                let package = &project.metadata[&only.id];
                (
                    package.manifest_path.as_std_path().to_owned(),
                    &package.metadata,
                    settings(Some(&only.target)),
                )
            }
            _ => (
                project.metadata.workspace_root.join("Cargo.toml").into(),
                &project.metadata.workspace_metadata,
                settings(None),
            ),
        };
        if there.get(TABLE).is_some() {
            self.printer
                .note(&format!("`{}` is set up already", manifest.display()));
            return Ok(exit_code::OK);
        }
        let old = std::fs::read_to_string(&manifest).map_err(Error::io("read", &manifest))?;
        let Some(new) = with_settings(&old, &text) else {
            return Err(Error::Config {
                manifest,
                message: "its metadata is written in a form that nothing can be added to".into(),
                hint: Some(format!("add this by hand:{text}")),
            });
        };
        output::write(&manifest, new.as_bytes())?;
        self.printer
            .data(format!("{}\n", manifest.display()).as_bytes())?;
        Ok(exit_code::OK)
    }
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound) => Ok(None),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

/// The folder of the repository, or that of the workspace where there is none.
fn repository(project: &Project) -> PathBuf {
    let root = project.metadata.workspace_root.as_std_path();
    source::top(root).unwrap_or_else(|| root.to_owned())
}

/// The folder of the workspace in the repository, with `/`; empty for the repository's own.
pub(super) fn folder_in_repository(project: &Project) -> String {
    let root = project.metadata.workspace_root.as_std_path();
    below(&repository(project), root)
}

/// The way from one folder to another below it, with `/`; empty where there is none.
fn below(top: &Path, folder: &Path) -> String {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (top, folder): (PathBuf, PathBuf) = (real(top), real(folder));
    let rest = folder.strip_prefix(top).unwrap_or(Path::new(""));
    let parts: Vec<_> = rest.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}
