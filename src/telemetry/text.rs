//! Text from outside, fit for one log line.

/// Longest foreign text in a log line, in bytes.
pub(crate) const FOREIGN_TEXT_MAX: usize = 256;

/// `text` without characters that could forge a line, move a cursor or turn the reading direction, cut to
/// [`FOREIGN_TEXT_MAX`] bytes on a character boundary. White space of any kind becomes one space.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        if character.is_whitespace() {
            if !line.is_empty() && !line.ends_with(' ') {
                line.push(' ');
            }
            continue;
        }
        if is_unprintable(character) {
            continue;
        }
        if line.len() + character.len_utf8() > FOREIGN_TEXT_MAX - ELLIPSIS.len_utf8() {
            line.push(ELLIPSIS);
            return line;
        }
        line.push(character);
    }
    line.truncate(line.trim_end().len());
    line
}

const ELLIPSIS: char = '…';

/// C0, C1, DEL, bidirectional controls, zero-width characters, line separators, tags and the byte order mark.
pub(crate) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_forges_a_line_survives() {
        assert_eq!(one_line("a\r\nERROR b\t\u{1b}[31mc\u{7f}\u{9b}d"), "a ERROR b [31mcd");
        assert_eq!(one_line("\u{202e}evil\u{2066}\u{200b}\u{feff}\u{2028}text\u{0}"), "evil text");
        assert_eq!(one_line("  Åsa 名前  "), "Åsa 名前");
    }

    #[test]
    fn long_text_is_cut_on_a_character_boundary() {
        for length in 250..260 {
            let line = one_line(&format!("{}{}", "x".repeat(length - 250), "名".repeat(200)));
            assert!(line.len() <= FOREIGN_TEXT_MAX, "{}", line.len());
            assert!(line.ends_with('…'));
        }
        let whole = "y".repeat(FOREIGN_TEXT_MAX - 3);
        assert_eq!(one_line(&whole), whole);
    }
}
