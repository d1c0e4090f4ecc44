//! Datagrams as lines of text.

/// The bytes of a line in which `\t`, `\n`, `\r`, `\0`, `\\` and `\xNN` stand for one byte each. Any other backslash
/// stands for itself: `DOMAIN\bob` is written as it is.
pub(super) fn unescape(line: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [b'r', after @ ..]) => (b'\r', after),
            (b'\\', [b'0', after @ ..]) => (0, after),
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [b'x', high, low, after_digits @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after_digits),
                _ => (first, after),
            },
            _ => (first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

/// The bytes of pairs of hexadecimal digits; blanks and colons are skipped. `None` if there is anything else, or half a
/// byte.
pub(super) fn from_hex(line: &[u8]) -> Option<Vec<u8>> {
    let digits = line.iter().filter(|byte| !matches!(byte, b' ' | b'\t' | b':')).map(|byte| digit(*byte));
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_bytes_and_other_backslashes_are_themselves() {
        assert_eq!(unescape(br"a\tb\nc\rd\0e\\tf\xC5g"), b"a\tb\nc\rd\0e\\tf\xc5g");
        assert_eq!(unescape(br"DOMAIN\bob \xZZ \x4 \"), br"DOMAIN\bob \xZZ \x4 \");
    }

    #[test]
    fn hex_is_pairs_of_digits() {
        assert_eq!(from_hex(b"2f 00:71\t00 Ff").expect("hexadecimal"), b"/\0q\0\xff");
        assert_eq!(from_hex(b"2f0"), None);
        assert_eq!(from_hex(b"0x2f"), None);
    }
}
