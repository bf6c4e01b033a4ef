//! Names come from other people's processes: nothing of them may command a terminal.

use std::fmt::Write as _;

/// Bytes of a name as text: what is not UTF-8 becomes `\xNN`.
pub(crate) fn lossless(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a String grows");
        }
    }
    text
}

/// Whether a terminal would act on the character, or a reader be misled by it, instead of seeing it.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

/// Text for a terminal: `\n`, `\t` and the like by name, other unsafe characters as `\xNN` or `\u{NNNN}`.
pub(crate) fn visible(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    push_visible(text, &mut to);
    to
}

/// Adds what [`visible`] says.
pub(crate) fn push_visible(text: &str, to: &mut String) {
    if is_plain(text) {
        to.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => to.extend(c.escape_default()),
            c if is_unsafe(c) && u32::from(c) < 0x100 => {
                write!(to, "\\x{:02x}", u32::from(c)).expect("a String grows");
            }
            c if is_unsafe(c) => write!(to, "\\u{{{:x}}}", u32::from(c)).expect("a String grows"),
            c => to.push(c),
        }
    }
}

/// Whether all of it is ASCII that can be seen, as nearly all names are.
pub(crate) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_command_a_terminal() {
        assert_eq!(visible(&lossless(b"ok\x1b[2Jx\xffy\n\x9b")), "ok\\x1b[2Jx\\xffy\\n\\x9b");
        assert_eq!(visible("a\u{202e}b\u{85}"), "a\\u{202e}b\\x85");
        assert_eq!(
            visible("a\u{61c}b\u{e0041}"),
            "a\\u{61c}b\\u{e0041}",
            "turns the direction, and is not seen"
        );
        assert_eq!(visible("naïve 日本"), "naïve 日本");
    }
}
