//! Hostile text made harmless, and long text made short.

use std::borrow::Cow;

/// Whether a character must not be passed on: it would change how the text around it is shown, or not be seen itself.
/// C0, DEL and C1 controls, bidirectional controls, zero-width characters, line and paragraph separators.
#[must_use]
pub const fn is_forbidden(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}'
        | '\u{7f}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}'
    )
}

/// The text without white space around it.
#[inline]
pub(super) fn trim(text: &str) -> &str {
    // Almost every text has none, and looking for characters of any script takes longer than anything else we do to it.
    match text.as_bytes() {
        [] | [b'!'..=b'~'] => text,
        [b'!'..=b'~', .., b'!'..=b'~'] => text,
        _ => text.trim(),
    }
}

/// The text without slashes around it.
pub(super) fn trim_slashes(text: &str) -> &str {
    let mut text = text;
    while let Some(rest) = text.strip_prefix('/') {
        text = rest;
    }
    while let Some(rest) = text.strip_suffix('/') {
        text = rest;
    }
    text
}

/// The text without forbidden characters and without white space around it. Borrows where nothing is to be removed.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    let text = trim(text);
    if is_plain(text) || !text.chars().any(is_forbidden) {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().filter(|&character| !is_forbidden(character)).collect();
    // What was between two forbidden characters may be white space.
    let trimmed = kept.trim();
    if trimmed.len() == kept.len() { Cow::Owned(kept) } else { Cow::Owned(trimmed.to_owned()) }
}

/// The text, or as much of it as leaves room for `…` within `bytes_max` bytes, cut between two characters.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let Some(room) = bytes_max.checked_sub(ELLIPSIS.len()) else { return Cow::Borrowed("") };
    let end = text.floor_char_boundary(room);
    let mut short = String::with_capacity(end + ELLIPSIS.len());
    short.push_str(text.get(..end).unwrap_or_default());
    short.push_str(ELLIPSIS);
    Cow::Owned(short)
}

const ELLIPSIS: &str = "…";

/// Whether a text holds nothing but harmless bytes.
pub(super) fn is_plain(text: &str) -> bool {
    // Without an early end the compiler looks at many bytes at a time; almost every text is plain. Harmless is a range, so
    // that the largest distance to its beginning tells of all bytes.
    text.bytes().fold(0, |largest: u8, byte| largest.max(above_space(byte))) <= above_space(b'~')
}

/// Whether a text holds nothing but harmless bytes and this one.
pub(super) fn is_harmless_but_for(text: &str, other: u8) -> bool {
    text.bytes().fold(true, |plain, byte| plain & (is_harmless(byte) | (byte == other)))
}

const fn above_space(byte: u8) -> u8 {
    byte.wrapping_sub(b' ')
}

/// Whether a byte is a whole character that is not forbidden.
pub(super) const fn is_harmless(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e)
}

/// Whether a `t` in either case stands before this byte anywhere: rules out most texts without a search for a word that
/// ends like this.
pub(super) fn has_t_before(text: &str, byte: u8) -> bool {
    let bytes = text.as_bytes();
    let pairs = bytes.iter().zip(bytes.get(1..).unwrap_or_default());
    pairs.fold(u8::MAX, |least, (one, next)| least.min(((one | 0x20) ^ b't') | (next ^ byte))) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forbidden_characters_go_and_the_rest_stays() {
        assert_eq!(clean(" \u{1b}[31mred\u{202e}\u{200b} "), "[31mred");
        assert_eq!(clean("a\u{2028}b\u{85}c\u{7f}"), "abc");
        assert_eq!(clean("Åsa 名前 \u{fffd}"), "Åsa 名前 \u{fffd}");
        assert!(matches!(clean("plain text"), Cow::Borrowed(_)));
        assert_eq!(clean("\u{200b} inner \u{200b}"), "inner");
    }

    #[test]
    fn a_cut_ends_in_an_ellipsis_within_the_limit() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "ab…");
        assert_eq!(cut("aÅÅÅ", 6), "aÅ…");
        assert_eq!(cut("abc", 2), "");
    }

    proptest! {
        #[test]
        fn cleaning_leaves_nothing_forbidden_and_is_done_after_one_time(text in any::<String>()) {
            let cleaned = clean(&text).into_owned();
            prop_assert!(!cleaned.chars().any(is_forbidden));
            prop_assert_eq!(clean(&cleaned), cleaned.as_str());
        }

        #[test]
        fn a_cut_keeps_the_limit(text in any::<String>(), bytes_max in 0..80_usize) {
            let short = cut(&text, bytes_max);
            prop_assert!(short.len() <= bytes_max.max(text.len().min(bytes_max)));
            prop_assert!(text.len() > bytes_max || *short == text);
        }
    }
}
