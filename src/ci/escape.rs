//! Text from elsewhere, made harmless for those who read it.

use std::borrow::Cow;

/// At most `max` bytes of a text; where some are missing, an ellipsis says so.
#[must_use]
pub fn shortened(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// A number with commas between groups of three digits.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Lines that GitHub's runner would take for a command to it: those that begin with
/// `::`, and any that holds `##[`. It reads stdout and stderr alike. Both are pulled
/// apart; all else stays as it is.
///
/// <https://docs.github.com/actions/reference/workflow-commands-for-github-actions>
#[must_use]
pub fn without_commands(text: &str) -> Cow<'_, str> {
    if !text.contains("::") && !text.contains("##[") {
        return Cow::Borrowed(text);
    }
    // The runner's lines end with either.
    let lines = text.split_inclusive(['\r', '\n']);
    let apart = lines.map(|line| {
        let line = line.replace("##[", "## [");
        let start = start_of_words(&line);
        if line[start..].starts_with("::") {
            format!("{}: {}", &line[..start], &line[start + 1..])
        } else {
            line
        }
    });
    Cow::Owned(apart.collect())
}

/// Where white space and the terminal's colours end.
fn start_of_words(line: &str) -> usize {
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        let Some(sequence) = rest.strip_prefix('\u{1b}') else {
            return line.len() - rest.len();
        };
        let parameters =
            sequence.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '[' | ';'));
        rest = parameters
            .strip_prefix(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(parameters);
    }
}

/// The message of a workflow command.
#[must_use]
pub fn command_data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// A property of a workflow command.
#[must_use]
pub fn command_property(text: &str) -> String {
    command_data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Text in Markdown, also within a table: nothing of it is markup.
#[must_use]
pub fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            // Where `@name` tells somebody, an escape does not keep it from it.
            '@' => escaped.push_str("@\u{200b}"),
            // An address becomes a link without any markup.
            ':' if rest.peek() == Some(&'/') => escaped.push_str("\\:"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '!' | '|' | '~' | '$' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A name in Markdown, as code, also within a table.
#[must_use]
pub fn markdown_code(text: &str) -> String {
    if text.is_empty() {
        return "(empty)".to_owned();
    }
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let longest = line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if line.starts_with('`') || line.ends_with('`') {
        " "
    } else {
        ""
    };
    // A bar ends a cell, even in code.
    format!("{fence}{pad}{}{pad}{fence}", line.replace('|', "\\|"))
}

/// Text in XML, in an attribute or between tags.
/// <https://www.w3.org/TR/xml/#charsets>
#[must_use]
pub fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runner_would_obey_is_pulled_apart() {
        for (text, harmless) in [
            ("fine: a::b", "fine: a::b"),
            ("::error::x", ": :error::x"),
            (
                "a\n  ::set-output name=x::y",
                "a\n  : :set-output name=x::y",
            ),
            ("a\r::debug::x\nb", "a\r: :debug::x\nb"),
            ("\u{1b}[1;31m::error::x", "\u{1b}[1;31m: :error::x"),
            ("\u{a0}\u{2028}::error::x", "\u{a0}\u{2028}: :error::x"),
            ("name ##[error]x", "name ## [error]x"),
            ("###[error]x", "### [error]x"),
            ("::", ": :"),
            ("é::\n", "é::\n"),
        ] {
            assert_eq!(without_commands(text), harmless, "{text:?}");
        }
    }

    #[test]
    fn commands_hold_one_line() {
        assert_eq!(command_data("100%\r\n::x,y"), "100%25%0D%0A::x,y");
        assert_eq!(command_property("a:b,c%0A"), "a%3Ab%2Cc%250A");
    }

    #[test]
    fn markdown_shows_what_it_is_given() {
        assert_eq!(
            markdown("<img src=x> [a](b) |\n# `x` @me"),
            "&lt;img src=x&gt; \\[a\\](b) \\| \\# \\`x\\` @\u{200b}me"
        );
        assert_eq!(markdown_code("a"), "`a`");
        assert_eq!(markdown_code("a`b"), "``a`b``");
        assert_eq!(markdown_code("``a|\n"), "``` ``a\\|  ```");
    }

    #[test]
    fn xml_holds_what_xml_may() {
        assert_eq!(
            xml("<a b='\"'>&\u{1}\n]]>"),
            "&lt;a b=&apos;&quot;&apos;&gt;&amp;\u{fffd}&#10;]]&gt;"
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(shortened("aéé", 2), "a…");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(12_345), "12,345");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
