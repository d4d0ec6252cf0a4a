//! Glue for the commands that describe the tool itself: schemas, completions, the manual.

use clap::{Command, CommandFactory};
use edgepack::config::Config;
use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::inspect::{ArtifactInspection, Inspection};
use edgepack::output;
use edgepack::plan::Planned;
use edgepack::policy::Policy;
use edgepack::report::Report;

use super::App;
use crate::cli::{Cli, Completions, Man, Schema, SchemaOf};

/// The name of the program, which cargo calls.
const PROGRAM: &str = "cargo-edgepack";

impl App {
    pub(super) fn schema(&self, flags: &Schema) -> Result<u8, Error> {
        self.printer.pretty_json(&match flags.of {
            SchemaOf::Report => Report::schema(),
            SchemaOf::Config => Config::schema(),
            SchemaOf::Plan => Planned::schema(),
            SchemaOf::Inspect => Inspection::schema(),
            SchemaOf::Artifact => ArtifactInspection::schema(),
            SchemaOf::Policy => Policy::schema(),
        })?;
        Ok(exit_code::OK)
    }

    pub(super) fn completions(&self, flags: &Completions) -> Result<u8, Error> {
        let mut text = Vec::new();
        clap_complete::generate(flags.shell, &mut visible(), PROGRAM, &mut text);
        self.printer.data(&text)?;
        Ok(exit_code::OK)
    }

    pub(super) fn man(&self, flags: &Man) -> Result<u8, Error> {
        let mut whole = visible();
        whole.build();
        let page = |command: &Command, title: &str| {
            let mut text = Vec::new();
            let page = clap_mangen::Man::new(command.clone()).title(title);
            page.render(&mut text)
                .map(|()| text)
                .map_err(Error::io("write", "the manual"))
        };
        let main = page(&whole, PROGRAM)?;
        let Some(folder) = &flags.output else {
            self.printer.data(&main)?;
            return Ok(exit_code::OK);
        };
        for command in whole.get_subcommands() {
            let title = format!("{PROGRAM}-{}", command.get_name());
            let path = folder.join(format!("{title}.1"));
            output::write_into_new(&path, &page(command, &title)?)?;
        }
        output::write_into_new(&folder.join(format!("{PROGRAM}.1")), &main)?;
        Ok(exit_code::OK)
    }
}

/// The command line without what only the tool itself calls.
fn visible() -> Command {
    let whole = Cli::command();
    let hidden = |c: &&Command| !c.is_hide_set();
    let shown: Vec<Command> = whole.get_subcommands().filter(hidden).cloned().collect();
    // Commands cannot be taken out of a command, only put into one.
    let mut command = Command::new(PROGRAM)
        .bin_name("cargo edgepack")
        .disable_help_subcommand(true)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands(shown)
        .args(whole.get_arguments().cloned());
    if let Some(about) = whole.get_about() {
        command = command.about(about.clone());
    }
    if let Some(after) = whole.get_after_help() {
        command = command.after_help(after.clone());
    }
    command
}
