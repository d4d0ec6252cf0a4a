//! Patterns over the names of repositories.
//!
//! A pattern is compared with the one spelling of a name. One that no such spelling can be
//! like would never count, and would leave what it is about to a weaker rule: so it is
//! looked for a name that is like it, by walking through the pattern and through the
//! grammar of names at once.

use std::collections::HashSet;

use wildmatch::WildMatch;

use crate::registry::reference::{
    DOCKER_HUB, DOCKER_HUB_HOSTS, LAYOUT_PREFIX, Repository, canonical_host,
};

/// What stands for others in a pattern.
const WILDCARDS: [char; 2] = ['*', '?'];
/// What names are made of.
const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz0123456789.-_:[]/";
const LOCALHOST: &str = "localhost";
/// Hosts have at most 253 characters, paths 255; what is longer would also take long.
const MAX_PATTERN: usize = 1000;

/// The pattern, with the registry in its one spelling.
///
/// # Errors
///
/// Why no repository can be like it, where none can.
pub fn parse(pattern: &str) -> Result<String, String> {
    if pattern.starts_with(LAYOUT_PREFIX) {
        return Ok(pattern.to_owned());
    }
    // Several in a row say what one does.
    let mut chars: Vec<char> = pattern.chars().collect();
    chars.dedup_by(|one, before| (*one, *before) == ('*', '*'));
    if chars.len() > MAX_PATTERN {
        return Err(format!(
            "it has {} characters, more than any repository's name",
            chars.len()
        ));
    }
    let pattern = &*String::from_iter(chars);
    if pattern.contains("://") {
        return Err("a repository is written without a scheme".into());
    }
    let (host, path) = match pattern.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (pattern, None),
    };
    if path.unwrap_or_default().contains([':', '@']) {
        return Err("a repository has neither a tag nor a digest".into());
    }
    if pattern.contains(|c: char| c.is_ascii_uppercase()) {
        return Err("a repository is written in lower case".into());
    }
    if !pattern.contains(WILDCARDS) {
        let parsed = Repository::parse(pattern).map_err(|e| e.to_string())?;
        return Ok(parsed.to_string());
    }
    takes(pattern)?;
    match path {
        Some("") => return Err("it names no path: a repository is HOST/PATH".into()),
        Some(p) if p.starts_with('/') || p.ends_with('/') || p.contains("//") => {
            return Err("a path neither begins nor ends with `/`, and has no two in a row".into());
        }
        _ => {}
    }
    let pattern = match path {
        Some(path) if !host.contains(WILDCARDS) => {
            let host = canonical_host(host).ok_or(format!("`{host}` is no registry"))?;
            format!("{host}/{path}")
        }
        _ => pattern.to_owned(),
    };
    let covers = |name: &str| WildMatch::new(host).matches(name);
    let is_hubs = host.contains("docker") && DOCKER_HUB_HOSTS.into_iter().any(covers);
    if host.contains(WILDCARDS) && is_hubs && !covers(DOCKER_HUB) {
        return Err(format!(
            "the Docker Hub has one name: its repositories are `{DOCKER_HUB}/PATH`"
        ));
    }
    if is_like_a_name(&pattern) {
        return Ok(pattern);
    }
    Err(match (path, host.rsplit_once(':')) {
        (None, _) => "it names no path: a repository is HOST/PATH".into(),
        (_, Some((_, port))) if port == "443" || port.starts_with('0') => {
            format!("no registry's name ends with `:{port}`")
        }
        (Some(path), _) if pattern.starts_with("docker.io/") && !path.contains('/') => {
            format!("what has no owner on the Docker Hub is `{DOCKER_HUB}/library/{path}`")
        }
        _ => "no repository's name can be like it".into(),
    })
}

/// Whether a pattern has only what names of repositories are made of.
fn takes(pattern: &str) -> Result<(), String> {
    let fits = |c: char| ALPHABET.contains(c) || WILDCARDS.contains(&c);
    match pattern.chars().find(|&c| !fits(c)) {
        Some(c) => Err(format!(
            "no repository's name has `{}` in it",
            c.escape_default()
        )),
        None => Ok(()),
    }
}

/// Whether there is a name, in its one spelling, that is like a pattern.
fn is_like_a_name(pattern: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let begin = (0, Spelling::Name(Name::BEGIN));
    let mut seen = HashSet::from([begin]);
    let mut open = vec![begin];
    while let Some((at, spelling)) = open.pop() {
        let mut next = Vec::new();
        let any = ALPHABET.chars().filter_map(|c| spelling.with(c));
        match pattern.get(at) {
            None if spelling.is_whole() => return true,
            None => {}
            Some('*') => {
                next.push((at + 1, spelling));
                next.extend(any.map(|s| (at, s)));
            }
            Some('?') => next.extend(any.map(|s| (at + 1, s))),
            Some(&c) => next.extend(spelling.with(c).map(|s| (at + 1, s))),
        }
        open.extend(next.into_iter().filter(|node| seen.insert(*node)));
    }
    false
}

/// How far a name is spelled: what decides how it may go on. That an address of version 6
/// has its usual form, and how large a port and how long a path is, is left out.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Spelling {
    /// In the registry's name.
    Name(Name),
    /// Between brackets.
    Address,
    /// Behind them.
    Closed,
    /// In a port of so many digits.
    Port {
        digits: u8,
        /// Whether it may still be 443, of a registry that needs no port for that.
        https: bool,
    },
    /// In the path.
    Path {
        /// Whether it has to go on: all on the Docker Hub has an owner.
        owner: bool,
        last: Last,
    },
}

impl Spelling {
    /// One character more; none where that is no name any more.
    fn with(self, c: char) -> Option<Self> {
        let path = |owner| Spelling::Path {
            owner,
            last: Last::Slash,
        };
        let port = |loopback: bool| Spelling::Port {
            digits: 0,
            https: !loopback,
        };
        Some(match self {
            Spelling::Name(Name::BEGIN) if c == '[' => Spelling::Address,
            Spelling::Name(name) if c == ':' => port(name.host()?.loopback),
            Spelling::Name(name) if c == '/' => {
                let host = name.host()?;
                if !host.bare {
                    return None;
                }
                path(host.hub)
            }
            Spelling::Name(name) => Spelling::Name(name.with(c)?),
            Spelling::Address if c == ']' => Spelling::Closed,
            Spelling::Address if c.is_ascii_hexdigit() || c == ':' => self,
            // It may be that of this machine.
            Spelling::Closed if c == ':' => port(true),
            Spelling::Closed if c == '/' => path(false),
            Spelling::Port { digits: 0, .. } if c == '0' => return None,
            Spelling::Port { digits, https } if c.is_ascii_digit() && digits < 5 => {
                Spelling::Port {
                    digits: digits + 1,
                    https: https && "443".chars().nth(digits.into()) == Some(c),
                }
            }
            Spelling::Port { digits, https } if c == '/' => {
                if digits == 0 || (digits == 3 && https) {
                    return None;
                }
                path(false)
            }
            Spelling::Path { owner, last } => Spelling::Path {
                owner: owner && c != '/',
                last: last.with(c)?,
            },
            _ => return None,
        })
    }

    fn is_whole(self) -> bool {
        matches!(
            self,
            Spelling::Path {
                owner: false,
                last: Last::Word
            }
        )
    }
}

/// What a path ends with.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Last {
    Slash,
    Word,
    Dot,
    Underscore,
    Underscores,
    Hyphen,
}

impl Last {
    fn with(self, c: char) -> Option<Self> {
        Some(match (self, c) {
            (_, 'a'..='z' | '0'..='9') => Last::Word,
            (Last::Word, '/') => Last::Slash,
            (Last::Word, '.') => Last::Dot,
            (Last::Word, '_') => Last::Underscore,
            (Last::Underscore, '_') => Last::Underscores,
            (Last::Word | Last::Hyphen, '-') => Last::Hyphen,
            _ => return None,
        })
    }
}

/// A registry's name, as far as it is spelled.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Name {
    /// How many labels are behind it; of an address all four count, of others the first.
    dots: u8,
    /// Whether these are numbers of an address.
    octets: bool,
    /// Whether the first of them is 127.
    loopback: bool,
    label: Label,
    /// So many characters of `localhost` are the label.
    local: Option<u8>,
    /// So many characters of these names of the Docker Hub are all of it.
    hub: (u8, [bool; 4]),
}

/// What is known of a registry's name that is whole.
struct Host {
    loopback: bool,
    hub: bool,
    /// Whether it is one without a port too.
    bare: bool,
}

impl Name {
    const BEGIN: Name = Name {
        dots: 0,
        octets: true,
        loopback: false,
        label: Label::Begin,
        local: Some(0),
        hub: (0, [true; 4]),
    };

    /// The names of the Docker Hub; the first is the one.
    fn hub_names() -> [&'static str; 4] {
        let [a, b, c] = DOCKER_HUB_HOSTS;
        [DOCKER_HUB, a, b, c]
    }

    fn with(mut self, c: char) -> Option<Self> {
        let (at, mut fits) = self.hub;
        for (fits, name) in fits.iter_mut().zip(Self::hub_names()) {
            *fits &= name.chars().nth(at.into()) == Some(c);
        }
        // What is none of them is not counted, so that there are few to look at.
        self.hub = (if fits.contains(&true) { at + 1 } else { 0 }, fits);
        if c != '.' {
            self.label = self.label.with(c)?;
            self.local = self
                .local
                .filter(|&at| LOCALHOST.chars().nth(at.into()) == Some(c))
                .map(|at| at + 1);
            return Some(self);
        }
        if matches!(self.label, Label::Begin | Label::Hyphen) {
            return None;
        }
        self.loopback |= self.dots == 0 && self.label == Label::Loopback;
        self.octets &= self.label.is_octet() && self.dots < 3;
        self.dots = if self.octets { self.dots + 1 } else { 1 };
        self.label = Label::Begin;
        self.local = Some(0);
        Some(self)
    }

    /// None where it is none, or not in its one spelling.
    fn host(self) -> Option<Host> {
        if matches!(self.label, Label::Begin | Label::Hyphen) {
            return None;
        }
        let is_address = self.octets && self.dots == 3 && self.label.is_octet();
        if self.label.is_number() && !is_address {
            return None;
        }
        let (at, fits) = self.hub;
        let is_whole = |(fits, name): (bool, &str)| fits && name.len() == usize::from(at);
        let hub = fits.into_iter().zip(Self::hub_names()).position(is_whole);
        if hub.is_some_and(|n| n > 0) {
            return None;
        }
        let local = self.local.map(usize::from) == Some(LOCALHOST.len());
        Some(Host {
            loopback: local || (is_address && self.loopback),
            hub: hub.is_some(),
            bare: self.dots > 0 || local,
        })
    }
}

/// A label of a registry's name, as far as it is spelled: whether it is a number from 0 to
/// 255, or may become one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Label {
    Begin,
    Zero,
    One,
    Two,
    /// From three to nine.
    Digit,
    Twelve,
    /// Two digits before any third.
    Tens,
    TwentyFive,
    Loopback,
    /// A number that no digit goes behind.
    Full,
    /// Digits that are no such number.
    Digits,
    /// `0x7f`: a number too.
    Hex,
    Word,
    Hyphen,
}

impl Label {
    fn with(self, c: char) -> Option<Self> {
        Some(match (self, c) {
            (Label::Begin, '0') => Label::Zero,
            (Label::Begin, '1') => Label::One,
            (Label::Begin, '2') => Label::Two,
            (Label::Begin, '3'..='9') => Label::Digit,
            (Label::Zero, 'x') | (Label::Hex, 'a'..='f' | '0'..='9') => Label::Hex,
            (Label::One, '2') => Label::Twelve,
            (Label::One, '0'..='9') | (Label::Two, '0'..='4') => Label::Tens,
            (Label::Two, '5') => Label::TwentyFive,
            (Label::Twelve, '7') => Label::Loopback,
            (Label::Two | Label::Digit | Label::Twelve | Label::Tens, '0'..='9')
            | (Label::TwentyFive, '0'..='5') => Label::Full,
            (
                Label::Zero | Label::TwentyFive | Label::Loopback | Label::Full | Label::Digits,
                '0'..='9',
            ) => Label::Digits,
            (_, 'a'..='z' | '0'..='9') => Label::Word,
            (Label::Begin, _) => return None,
            (_, '-') => Label::Hyphen,
            _ => return None,
        })
    }

    fn is_number(self) -> bool {
        !matches!(self, Label::Begin | Label::Word | Label::Hyphen)
    }

    fn is_octet(self) -> bool {
        self.is_number() && !matches!(self, Label::Digits | Label::Hex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is spelled in the one way, by the grammar here and by what reads references.
    #[test]
    fn both_grammars_are_the_same() {
        let hosts = [
            "docker.io",
            "index.docker.io",
            "registry-1.docker.io",
            "registry.hub.docker.com",
            "a.docker.io",
            "docker.iox",
            "xdocker.io",
            "registry-1.docker.i",
            "localhost",
            "a.localhost",
            "localhost.a",
            "localhos",
            "ghcr",
            "ghcr.io",
            "-a.io",
            "a-.io",
            "a--b.io",
            "a..io",
            ".io",
            "io.",
            "a_b.io",
            "",
            "127.1",
            "127.0.0.1",
            "127.0.0.1.1",
            "127.0.0.01",
            "127.255.0.9",
            "127.256.0.9",
            "12.7.0.1",
            "10.0.0.1",
            "25.249.199.26",
            "260.1.1.1",
            "1.2.3",
            "1.2.3.4.io",
            "1.2.3.0x4",
            "1.2.3.4x",
            "0xa.io",
            "a.0x",
            "a.0xg",
            "a.7",
            "0",
            "00.0.0.0",
            "[::1]",
            "[::2]",
            "x[::1]",
            "[::1]x",
        ];
        let ports = [
            "", ":", ":443", ":44", ":4430", ":0", ":0443", ":65535", ":123456",
        ];
        let paths = [
            "", "/", "/a", "/a/b", "/a/", "/a//b", "/-a", "/a-", "/a--b", "/a.b", "/a..b", "/a_b",
            "/a__b", "/a___b", "/a_.b", "/a/_b", "/A",
        ];
        let mut names = 0;
        for host in hosts {
            for port in ports {
                for path in paths {
                    let text = format!("{host}{port}{path}");
                    // Any address in brackets may be that of this machine here.
                    if text.starts_with("[::2]:443/") {
                        continue;
                    }
                    let spelled = Repository::parse(&text).is_ok_and(|r| r.to_string() == text);
                    assert_eq!(is_like_a_name(&text), spelled, "{text}");
                    names += usize::from(spelled);
                }
            }
        }
        assert!(names > 500, "{names}");
    }

    #[test]
    fn wildcards_are_what_makes_a_name() {
        for pattern in [
            "*",
            "?*",
            "*/*",
            "*:*",
            "*:443*",
            "*:443/*",
            "127.*:443/a",
            "127.1*",
            "0*:5961/a",
            "*.docker.i?",
            "docker.io/a?b",
            "[*]:5000/*",
            "*.io/*-?",
            "?h?r.*/acme/app-*",
            "???????????????????/*",
            "*a*b*c*d*e*f*g*h*i*j*k*l*m*n*o*p*q*r*s*t*",
        ] {
            assert!(is_like_a_name(pattern), "{pattern}");
        }
        for pattern in [
            "*.",
            "?",
            "*/",
            "*-",
            "*..*",
            "r.example/acme/-*",
            "r.example/acme*..",
            "docker.io/dem?",
            "*.example:443/*",
            "12.?.?.?:443/*",
            "r.example:0*/?",
            "?.?.?.??x*:a/b",
            "?_?.example/a",
            "a.0?.0x/a",
            "localhos?:443*/[",
            "?.256/a",
            "[*]*]/a",
        ] {
            assert!(!is_like_a_name(pattern), "{pattern}");
        }
    }
}
