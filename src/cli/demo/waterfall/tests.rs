use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn at(minutes: u32) -> Timestamp {
    Timestamp::EPOCH + MINUTE * minutes
}

fn clock(time: Timestamp) -> String {
    let minutes = time.since(Timestamp::EPOCH).as_secs() / 60;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn span(from: u32, until: u32, attributes: &[(&str, &str)]) -> Span {
    Span {
        start: at(from),
        end: at(until),
        attributes: attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..Span::default()
    }
}

fn app(name: &str, from: u32, until: u32, reason: &str) -> Span {
    span(from, until, &[("qlik.sense.app.name", name), ("qlik.sense.connection.close.reason", reason)])
}

fn session(from: u32, until: u32, reason: &str) -> Span {
    span(
        from,
        until,
        &[
            ("user.id", r"LAB\goran"),
            ("user_agent.name", "Chrome"),
            ("user_agent.version", "126.0.6478.127"),
            ("user_agent.os.name", "Windows"),
            ("host.name", "pro2-win1"),
            ("qlik.sense.session.end.reason", reason),
        ],
    )
}

fn a_morning() -> Finished {
    let connections = vec![
        app("Sales Overview", 482, 523, "closed"),
        app("Inventory", 540, 600, "closed"),
        app("Sales Overview", 598, 615, "session_stopped"),
    ];
    Finished { session: session(482, 615, "stopped"), connections }
}

fn plain(finished: &Finished, width: usize, is_unicode: bool) -> String {
    let drawn = lines(finished, Drawing { width, is_unicode }, clock);
    let lines: Vec<String> = drawn.iter().map(|line| line.iter().map(|(_, text)| text.as_str()).collect()).collect();
    for line in &lines {
        assert!(line.width() <= width, "{} columns in {width}: {line}", line.width());
    }
    lines.join("\n")
}

fn check(finished: &Finished, width: usize, is_unicode: bool, expected: &str) {
    let drawn = plain(finished, width, is_unicode);
    assert_eq!(drawn, expected.trim_matches('\n'), "\n{drawn}\n");
}

#[test]
fn a_morning_at_80_columns() {
    check(
        &a_morning(),
        80,
        true,
        r"
LAB\goran  Chrome 126, Windows  2h 13m  08:02-10:15  pro2-win1
  session         █████████████████████████████████████  2h 13m
  Sales Overview  ████████████                              41m
  Inventory                       █████████████████       1h 0m
  Sales Overview                                  █████     17m  session stopped
",
    );
}

#[test]
fn a_morning_at_60_columns() {
    check(
        &a_morning(),
        60,
        true,
        r"
LAB\goran  Chrome 126, Windows  2h 13m  08:02-10:15  pro2-w…
  session         █████████████████  2h 13m
  Sales Overview  ██████                41m
  Inventory              █████████    1h 0m
  Sales Overview                ███     17m  session stopped
",
    );
}

#[test]
fn a_morning_in_ascii() {
    check(
        &a_morning(),
        60,
        false,
        r"
LAB\goran  Chrome 126, Windows  2h 13m  08:02-10:15  pro2-w…
  session         =================  2h 13m
  Sales Overview  ======                41m
  Inventory              =========    1h 0m
  Sales Overview                ===     17m  session stopped
",
    );
}

#[test]
fn a_session_without_connections_that_expired_at_120_columns() {
    check(
        &Finished { session: session(600, 601, "expired"), connections: Vec::new() },
        120,
        true,
        r"
LAB\goran  Chrome 126, Windows  1m 0s  10:00-10:01  pro2-win1
  session  █████████████████████████████████████████████████████████████████████████████████████████████  1m 0s  expired
",
    );
}

#[test]
fn a_session_of_no_length_and_no_name() {
    let connections = vec![span(5, 5, &[])];
    check(
        &Finished { session: span(5, 5, &[]), connections },
        40,
        true,
        "
somebody  0ms  00:05-00:05
  session     █                      0ms
  connection  █                      0ms
",
    );
}

#[test]
fn long_and_wide_names_are_cut_by_columns() {
    let mut session = session(0, 60, "stopped");
    session.attributes.insert("user.id".into(), format!(r"CORP\{}", "名前".repeat(30)));
    let connections = vec![
        app(&"売上ダッシュボード".repeat(9), 0, 30, "closed"),
        app("a name that is longer than a third of this terminal", 30, 60, "closed"),
    ];
    check(
        &Finished { session, connections },
        60,
        true,
        r"
CORP\名前名前名前名前名前名前…  Chrome 126, Windows  1h 0m …
  session               █████████████████████████████  1h 0m
  売上ダッシュボード…   ███████████████                  30m
  a name that is long…                ███████████████    30m
",
    );
}

#[test]
fn many_connections_are_summed_up() {
    let connections = (0..20).map(|hour| app("Sales", hour, hour + 1, "closed")).collect();
    let drawn = plain(&Finished { session: session(0, 20, "stopped"), connections }, 80, true);
    assert_eq!(drawn.lines().count(), 2 + CONNECTIONS_MAX + 1);
    assert!(drawn.ends_with("\n  and 12 more connections"), "{drawn}");
}

#[test]
fn a_connection_beyond_its_session_is_cut_to_it() {
    let connections = vec![app("Late", 90, 200, "closed"), app("Early", 0, 5, "closed")];
    let drawn = plain(&Finished { session: session(10, 60, "stopped"), connections }, 60, false);
    for line in drawn.lines().skip(2) {
        assert_eq!(line.matches('=').count(), 1, "{drawn}");
    }
}

#[test]
fn users_under_privacy_have_a_hash_or_nothing() {
    let hashed = span(0, 1, &[("user.hash", "9f2c")]);
    assert!(plain(&Finished { session: hashed, connections: Vec::new() }, 80, true).starts_with("9f2c  1m 0s"));
}

#[test]
fn durations_have_two_units() {
    for (seconds, expected) in [
        (0, "0ms"),
        (1, "1s"),
        (59, "59s"),
        (61, "1m 1s"),
        (41 * 60 + 7, "41m"),
        (3600, "1h 0m"),
        (7980, "2h 13m"),
        (86_399, "23h 59m"),
        (90_000, "1d 1h"),
    ] {
        assert_eq!(duration(Duration::from_secs(seconds)), expected);
    }
    assert_eq!(duration(Duration::from_millis(850)), "850ms");
}
