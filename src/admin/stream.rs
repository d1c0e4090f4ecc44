//! `/api/events`: what the page shows, as server-sent events, about one a second.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Query as Parameters, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::telemetry::PageRefusal;

use super::Picture;
use super::answer::{Answer, Event as Told, rfc3339};
use super::day::STEP;
use super::health::Health;
use super::live::Viewer;
use super::query::{Asked, PAGE_LIMIT_MAX, Query};
use super::routes::Shared;
use super::server::Streaming;

/// Sessions that a page shows where it does not say how many.
const LIMIT_DEFAULT: usize = 200;

/// Events that a page gets at a time; it shows no more.
const EVENTS_MAX: usize = 60;

/// A view that is as it was is sent again after so many pictures: its time goes on.
const UNCHANGED_MAX: u32 = 10;

/// How often a connection on which nothing happens gets a sign that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Everything on the page.
#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    answer: Answer<'a>,
    nodes: Vec<Node<'a>>,
    apps: Vec<App<'a>>,
    day: Day<'a>,
    events: Vec<Told<'a>>,
    health: Health,
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    sessions: u64,
    connections: u64,
    last_event: String,
}

#[derive(Serialize)]
struct App<'a> {
    name: &'a str,
    sessions: usize,
}

/// Today, in steps since midnight.
#[derive(Serialize)]
struct Day<'a> {
    midnight: String,
    step: u64,
    sessions: &'a [Option<u64>],
}

/// A page that listens.
struct Listener {
    shared: Arc<Shared>,
    query: Query,
    viewer: Viewer,
    /// The last event that it was told of.
    told: u64,
    /// What the last view came to, and how often that has been so.
    last: (u64, u32),
    _permit: OwnedSemaphorePermit,
}

/// Answers with a stream of views.
pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(streaming): Extension<Streaming>,
    Parameters(asked): Parameters<Asked>,
) -> Response {
    let Ok(permit) = Arc::clone(&shared.viewers).try_acquire_owned() else {
        shared.sources.telemetry.page_refused(PageRefusal::Viewers);
        return PageRefusal::Viewers.into_response();
    };
    streaming.begin();
    let query = asked.query(LIMIT_DEFAULT, PAGE_LIMIT_MAX);
    let viewer = shared.sources.live.viewer();
    let listener = Listener { shared, query, viewer, told: 0, last: (0, 0), _permit: permit };
    let views = stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    Sse::new(views).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

impl Listener {
    /// The next view that says something new.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let picture = self.viewer.next().await?;
            let text = serde_json::to_string(&self.view(&picture)).ok()?;
            let sum = sum(&text);
            let (before, unchanged) = self.last;
            if sum == before && unchanged < UNCHANGED_MAX {
                self.last.1 += 1;
                continue;
            }
            self.last = (sum, 0);
            self.told = picture.happenings.last().map_or(self.told, |last| last.number);
            return Some(Event::default().event("view").data(text));
        }
    }

    fn view<'a>(&self, picture: &'a Picture) -> View<'a> {
        let news = picture.happenings.iter().rev().take_while(|happening| happening.number > self.told);
        let news = news.filter(|happening| self.query.wants_event(happening)).take(EVENTS_MAX);
        let mut events: Vec<Told<'a>> = news.map(Told::new).collect();
        events.reverse();
        View {
            answer: Answer::new(picture, &self.query),
            nodes: picture
                .nodes
                .iter()
                .map(|node| Node {
                    name: &node.node,
                    sessions: node.sessions,
                    connections: node.connections,
                    last_event: rfc3339(self.shared.clock.at(node.last_event)),
                })
                .collect(),
            apps: picture.digest().apps.iter().map(|(name, sessions)| App { name, sessions: *sessions }).collect(),
            day: Day { midnight: rfc3339(picture.day.midnight()), step: STEP.as_secs(), sessions: &picture.day.curve },
            events,
            health: self.shared.pulse.health(),
        }
    }
}

/// What a view comes to, but for its time, which stands first.
fn sum(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.split_once(',').map_or(text, |(_time, rest)| rest).hash(&mut hasher);
    hasher.finish()
}
