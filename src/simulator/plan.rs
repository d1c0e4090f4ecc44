//! The life of one session, drawn before it begins: what happens how long after its start.

use fastrand::Rng;

use super::{Habits, chance};

/// Milliseconds.
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// Qlik's default for the inactivity of a session.
const INACTIVITY: u64 = 30 * MINUTE;

/// Apps that the plan chooses from, by number.
pub(super) const APPS: usize = 40;

/// What happens in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Start,
    /// The connection of this number opens.
    Open(usize),
    /// The connection of this number closes.
    Close(usize),
    /// An attempt to open this app fails.
    Refused(usize),
    Stop,
}

/// A session to come.
#[derive(Debug)]
pub(super) struct Plan {
    /// Steps in order, each with its milliseconds after the start.
    pub(super) steps: Vec<(u64, Step)>,
    /// The app of each connection.
    pub(super) apps: Vec<usize>,
    /// When the user may begin another session, in milliseconds after the start.
    pub(super) over: u64,
}

impl Plan {
    pub(super) fn draw(rng: &mut Rng, habits: &Habits) -> Self {
        let mut plan = Self { steps: vec![(0, Step::Start)], apps: Vec::new(), over: 0 };
        let mut tabs: Vec<Tab> = Vec::new();
        let mut opened = rng.u64(SECOND..15 * SECOND);
        let mut quiet = 0;
        for _ in 0..tab_count(rng) {
            let tab = Tab::draw(rng, habits, opened, &tabs);
            plan.add(rng, &tab);
            quiet = quiet.max(tab.closed);
            opened = if chance(rng, 0.25) {
                opened + rng.u64(5 * SECOND..2 * MINUTE)
            } else {
                quiet + rng.u64(2 * SECOND..5 * MINUTE)
            };
            tabs.push(tab);
        }
        if chance(rng, habits.refused) {
            plan.steps.push((rng.u64(SECOND..=quiet.max(SECOND)), Step::Refused(rng.usize(..APPS))));
        }
        let all_closed = tabs.iter().all(|tab| tab.is_closed);
        let logs_out = all_closed && chance(rng, 0.2);
        let stop = quiet + if logs_out { rng.u64(SECOND..10 * SECOND) } else { INACTIVITY + rng.u64(..MINUTE) };
        if !chance(rng, habits.unstopped) {
            plan.steps.push((stop, Step::Stop));
        }
        plan.over = stop + rng.u64(10 * MINUTE..120 * MINUTE);
        // Stable: steps of the same millisecond keep the order in which they were thought of.
        plan.steps.sort_by_key(|(after, _)| *after);
        plan
    }

    /// One tab with its connections: two if the page is loaded again in between, which the proxy logs as a Close and an
    /// Open in either order.
    fn add(&mut self, rng: &mut Rng, tab: &Tab) {
        let mut connection = self.open(tab.opened, tab.app);
        if tab.closed - tab.opened > MINUTE && chance(rng, 0.2) {
            let reload = rng.u64(tab.opened + SECOND..tab.closed - SECOND);
            let moment_later = reload + rng.u64(5..50);
            let (closes, opens) = if rng.bool() { (reload, moment_later) } else { (moment_later, reload) };
            self.steps.push((closes, Step::Close(connection)));
            connection = self.open(opens, tab.app);
        }
        if tab.is_closed {
            self.steps.push((tab.closed, Step::Close(connection)));
        }
    }

    fn open(&mut self, at: u64, app: usize) -> usize {
        let connection = self.apps.len();
        self.apps.push(app);
        self.steps.push((at, Step::Open(connection)));
        connection
    }
}

/// A browser tab with one app.
#[derive(Debug)]
struct Tab {
    app: usize,
    opened: u64,
    closed: u64,
    /// Whether the closing is logged.
    is_closed: bool,
}

impl Tab {
    /// A tab with an app that no other tab has open then: the proxy does not say which of two tabs with one app is closed,
    /// so the truth could not be known from its events.
    fn draw(rng: &mut Rng, habits: &Habits, opened: u64, others: &[Self]) -> Self {
        let first = rng.usize(..APPS);
        let taken = |app| others.iter().any(|tab| tab.app == app && (tab.closed >= opened || !tab.is_closed));
        let app = (first..first + APPS).map(|number| number % APPS).find(|app| !taken(*app)).unwrap_or(first);
        // From half a minute to three quarters of an hour, more often short than long.
        let minutes = 0.5 * 90_f64.powf(rng.f64());
        let closed = opened + (minutes * MINUTE as f64) as u64;
        Self { app, opened, closed, is_closed: !chance(rng, habits.unclosed) }
    }
}

/// One session in twelve never opens an app; the others open one to twelve, three in the mean.
fn tab_count(rng: &mut Rng) -> usize {
    if chance(rng, 1.0 / 12.0) {
        return 0;
    }
    1 + (0..11).take_while(|_| chance(rng, 0.67)).count()
}
