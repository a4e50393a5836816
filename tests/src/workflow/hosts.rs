//! The hosts that the official documents name, as stand-ins: a pet store, a login, characters of a film, and whoever
//! else only has to say yes.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use data_encoding::BASE64;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::{HttpsStub, Seen, json as answer};

/// Names the stub answers for, encrypted.
const HOSTS: [&str; 13] = [
    "raw.githubusercontent.com",
    "auth.example.com",
    "external-service.example.com",
    "petstore.swagger.io",
    "httpbin.org",
    "swapi.dev",
    "fake-hospital.com",
    "fake.com",
    "superbet-casinos.com",
    "virtual-wf-powered-race.com",
    "example.com",
    "hospital.example.com",
    "fake-chat-api.com",
];

/// Names that are asked without encryption.
const PLAIN_HOSTS: [&str; 2] = ["keycloak", "myorg.io"];

/// A function of a catalogue.
const LOG: &str = "
input: { schema: { document: { type: object, required: [message] } } }
set: { logged: '${ .message }' }
";

/// The stand-ins for all of them; they end when this is dropped.
pub(super) struct Hosts {
    encrypted: HttpsStub,
    plain: SocketAddr,
    /// Whether channels are described as AsyncAPI 2 has it.
    version_2: Arc<AtomicBool>,
    _stop: DropGuard,
}

/// Starts them.
pub(super) async fn start() -> Hosts {
    let version_2 = Arc::new(AtomicBool::new(false));
    let described = version_2.clone();
    let encrypted = HttpsStub::start(&HOSTS, move |seen| match seen.path.as_str() {
        "/docs/asyncapi.json" => answer(200, &channels(described.load(Ordering::Relaxed))),
        _ => respond(seen),
    });
    let encrypted = encrypted.await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (plain, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    tokio::spawn(stop.clone().run_until_cancelled_owned(serve(listener)));
    Hosts { encrypted, plain, version_2, _stop: stop.drop_guard() }
}

/// An authentication policy that a secret may hold: whoever has it gets a token from one of the hosts.
pub(super) fn policy() -> Value {
    json!({
        "authority": "https://auth.example.com",
        "grant": "client_credentials",
        "client": { "id": "runtime", "secret": "hunter2" },
    })
}

impl Hosts {
    /// Returns the certificate to trust, in PEM.
    pub(super) fn authority(&self) -> String {
        self.encrypted.authority().to_owned()
    }

    /// Says how channels are described from now on.
    pub(super) fn describe_in_version_2(&self, yes: bool) {
        self.version_2.store(yes, Ordering::Relaxed);
    }

    /// Returns where the hosts are.
    pub(super) fn resolve(&self) -> BTreeMap<String, SocketAddr> {
        let plain = PLAIN_HOSTS.iter().map(|host| (format!("{host}:80"), self.plain));
        self.encrypted.resolve().into_iter().chain(plain).collect()
    }
}

/// Answers without encryption, one connection after another in tasks that end with this one.
async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(async move {
            let service = service_fn(async |request: Request<Incoming>| {
                let host = request.headers().get("host").and_then(|host| host.to_str().ok());
                let host = host.and_then(|host| host.split(':').next()).unwrap_or_default().to_owned();
                let seen = Seen {
                    method: request.method().to_string(),
                    host,
                    path: request.uri().path().to_owned(),
                    query: request.uri().query().unwrap_or_default().to_owned(),
                    headers: BTreeMap::new(),
                    body: Bytes::new(),
                };
                Ok::<_, Infallible>(respond(&seen))
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn respond(seen: &Seen) -> Response<Full<Bytes>> {
    match seen.host.as_str() {
        "petstore.swagger.io" => pets(seen),
        "httpbin.org" => login(seen),
        "swapi.dev" => characters(seen),
        "auth.example.com" | "keycloak" => tokens(seen),
        "myorg.io" => orders(seen),
        "raw.githubusercontent.com" => Response::new(Full::from(LOG)),
        "external-service.example.com" => answer(503, &json!({})),
        _ => answer(200, &json!({ "host": seen.host, "path": seen.path, "body": seen.json() })),
    }
}

fn pets(seen: &Seen) -> Response<Full<Bytes>> {
    let pet = |id: u64| json!({ "id": id, "name": "Rex", "status": "available" });
    let path = seen.path.strip_prefix("/v2/").unwrap_or_default();
    match (seen.method.as_str(), path) {
        ("GET", "swagger.json") => answer(200, &swagger()),
        ("GET", "pet/findByStatus") if seen.query == "status=available" => {
            answer(200, &json!([pet(1), pet(2)]))
        }
        ("PUT", _) => answer(200, &seen.json()),
        ("GET", path) => match path.strip_prefix("pet/").and_then(|id| id.parse().ok()) {
            Some(id) => answer(200, &pet(id)),
            None => answer(404, &json!({ "code": 1, "type": "error", "message": "Pet not found" })),
        },
        _ => answer(405, &json!({})),
    }
}

/// Lets in whoever brings the name and password that the path asks for.
fn login(seen: &Seen) -> Response<Full<Bytes>> {
    let wanted = seen.path.strip_prefix("/basic-auth/").and_then(|path| path.split_once('/'));
    let given = seen.headers.get("authorization").and_then(|header| header.strip_prefix("Basic "));
    let fits = wanted.zip(given).is_some_and(|((name, password), given)| {
        given == BASE64.encode(format!("{name}:{password}").as_bytes())
    });
    if fits { answer(200, &json!({ "authenticated": true })) } else { answer(401, &json!({})) }
}

fn characters(seen: &Seen) -> Response<Full<Bytes>> {
    match seen.path.as_str() {
        "/api/people/" => answer(200, &json!({ "count": 1, "search": seen.query })),
        "/api/people/1" => {
            answer(200, &json!({ "name": "Luke", "homeworld": "https://swapi.dev/api/planets/1/" }))
        }
        "/api/planets/1/" => answer(200, &json!({ "name": "Tatooine" })),
        _ => answer(404, &json!({})),
    }
}

/// An authority for OAuth 2 and OpenID Connect: everybody gets a token.
fn tokens(seen: &Seen) -> Response<Full<Bytes>> {
    if seen.path.ends_with("/.well-known/openid-configuration") {
        let scheme = if seen.host == "keycloak" { "http" } else { "https" };
        let authority =
            format!("{scheme}://{}{}", seen.host, seen.path.replace("/.well-known/openid-configuration", ""));
        return answer(200, &json!({ "issuer": authority, "token_endpoint": format!("{authority}/token") }));
    }
    answer(200, &json!({ "access_token": "t", "token_type": "Bearer", "expires_in": 60 }))
}

fn orders(seen: &Seen) -> Response<Full<Bytes>> {
    if seen.path != "/ordersservices.json" {
        return answer(200, &json!({ "path": seen.path }));
    }
    let operation =
        |id: &str| json!({ "post": { "operationId": id, "responses": { "200": { "description": "ok" } } } });
    let paths = json!({ "/log": operation("logreading"), "/report": operation("produceReport") });
    let servers = json!([{ "url": "http://myorg.io" }]);
    let info = json!({ "title": "orders", "version": "1" });
    answer(200, &json!({ "openapi": "3.0.0", "info": info, "servers": servers, "paths": paths }))
}

/// A description of an operation that sends messages over HTTP, and of one that notifies, over WebSocket or as events.
fn channels(version_2: bool) -> Value {
    let info = json!({ "title": "pets", "version": "1" });
    if version_2 {
        let notifications = json!({ "subscribe": { "operationId": "getNotifications" } });
        return json!({
            "asyncapi": "2.6.0",
            "info": info,
            "servers": { "feed": { "url": "http://feed.fake.com", "protocol": "http" } },
            "channels": { "/notifications": notifications },
        });
    }
    let reference = |name: &str| json!({ "$ref": format!("#/channels/{name}") });
    let servers = json!([{ "$ref": "#/servers/feed" }, { "$ref": "#/servers/socket" }]);
    json!({
        "asyncapi": "3.0.0",
        "info": info,
        "servers": {
            "staging": { "host": "fake.com", "protocol": "https" },
            "feed": { "host": "feed.fake.com", "protocol": "http" },
            "socket": { "host": "socket.fake.com", "protocol": "ws" },
        },
        "channels": {
            "pets": { "address": "/pets" },
            "notifications": { "address": "/notifications", "servers": servers },
        },
        "operations": {
            "findPetsByStatus": { "action": "receive", "channel": reference("pets") },
            "getNotifications": { "action": "send", "channel": reference("notifications") },
        },
    })
}

/// As much of the store's description as the documents call.
fn swagger() -> Value {
    let parameter = |name: &str, place: &str, kind: &str| json!([{ "name": name, "in": place, "required": true, "type": kind }]);
    let operation = |id: &str, parameters: Value| json!({ "get": { "operationId": id, "parameters": parameters, "responses": { "200": { "description": "ok" } } } });
    json!({
        "swagger": "2.0",
        "info": { "title": "pets", "version": "1.0.0" },
        "host": "petstore.swagger.io",
        "basePath": "/v2",
        "schemes": ["https"],
        "paths": {
            "/pet/findByStatus": operation("findPetsByStatus", parameter("status", "query", "string")),
            "/pet/{petId}": operation("getPetById", parameter("petId", "path", "integer")),
        },
    })
}
