//! Glue for `--compare-to`: what is built beside what was there before.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;

use edgepack::compare::{Baseline, Other};
use edgepack::error::Error;
use edgepack::registry::http::{Options, block_on};
use edgepack::report::PackageReport;

use super::App;

/// What is compared with. It is read once: after it is known whom a password is for, and
/// before anything is built.
pub(super) struct Earlier {
    other: Option<Other>,
    options: Options,
    /// The registries that the password is for.
    trusted: RefCell<BTreeSet<String>>,
    read: OnceCell<Baseline>,
    /// How many files there are, where files are packed.
    files: usize,
}

impl Earlier {
    /// For what `--compare-to` says.
    pub fn new(text: Option<&str>, mut options: Options, plain_http: bool, files: usize) -> Self {
        let other = text.map(Other::parse);
        if plain_http {
            let host = other.as_ref().and_then(Other::host);
            options.plain_http.extend(host.map(str::to_owned));
        }
        Earlier {
            other,
            options,
            trusted: RefCell::default(),
            read: OnceCell::new(),
            files,
        }
    }

    /// Nothing is compared.
    pub fn none() -> Self {
        Self::new(None, Options::default(), false, 1)
    }

    /// The registry that is asked, where one is.
    pub fn host(&self) -> Option<&str> {
        self.other.as_ref().and_then(Other::host)
    }

    /// The password that was given is for this registry too.
    pub fn trust(&self, host: &str) {
        self.trusted.borrow_mut().insert(host.to_ascii_lowercase());
    }
}

impl App {
    /// Reads what is compared with, where something is, and says whether it goes with so
    /// many modules.
    pub(super) fn read_earlier(&self, earlier: &Earlier, modules: usize) -> Result<(), Error> {
        let Some(other) = &earlier.other else {
            return Ok(());
        };
        if earlier.read.get().is_none() {
            let mut options = earlier.options.clone();
            let trusted = other.host();
            if trusted.is_none_or(|host| !earlier.trusted.borrow().contains(host)) {
                options.credential = None;
            }
            let client = self.client(options)?;
            let baseline = block_on(&self.cancel, Baseline::read(other, &client, &self.cache))?;
            if baseline.is_nothing() {
                self.printer.note(&format!(
                    "there is no {} yet: nothing is compared",
                    baseline.name()
                ));
            }
            let _ = earlier.read.set(baseline);
        }
        match earlier.read.get() {
            Some(baseline) => baseline.fits(modules.max(earlier.files)),
            None => Ok(()),
        }
    }

    /// Puts the comparison into the report of a module.
    pub(super) fn compare(&self, earlier: &Earlier, report: &mut PackageReport) {
        let Some(baseline) = earlier.read.get().filter(|b| !b.is_nothing()) else {
            return;
        };
        if !baseline.compare(report) {
            self.printer.note(&format!(
                "`{}` is not in {}: it is not compared",
                report.name,
                baseline.name()
            ));
        }
    }
}
