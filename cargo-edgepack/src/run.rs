//! Glue: from the command line to the library and back to the printer.

mod attest;
mod build;
mod cache;
mod candidate;
mod ci;
mod compare;
mod describe;
mod init;
mod password;
mod place;
mod plan;
mod publish;
mod registry;
mod sign;
mod sign_file;
mod verify;
mod worker;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use edgepack::cache::Cache;
use edgepack::cancel::Cancel;
use edgepack::config::Config;
use edgepack::environment;
use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::inspect::{self, Inspection};
use edgepack::output;
use edgepack::pipeline::{self, Context};
use edgepack::plan::{Overrides, Settings};
use edgepack::report::{Outcome, Report};
use edgepack::shrink::external::WasmOpt;
use edgepack::shrink::worker::{Limits, Worker};
use edgepack::wasm::Wasm;

use self::build::{absolute, file_metadata};
use crate::cli::{self, Cli, Command, ReportFormat};
use crate::output::Printer;

/// What every command works with.
struct App {
    printer: Arc<Printer>,
    cancel: Arc<Cancel>,
    cache: Cache,
    worker: Worker,
    /// What the run has done so far, for the report should it end early.
    progress: ci::Progress,
}

/// Runs the tool and returns its exit code.
pub fn main() -> u8 {
    // Cargo calls `cargo-edgepack edgepack …`.
    let mut args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "edgepack") {
        args.remove(1);
    }
    Printer::heed_runner(false);
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => {
            Printer::heed_runner(cli.command.report_format() == ReportFormat::Github);
            cli
        }
        Err(error) => {
            if !error.use_stderr() {
                Printer::usage(&error);
                return exit_code::OK;
            }
            let for_runner = asks_for_annotations(&args);
            Printer::heed_runner(for_runner);
            Printer::usage(&error);
            if for_runner {
                let error = Error::usage(refusal(&error.to_string()));
                ci::refused(&error, ReportFormat::Github);
            }
            return exit_code::USAGE;
        }
    };
    match cli.command {
        Command::OptimizeWorker(job) => return worker::optimize(job),
        Command::OptimizeExternal(job) => return worker::optimize_external(&job),
        _ => {}
    }
    let printer = Printer::new(cli.common.quiet, cli.common.verbose > 0, cli.common.color);
    let outcome = App::new(printer, &cli).map(|app| {
        let outcome = app.run(&cli);
        if let Err(error) = &outcome {
            app.printer.error(error);
            app.ended(error, cli.command.report_format());
        }
        outcome.unwrap_or_else(|error| error.exit_code())
    });
    outcome.unwrap_or_else(|error| {
        Printer::new(false, false, cli.common.color).error(&error);
        ci::refused(&error, cli.command.report_format());
        error.exit_code()
    })
}

/// Whether `--message-format github` is among words that do not parse as a whole.
fn asks_for_annotations(args: &[OsString]) -> bool {
    let ours = || args.iter().take_while(|word| *word != "--");
    let mut pairs = ours().zip(ours().skip(1));
    ours().any(|word| word == "--message-format=github")
        || pairs.any(|(flag, value)| flag == "--message-format" && value == "github")
}

/// What the parser of the command line says is wrong, without how it is used.
fn refusal(text: &str) -> String {
    let said = text.strip_prefix("error: ").unwrap_or(text);
    let ends = ["\n\nUsage:", "\n\nFor more information"];
    let end = ends.iter().filter_map(|end| said.find(end)).min();
    said[..end.unwrap_or(said.len())].trim().to_owned()
}

impl App {
    fn new(printer: Printer, cli: &Cli) -> Result<Self, Error> {
        let cancel = Arc::new(Cancel::default());
        let handler = Arc::clone(&cancel);
        ctrlc::set_handler(move || handler.signal())
            .map_err(|e| Error::Internal(format!("failed to listen for signals: {e}")))?;
        let executable =
            std::env::current_exe().map_err(Error::io("find", "the tool's own executable"))?;
        let wasm_opt = cli.command.wasm_opt()?;
        let external = wasm_opt.map(|path| WasmOpt::find(&path)).transpose()?;
        let worker =
            Worker::new(executable, Limits::default(), Arc::clone(&cancel)).with_external(external);
        Ok(App {
            printer: Arc::new(printer),
            cancel,
            cache: Cache::of_user(),
            worker,
            progress: ci::Progress::default(),
        })
    }

    fn run(&self, cli: &Cli) -> Result<u8, Error> {
        match &cli.command {
            Command::Build(flags) => {
                let cargo = flags.flags.cargo_flags(&cli.common, flags.file.is_none())?;
                self.build(flags, &cargo)
            }
            Command::Publish(flags) => {
                let mut cargo = flags
                    .build
                    .cargo_flags(&cli.common, flags.sources.is_empty())?;
                cargo.withheld.extend(flags.signing.secret_variables());
                self.publish(flags, &cargo)
            }
            Command::Plan(flags) => self.plan(flags, &flags.cargo_flags(&cli.common)?),
            Command::Sbom(flags) => {
                let cargo = flags.flags.cargo_flags(&cli.common, flags.file.is_none())?;
                self.sbom(flags, &cargo)
            }
            Command::Pull(flags) => self.pull(flags),
            Command::Sign(flags) => self.sign(flags),
            Command::Verify(flags) => self.verify(flags),
            Command::Keygen(flags) => self.keygen(flags),
            Command::Login(flags) => self.login(flags),
            Command::Logout(flags) => self.logout(flags),
            Command::Check(flags) => self.check(flags),
            Command::Shrink(flags) => self.shrink(flags),
            Command::Inspect(flags) => self.inspect(flags),
            Command::Cache(flags) => self.cache(flags),
            Command::Init(flags) => self.init(flags),
            Command::Schema(flags) => self.schema(flags),
            Command::Completions(flags) => self.completions(flags),
            Command::Man(flags) => self.man(flags),
            Command::OptimizeWorker(_) | Command::OptimizeExternal(_) => Ok(exit_code::USAGE),
        }
    }

    /// Lends the stages what they work with.
    fn with_context<T>(&self, gzip: bool, work: impl FnOnce(&Context<'_>) -> T) -> T {
        let on_event = |event: pipeline::Event<'_>| self.printer.event(event);
        work(&Context {
            optimizer: &self.worker,
            cache: &self.cache,
            cancel: &self.cancel,
            gzip,
            on_event: &on_event,
        })
    }

    fn check(&self, flags: &cli::Check) -> Result<u8, Error> {
        let policy = Settings::new(
            &Config::default(),
            &flags.checking.overrides().or(environment::overrides()?),
        )
        .policy;
        let format = flags.reporting.message_format;
        let measured = format == ReportFormat::Json;
        let mut reports = Vec::new();
        let mut unreadable = Vec::new();
        for file in &flags.files {
            let wasm = match output::read_wasm(file) {
                Ok(wasm) => wasm,
                Err(error) => {
                    self.printer.error(&error);
                    unreadable.push(error);
                    continue;
                }
            };
            let mut report = self.with_context(measured, |context| {
                pipeline::check(wasm, file, &file_metadata(file), &policy, context)
            })?;
            report.input = Some(absolute(file)?);
            self.printer.checked(file, &report);
            reports.push(report);
        }
        let mut report = Report::new(reports);
        for error in &unreadable {
            report.fail(error);
        }
        // The lowest code that is not 0 says most.
        let code = unreadable
            .iter()
            .map(Error::exit_code)
            .chain([report.exit_code()])
            .filter(|&c| c != 0)
            .min()
            .unwrap_or(exit_code::OK);
        report.outcome = Outcome::of(code);
        self.conclude(&report, None, format, || Ok(()))?;
        Ok(code)
    }

    fn shrink(&self, flags: &cli::Shrink) -> Result<u8, Error> {
        let overrides = flags
            .shrinking
            .overrides(Overrides::default())
            .or(environment::overrides()?);
        let options = Settings::new(&Config::default(), &overrides).shrink;
        let wasm = output::read_wasm(&flags.file)?;
        let asked = !self.printer.quiet() || flags.reporting.message_format == ReportFormat::Json;
        let (mut report, bytes) = self.with_context(asked, |context| {
            pipeline::shrink_only(
                wasm,
                &flags.output,
                &file_metadata(&flags.file),
                &options,
                context,
            )
        })?;
        let to_stdout = flags.output.as_os_str() == "-";
        if let Some(bytes) = &bytes {
            self.cancel.check()?;
            if to_stdout {
                self.printer.data(bytes)?;
            } else {
                output::write(&flags.output, bytes)?;
            }
        }
        report.input = Some(absolute(&flags.file)?);
        self.printer.package(&report);
        let report = Report::new(vec![report]);
        if !to_stdout {
            let format = flags.reporting.message_format;
            self.conclude(&report, None, format, || self.printer.paths(&report))?;
        }
        Ok(report.exit_code())
    }

    fn inspect(&self, flags: &cli::Inspect) -> Result<u8, Error> {
        if let Some(reference) = registry::reference_in(&flags.file) {
            return self.inspect_artifact(reference, flags);
        }
        let wasm = output::read_wasm(&flags.file)?;
        self.inspect_wasm(wasm, &flags.file, |found| {
            if flags.json {
                self.printer.pretty_json(found)
            } else {
                self.printer.inspection(&flags.file, found)
            }
        })
    }

    /// Looks at a binary and shows what was found, or the findings where it does not
    /// validate.
    fn inspect_wasm(
        &self,
        wasm: Wasm,
        name: &Path,
        show: impl FnOnce(&Inspection) -> Result<(), Error>,
    ) -> Result<u8, Error> {
        match inspect::inspect(wasm) {
            Ok(found) => show(&found)?,
            Err(rejected) => {
                for finding in &rejected.findings {
                    self.printer.finding(&name.display().to_string(), finding);
                }
                return Ok(edgepack::finding::exit_code_of(&rejected.findings));
            }
        }
        Ok(exit_code::OK)
    }
}
