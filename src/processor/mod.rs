//! The pure core: one state machine from datagrams to signals.
//!
//! [`Processor`] is driven by one rule: hand it an [`Input`] and the time, take what it gives to the [`Output`] during
//! that call, and call [`Processor::advance`] at its [`deadline`](Processor::deadline), earlier if you like. It reads no
//! clock, holds no socket and starts no thread, so a test can drive it by the million and replay it from a seed.
//!
//! ```text
//!  Datagram ─> event::decode ─> sequence (order, duplicates, gaps) ─> filter ─> session (states, deadlines) ─> mapping ─> Output
//!                   │ reject         │ hold, duplicate                   │ exclude
//!                   └────────────────┴────────────> Report <─────────────┘
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{self, Action, Datagram, Event, Guid, RejectReason, User, text};
use crate::signal::{LogRecord, Resource, Run, Span};
use crate::time::{Now, RunningTime, Timestamp};

mod attributes;
mod body;
pub mod detail;
pub mod filter;
mod generations;
mod hashing;
pub mod ids;
mod mapping;
pub mod node;
pub mod record;
pub mod sequence;
pub mod session;
mod spelling;
pub mod view;

use detail::Details;
use filter::{Exclusions, Identities};
use ids::{Ids, Key};
use mapping::{Cause, Mapping};
use node::{Known, Node, Nodes};
use sequence::{Arrival, Held, Step};
use session::{CloseReason, EndReason, NodeActivity, Occurrence, SessionTracker};

/// How far in the future an event may lie by its node's clock before we believe our own.
const FUTURE_MAX: Duration = Duration::from_secs(60);

/// How far in the past an event may lie by its node's clock before we believe our own.
const PAST_MAX: Duration = Duration::from_secs(24 * 3600);

const HOUR: Duration = Duration::from_secs(3600);

/// What the core needs to know. Already valid: made by `config`, or by a test.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long sessions and spans live.
    pub sessions: session::Config,
    /// Users whose events are not exported.
    pub exclude_users: Vec<filter::ExcludeRule>,
    /// What becomes of personal data.
    pub privacy: filter::Privacy,
    /// How many proxy nodes are known at most.
    pub nodes_max: usize,
    /// Longest attribute value in bytes; a longer one is cut on a character boundary and ends in `…`.
    pub attribute_length_max: usize,
    /// Attributes added to the resource of every node.
    pub resource: Vec<(String, String)>,
    /// Whether a short `qlik.sense.session.start` span is sent at once.
    pub start_marker: bool,
}

impl Default for Config {
    /// The defaults of `docs/configuration.md`.
    fn default() -> Self {
        Self {
            sessions: session::Config::default(),
            exclude_users: Vec::new(),
            privacy: filter::Privacy::default(),
            nodes_max: 256,
            attribute_length_max: 2048,
            resource: Vec::new(),
            start_marker: false,
        }
    }
}

/// What the core is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram was received.
    Datagram(Datagram<'a>),
    /// The names of apps, by id, instead of those known before.
    AppNames(HashMap<Guid, Box<str>>),
    /// Nothing more will come: what is held for its order is let go.
    Drain,
}

/// Where signals and reports go while the core is being driven.
pub trait Output {
    /// A log record is complete.
    fn log(&mut self, resource: &Arc<Resource>, record: &LogRecord<'_>);
    /// A span is complete.
    fn span(&mut self, resource: &Arc<Resource>, span: &Span<'_>);

    /// A log record is complete, and many have these attributes of it alike. Whoever does not encode need not know.
    fn log_alike(&mut self, resource: &Arc<Resource>, record: &LogRecord<'_>, _runs: &[Run<'_>]) {
        self.log(resource, record);
    }

    /// A span is complete, and many have these attributes of it alike. Whoever does not encode need not know.
    fn span_alike(&mut self, resource: &Arc<Resource>, span: &Span<'_>, _runs: &[Run<'_>]) {
        self.span(resource, span);
    }

    /// Something happened that has to be counted.
    fn report(&mut self, report: Report<'_>);
}

/// What has to be counted. Each datagram ends in exactly one of the first five, or is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Report<'a> {
    /// A datagram was an event and went its way.
    Accepted {
        /// The node that sent it.
        node: &'a str,
        /// What it said.
        action: Action,
    },
    /// The event had been received before.
    Duplicate,
    /// Its user is excluded.
    Excluded,
    /// A stock datagram of a node that sends the extended format.
    Superseded,
    /// It was no event.
    Rejected(RejectReason),
    /// Events of a node were lost on their way.
    Gap {
        /// The node.
        node: &'a str,
        /// How many are missing.
        missing: u64,
    },
    /// A node's counter restarted.
    Restarted {
        /// The node.
        node: &'a str,
    },
    /// A session has truly ended.
    SessionEnded {
        /// Its node.
        node: &'a str,
        /// Its virtual proxy, if it was told.
        virtual_proxy: Option<&'a str>,
        /// Why.
        reason: EndReason,
        /// How long it was, over all its segments.
        duration: Duration,
    },
    /// A connection has truly ended.
    ConnectionEnded {
        /// Its node.
        node: &'a str,
        /// Its virtual proxy, if it was told.
        virtual_proxy: Option<&'a str>,
        /// Why.
        reason: CloseReason,
        /// How long it was, over all its parts.
        duration: Duration,
    },
}

/// What is going on on one node.
#[derive(Clone, Copy, Debug)]
pub struct NodeStatus<'a> {
    /// The node.
    pub node: &'a Node,
    /// What is open there.
    pub activity: NodeActivity,
    /// When its last event was received.
    pub last_event: Timestamp,
}

/// The core: everything between a datagram and a signal.
#[derive(Debug)]
pub struct Processor {
    nodes: Nodes,
    /// Bytes that are held for their order, of all nodes together.
    held_bytes: usize,
    flow: Flow,
    records: record::Records,
}

/// What an event passes once it has its place in the order.
#[derive(Debug)]
struct Flow {
    ids: Ids,
    exclusions: Exclusions,
    privacy: filter::Privacy,
    identities: Identities,
    details: Details,
    app_names: HashMap<Guid, Box<str>>,
    tracker: SessionTracker,
    mapping: Mapping,
    length_max: usize,
}

impl Processor {
    /// A core that has not heard of anything yet. The key is the secret of every keyed hash.
    #[must_use]
    pub fn new(config: Config, key: &Key) -> Self {
        let ids = Ids::new(key);
        let flow = Flow {
            exclusions: Exclusions::new(&config.exclude_users),
            privacy: config.privacy,
            identities: Identities::new(config.attribute_length_max),
            details: Details::new(config.attribute_length_max),
            app_names: HashMap::new(),
            tracker: SessionTracker::new(config.sessions, ids.clone()),
            mapping: Mapping::new(config.start_marker),
            length_max: config.attribute_length_max,
            ids,
        };
        let nodes = Nodes::new(config.nodes_max, config.attribute_length_max, config.resource);
        Self { nodes, held_bytes: 0, flow, records: record::Records::default() }
    }

    /// Takes one input in.
    pub fn handle(&mut self, now: Now, input: Input<'_>, output: &mut impl Output) {
        match input {
            Input::Datagram(datagram) => self.datagram(now, &datagram, output),
            Input::AppNames(names) => self.flow.app_names = names,
            Input::Drain => {
                for Known { node, sequencer, changed, .. } in self.nodes.iter_mut() {
                    *changed = true;
                    sequencer.flush(now.running, &mut self.held_bytes, |step| {
                        self.flow.step(now, node, step, None, output);
                    });
                }
            }
        }
    }

    /// Does what is due. Looks at a bounded number of sessions; [`Self::deadline`] tells whether more is due at once.
    pub fn advance(&mut self, now: Now, output: &mut impl Output) {
        for Known { node, sequencer, changed, .. } in self.nodes.iter_mut() {
            if sequencer.deadline().is_some_and(|deadline| deadline <= now.running) {
                *changed = true;
                let flow = &mut self.flow;
                sequencer.advance(now.running, &mut self.held_bytes, |step| flow.step(now, node, step, None, output));
            }
        }
        let Flow { tracker, mapping, ids, .. } = &mut self.flow;
        tracker.advance(now, &mut |transition| mapping.transition(now, ids, None, transition, output));
    }

    /// When to call [`Self::advance`] next; calling it earlier is harmless.
    #[must_use]
    pub fn deadline(&self) -> Option<RunningTime> {
        self.nodes.deadline().into_iter().chain(self.flow.tracker.deadline()).min()
    }

    /// How many datagrams are held for their place in the order.
    #[must_use]
    pub fn held(&self) -> usize {
        self.nodes.held()
    }

    /// How many sessions are open.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.flow.tracker.open_sessions()
    }

    /// Each node, in the order in which they were first heard of, and what is going on there.
    pub fn nodes(&self) -> impl Iterator<Item = NodeStatus<'_>> {
        let activity = self.flow.tracker.activity();
        self.nodes.iter().enumerate().map(|(index, known)| NodeStatus {
            node: &known.node,
            activity: activity.get(index).copied().unwrap_or_default(),
            last_event: known.last_event,
        })
    }

    /// Every open session, in no particular order.
    pub fn sessions(&self) -> impl Iterator<Item = &session::Session> {
        self.flow.tracker.sessions()
    }

    fn datagram(&mut self, now: Now, datagram: &Datagram<'_>, output: &mut impl Output) {
        let event = match event::decode(datagram.bytes) {
            Ok(event) => event,
            Err(reason) => return output.report(Report::Rejected(reason)),
        };
        let Some(known) = self.nodes.find_or_add(&event.node) else {
            return output.report(Report::Rejected(RejectReason::TooManyNodes));
        };
        let Known { node, sequencer, last_event, .. } = known;
        *last_event = datagram.received;
        // A time that cannot be true must not decide what comes before what.
        let time = event.time.map(|time| believable(Some(time), datagram.received).0);
        let arrival = Arrival { format: event.format, sequence: event.sequence, time, datagram: *datagram };
        let flow = &mut self.flow;
        sequencer.offer(now.running, &arrival, &mut self.held_bytes, |step| {
            flow.step(now, node, step, Some((&event, datagram.received)), output)
        });
    }
}

impl Flow {
    /// One step of a node's order. `offered` is the event that is being offered, for the step that takes it.
    fn step(
        &mut self,
        now: Now,
        node: &Arc<Node>,
        step: Step,
        offered: Option<(&Event<'_>, Timestamp)>,
        output: &mut impl Output,
    ) {
        match step {
            Step::Gap { first, last, missing } => {
                self.mapping.gap(now, node, first, last, missing, output);
                output.report(Report::Gap { node: &node.name, missing });
            }
            Step::Restarted => {
                self.tracker.on_restart(now, node);
                output.report(Report::Restarted { node: &node.name });
            }
            Step::Take { late } => {
                if let Some((event, received)) = offered {
                    self.event(now, node, event, received, if late { Turn::Late } else { Turn::Next }, output);
                }
            }
            Step::TakeOld => {
                if let Some((event, received)) = offered {
                    self.event(now, node, event, received, Turn::BeforeRestart, output);
                }
            }
            Step::Release(Held { bytes, received, .. }) => {
                // It was an event when it came in, and bytes do not change.
                if let Ok(event) = event::decode(&bytes) {
                    self.event(now, node, &event, received, Turn::Next, output);
                }
            }
            Step::Duplicate => output.report(Report::Duplicate),
            Step::Superseded => output.report(Report::Superseded),
        }
    }

    /// An event in its place in the order.
    fn event(
        &mut self,
        now: Now,
        node: &Arc<Node>,
        event: &Event<'_>,
        received: Timestamp,
        turn: Turn,
        output: &mut impl Output,
    ) {
        if self.exclusions.excludes(event.user.directory.as_deref(), &event.user.name) {
            return output.report(Report::Excluded);
        }
        output.report(Report::Accepted { node: &node.name, action: event.action });
        let failure = event.failure.as_deref().map(|text| text::cut(text, self.length_max));
        let user = limited(&event.user, self.length_max);
        let user = self.identities.identify(&self.ids, self.privacy.user, &user);
        let app_name = match (&event.app_name, event.app_id) {
            (Some(name), _) => Some(name.as_ref()),
            (None, Some(app)) => self.app_names.get(&app).map(AsRef::as_ref),
            (None, None) => None,
        };
        let target = self.details.target(event, app_name, self.privacy.user);
        let user_agent = event.user_agent.as_deref();
        let browser = user_agent.and_then(|text| self.details.browser(text, self.privacy.user_agent, &self.ids));
        let address = event.client_address;
        let client = address.and_then(|address| detail::client(address, self.privacy.client_address, &self.ids));
        let (time, time_replaced) = believable(event.time, received);
        let occurrence = Occurrence {
            event,
            failure: failure.as_deref(),
            node,
            identity: &user.identity,
            id: event.session_id.as_ref().map(|id| self.ids.session_key(&node.key, id)),
            time,
            late: turn != Turn::Next,
            before_restart: turn == Turn::BeforeRestart,
            target: &target,
            browser: browser.as_ref(),
            client: client.as_ref(),
        };
        let cause = Cause { occurrence: &occurrence, identity: &user.encoded, received, time_replaced };
        let Self { tracker, mapping, ids, .. } = self;
        tracker.on_event(now, &occurrence, &mut |transition| {
            mapping.transition(now, ids, Some(cause), transition, output);
        });
    }
}

/// When an event came, by the order of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Next,
    /// After events that should have followed it.
    Late,
    /// After the restart of its counter.
    BeforeRestart,
}

/// The node's time, or the receive time where the node's cannot be true; and whether it was replaced.
fn believable(time: Option<Timestamp>, received: Timestamp) -> (Timestamp, bool) {
    match time {
        Some(time) if time > received + FUTURE_MAX || time < received.before(PAST_MAX) => (received, true),
        Some(time) => (time, false),
        None => (received, false),
    }
}

/// A user whose parts are no longer than an attribute may be.
fn limited<'a>(user: &'a User<'_>, length_max: usize) -> User<'a> {
    User {
        directory: user.directory.as_deref().map(|text| text::cut(text, length_max)),
        name: text::cut(&user.name, length_max),
    }
}
