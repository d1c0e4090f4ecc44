//! `/status`: how the receiver is, in the form of the Collector's health check (`healthcheckv2`), so that what watches a
//! collector can watch this.

use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::signal::Signal;
use crate::telemetry::{Snapshot, Trouble};
use crate::time::Timestamp;

use super::Phase;
use super::answer::rfc3339;

/// A thread may stand still for this long: it turns once a second when nothing comes.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// A component's status, under the names of the Collector. The worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum Status {
    #[serde(rename = "StatusOK")]
    Ok,
    #[serde(rename = "StatusRecoverableError")]
    RecoverableError,
    #[serde(rename = "StatusPermanentError")]
    PermanentError,
    #[serde(rename = "StatusFatalError")]
    FatalError,
    #[serde(rename = "StatusStopping")]
    Stopping,
}

/// What may stand behind `/status?`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// With each component.
    verbose: Option<String>,
    /// Of this signal alone.
    pipeline: Option<String>,
}

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    start_time: String,
    #[serde(flatten)]
    whole: Entry,
    #[serde(skip_serializing_if = "Option::is_none")]
    components: Option<Components>,
}

/// Each component by its name.
#[derive(Debug, Serialize)]
struct Components {
    receiver: Entry,
    core: Entry,
    store: Entry,
    #[serde(rename = "exporter:logs")]
    logs: Entry,
    #[serde(rename = "exporter:traces")]
    traces: Entry,
    #[serde(rename = "exporter:metrics")]
    metrics: Entry,
}

#[derive(Clone, Debug, Serialize)]
struct Entry {
    healthy: bool,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// When it became so.
    status_time: String,
}

/// What became of each component, and since when.
#[derive(Clone, Debug)]
pub(super) struct Statuses {
    started: Timestamp,
    /// In the order receiver, core, store, logs, traces, metrics.
    components: [Component; 6],
}

#[derive(Clone, Debug)]
struct Component {
    status: Status,
    error: Option<String>,
    since: Timestamp,
}

/// What a status is made from.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) now: Timestamp,
    pub(super) phase: Phase,
    pub(super) snapshot: &'a Snapshot,
    pub(super) troubles: [Option<Trouble>; 3],
    pub(super) standing_still: Option<(&'static str, Duration)>,
}

impl Statuses {
    pub(super) fn new(started: Timestamp) -> Self {
        let fine = Component { status: Status::Ok, error: None, since: started };
        Self { started, components: std::array::from_fn(|_| fine.clone()) }
    }

    /// Notes how everything is now. To be called about once a second.
    pub(super) fn tell(&mut self, facts: &Facts<'_>) {
        let still = |thread: &str| match facts.standing_still {
            Some((name, since)) if name == thread => {
                (Status::FatalError, Some(format!("the thread has not moved for {} s", since.as_secs())))
            }
            _ => (Status::Ok, None),
        };
        let store = if facts.snapshot.store_degraded {
            (Status::RecoverableError, Some("the disk fails: everything is in memory".to_owned()))
        } else {
            (Status::Ok, None)
        };
        let [logs, traces, metrics] = facts.troubles.map(|trouble| match trouble {
            None => (Status::Ok, None),
            // Whoever parks a signal has to be helped; it is tried all the same.
            Some(Trouble { code, is_parked: true, .. }) => (Status::PermanentError, Some(format!("{code:?}"))),
            Some(Trouble { code, is_parked: false, .. }) => (Status::RecoverableError, Some(format!("{code:?}"))),
        });
        let [since_logs, since_traces, since_metrics] =
            facts.troubles.map(|trouble| trouble.map_or(facts.now, |trouble| facts.now.before(trouble.since)));
        let since = [facts.now, facts.now, facts.now, since_logs, since_traces, since_metrics];
        let told = [still("receiver"), still("core"), store, logs, traces, metrics];
        for ((component, (status, error)), since) in self.components.iter_mut().zip(told).zip(since) {
            let status = if facts.phase == Phase::Running { status } else { Status::Stopping };
            if component.status != status {
                component.since = since;
            }
            (component.status, component.error) = (status, error);
        }
    }

    /// The answer to a request, if there is what it asks for.
    pub(super) fn answer(&self, asked: &Asked) -> Option<(StatusCode, Answer)> {
        let [receiver, core, store, logs, traces, metrics] = &self.components;
        let relevant: Vec<&Component> = match asked.pipeline.as_deref() {
            None => self.components.iter().collect(),
            Some(name) => {
                let signals = [(Signal::Logs, logs), (Signal::Traces, traces), (Signal::Metrics, metrics)];
                let (_, exporter) = signals.into_iter().find(|(signal, _)| signal.as_str() == name)?;
                vec![receiver, core, store, exporter]
            }
        };
        let worst = relevant.into_iter().reduce(|worst, each| if each.status > worst.status { each } else { worst })?;
        let is_verbose = asked.verbose.as_deref().is_some_and(|value| value != "false");
        let components = is_verbose.then(|| Components {
            receiver: receiver.entry(),
            core: core.entry(),
            store: store.entry(),
            logs: logs.entry(),
            traces: traces.entry(),
            metrics: metrics.entry(),
        });
        let answer = Answer { start_time: rfc3339(self.started), whole: worst.entry(), components };
        Some((worst.status.code(), answer))
    }
}

impl Component {
    fn entry(&self) -> Entry {
        Entry {
            healthy: self.status.code() == StatusCode::OK,
            status: self.status,
            error: self.error.clone(),
            status_time: rfc3339(self.since),
        }
    }
}

impl Status {
    /// As the Collector's health check answers by default: an error that may pass is no reason to restart anything.
    const fn code(self) -> StatusCode {
        match self {
            Self::Ok | Self::RecoverableError | Self::PermanentError => StatusCode::OK,
            Self::FatalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn told(facts: &Facts<'_>, asked: &Asked) -> (u16, serde_json::Value) {
        let mut statuses = Statuses::new(Timestamp::EPOCH);
        statuses.tell(facts);
        let (code, answer) = statuses.answer(asked).expect("an answer");
        (code.as_u16(), serde_json::to_value(answer).expect("JSON"))
    }

    #[test]
    fn a_backend_that_is_down_may_come_back_and_restarts_nothing() {
        let snapshot = Snapshot::default();
        let trouble = Trouble { since: Duration::from_secs(4), code: Code::Unavailable, is_parked: false };
        let facts = Facts {
            now: Timestamp::EPOCH + Duration::from_secs(60),
            phase: Phase::Running,
            snapshot: &snapshot,
            troubles: [None, Some(trouble), None],
            standing_still: None,
        };
        let (code, answer) = told(&facts, &Asked::default());
        assert_eq!(code, 200);
        let expected = serde_json::json!({
            "start_time": "1970-01-01T00:00:00.000Z",
            "healthy": true,
            "status": "StatusRecoverableError",
            "error": "Unavailable",
            "status_time": "1970-01-01T00:00:56.000Z",
        });
        assert_eq!(answer, expected);
        let logs = Asked { pipeline: Some("logs".into()), verbose: Some(String::new()) };
        let (_, answer) = told(&facts, &logs);
        assert_eq!(answer["status"], "StatusOK");
        assert_eq!(answer["components"]["exporter:traces"]["status"], "StatusRecoverableError");
        let unknown = Asked { pipeline: Some("profiles".into()), verbose: None };
        assert!(Statuses::new(Timestamp::EPOCH).answer(&unknown).is_none());
    }

    #[test]
    fn a_core_that_is_stuck_is_fatal_and_a_stop_is_no_error() {
        let snapshot = Snapshot::default();
        let mut facts = Facts {
            now: Timestamp::EPOCH,
            phase: Phase::Running,
            snapshot: &snapshot,
            troubles: [None; 3],
            standing_still: Some(("core", Duration::from_secs(20))),
        };
        let (code, answer) = told(&facts, &Asked::default());
        assert_eq!((code, &answer["healthy"], &answer["status"]), (500, &false.into(), &"StatusFatalError".into()));
        facts.phase = Phase::Stopping;
        assert_eq!(told(&facts, &Asked::default()).0, 503);
    }
}
