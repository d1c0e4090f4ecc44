//! A log event of the proxy as log4net would render it, byte for byte, by either appender.
//!
//! Nothing is escaped, a property that is not set prints `(null)`, one that is empty prints nothing, and there is no
//! terminator: that is what the real one does. The wording around the four filter phrases is ours, because no complete
//! message of Qlik's is publicly known.

use crate::time::Timestamp;

/// What a property prints that is not set.
const NULL: &str = "(null)";

/// The phrases by which the stock appender for session events picks its messages; the other one takes connections.
const SESSION_PHRASES: [&str; 2] = ["Start session for user", "Stop session for user"];

/// One log event of the logger `AuditActivity.Proxy`, with the properties that the two patterns print.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// `%hostname`
    pub host: &'a str,
    /// `%property{ProxySessionId}`
    pub session_id: Option<&'a str>,
    /// `%property{Command}`
    pub command: Option<&'a str>,
    /// `%property{Result}`
    pub result: Option<&'a str>,
    /// `%property{UserDirectory}`
    pub user_directory: Option<&'a str>,
    /// `%property{UserId}`
    pub user_id: Option<&'a str>,
    /// `%property{Origin}`
    pub origin: Option<&'a str>,
    /// `%property{ObjectId}`
    pub object_id: Option<&'a str>,
    /// `%property{ObjectName}`
    pub object_name: Option<&'a str>,
    /// `%property{Context}`
    pub context: Option<&'a str>,
    /// `%message`
    pub message: &'a str,
}

/// The datagram of the Butler SOS appenders: `;` between the fields, no time, no sequence, no session id of its own.
#[must_use]
pub fn encode_stock(record: &Record<'_>) -> Vec<u8> {
    let is_session = SESSION_PHRASES.iter().any(|phrase| record.message.contains(phrase));
    let fields = [
        if is_session { "/qseow-proxy-session/" } else { "/qseow-proxy-connection/" },
        record.host,
        record.command.unwrap_or(NULL),
        record.user_directory.unwrap_or(NULL),
        record.user_id.unwrap_or(NULL),
        record.origin.unwrap_or(NULL),
        record.context.unwrap_or(NULL),
        record.message,
    ];
    fields.join(";").into_bytes()
}

/// The datagram of our own appender: TAB between the fields, `sequence` from its counter and `time` in UTC.
#[must_use]
pub fn encode_extended(record: &Record<'_>, sequence: u32, time: Timestamp) -> Vec<u8> {
    let sequence = sequence.to_string();
    let time = utc_date(time);
    let fields = [
        "/sense-otel/1/",
        &sequence,
        &time,
        record.host,
        record.session_id.unwrap_or(NULL),
        record.command.unwrap_or(NULL),
        record.result.unwrap_or(NULL),
        record.user_directory.unwrap_or(NULL),
        record.user_id.unwrap_or(NULL),
        record.origin.unwrap_or(NULL),
        record.object_id.unwrap_or(NULL),
        record.object_name.unwrap_or(NULL),
        record.context.unwrap_or(NULL),
        record.message,
    ];
    fields.join("\t").into_bytes()
}

/// `%utcdate{yyyy-MM-ddTHH:mm:ss.fffZ}`: whole milliseconds, the rest cut off.
fn utc_date(time: Timestamp) -> String {
    let millis = i64::try_from(time.as_nanos() / 1_000_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map(|time| format!("{time:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Record<'_> = Record {
        host: "pro2-win2",
        session_id: Some("c0dec04e-89e4-c115-54a0-5f188dac8ef4"),
        command: Some("Start session"),
        result: Some("0"),
        user_directory: Some("LAB"),
        user_id: Some("testuser_3"),
        origin: Some("Not available"),
        object_id: None,
        object_name: Some(""),
        context: Some("Not available"),
        message: "Start session for user LAB\\testuser_3",
    };

    const OPEN: Record<'_> = Record {
        command: Some("Open connection"),
        origin: Some("AppAccess"),
        object_id: Some("a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69"),
        object_name: Some("Sales; Nordics"),
        context: Some("/app/a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69?reloaduri=https://pro2-win1/"),
        message: "Proxy: connection Opened for session 'c0de'. UserAgent: 'Mozilla/5.0 (X11; Linux x86_64)'",
        ..START
    };

    #[test]
    fn stock() {
        let text = |record| String::from_utf8(encode_stock(record)).expect("text");
        assert_eq!(
            text(&START),
            "/qseow-proxy-session/;pro2-win2;Start session;LAB;testuser_3;Not available;Not available;\
             Start session for user LAB\\testuser_3"
        );
        assert_eq!(
            text(&OPEN),
            "/qseow-proxy-connection/;pro2-win2;Open connection;LAB;testuser_3;AppAccess;\
             /app/a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69?reloaduri=https://pro2-win1/;\
             Proxy: connection Opened for session 'c0de'. UserAgent: 'Mozilla/5.0 (X11; Linux x86_64)'"
        );
        let nobody = Record { user_directory: None, user_id: None, origin: Some(""), context: None, ..START };
        assert_eq!(
            text(&nobody),
            "/qseow-proxy-session/;pro2-win2;Start session;(null);(null);;(null);Start session for user LAB\\testuser_3"
        );
    }

    #[test]
    fn extended() {
        let time = Timestamp::from_nanos(1_752_532_205_042_999_999);
        let text = |record, sequence| String::from_utf8(encode_extended(record, sequence, time)).expect("text");
        assert_eq!(
            text(&START, 1),
            "/sense-otel/1/\t1\t2025-07-14T22:30:05.042Z\tpro2-win2\tc0dec04e-89e4-c115-54a0-5f188dac8ef4\t\
             Start session\t0\tLAB\ttestuser_3\tNot available\t(null)\t\tNot available\t\
             Start session for user LAB\\testuser_3"
        );
        assert_eq!(
            text(&OPEN, 2_147_483_647),
            "/sense-otel/1/\t2147483647\t2025-07-14T22:30:05.042Z\tpro2-win2\tc0dec04e-89e4-c115-54a0-5f188dac8ef4\t\
             Open connection\t0\tLAB\ttestuser_3\tAppAccess\ta421f4a2-c311-4ef4-ba41-fe2e6a2b0d69\tSales; Nordics\t\
             /app/a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69?reloaduri=https://pro2-win1/\t\
             Proxy: connection Opened for session 'c0de'. UserAgent: 'Mozilla/5.0 (X11; Linux x86_64)'"
        );
    }

    #[test]
    fn a_date_has_all_its_digits() {
        assert_eq!(utc_date(Timestamp::EPOCH), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc_date(Timestamp::from_nanos(1_000_000_000)), "1970-01-01T00:00:01.000Z");
    }
}
