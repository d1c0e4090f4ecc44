//! `sense-otel quarantine replay`: requests once more to where the receiver sends.
//!
//! One after the other, each once. A request leaves the quarantine only after the backend has taken it. If it takes a
//! part and refuses the rest, the request leaves too: nobody knows which part, and to send it again would double what was
//! taken. If it refuses every single item, nothing would be doubled, and the request stays.

use std::io::Write;
use std::process::ExitCode;

use tonic::Code;

use crate::exporter::{Resender, Resent};
use crate::store::{About, Quarantine, QuarantineError, QuarantineId};

use super::{Fault, Place, amount};

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// Numbers of the requests, as the list shows them; or --all
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<u64>,
    /// Everything in the quarantine, the oldest first
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: Place,
}

/// What came of one request.
#[derive(Debug)]
struct Outcome {
    /// What is told of it.
    line: String,
    /// Whether everything in it has arrived.
    arrived: bool,
    /// Whether it is of use to try another.
    go_on: bool,
}

/// Sends what was asked for. Failure if not all of it has arrived.
pub(super) fn run(args: &ReplayArgs, out: &mut impl Write) -> Result<ExitCode, Fault> {
    let loaded = args.place.load()?;
    for warning in &loaded.warnings {
        anstream::eprintln!("warning: {warning}");
    }
    let config = loaded.pipeline;
    let quarantine = super::open(args.place.directory.clone().unwrap_or(config.store.directory))?;
    let ids = asked_for(args, &quarantine)?;
    if ids.is_empty() {
        writeln!(out, "the quarantine is empty").map_err(Fault::Output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Fault::Runtime)?;
    let arrived = runtime.block_on(async {
        let resender = Resender::new(config.exporter)?;
        let mut arrived = 0;
        for (tried, &id) in ids.iter().enumerate() {
            let outcome = replay(&quarantine, &resender, id).await;
            writeln!(out, "{id}: {}", outcome.line).and_then(|()| out.flush()).map_err(Fault::Output)?;
            arrived += usize::from(outcome.arrived);
            if !outcome.go_on {
                let untried = ids.len() - tried - 1;
                writeln!(out, "stopped: {untried} not tried").map_err(Fault::Output)?;
                break;
            }
        }
        Ok::<_, Fault>(arrived)
    })?;
    writeln!(out, "requests: {} ({arrived} arrived whole)", ids.len()).map_err(Fault::Output)?;
    Ok(if arrived == ids.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The requests to send. If one that was named is not there, none is sent: the mistake may be in the other numbers too.
fn asked_for(args: &ReplayArgs, quarantine: &Quarantine) -> Result<Vec<QuarantineId>, Fault> {
    let there: Vec<QuarantineId> = quarantine.list()?.iter().map(|request| request.id).collect();
    if args.all {
        return Ok(there);
    }
    let mut ids = Vec::with_capacity(args.ids.len());
    for id in args.ids.iter().copied().map(QuarantineId) {
        if !there.contains(&id) {
            return Err(QuarantineError::Unknown(id).into());
        }
        // Sent once, however often it was named.
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

async fn replay(quarantine: &Quarantine, resender: &Resender, id: QuarantineId) -> Outcome {
    let poison = match quarantine.read(id) {
        Ok(poison) => poison,
        Err(error) => return Outcome { line: not_sent(&error), arrived: false, go_on: true },
    };
    match resender.send(poison.about.signal, poison.body).await {
        Resent::Taken { refused, remark } => taken(quarantine, id, &poison.about, refused, &remark),
        Resent::Refused { code, message } => {
            Outcome { line: format!("refused again and kept: {}", answer(code, &message)), arrived: false, go_on: true }
        }
        Resent::Unavailable { code, message } => Outcome {
            line: format!("not delivered and kept: {}", answer(code, &message)),
            arrived: false,
            go_on: false,
        },
    }
}

fn not_sent(error: &QuarantineError) -> String {
    match error {
        QuarantineError::Unknown(_) => {
            "not sent: it is no longer there; it was sent by somebody else or had to make room".to_owned()
        }
        QuarantineError::Damaged(_) => "not sent: its file is damaged".to_owned(),
        other => format!("not sent: {}", crate::telemetry::chain(other)),
    }
}

/// The backend answered OK.
fn taken(quarantine: &Quarantine, id: QuarantineId, about: &About, refused: u64, remark: &str) -> Outcome {
    let amount = amount(about.items, about.signal);
    let remark = if remark.is_empty() { String::new() } else { format!(": {remark}") };
    if refused > 0 && refused >= u64::from(about.items) {
        let line = format!("refused again and kept, all of {amount}{remark}");
        return Outcome { line, arrived: false, go_on: true };
    }
    let line = if refused == 0 {
        format!("taken, {amount}{remark}")
    } else {
        format!("taken and removed, but {refused} of {amount} were refused{remark}")
    };
    match quarantine.remove(id) {
        // Whoever removed it before us: it is gone, which is what was wanted.
        Ok(()) | Err(QuarantineError::Unknown(_)) => Outcome { line, arrived: refused == 0, go_on: true },
        Err(error) => {
            let error = crate::telemetry::chain(&error);
            let line = format!("{line}; it could not be removed, and must not be sent again: {error}");
            Outcome { line, arrived: false, go_on: false }
        }
    }
}

fn answer(code: Code, message: &str) -> String {
    if message.is_empty() { format!("{code:?}") } else { format!("{code:?}: {message}") }
}
