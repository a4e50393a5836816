//! Replies that are kept: what clients get instead of a new one, and when it is let go of.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{Bus, Ctx, HttpReply, HttpRequest, Problem, Request, Service, State, contract, wire::Headers};
use sinew_edge as edge;
use tokio::sync::Semaphore;

use super::{
    client::{Client, Reply},
    connect, local,
};
use crate::harness::{Harness, SOON, eventually};

contract! {
    News = "news" @ "1.0.0" { read: Read, raw: Raw, slow: Slow }
}

/// Answers with how often anything was asked.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "news.read", reply = u64, idempotent, http = "GET /news/{id}")]
struct Read {
    id: String,
}

/// Answers as field `x-reply` of the request says.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "news.raw", reply = HttpReply, error = NewsError)]
struct Raw {
    #[serde(flatten)]
    request: HttpRequest,
}

/// Answers when the gate opens.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "news.slow", reply = u64, idempotent, http = "GET /slow")]
struct Slow {}

#[derive(Debug, Problem)]
enum NewsError {
    /// nothing is known today
    #[problem(status = 503)]
    Closed,
}

#[derive(Clone)]
struct Desk {
    asked: Arc<AtomicU64>,
    gate: Arc<Semaphore>,
    entered: Arc<Semaphore>,
}

impl Desk {
    fn count(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst) + 1
    }
}

async fn read(request: Read, State(desk): State<Desk>, ctx: Ctx) -> Result<u64, Problem> {
    ctx.reply_cache_control("max-age=1000");
    ctx.reply_cache_tags(format!("news news:{}", request.id));
    Ok(desk.count())
}

async fn raw(request: Raw, State(desk): State<Desk>) -> Result<HttpReply, NewsError> {
    let request = request.request;
    let count = desk.count();
    let wish: Value =
        request.header("x-reply").map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default();
    if wish["fails"] == true {
        return Err(NewsError::Closed);
    }
    if request.header("if-none-match").is_some_and(|tag| wish["etag"] == tag) {
        return Ok(HttpReply::new(304)
            .with("etag", wish["etag"].as_str().unwrap())
            .with("x-count", count.to_string()));
    }
    let reply = HttpReply::new(wish["status"].as_u64().unwrap_or(200) as u16)
        .body(format!("{} {count}", request.method));
    let fields = wish.as_object().into_iter().flatten().filter(|(_, value)| value.is_string());
    Ok(fields.fold(reply.with("content-type", "text/plain"), |reply, (name, value)| {
        reply.with(name, value.as_str().unwrap())
    }))
}

async fn slow(_: Slow, State(desk): State<Desk>, ctx: Ctx) -> Result<u64, Problem> {
    ctx.reply_cache_control("max-age=1000");
    desk.entered.add_permits(1);
    desk.gate.acquire().await.unwrap().forget();
    Ok(desk.count())
}

/// A server, the desk and edges in front of it.
struct System {
    harness: Harness,
    desk: Desk,
    bus: Bus,
    edge: edge::Running,
    client: Client,
    _running: sinew::Running,
}

impl System {
    async fn start(cache: Value) -> Self {
        let harness = Harness::start().await;
        let (asked, gate, entered) =
            (Arc::default(), Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let desk = Desk { asked, gate, entered };
        let bus = connect(&harness, "news").await;
        let service = Service::new("news", desk.clone());
        let running =
            service.serve(News, |news| news.read(read).raw(raw).slow(slow)).start(&bus).await.unwrap();
        let edge = edge::start(config(&cache), connect(&harness, "edge").await).await.unwrap();
        let client = Client::new(edge.local_addr());
        Self { harness, desk, bus, edge, client, _running: running }
    }

    /// Asks the path whose replies are as `wish` says.
    async fn raw(&self, wish: &Value, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", wish, headers).await
    }

    async fn send(&self, method: &str, wish: &Value, headers: &[(&str, &str)]) -> Reply {
        let wish = wish.to_string();
        let headers: Vec<(&str, &str)> =
            headers.iter().copied().chain([("x-reply", wish.as_str())]).collect();
        self.client.send(method, "/raw/a", &headers, "").await
    }
}

fn config(cache: &Value) -> edge::Config {
    let raw = |method: &str| json!({ "match": { "method": method, "path": "/raw/{id}" }, "to": { "forward": "news.raw" } });
    let routes = ["GET", "POST", "DELETE"].map(raw);
    let config = json!({ "policies": { "cache": cache }, "routes": routes });
    local(edge::Config::read(&config).unwrap())
}

fn text(reply: &Reply) -> &str {
    std::str::from_utf8(&reply.body).unwrap()
}

fn told(reply: &Reply) -> &str {
    reply.header("cache-status").unwrap_or_default()
}

#[tokio::test]
async fn a_reply_is_kept_as_long_as_it_says_and_no_service_is_asked_meanwhile() {
    let system = System::start(json!({})).await;
    let first = system.client.get("/news/7").await;
    assert_eq!(
        (first.status, first.json(), first.header("cache-control")),
        (200, json!(1), Some("max-age=1000"))
    );
    assert_eq!(told(&first), "sinew; fwd=miss; fwd-status=200; stored");
    let again = system.client.get("/news/7").await;
    assert_eq!(
        (again.json(), again.headers["age"].to_str().unwrap().parse::<u64>().is_ok()),
        (json!(1), true)
    );
    assert!(told(&again).starts_with("sinew; hit; ttl="), "{}", told(&again));
    assert_eq!(again.header("cache-tag"), None, "that is between service and cache");
    let head = system.client.send("HEAD", "/news/7", &[], "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("1"), 0));
    assert_eq!(system.client.get("/news/8").await.json(), 2);
    let packed = system.client.send("GET", "/news/7", &[("accept", "application/msgpack")], "").await;
    assert_eq!(
        (packed.body.as_ref(), packed.header("content-type")),
        (&[3][..], Some("application/msgpack"))
    );
}

#[tokio::test]
async fn nothing_is_kept_that_does_not_say_so() {
    let system = System::start(json!({})).await;
    for wish in [
        json!({}),
        json!({ "cache-control": "no-store, max-age=100" }),
        json!({ "cache-control": "private, max-age=100" }),
        json!({ "cache-control": "max-age=100", "vary": "*" }),
        json!({ "cache-control": "max-age=100", "age": "nonsense" }),
    ] {
        let first = system.raw(&wish, &[]).await;
        assert_ne!(text(&first), text(&system.raw(&wish, &[]).await), "{wish}");
    }
}

#[tokio::test]
async fn who_says_who_it_is_gets_only_what_may_be_shared() {
    let system = System::start(json!({})).await;
    let (own, shared) =
        (json!({ "cache-control": "max-age=100" }), json!({ "cache-control": "public, max-age=100" }));
    let ann = [("authorization", "ann")];
    let everybody = system.raw(&own, &[]).await;
    assert_ne!(text(&system.raw(&own, &ann).await), text(&everybody), "it may be another one for ann");
    assert_eq!(text(&system.raw(&own, &[]).await), text(&everybody), "and hers is not kept for others");
    system.send("DELETE", &json!({}), &[]).await;
    let hers = system.raw(&shared, &ann).await;
    assert_eq!(text(&system.raw(&shared, &[("cookie", "bob")]).await), text(&hers));
}

#[tokio::test]
async fn every_consumer_has_replies_of_its_own_where_the_route_says_so() {
    let system = System::start(json!({ "per": "consumer" })).await;
    let wish = json!({ "cache-control": "max-age=100" });
    let (ann, bob) = ([("authorization", "ann")], [("authorization", "bob")]);
    let hers = system.raw(&wish, &ann).await;
    assert_eq!(text(&system.raw(&wish, &ann).await), text(&hers));
    let his = system.raw(&wish, &bob).await;
    assert_ne!(text(&his), text(&hers));
    assert_eq!(text(&system.raw(&wish, &bob).await), text(&his));
}

#[tokio::test]
async fn a_reply_that_has_to_be_confirmed_is_confirmed_and_not_sent_again() {
    let system = System::start(json!({})).await;
    let wish = json!({ "cache-control": "no-cache", "etag": "\"one\"" });
    let first = system.raw(&wish, &[]).await;
    let second = system.raw(&wish, &[]).await;
    assert_eq!((text(&second), second.header("x-count")), (text(&first), Some("2")));
    assert_eq!(told(&second), "sinew; fwd=stale; fwd-status=304; stored");
    let known = system.raw(&wish, &[("if-none-match", "\"one\"")]).await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let changed = system.raw(&json!({ "cache-control": "no-cache", "etag": "\"two\"" }), &[]).await;
    assert_ne!(text(&changed), text(&first));
}

#[tokio::test]
async fn clients_may_ask_for_a_new_one_or_for_none() {
    let system = System::start(json!({})).await;
    let wish = json!({ "cache-control": "max-age=100" });
    system.raw(&wish, &[("cache-control", "only-if-cached")]).await.problem(504, "not-cached");
    let first = system.raw(&wish, &[]).await;
    let kept = system.raw(&wish, &[("cache-control", "only-if-cached")]).await;
    assert_eq!(text(&kept), text(&first));
    let part = system.raw(&wish, &[("range", "bytes=0-2")]).await;
    assert_eq!((part.status, text(&part), part.header("content-range")), (206, "GET", Some("bytes 0-2/5")));
    let new = system.raw(&wish, &[("cache-control", "no-cache")]).await;
    assert_eq!((text(&new), told(&new)), ("GET 2", "sinew; fwd=request; fwd-status=200; stored"));
}

#[tokio::test]
async fn a_failure_is_covered_by_what_is_kept_where_the_reply_lets_it() {
    let system = System::start(json!({})).await;
    let lax = json!({ "cache-control": "max-age=0, stale-if-error=1000", "etag": "\"a\"" });
    let fails = json!({ "fails": true });
    let first = system.raw(&lax, &[]).await;
    let covered = system.raw(&fails, &[]).await;
    assert_eq!((covered.status, text(&covered)), (200, text(&first)));
    assert!(told(&covered).ends_with("detail=stale-if-error"), "{}", told(&covered));
    system
        .raw(
            &json!({ "cache-control": "max-age=0, must-revalidate, stale-if-error=1000", "etag": "\"b\"" }),
            &[],
        )
        .await;
    system.raw(&fails, &[]).await.problem(503, "closed");
}

#[tokio::test]
async fn what_is_stale_is_used_while_one_request_asks_anew() {
    let system = System::start(json!({})).await;
    let wish = json!({ "cache-control": "max-age=0, stale-while-revalidate=1000", "etag": "\"a\"" });
    let first = system.raw(&wish, &[]).await;
    let newer = json!({ "cache-control": "max-age=1000", "etag": "\"b\"" });
    let stale = system.raw(&newer, &[]).await;
    assert_eq!(text(&stale), text(&first));
    eventually(SOON, || async { text(&system.raw(&newer, &[]).await) != text(&first) }).await;
}

#[tokio::test]
async fn many_who_want_what_is_not_there_wait_for_one() {
    let system = System::start(json!({})).await;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let client = system.client.clone();
            tokio::spawn(async move { client.get("/slow").await })
        })
        .collect();
    system.desk.entered.acquire().await.unwrap().forget();
    // Far more than one would need: were others let through, they would count.
    system.desk.gate.add_permits(8);
    for client in clients {
        assert_eq!(client.await.unwrap().json(), 1);
    }
}

#[tokio::test]
async fn a_change_lets_go_of_its_path_and_of_where_it_points_to() {
    let system = System::start(json!({})).await;
    let wish = json!({ "cache-control": "max-age=100" });
    let first = system.raw(&wish, &[]).await;
    let failed = system.send("POST", &json!({ "status": 200, "fails": true }), &[]).await;
    assert_eq!(failed.status, 503);
    assert_eq!(text(&system.raw(&wish, &[]).await), text(&first), "nothing was changed");
    system.send("POST", &json!({}), &[]).await;
    let second = system.raw(&wish, &[]).await;
    assert_ne!(text(&second), text(&first));
    let elsewhere = [("x-reply", r#"{"location":"/raw/a"}"#)];
    system.client.send("POST", "/raw/b", &elsewhere, "").await;
    assert_ne!(text(&system.raw(&wish, &[]).await), text(&second));
}

#[tokio::test]
async fn an_event_lets_go_of_what_it_is_about_on_every_edge() {
    let cache = json!({ "tags": ["all"], "invalidate_on": [
        { "event": "news.changed", "tags": ["news:{/id}"] }, "news.wiped",
    ] });
    let system = System::start(cache.clone()).await;
    let other = edge::start(config(&cache), connect(&system.harness, "other").await).await.unwrap();
    let clients = [system.client.clone(), Client::new(other.local_addr())];
    for client in &clients {
        let (seven, eight) = (client.get("/news/7").await.json(), client.get("/news/8").await.json());
        assert_eq!(client.post("/events/news/changed", &json!({ "id": "7" })).await.status, 202);
        eventually(SOON, || async { client.get("/news/7").await.json() != seven }).await;
        assert_eq!(client.get("/news/8").await.json(), eight);
        assert_eq!(client.post("/events/news/wiped", &json!({})).await.status, 202);
        eventually(SOON, || async { client.get("/news/8").await.json() != eight }).await;
    }
    other.drain().await;
}

#[tokio::test]
async fn a_purge_by_tag_path_or_all_reaches_every_edge_and_says_how_much_it_was() {
    let system = System::start(json!({})).await;
    let first = system.client.get("/news/7").await.json();
    for purge in [json!({ "tags": ["news:7"] }), json!({ "paths": ["/news/7"] }), json!({ "all": true })] {
        let kept = system.client.get("/news/7").await.json();
        let payload = purge.to_string().into();
        let answer = system.bus.request(edge::PURGE, &Headers::new(), payload, SOON).await.unwrap();
        let answer: Value = serde_json::from_slice(answer.payload()).unwrap();
        assert_eq!(answer["purged"], 1, "{purge}");
        assert_ne!(system.client.get("/news/7").await.json(), kept, "{purge}");
    }
    assert_eq!(first, 1);
    assert!(system.edge.overview().routes.iter().any(|route| route.to == "news.raw, as it is"));
}

#[tokio::test]
async fn what_is_kept_outlives_a_reload_and_a_route_without_the_policy_keeps_nothing() {
    let system = System::start(json!({})).await;
    let kept = system.client.get("/news/7").await.json();
    system.edge.reloader().reload(config(&json!({ "fresh_ms": 10 }))).await.unwrap();
    assert_eq!(system.client.get("/news/7").await.json(), kept);
    system.edge.reloader().reload(local(edge::Config::default())).await.unwrap();
    assert_ne!(system.client.get("/news/7").await.json(), kept);
}

#[test]
fn every_mistake_in_what_is_to_be_kept_is_told_at_once() {
    let cache = json!({ "statuses": [206], "max_entry_bytes": 0, "key": [{ "header": "a b" }], "tags": ["a{"],
        "query": { "only": ["a"], "without": ["b"] }, "invalidate_on": ["Nothing", { "event": "a.b", "tags": ["{"] }] });
    let mistakes = edge::Config::read(&json!({ "policies": { "cache": cache } })).unwrap_err();
    let found: Vec<&str> = mistakes.iter().map(|mistake| mistake.pointer.as_str()).collect();
    let below = [
        "statuses/0",
        "max_entry_bytes",
        "key/0",
        "query",
        "tags/0",
        "invalidate_on/0",
        "invalidate_on/1/tags",
    ];
    assert_eq!(found, below.map(|name| format!("/policies/cache/{name}")));
}
