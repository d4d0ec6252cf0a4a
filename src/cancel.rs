//! A flag that says "stop": set by a signal, asked by whatever takes long.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// The flag. Once set it stays set.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// Asks everything to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
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
