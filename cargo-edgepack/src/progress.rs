//! Progress of transfers: a bar for each blob on a terminal, a line for each
//! elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;

use edgepack::oci::{Descriptor, Digest};
use edgepack::publish::Event;
use edgepack::registry::remote::upload::Uploaded;
use edgepack::size::ByteCount;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::Printer;

/// Blobs below this size are there before a bar could be seen.
const MIN_BAR: u64 = 256 << 10;

/// What is on its way.
pub struct Progress<'a> {
    printer: &'a Printer,
    names: Vec<String>,
    bars: Option<MultiProgress>,
    moving: Mutex<HashMap<(usize, Digest), ProgressBar>>,
}

impl<'a> Progress<'a> {
    /// Progress of the items with these names.
    pub fn new(printer: &'a Printer, names: Vec<String>) -> Self {
        printer.clear();
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
        Progress {
            bars: (terminal && !printer.quiet()).then(MultiProgress::new),
            printer,
            names,
            moving: Mutex::default(),
        }
    }

    /// Something happened to an item that is being published.
    pub fn published(&self, event: Event<'_>) {
        match event {
            Event::Progress { item, blob, done } => self.bar(item, blob, done),
            Event::Blob { item, blob, how } => {
                self.end_bar(item, &blob.digest);
                let what = match how {
                    Uploaded::Present => "is there already",
                    Uploaded::Mounted => "comes from another repository",
                    Uploaded::Sent => "is sent",
                };
                self.line(&format!(
                    "{}: {} ({}) {what}",
                    self.names[item],
                    &blob.digest.as_str()[..19],
                    ByteCount(blob.size)
                ));
            }
            Event::Done { item } => {
                if let Ok(mut moving) = self.moving.lock() {
                    moving.retain(|(owner, _), bar| {
                        if *owner == item {
                            bar.finish_and_clear();
                        }
                        *owner != item
                    });
                }
            }
        }
    }

    /// So many bytes of a blob have arrived.
    pub fn pulled(&self, blob: &Descriptor, done: u64) {
        self.bar(0, blob, done);
    }

    /// All is done.
    pub fn end(&self) {
        self.published(Event::Done { item: 0 });
    }

    fn bar(&self, item: usize, blob: &Descriptor, done: u64) {
        let Some(bars) = self.bars.as_ref().filter(|_| blob.size >= MIN_BAR) else {
            return;
        };
        if let Ok(mut moving) = self.moving.lock() {
            let bar = moving.entry((item, blob.digest.clone())).or_insert_with(|| {
                let bar = bars.add(ProgressBar::new(blob.size));
                if let Ok(style) = ProgressStyle::with_template(
                    "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
                ) {
                    bar.set_style(style);
                }
                bar.set_message(format!("{} {}", self.names[item], &blob.digest.as_str()[..19]));
                bar
            });
            bar.set_position(done);
        }
    }

    fn end_bar(&self, item: usize, digest: &Digest) {
        if let Ok(mut moving) = self.moving.lock()
            && let Some(bar) = moving.remove(&(item, digest.clone()))
        {
            bar.finish_and_clear();
        }
    }

    /// Bars say enough where there are some.
    fn line(&self, text: &str) {
        if self.bars.is_none() {
            self.printer.step(text);
        }
    }
}
