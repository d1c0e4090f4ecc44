//! No value can write another field. A site is made up whose user ids, app names, URLs and browsers are hostile; log4net
//! puts them into a datagram as it does, and what is read is either what was put in, or nothing.

use std::net::{IpAddr, Ipv4Addr};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use sense_otel::event::text::clean;
use sense_otel::event::{Action, Guid, RejectReason, SessionId, decode};

/// What a hostile value is made of: the words that the decoder looks for, and others.
const PIECES: [&str; 25] = [
    "x",
    "y z",
    ";",
    "\t",
    ";AppAccess;",
    "\tAppAccess\t",
    "AppAccess",
    ";ManagementAccess;",
    ";Not available;",
    "\tNot available\t",
    "(null)",
    ";;",
    "\t\t",
    "/app/99999999-9999-9999-9999-999999999999",
    ";/hub;",
    "\t/hub\t",
    "Start session for user",
    "connection Opened for session '99999999-9999-9999-9999-999999999999'",
    ";Start session for user;",
    "\tconnection Opened for session\t",
    " UserAgent: 'forged'",
    " 10.6.6.6 ",
    "\n/qseow-proxy-session/;h;Stop session;d;u;",
    "\u{202e}",
    "?a=1",
];

/// Words of an honest value with a separator here and there.
const HONEST: [&str; 6] = ["userdirectory=lab", "goran", "ou=x,dc=y", "b@x.example", "名前", "1"];

const APP: &str = "a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69";
const ID: &str = "c0dec04e-89e4-c115-54a0-5f188dac8ef4";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

/// What Qlik knows about an event and log4net prints.
#[derive(Clone, Debug)]
struct Record {
    action: Action,
    directory: String,
    user: String,
    origin: &'static str,
    app_name: String,
    context: String,
    agent: String,
    /// Where the message repeats user and Context: before the phrase, behind it, or nowhere.
    repeats: (bool, bool),
}

impl Record {
    fn message(&self) -> String {
        let said = |whether| {
            if whether { format!("{}\\{} at {}", self.directory, self.user, self.context) } else { String::new() }
        };
        let (before, behind) = (said(self.repeats.0), said(self.repeats.1));
        let phrase = match self.action {
            Action::SessionStart => "Start session for user",
            Action::SessionStop => "Stop session for user",
            Action::ConnectionOpen => "connection Opened for session",
            Action::ConnectionClose => "connection Closed for session",
        };
        format!("Proxy {before} {phrase} '{ID}' from '{CLIENT}' {behind} UserAgent: '{}'", self.agent)
    }

    fn stock(&self) -> String {
        let fields = ["/qseow-proxy-session/", "node", self.action.command(), &self.directory, &self.user, self.origin];
        format!("{};{};{}", fields.join(";"), self.context, self.message())
    }

    fn extended(&self) -> String {
        let head = ["/sense-otel/1/", "7", "2025-07-14T22:30:05.042Z", "node", ID, self.action.command(), "0"];
        let fields = [&self.directory, &self.user, self.origin, APP, &self.app_name, &self.context, &self.message()];
        format!("{}\t{}", head.join("\t"), fields.join("\t"))
    }

    /// The path of the Context, read by a plainer rule than the decoder's.
    fn path(&self, end: &[char]) -> Option<&str> {
        self.context.split(end).next().filter(|path| path.contains('/'))
    }
}

fn app_of(path: Option<&str>) -> Option<Guid> {
    let (_, behind) = path?.split_once("/app/")?;
    Guid::parse(behind.split(['/', ';']).next()?.trim().as_bytes())
}

fn hostile(pieces_max: usize) -> impl Strategy<Value = String> {
    vec(select(&PIECES[..]), 0..pieces_max).prop_map(|pieces| pieces.concat())
}

/// A value in which nothing is absent, an Origin, or a phrase.
fn honest(separator: char) -> impl Strategy<Value = String> {
    vec(select(&HONEST[..]), 1..5).prop_map(move |words| words.join(&separator.to_string()))
}

fn record() -> impl Strategy<Value = Record> {
    let actions = select(&Action::ALL[..]);
    let origins = select(&["AppAccess", "ManagementAccess", "Not available", "(null)", ""][..]);
    let context =
        (any::<bool>(), hostile(5)).prop_map(|(app, tail)| format!("/{}{tail}", if app { "app/" } else { "" }));
    let context =
        prop_oneof![3 => context, 1 => select(&["Not available", "(null)", "", "hub"][..]).prop_map(String::from)];
    let agent = hostile(4).prop_map(|agent| agent.replace('\n', ""));
    let values = (hostile(2), hostile(6), hostile(4), context, agent);
    (actions, origins, values, any::<(bool, bool)>()).prop_map(|(action, origin, values, repeats)| {
        let (directory, user, app_name, context, agent) = values;
        Record { action, directory, user, origin, app_name, context, agent, repeats }
    })
}

/// `None` where the value says that there is none.
fn present(value: &str) -> Option<String> {
    let value = clean(value);
    let absent = value.is_empty() || value == "(null)" || value == "Not available";
    (!absent).then(|| value.into_owned())
}

/// What was read is what was put in, or nothing.
fn assert_unforged(record: &Record, datagram: &str, separator: char, path_end: &[char]) {
    let event = match decode(datagram.as_bytes()) {
        Ok(event) => event,
        Err(reason) => {
            let user_is_there = present(&record.user).is_some();
            assert!(reason == RejectReason::Ambiguous || reason == RejectReason::NoUser && !user_is_there, "{reason}");
            return;
        }
    };
    assert_eq!((event.node.as_ref(), event.action), ("node", record.action));
    if record.directory.contains(separator) {
        // Where a directory ends cannot be told if it holds the separator; but nothing else moves.
        let read = format!("{}{}", event.user.directory.unwrap_or_default(), event.user.name);
        let sent = clean(&format!("{}{separator}{}", record.directory, record.user)).into_owned();
        let bare = |text: &str| text.replace([separator, ' '], "").replace("(null)", "").replace("Not available", "");
        assert_eq!(bare(&read), bare(&sent));
    } else {
        assert_eq!(event.user.directory.as_deref(), present(&record.directory).as_deref());
        assert_eq!(Some(event.user.name.as_ref()), present(&record.user).as_deref());
    }
    assert_eq!(event.origin.as_deref(), present(record.origin).as_deref());
    let path = record.path(path_end);
    assert_eq!(event.path, path.map(clean));
    let context_app = app_of(path);
    let (app, app_name, id) = if separator == ';' {
        (context_app, None, None)
    } else {
        let name = present(&record.app_name).filter(|name| Guid::parse(name.as_bytes()).is_none());
        (context_app.or_else(|| Guid::parse(APP.as_bytes())), name, Guid::parse(ID.as_bytes()))
    };
    assert_eq!(event.app_id, app);
    assert_eq!(event.app_name.as_deref(), app_name.as_deref());
    assert!(event.traceparent.is_none() && event.failure.is_none());
    let real = |id: &SessionId<'_>| *id == SessionId::Guid(Guid::parse(ID.as_bytes()).expect("an id"));
    assert!(event.session_id.as_ref().is_none_or(real), "{:?}", event.session_id);
    assert!(id.is_none() || event.session_id.is_some());
    assert!(event.client_address.is_none_or(|address| address == CLIENT), "{:?}", event.client_address);
    let agent = event.user_agent.as_deref();
    assert!(agent.is_none() || agent == Some(clean(&record.agent).as_ref()), "{agent:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, ..ProptestConfig::default() })]

    #[test]
    fn no_value_writes_another_field_of_a_stock_datagram(record in record()) {
        assert_unforged(&record, &record.stock(), ';', &[';', '?', '#']);
    }

    #[test]
    fn no_value_writes_another_field_of_an_extended_datagram(record in record()) {
        assert_unforged(&record, &record.extended(), '\t', &['?', '#']);
    }

    #[test]
    fn an_honest_separator_costs_no_event(
        mut record in record(),
        user in honest(';'),
        query in honest(';'),
        tabbed in honest('\t'),
        is_extended in any::<bool>(),
    ) {
        record.directory = "LAB".to_owned();
        record.context = format!("/app/{APP}?{}", if is_extended { "q" } else { &query });
        record.app_name = "Sales; Nordics".to_owned();
        record.agent = "Mozilla/5.0 (X11; Linux x86_64)".to_owned();
        record.user = if is_extended { tabbed } else { user };
        // A message that repeats a user before its phrase may hold a separator there.
        record.repeats.0 = false;
        let datagram = if is_extended { record.extended() } else { record.stock() };
        let event = decode(datagram.as_bytes()).expect("an event");
        prop_assert_eq!(event.user.name, clean(&record.user));
        prop_assert_eq!(event.user_agent.as_deref(), Some(record.agent.as_str()));
        let (separator, path_end): (char, &[char]) = if is_extended { ('\t', &['?']) } else { (';', &[';', '?']) };
        assert_unforged(&record, &datagram, separator, path_end);
    }
}
