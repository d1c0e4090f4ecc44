//! The file as log4net would read it, by a small log4net of our own: what it renders has to be what the receiver decodes.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};

use super::*;
use crate::simulator::wire::{Record, encode_extended, encode_stock};
use crate::time::Timestamp;

const RECORD: Record<'_> = Record {
    host: "pro2-win1",
    session_id: Some("c0dec04e-89e4-c115-54a0-5f188dac8ef4"),
    command: Some("Open connection"),
    result: Some("0"),
    user_directory: Some("LAB"),
    user_id: Some("goran; %property{Command}"),
    origin: None,
    object_id: Some(""),
    object_name: Some("Sales\tNordics"),
    context: Some("/app/a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69"),
    message: "Proxy connection Opened for session 'x'. UserAgent: 'a;b'",
};

fn target(text: &str) -> Target {
    text.parse().expect("a target")
}

fn parameters<'a>(element: Node<'a, '_>) -> BTreeMap<&'a str, &'a str> {
    let attribute = |node: Node<'a, '_>, name| node.attribute(name).expect("name and value");
    let parameters = element.children().filter(|child| child.has_tag_name("param"));
    parameters.map(|parameter| (attribute(parameter, "name"), attribute(parameter, "value"))).collect()
}

/// Which messages the filters of an appender let through: the first that matches accepts, the last denies the rest.
fn accepts(appender: Node<'_, '_>, message: &str) -> bool {
    let filters: Vec<_> = appender.children().filter(|child| child.has_tag_name("filter")).collect();
    let (last, matching) = filters.split_last().expect("filters");
    assert_eq!(last.attribute("type"), Some("log4net.Filter.DenyAllFilter"));
    matching.iter().any(|filter| {
        assert_eq!(filter.attribute("type"), Some("log4net.Filter.StringMatchFilter"));
        message.contains(parameters(*filter)["stringToMatch"])
    })
}

/// What an appender sends for a record: its pattern with every converter replaced. An unknown one prints its name.
fn datagram(appender: Node<'_, '_>, record: &Record<'_>, sequence: u32, time: &str) -> String {
    let layout = appender.children().find(|child| child.has_tag_name("layout")).expect("a layout");
    assert_eq!(layout.attribute("type"), Some("log4net.Layout.PatternLayout"));
    let registered: BTreeMap<_, _> = layout
        .children()
        .filter(|child| child.has_tag_name("converter"))
        .map(|converter| (parameters(converter)["name"], parameters(converter)["type"]))
        .collect();
    let pattern = parameters(layout)["conversionpattern"];
    let mut parts = pattern.split('%');
    let mut rendered = parts.next().expect("a beginning").to_owned();
    for part in parts {
        let name_length = part.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(part.len());
        let (name, rest) = part.split_at(name_length);
        let (option, rest) = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((option, rest)) => (option, rest),
            None => ("", rest),
        };
        let class = registered
            .get(name)
            .map(|class| class.strip_prefix("Qlik.Sense.Logging.log4net.Layout.Pattern.").expect("a class of Qlik's"));
        let sequence = sequence.to_string();
        rendered.push_str(match (name, class, option) {
            ("rownum", Some("CounterPatternConverter"), "2147483647") => &sequence,
            ("hostname", Some("HostNamePatternConverter"), "") => record.host,
            ("utcdate", None, "yyyy-MM-ddTHH:mm:ss.fffZ") => time,
            ("message", None, "") => record.message,
            ("property", None, property) => value(record, property).unwrap_or("(null)"),
            _ => name,
        });
        rendered.push_str(rest);
    }
    rendered
}

fn value<'a>(record: &Record<'a>, property: &str) -> Option<&'a str> {
    match property {
        "ProxySessionId" => record.session_id,
        "Command" => record.command,
        "Result" => record.result,
        "UserDirectory" => record.user_directory,
        "UserId" => record.user_id,
        "Origin" => record.origin,
        "ObjectId" => record.object_id,
        "ObjectName" => record.object_name,
        "Context" => record.context,
        _ => None,
    }
}

/// The appenders that the logger for user events refers to.
fn appenders<'a>(document: &'a Document<'_>) -> Vec<Node<'a, 'a>> {
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "configuration");
    let loggers: Vec<_> = root.children().filter(|child| child.has_tag_name("logger")).collect();
    let [logger] = loggers[..] else { panic!("one logger") };
    assert_eq!(logger.attribute("name"), Some("AuditActivity.Proxy"));
    let references = logger.children().filter(|child| child.has_tag_name("appender-ref"));
    let named = |name| {
        let mut elements = root.children().filter(|child| child.has_tag_name("appender"));
        elements.find(|element| element.attribute("name") == name).expect("the appender referred to")
    };
    let appenders: Vec<_> = references.map(|reference| named(reference.attribute("ref"))).collect();
    assert!(appenders.iter().all(|it| it.attribute("type") == Some("log4net.Appender.UdpAppender")));
    appenders
}

#[test]
fn the_extended_appender_renders_the_extended_format() {
    let xml = render(&target("192.0.2.7:9997"), WireFormat::Extended);
    let document = Document::parse(&xml).expect("well-formed");
    let [appender] = appenders(&document)[..] else { panic!("one appender, so that there is one counter") };
    let own = parameters(appender);
    assert_eq!((own["remoteAddress"], own["remotePort"], own["encoding"]), ("192.0.2.7", "9997", "utf-8"));
    for phrase in START_AND_STOP.iter().chain(&OPENED_AND_CLOSED) {
        assert!(accepts(appender, &format!("Some words, {phrase} and some more")));
    }
    assert!(!accepts(appender, "Failed to start session for user"));

    let time = Timestamp::from_nanos(1_752_532_205_042_000_000);
    let rendered = datagram(appender, &RECORD, 2_147_483_647, "2025-07-14T22:30:05.042Z");
    assert_eq!(rendered.as_bytes(), encode_extended(&RECORD, 2_147_483_647, time));
    assert_eq!(
        rendered,
        "/sense-otel/1/\t2147483647\t2025-07-14T22:30:05.042Z\tpro2-win1\tc0dec04e-89e4-c115-54a0-5f188dac8ef4\t\
         Open connection\t0\tLAB\tgoran; %property{Command}\t(null)\t\tSales\tNordics\t\
         /app/a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69\tProxy connection Opened for session 'x'. UserAgent: 'a;b'"
    );
}

#[test]
fn the_stock_appenders_render_the_stock_format() {
    let xml = render(&target("sense-otel.lab.example:9997"), WireFormat::Stock);
    let document = Document::parse(&xml).expect("well-formed");
    let appenders = appenders(&document);
    assert_eq!(appenders.len(), 2);
    for message in
        ["Start session for user x", "Stop session for user x", RECORD.message, "connection Closed for session"]
    {
        let record = Record { message, ..RECORD };
        let sent: Vec<_> = appenders
            .iter()
            .filter(|appender| accepts(**appender, message))
            .map(|appender| datagram(*appender, &record, 1, "").into_bytes())
            .collect();
        assert_eq!(sent, [encode_stock(&record)], "{message}");
    }
    assert!(appenders.iter().all(|it| parameters(*it)["remoteAddress"] == "sense-otel.lab.example"));
}

#[test]
fn the_file_in_the_repository_is_what_is_printed() {
    let expected = render(&target("sense-otel.example.com:9997"), WireFormat::Extended);
    let file = include_str!("../../../otel-config/qlik-sense/LocalLogConfig.xml").replace("\r\n", "\n");
    assert!(
        file == expected,
        "make it anew: sense-otel appender --to sense-otel.example.com:9997 > otel-config/qlik-sense/LocalLogConfig.xml"
    );
}

#[test]
fn any_valid_target_gives_a_well_formed_file_that_names_it() {
    for (text, host) in [
        ("10.1.2.3:9997", "10.1.2.3"),
        ("[2001:db8::2]:1", "2001:db8::2"),
        ("[::ffff:10.1.2.3]:65535", "::ffff:10.1.2.3"),
        ("xn--mller-kva.example:9997", "xn--mller-kva.example"),
        ("a--b:9997", "a--b"),
        ("SENSE_01:9997", "SENSE_01"),
    ] {
        for format in [WireFormat::Extended, WireFormat::Stock] {
            let xml = render(&target(text), format);
            let document = Document::parse(&xml).expect("well-formed");
            assert!(appenders(&document).iter().all(|it| parameters(*it)["remoteAddress"] == host));
        }
    }
}

#[test]
fn what_is_no_target_is_refused_with_the_reason() {
    for (text, error) in [
        ("localhost", TargetError::NoPort),
        ("localhost:", TargetError::Port),
        ("localhost:0", TargetError::Port),
        ("localhost:65536", TargetError::Port),
        ("localhost:9997 ", TargetError::Port),
        (":9997", TargetError::Host),
        ("::1:9997", TargetError::Host),
        ("[10.1.2.3]:9997", TargetError::Host),
        ("[fe80::1%eth0]:9997", TargetError::Host),
        ("a b:9997", TargetError::Host),
        ("a..b:9997", TargetError::Host),
        ("-a:9997", TargetError::Host),
        ("a\"/><x y=\":9997", TargetError::Host),
        ("<a>&:9997", TargetError::Host),
        ("åsa:9997", TargetError::Host),
        (&format!("{}:9997", "a".repeat(64)), TargetError::Host),
        (&format!("{}a:9997", "a.".repeat(127)), TargetError::Host),
    ] {
        assert_eq!(text.parse::<Target>(), Err(error), "{text}");
    }
}
