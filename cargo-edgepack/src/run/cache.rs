//! Glue for `cache`: showing, clearing and sharing it.

use edgepack::error::Error;
use edgepack::exit_code;
use edgepack::registry::http::block_on;
use edgepack::registry::remote::Rights;
use edgepack::share::{self, Name, Shared};
use edgepack::size::ByteCount;

use super::App;
use crate::cli::{self, MessageFormat};

impl App {
    pub(super) fn cache(&self, flags: &cli::Cache) -> Result<u8, Error> {
        if let Some(to) = &flags.to {
            return self.share(to, Rights::Push, flags);
        }
        if let Some(from) = &flags.from {
            return self.share(from, Rights::Pull, flags);
        }
        let contents = if flags.clear {
            self.cache.clear()?
        } else {
            self.cache.contents()
        };
        match flags.reporting.message_format {
            MessageFormat::Json => self.printer.json(&contents)?,
            MessageFormat::Human => self.printer.cache(&contents, flags.clear)?,
        }
        Ok(exit_code::OK)
    }

    fn share(&self, text: &str, rights: Rights, flags: &cli::Cache) -> Result<u8, Error> {
        let name = Name::parse(text)?;
        let mut options = self.options(&flags.access)?;
        if flags.access.transport.plain_http {
            options.plain_http.extend(name.host().map(str::to_owned));
        }
        let client = self.client(options)?;
        let place = name.open(&client, rights)?;
        let shared = block_on(&self.cancel, async {
            match rights {
                Rights::Push => share::push(&self.cache, &place).await,
                Rights::Pull => share::pull(&self.cache, &place).await,
            }
        })?;
        self.tell_shared(text, rights, &shared);
        match (flags.reporting.message_format, &shared.reference) {
            (MessageFormat::Json, _) => self.printer.json(&shared)?,
            (MessageFormat::Human, Some(reference)) => {
                self.printer.data(format!("{reference}\n").as_bytes())?;
            }
            (MessageFormat::Human, None) => {}
        }
        Ok(exit_code::OK)
    }

    fn tell_shared(&self, text: &str, rights: Rights, shared: &Shared) {
        if shared.reference.is_none() {
            self.printer.note(&format!(
                "there is no cache at {text} yet: the first run begins without"
            ));
            return;
        }
        let moved = match rights {
            Rights::Push => "sent",
            Rights::Pull => "taken",
        };
        self.printer.note(&format!(
            "{} of {} results {moved} ({})",
            shared.moved,
            shared.entries,
            ByteCount(shared.bytes)
        ));
        if shared.left_out > 0 {
            self.printer.warning(&format!(
                "{} results are left out: too many, too large, or not what they should be",
                shared.left_out
            ));
        }
    }
}
