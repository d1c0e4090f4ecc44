use std::fmt::Write;

use super::*;

/// Every code, as the server's word without and with a `RetryInfo`, and as our own. One line each.
const TABLE: &str = "\
Ok                 | Retry 0s        | Retry 2s        | Retry 0s
Cancelled          | Retry 0s        | Retry 2s        | Retry 0s
Unknown            | RetryInDoubt 0s | RetryInDoubt 2s | Retry 0s
InvalidArgument    | Quarantine      | Quarantine      | Retry 0s
DeadlineExceeded   | Retry 0s        | Retry 2s        | Retry 0s
NotFound           | Quarantine      | Quarantine      | Retry 0s
AlreadyExists      | Quarantine      | Quarantine      | Retry 0s
PermissionDenied   | Park            | Park            | Retry 0s
ResourceExhausted  | Retry 0s        | Retry 2s        | Retry 0s
FailedPrecondition | Quarantine      | Quarantine      | Retry 0s
Aborted            | Retry 0s        | Retry 2s        | Retry 0s
OutOfRange         | Retry 0s        | Retry 2s        | Retry 0s
Unimplemented      | Park            | Park            | Retry 0s
Internal           | RetryInDoubt 0s | RetryInDoubt 2s | Retry 0s
Unavailable        | Retry 0s        | Retry 2s        | Retry 0s
DataLoss           | Retry 0s        | Retry 2s        | Retry 0s
Unauthenticated    | Park            | Park            | Retry 0s
";

fn failure(code: Code, message: &str) -> Failure {
    Failure { from_server: true, code, message: message.to_owned(), retry_delay: None }
}

fn shown(disposition: Disposition) -> String {
    match disposition {
        Disposition::Retry { at_least } => format!("Retry {}s", at_least.as_secs()),
        Disposition::RetryInDoubt { at_least } => format!("RetryInDoubt {}s", at_least.as_secs()),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_table_of_answers() {
    let mut table = String::new();
    for code in (0..17).map(Code::from_i32) {
        let plain = failure(code, "no");
        let asked = Failure { retry_delay: Some(Duration::from_secs(2)), ..plain.clone() };
        let transport = Failure { from_server: false, ..plain.clone() };
        let [plain, asked, transport] = [plain, asked, transport].map(|failure| shown(Disposition::of(&failure)));
        writeln!(table, "{:<18} | {plain:<15} | {asked:<15} | {transport}", format!("{code:?}")).expect("a string");
    }
    assert_eq!(table, TABLE);
}

#[test]
fn a_retry_info_is_obeyed_up_to_five_minutes() {
    let asked = Failure { retry_delay: Some(Duration::from_secs(86_400)), ..failure(Code::Unavailable, "") };
    assert_eq!(Disposition::of(&asked), Disposition::Retry { at_least: Duration::from_secs(300) });
}

#[test]
fn what_servers_write_about_size_splits() {
    for (code, message) in [
        (Code::ResourceExhausted, "grpc: received message larger than max (5000000 vs. 4194304)"),
        (Code::ResourceExhausted, "grpc: received message after decompression larger than max (5000000 vs. 4194304)"),
        (Code::ResourceExhausted, "gRPC message exceeds maximum size 4194304: 5000000"),
        (Code::ResourceExhausted, "Received message exceeds the maximum configured message size."),
        (Code::ResourceExhausted, "HTTP 413: the request is too large"),
        (Code::OutOfRange, "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes"),
        (Code::InvalidArgument, "Max entry size '262144' bytes exceeded: message too big"),
    ] {
        assert_eq!(Disposition::of(&failure(code, message)), Disposition::Split, "{message}");
        let asked = Failure { retry_delay: Some(Duration::from_secs(2)), ..failure(code, message) };
        assert_eq!(Disposition::of(&asked), Disposition::Split, "size comes before RetryInfo: {message}");
        let transport = Failure { from_server: false, ..failure(code, message) };
        assert_eq!(Disposition::of(&transport), Disposition::Retry { at_least: Duration::ZERO }, "{message}");
    }
}

#[test]
fn neither_a_rate_nor_another_code_splits() {
    let rate = "ingestion rate limit exceeded (limit: 4194304 bytes/sec): batch too large";
    assert_eq!(
        Disposition::of(&failure(Code::ResourceExhausted, rate)),
        Disposition::Retry { at_least: Duration::ZERO }
    );
    assert_eq!(Disposition::of(&failure(Code::FailedPrecondition, "too large")), Disposition::Quarantine);
    assert_eq!(Disposition::of(&failure(Code::PermissionDenied, "larger than max")), Disposition::Park);
}

#[test]
fn waits_double_up_to_the_longest_and_begin_anew_after_a_reset() {
    let config = RetryConfig { initial_interval: Duration::from_secs(1), max_interval: Duration::from_secs(30) };
    for seed in 0..100 {
        let mut backoff = Backoff::new(config, seed);
        for full in [1, 2, 4, 8, 16, 30, 30, 30].map(Duration::from_secs) {
            let wait = backoff.wait();
            assert!(full / 2 <= wait && wait <= full, "seed {seed}: {wait:?} for {full:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= config.initial_interval);
    }
}

#[test]
fn the_same_seed_waits_the_same_and_another_does_not() {
    let config = RetryConfig { initial_interval: Duration::from_secs(1), max_interval: Duration::from_secs(30) };
    let waits = |seed| {
        let mut backoff = Backoff::new(config, seed);
        [(); 6].map(|()| backoff.wait())
    };
    assert_eq!(waits(7), waits(7));
    assert_ne!(waits(7), waits(8));
}

#[test]
fn intervals_in_the_wrong_order_do_not_shrink() {
    let config = RetryConfig { initial_interval: Duration::from_secs(9), max_interval: Duration::from_secs(1) };
    let mut backoff = Backoff::new(config, 1);
    assert!(backoff.wait() >= Duration::from_millis(4_500));
    assert!(backoff.wait() >= Duration::from_millis(4_500));
}
