//! A flag that says "stop": set by a signal, asked by whatever takes long.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::Error;

/// Whether a signal has asked the process as a whole.
static SIGNALLED: AtomicBool = AtomicBool::new(false);

/// Whether [`Cancel::signal`] was called: for what waits where no flag gets to.
pub(crate) fn is_signalled() -> bool {
    SIGNALLED.load(Ordering::SeqCst)
}

/// The flag. Once set it stays set.
#[derive(Debug, Default)]
pub struct Cancel(AtomicUsize);

impl Cancel {
    /// Asks everything to stop.
    pub fn set(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// The same by a signal to the process.
    pub fn signal(&self) {
        SIGNALLED.store(true, Ordering::SeqCst);
        self.set();
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    /// Whether it was asked more than once: nothing is to be brought to an end first.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 1
    }

    /// # Errors
    ///
    /// [`Error::Interrupted`] once it was asked.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_set() {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }
}
