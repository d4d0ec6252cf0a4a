//! Sizes in bytes: how people write them, how they are shown, and what gzip
//! makes of them.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// A number of bytes; written `1048576`, `"1 MiB"` or `"400 kB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(schema_with = "byte_count_schema")]
pub struct ByteCount(pub u64);

fn byte_count_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": ["integer", "string"], "minimum": 0 })
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ByteSize::b(self.0).display().iec())
    }
}

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no size: write bytes, or a number with kB, KiB, MB or MiB");
        let trimmed = text.trim();
        if !trimmed.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(wrong());
        }
        // The library saturates silently; a budget that large is a slip.
        match trimmed.parse::<ByteSize>() {
            Ok(size) if size.as_u64() < u64::MAX => Ok(ByteCount(size.as_u64())),
            _ => Err(wrong()),
        }
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = ByteCount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 1048576 or \"1 MiB\"")
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteCount, E> {
                Ok(ByteCount(bytes))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteCount, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Sizes of one module along its way, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
pub struct Sizes {
    /// As the compiler, or the user, handed it over.
    pub before: u64,
    /// As it ships.
    pub after: u64,
    /// As it ships, compressed by `gzip -9`; null only inside the library, where
    /// nobody asked for it, since it takes longer than all of a check.
    pub gzip: Option<u64>,
}

/// The highest level of zstd that every decoder has the memory for.
const ZSTD_LEVEL: i32 = 19;

/// Counts what is written to it.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0 += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The size of `bytes` after zstd at level 19.
#[must_use]
pub fn zstd_size(bytes: &[u8]) -> u64 {
    let mut count = Count(0);
    match zstd::stream::copy_encode(bytes, &mut count, ZSTD_LEVEL) {
        Ok(()) => count.0,
        // Memory for the encoder is all that can be missing; then nothing is gained.
        Err(_) => bytes.len() as u64,
    }
}

/// The size of `bytes` after gzip at its highest level.
#[must_use]
pub fn gzip_size(bytes: &[u8]) -> u64 {
    let mut encoder = flate2::write::GzEncoder::new(Count(0), flate2::Compression::best());
    // Counting cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().map_or(0, |count| count.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1_048_576),
            ("1 MiB", 1_048_576),
            ("400 KiB", 409_600),
            ("400kB", 400_000),
            ("1.5 MiB", 1_572_864),
        ] {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)), "{text}");
        }
        for text in [
            "",
            "-1",
            "MiB",
            "1 parsec",
            "1e99",
            "inf",
            "99999999999999999999 PiB",
        ] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
    }

    #[test]
    fn zeros_compress() {
        let size = gzip_size(&[0; 10_000]);
        assert!((20..100).contains(&size), "{size}");
    }
}
