//! Each address and what it answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query as Parameters, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::answer::Answer;
use super::guard::{Guard, guard};
use super::server::Pulse;
use super::{Config, PageClock, Sources, query, status, stream};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const ICON: &str = include_str!("page/icon.svg");

/// How many pages may listen at the same time.
const VIEWERS_MAX: usize = 16;

/// Sessions in an answer that does not say how many it wants.
const LIMIT_DEFAULT: usize = 1000;

/// How long the core may take for a picture.
const PICTURE_PATIENCE: Duration = Duration::from_secs(8);

/// What every address needs.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sources: Arc<Sources>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) clock: PageClock,
    /// One permit for each page that may listen.
    pub(super) viewers: Arc<Semaphore>,
}

/// All addresses, behind the guard.
pub(super) fn router(config: &Config, sources: Arc<Sources>, pulse: Arc<Pulse>) -> Router {
    let guarding = Guard::new(config, sources.telemetry.clone());
    let shared = Shared { sources, pulse, clock: config.clock, viewers: Arc::new(Semaphore::new(VIEWERS_MAX)) };
    Router::new()
        .route("/", get(|| fixed("text/html; charset=utf-8", PAGE)))
        .route("/page.css", get(|| fixed("text/css; charset=utf-8", STYLE)))
        .route("/page.js", get(|| fixed("text/javascript; charset=utf-8", SCRIPT)))
        .route("/icon.svg", get(|| fixed("image/svg+xml", ICON)))
        .route("/api/sessions", get(sessions))
        .route("/api/events", get(stream::events))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .fallback(|| async { (StatusCode::NOT_FOUND, "There is nothing here. The page is at /.\n") })
        .with_state(Arc::new(shared))
        .layer(middleware::from_fn_with_state(guarding, guard))
}

async fn fixed(kind: &'static str, text: &'static str) -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, kind)], text)
}

async fn sessions(State(shared): State<Arc<Shared>>, Parameters(asked): Parameters<query::Asked>) -> Response {
    let query = asked.query(LIMIT_DEFAULT, query::LIMIT_MAX);
    let mut viewer = shared.sources.live.viewer();
    match tokio::time::timeout(PICTURE_PATIENCE, viewer.next()).await {
        Ok(Some(picture)) => json(StatusCode::OK, &Answer::new(&picture, &query)),
        Ok(None) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "The core does not answer.\n").into_response(),
    }
}

async fn status(State(shared): State<Arc<Shared>>, Parameters(asked): Parameters<status::Asked>) -> Response {
    match shared.pulse.status(&asked) {
        Some((code, answer)) => json(code, &answer),
        None => (StatusCode::NOT_FOUND, "There is no such pipeline: logs, traces or metrics.\n").into_response(),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.sources.scrape.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn json(code: StatusCode, answer: &impl Serialize) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    match serde_json::to_vec(answer) {
        Ok(body) => (code, headers, body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
