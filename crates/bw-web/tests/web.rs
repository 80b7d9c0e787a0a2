//! The server as clients see it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse as _;
use bw_aggregate::{AggregateOptions, Aggregator, ScaleOptions, scale};
use bw_measure::{Event, Observer};
use bw_report::{BandwidthFile, Facts, Records, Round, Site};
use bw_results::{NetworkSnapshot, OutcomeSummary, ScanId, Verdict, testing};
use bw_watch::{Hub, Shared, attach};
use bw_web::Web;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A name that a relay would choose to get into pages.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\r\n\"'&</script><script>alert(2)</script>";
const SCAN: ScanId = ScanId::from_bytes([1; 16]);

/// Twelve relays: one with a hostile name, and two that are a family in Iceland.
fn network() -> NetworkSnapshot {
    let mut network = testing::snapshot(12, 0);
    HOSTILE.clone_into(&mut network.relays[3].nickname);
    for (one, other) in [(5, 6), (6, 5)] {
        let other = network.relays[other].fingerprint;
        network.relays[one].family = vec![other];
        network.relays[one].country = "IS".parse().ok();
    }
    network
}

/// The pages of twelve relays, each measured `times` times but the first.
fn site(times: u64) -> Site {
    let network = network();
    let options = AggregateOptions::default();
    let mut aggregator = Aggregator::new(options.clone(), &network);
    let start = network.valid_after.value();
    let outcomes: Vec<_> = (1..12)
        .flat_map(|relay| (0..times).map(move |time| (relay, time)))
        .map(|(relay, time)| testing::measured(relay, start + time * 86_400_000 + relay * 1000))
        .collect();
    for outcome in &outcomes {
        aggregator.add(OutcomeSummary::from(outcome));
    }
    let aggregates = Arc::new(aggregator.finish());
    let scaled = Arc::new(scale(&aggregates, &ScaleOptions::default()));
    let mut records = Records::new(Arc::clone(&aggregates), options);
    for outcome in &outcomes {
        records.add("east", SCAN, outcome, Verdict::default_of(outcome));
    }
    let (now, software) = (network.valid_after, "bwscan test".to_owned());
    let mut facts = Facts::new(now, software, Arc::new(network), aggregates, scaled);
    facts.rounds = vec![Round::new(SCAN, "east".to_owned(), now)];
    let line = b"1790000000\nnode_id=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA bw=5\n";
    facts.files = vec![BandwidthFile::new("latest.v3bw", line)];
    let mut site = Site::new(facts, records);
    site.add_live_page();
    site
}

/// A round that runs, with a relay that has a hostile name.
fn live(folder: &std::path::Path) -> (Hub, bw_watch::Listening, Shared) {
    let hub = Hub::new();
    let socket = folder.join("watch.sock");
    let listening = hub.listen(&socket).unwrap();
    hub.introduce("east", 1000);
    hub.observe(&Event::Started { targets: 7 });
    let mut attempt = testing::measured(1, 1_790_000_000_000).attempt().clone();
    HOSTILE.clone_into(&mut attempt.target.nickname);
    hub.observe(&Event::Attempt(&attempt));
    let bytes = 500;
    hub.observe(&Event::Progress {
        attempt: &attempt,
        bytes,
    });
    let shared = Shared::default();
    let followed = shared.clone();
    tokio::spawn(async move { attach(&socket, &followed).await });
    (hub, listening, shared)
}

async fn ask(web: &Web, request: Request<Body>) -> Response<Body> {
    web.router().oneshot(request).await.unwrap().into_response()
}

async fn get(web: &Web, path: &str) -> Response<Body> {
    ask(web, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A server whose round runs.
async fn running_web(folder: &std::path::Path) -> (Web, Hub, bw_watch::Listening) {
    let (hub, listening, shared) = live(folder);
    let arrived = async {
        while shared.look(|state, _| state.running.is_empty()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), arrived)
        .await
        .unwrap();
    (Web::new(site(3), shared), hub, listening)
}

#[tokio::test]
async fn each_documented_path_answers_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let (web, _hub, _listening) = running_web(folder.path()).await;
    let document: Value =
        serde_json::from_str(&text(get(&web, "/api/openapi.json").await).await).unwrap();
    let relay = testing::fingerprint(3);
    let unknown = "F".repeat(40);
    let mut seen = Vec::new();
    for (path, request, status) in [
        ("/api/status", "/api/status".to_owned(), "200"),
        ("/api/rounds", "/api/rounds".to_owned(), "200"),
        ("/api/relays", "/api/relays".to_owned(), "200"),
        (
            "/api/relays",
            "/api/relays?search=img&limit=5".to_owned(),
            "200",
        ),
        ("/api/relays", "/api/relays?limit=many".to_owned(), "400"),
        (
            "/api/relays/{fingerprint}",
            format!("/api/relays/{relay}"),
            "200",
        ),
        (
            "/api/relays/{fingerprint}",
            format!("/api/relays/{unknown}"),
            "404",
        ),
        (
            "/api/relays/{fingerprint}",
            "/api/relays/x".to_owned(),
            "400",
        ),
        ("/api/live", "/api/live".to_owned(), "200"),
        ("/events", "/events".to_owned(), "200"),
    ] {
        let response = get(&web, &request).await;
        assert_eq!(response.status().as_str(), status, "{request}");
        let documented = &document["paths"][path]["get"]["responses"][status]["content"];
        let (media_type, content) = documented.as_object().unwrap().iter().next().unwrap();
        let sent = response.headers()["content-type"].to_str().unwrap();
        assert_eq!(sent, media_type, "{request}");
        if media_type == "application/json" {
            let schema = json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "$ref": content["schema"]["$ref"],
                "components": document["components"],
            });
            let body: Value = serde_json::from_str(&text(response).await).unwrap();
            let validator = jsonschema::validator_for(&schema).unwrap();
            let errors: Vec<_> = validator
                .iter_errors(&body)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{request}: {errors:?}\n{body}");
        }
        seen.push(path);
    }
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(seen.contains(&path.as_str()), "{path} is not tried");
    }
}

/// The fingerprints of the relays that a query finds.
async fn found(web: &Web, name: &str, value: &str) -> Vec<String> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let query = query.append_pair(name, value).finish();
    let response = get(web, &format!("/api/relays?{query}")).await;
    assert_eq!(response.status(), StatusCode::OK, "{name}={value}");
    let answer: Value = serde_json::from_str(&text(response).await).unwrap();
    let relays = answer["relays"].as_array().unwrap().iter();
    let fingerprints = relays.filter_map(|relay| relay["fingerprint"].as_str());
    fingerprints.map(str::to_owned).collect()
}

#[tokio::test]
async fn relays_are_found_by_all_that_names_them() {
    let web = Web::new(site(1), Shared::default());
    let network = network();
    let relay = &network.relays[5];
    let fingerprint = relay.fingerprint.to_string();
    let searches = [
        relay.nickname.to_uppercase(),
        fingerprint[..10].to_lowercase(),
        relay.address.unwrap().to_string(),
        relay.ed25519.unwrap().to_string(),
        relay.country.unwrap().to_string().to_lowercase(),
    ];
    for search in &searches {
        let relays = found(&web, "search", search).await;
        assert!(relays.contains(&fingerprint), "{search}: {relays:?}");
    }
    assert_eq!(found(&web, "search", "no such relay").await, [""; 0]);
    let family = found(&web, "family", &fingerprint).await;
    assert_eq!(family.len(), 2, "{family:?}");
    assert!(family.contains(&fingerprint));
    assert_eq!(found(&web, "family", &"F".repeat(40)).await, [""; 0]);
}

#[tokio::test]
async fn every_page_is_served_with_its_policy_and_known_by_its_tag() {
    let web = Web::new(site(2), Shared::default());
    for address in site(2).addresses() {
        let path = format!("/{}", address.path());
        let response = get(&web, &path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let headers = response.headers().clone();
        assert_eq!(headers["content-type"], address.media_type(), "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let again = Request::get(&path).header("if-none-match", &headers["etag"]);
        let response = ask(&web, again.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{path}");
        assert_eq!(text(response).await, "");
    }
    let first = get(&web, "/").await.headers()["etag"].clone();
    web.publish(site(3));
    assert_ne!(get(&web, "/").await.headers()["etag"], first);
}

#[tokio::test]
async fn nothing_is_written_and_nothing_else_is_read() {
    let web = Web::new(site(1), Shared::default());
    for method in ["POST", "PUT", "DELETE"] {
        let request = Request::builder()
            .method(method)
            .uri("/")
            .body(Body::empty());
        let response = ask(&web, request.unwrap()).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    for path in [
        "/../Cargo.toml",
        "/relay/../../etc/passwd",
        "/%2e%2e/x",
        "/x",
    ] {
        assert_eq!(
            get(&web, path).await.status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_hostile_name_stays_text_on_the_live_page_and_in_its_events() {
    let folder = tempfile::tempdir().unwrap();
    let (web, _hub, _listening) = running_web(folder.path()).await;
    let page = text(get(&web, "/live.html").await).await;
    assert!(page.contains("&lt;img src=x"), "{page}");
    assert!(!page.contains("<img src=x"), "{page}");
    let mut events = get(&web, "/events").await.into_body();
    let event = events.frame().await.unwrap().unwrap().into_data().unwrap();
    let event = String::from_utf8(event.to_vec()).unwrap();
    assert!(event.starts_with("event: live\ndata: <h1>"), "{event}");
    assert!(
        event.contains("&lt;img src=x") && !event.contains("<img"),
        "{event}"
    );
}

#[tokio::test]
async fn those_who_watch_are_limited() {
    let web = Web::new(site(1), Shared::default());
    let mut watchers = Vec::new();
    for _ in 0..64 {
        let response = get(&web, "/events").await;
        assert_eq!(response.status(), StatusCode::OK);
        watchers.push(response);
    }
    let busy = get(&web, "/events").await;
    assert_eq!(busy.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(busy.headers()["retry-after"], "30");
    watchers.pop();
    assert_eq!(get(&web, "/events").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let web = Web::new(site(1), Shared::default());
    let stop = CancellationToken::new();
    let (server, stopped) = (web.clone(), stop.clone());
    let serving = tokio::spawn(async move { server.serve(listener, &stopped).await });
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 431"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    stop.cancel();
    serving.await.unwrap();
}
