//! Durations and sizes as people write them: `1h30m`, `16MiB`.

use std::time::Duration;

const NO_DURATION: &str = "is no duration; numbers with units are, such as `300ms`, `10s`, `1h30m` or `24h`";
const NO_SIZE: &str = "is no size; a whole number with a unit is, such as `64KiB`, `16MiB` or `4GiB`";

/// Longest duration that may be written: ten years, so that no deadline can overflow.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

const TIME_UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads a duration as Go and the OpenTelemetry Collector do: numbers with units, one after the other, or `0`.
///
/// # Errors
/// What is wrong with the text, as the rest of a sentence that begins with it.
pub(super) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(NO_DURATION);
    }
    let mut nanos: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end =
            rest.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end =
            after.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale = match unit {
            "" => return Err("has no unit; write for example `10s` or `1h30m`"),
            "d" | "w" | "y" => return Err("has a unit that is not known; write days in hours, such as `48h`"),
            _ => TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale).ok_or(NO_DURATION)?,
        };
        nanos = nanos.saturating_add(scaled(number, scale).ok_or(NO_DURATION)?);
        rest = after;
    }
    if nanos > DURATION_MAX.as_nanos() {
        return Err("is more than ten years");
    }
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| NO_DURATION)
}

/// `number` of a unit that is `scale` nanoseconds long; what is finer than a nanosecond is cut off.
fn scaled(number: &str, scale: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut nanos = u128::from(whole) * u128::from(scale);
    let mut place = scale;
    for digit in fraction.bytes() {
        place /= 10;
        nanos += u128::from(digit.wrapping_sub(b'0')) * u128::from(place);
    }
    Some(nanos)
}

/// Writes a duration so that it is read back as the same one: `1h30m`, `250ms`, `0s`.
pub(super) fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, scale) in TIME_UNITS.iter().filter(|(name, _)| name.is_ascii()) {
        if rest >= *scale {
            text.push_str(&format!("{}{name}", rest / scale));
            rest %= scale;
        }
    }
    text
}

/// Reads a size: a whole number with a unit of a power of 1024 (`MiB`) or of 1000 (`MB`), or bytes without one.
///
/// # Errors
/// What is wrong with the text, as the rest of a sentence that begins with it.
pub(super) fn parse_size(text: &str) -> Result<u64, &'static str> {
    let number_end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    if number.is_empty() {
        return Err(NO_SIZE);
    }
    let scale = match unit {
        "" => 1,
        _ => SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale).ok_or(NO_SIZE)?,
    };
    let number = number.parse::<u64>().map_err(|_| NO_SIZE)?;
    number.checked_mul(scale).ok_or("is too large")
}

/// Writes a size in the largest unit that leaves a whole number; `None` if that is the byte.
pub(super) fn format_size(bytes: u64) -> Option<String> {
    let (name, scale) = SIZE_UNITS.iter().find(|(_, scale)| bytes != 0 && bytes.is_multiple_of(*scale))?;
    (*scale > 1).then(|| format!("{}{name}", bytes / scale))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("300ms", 300_000_000),
            ("10s", 10_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("24h", 86_400_000_000_000),
            ("1us2µs3μs4ns", 6_004),
            ("0.0000000019s", 1),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            " ",
            "s",
            "-1s",
            "+1s",
            "1h 30m",
            "1H",
            "10 s",
            "1..5s",
            ".s",
            "1s2",
            "2d",
            "1e3s",
            "99999999999999999999s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration("87600h"), Ok(DURATION_MAX));
        assert_eq!(parse_duration("87601h"), Err("is more than ten years"));
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        for (text, bytes) in
            [("0", 0), ("65507", 65_507), ("64KiB", 65_536), ("16MiB", 16_777_216), ("10MB", 10_000_000), ("7B", 7)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "16 MiB", "16M", "16mib", "16777216TiB", "99999999999999999999"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_is_read_back(nanos in 0..=DURATION_MAX.as_nanos() as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn a_written_size_is_read_back(bytes: u64, shift in 0_u32..64) {
            let bytes = bytes >> shift << (shift / 2);
            let text = format_size(bytes).unwrap_or_else(|| bytes.to_string());
            prop_assert_eq!(parse_size(&text), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.hmsµundKMGiB -]{0,12}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
