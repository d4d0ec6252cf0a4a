//! The little of DER that certificates' logs and timestamps need beyond what crates do.
//! <https://www.itu.int/rec/T-REC-X.690>

pub const INTEGER: u8 = 0x02;
pub const OCTETS: u8 = 0x04;
pub const OID: u8 = 0x06;
pub const UTF8: u8 = 0x0c;
pub const TIME: u8 = 0x18;
pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;
/// `[0]`, constructed.
pub const CONTEXT_0: u8 = 0xa0;

/// A value with its tag and its length.
pub fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = contents.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|&b| b == 0).collect();
    let mut all = vec![tag];
    if contents.len() >= 128 {
        all.push(0x80 | u8::try_from(length.len()).unwrap());
    }
    // Short lengths are their own; that of nothing has no digit.
    all.extend(if length.is_empty() { vec![0] } else { length });
    all.extend(contents);
    all
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(SEQUENCE, parts)
}

/// In the order that DER asks for.
pub fn set(tag: u8, mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    der(tag, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

pub fn integer(value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let mut bytes: Vec<u8> = bytes.into_iter().skip_while(|&b| b == 0).collect();
    if bytes.first().is_none_or(|&b| b & 0x80 != 0) {
        bytes.insert(0, 0);
    }
    der(INTEGER, &[&bytes])
}

pub fn oid(numbers: &[u64]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(numbers[0] * 40 + numbers[1]).unwrap()];
    for &number in &numbers[2..] {
        let groups = (0..10).rev().map(|i| (number >> (7 * i)) & 0x7f);
        let mut groups: Vec<u8> = groups
            .skip_while(|&g| g == 0)
            .map(|g| u8::try_from(g).unwrap() | 0x80)
            .collect();
        match groups.last_mut() {
            Some(last) => *last &= 0x7f,
            None => groups.push(0),
        }
        bytes.extend(groups);
    }
    der(OID, &[&bytes])
}

/// The values one after the other: tag, contents, and all of it.
pub fn values(mut bytes: &[u8]) -> Vec<(u8, &[u8], &[u8])> {
    let mut found = Vec::new();
    while let [tag, first, rest @ ..] = bytes {
        let more = if *first < 128 {
            0
        } else {
            usize::from(first & 0x7f)
        };
        let length = match more {
            0 => usize::from(*first),
            _ => rest[..more]
                .iter()
                .fold(0, |n, &b| (n << 8) | usize::from(b)),
        };
        let end = 2 + more + length;
        found.push((*tag, &bytes[2 + more..end], &bytes[..end]));
        bytes = &bytes[end..];
    }
    found
}

/// What is inside the one value.
pub fn inside(bytes: &[u8]) -> Vec<(u8, &[u8], &[u8])> {
    values(values(bytes)[0].1)
}
