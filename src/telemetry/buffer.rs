//! What a receive buffer is worth, in datagrams and seconds.

/// The datagram that is counted with, in bytes: events of Qlik Sense have 300 to 600.
const DATAGRAM: usize = 400;

/// What Linux charges a socket for such a datagram: not its bytes but the memory it occupies. Measured over loopback
/// (docs/services.md); the driver of a network card may occupy more.
const CHARGED: usize = 1280;

/// Datagrams a second that a busy site may send.
const RATE: usize = 1000;

/// A piece of a sentence about a buffer of `effective` bytes, as it was asked for. Empty where it is not known how the
/// system charges.
pub(super) fn holds(effective: usize) -> String {
    if !cfg!(target_os = "linux") {
        return String::new();
    }
    // The bytes that are asked for are half of what the kernel accounts with.
    let datagrams = effective.saturating_mul(2) / CHARGED;
    let tenths = datagrams.saturating_mul(10) / RATE;
    let (seconds, tenth) = (tenths / 10, tenths % 10);
    format!(", which holds about {datagrams} datagrams of {DATAGRAM} bytes, {seconds}.{tenth} s at {RATE} datagrams/s")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_was_measured() {
        assert_eq!(holds(16 << 20), ", which holds about 26214 datagrams of 400 bytes, 26.2 s at 1000 datagrams/s");
        assert_eq!(holds(106_496), ", which holds about 166 datagrams of 400 bytes, 0.1 s at 1000 datagrams/s");
        assert_eq!(holds(0), ", which holds about 0 datagrams of 400 bytes, 0.0 s at 1000 datagrams/s");
        assert!(holds(usize::MAX).contains("holds about"));
    }
}
