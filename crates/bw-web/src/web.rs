//! The web server.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, State as Of};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bw_report::Site;
use bw_watch::Shared;
use futures::stream::unfold;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutLayer;

use crate::answer::{Answer, HTML, JSON, error};
use crate::api::{self, OPENAPI, RelaysQuery};
use crate::pages::Pages;
use crate::{live, serve};

/// The longest time for an answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Clients that watch the running round at a time.
const WATCHERS: usize = 64;
/// The time between two pictures of the running round.
const PICTURE: Duration = Duration::from_secs(1);
/// Nothing but this site's own files, in no other site's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A web server of a report and of the running round; it only reads. Clones are the same
/// server.
#[derive(Clone)]
pub struct Web(Arc<Inner>);

struct Inner {
    pages: RwLock<Arc<Pages>>,
    live: Shared,
    watchers: Arc<Semaphore>,
    openapi: Answer,
    script: Answer,
}

impl Web {
    /// Serves `site`, and the round that `live` follows.
    pub fn new(site: Site, live: Shared) -> Self {
        Self(Arc::new(Inner {
            pages: RwLock::new(Arc::new(Pages::new(site))),
            live,
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            openapi: Answer::new(JSON, OPENAPI),
            script: Answer::new("text/javascript; charset=utf-8", live::SCRIPT),
        }))
    }

    /// Serves `site` from now on. It makes pages for some 100 ms: call it where that holds
    /// nobody up.
    pub fn publish(&self, site: Site) {
        let pages = Arc::new(Pages::new(site));
        let mut current = self.0.pages.write().unwrap_or_else(PoisonError::into_inner);
        *current = pages;
    }

    /// Answers requests until `stop` is called.
    pub async fn serve(&self, listener: TcpListener, stop: &CancellationToken) {
        serve::serve(listener, self.router(), stop).await;
    }

    /// The paths and their answers, for a caller with a server of its own.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(overview))
            // Browsers ask for it, whatever a page says.
            .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
            .route("/live.html", get(live_page))
            .route("/live.js", get(live_script))
            .route("/api/openapi.json", get(openapi))
            .route("/api/status", get(status))
            .route("/api/rounds", get(rounds))
            .route("/api/relays", get(relays))
            .route("/api/relays/{fingerprint}", get(relay))
            .route("/api/live", get(live_json))
            .route("/{*path}", get(page))
            .layer(TimeoutLayer::with_status_code(
                StatusCode::SERVICE_UNAVAILABLE,
                LIMIT,
            ))
            // It lasts, and has its own limits.
            .route("/events", get(events))
            .layer(axum::middleware::map_response(with_policy))
            .with_state(self.clone())
    }

    fn pages(&self) -> Arc<Pages> {
        let pages = self.0.pages.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&pages)
    }

    fn live_main(&self) -> String {
        // An event of a server has no carriage returns.
        self.0.live.look(live::main).replace('\r', " ")
    }
}

async fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn overview(Of(web): Of<Web>, request: HeaderMap) -> Response {
    answer_page(&web, "index.html", &request)
}

async fn page(Of(web): Of<Web>, Path(path): Path<String>, request: HeaderMap) -> Response {
    answer_page(&web, &path, &request)
}

fn answer_page(web: &Web, path: &str, request: &HeaderMap) -> Response {
    match web.pages().page(path) {
        Some(answer) => answer.to(request),
        None => error(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

async fn live_page(Of(web): Of<Web>, request: HeaderMap) -> Response {
    let main = web.live_main();
    let page = web.pages().framed("Live", "live.html", &main, "live.js");
    Answer::new(HTML, page).to(&request)
}

async fn live_script(Of(web): Of<Web>, request: HeaderMap) -> Response {
    web.0.script.to(&request)
}

async fn openapi(Of(web): Of<Web>, request: HeaderMap) -> Response {
    web.0.openapi.to(&request)
}

async fn status(Of(web): Of<Web>, request: HeaderMap) -> Response {
    web.pages().status.to(&request)
}

async fn rounds(Of(web): Of<Web>, request: HeaderMap) -> Response {
    web.pages().rounds.to(&request)
}

async fn relays(Of(web): Of<Web>, RawQuery(query): RawQuery, request: HeaderMap) -> Response {
    match RelaysQuery::parse(query.as_deref().unwrap_or_default()) {
        Ok(query) => web.pages().relays(&query).to(&request),
        Err(text) => error(StatusCode::BAD_REQUEST, &text),
    }
}

async fn relay(Of(web): Of<Web>, Path(relay): Path<String>, request: HeaderMap) -> Response {
    match api::fingerprint(&relay).map(|relay| web.pages().relay(&relay)) {
        Ok(Some(answer)) => answer.to(&request),
        Ok(None) => error(StatusCode::NOT_FOUND, "there is no such relay"),
        Err(text) => error(StatusCode::BAD_REQUEST, text),
    }
}

async fn live_json(Of(web): Of<Web>, request: HeaderMap) -> Response {
    let state = web.0.live.look(live::json);
    Answer::json(&state).to(&request)
}

/// The content of the live page, each second.
async fn events(Of(web): Of<Web>) -> Response {
    let Ok(seat) = Arc::clone(&web.0.watchers).try_acquire_owned() else {
        let text = "too many watch; try again later";
        let busy = error(StatusCode::SERVICE_UNAVAILABLE, text);
        return ([(RETRY_AFTER, "30")], busy).into_response();
    };
    let ticks = tokio::time::interval(PICTURE);
    let stream = unfold((web, ticks, seat), |(web, mut ticks, seat)| async move {
        ticks.tick().await;
        let event = Event::default().event("live").data(web.live_main());
        Some((Ok::<_, Infallible>(event), (web, ticks, seat)))
    });
    Sse::new(stream).into_response()
}
