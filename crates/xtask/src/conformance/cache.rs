//! The tests for HTTP caches from cache-tests.fyi: their server behind a service, the edge that caches, their client in front.
//!
//! Their server says how the next answer is, their client asks and compares. Between them every request crosses the bus: the
//! edge hands it to an operation as it is, and that asks the server. Counted is as their own summary counts: a test passed,
//! or it did not, whatever its kind. What nobody means to pass stands in [`KNOWN`] with the reason.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{HttpReply, HttpRequest, Problem, Request, Service, State, contract};
use tokio::{net::TcpStream, process::Command};

use super::{
    Error, Outcome, catalogue,
    site::{Role, Site},
    tools,
};

/// How many have to pass.
const ASKED: usize = 280;
/// How long another cache may take until it listens.
const SOON: Duration = Duration::from_secs(20);
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "M-SEARCH"];

/// Tests that fail on purpose, or for want of something nobody missed yet, by what their names begin with.
const KNOWN: [(&str, &str); 18] = [
    ("age-parse-prefix", "an age that is not one number is not believed, whichever of two comes first"),
    ("conditional-etag-strong-respond-obs-text", "a tag that is not ascii is sent again instead of compared"),
    (
        "conditional-etag-vary-headers-mismatch",
        "another variant is asked for whole, not under the conditions of this one",
    ),
    ("conditional-etag", "a tag without quotes is none (RFC 9110, section 8.8.3), and is not mended"),
    ("conditional-lm-fresh-no-lm", "what came after the date a client names may have changed since"),
    ("freshness-expires-invalid-aest", "only Greenwich is a zone: a date in another one is over"),
    ("freshness-max-age-two-stale-fresh", "of two ages the first one counts (RFC 9111, section 4.2.1)"),
    ("freshness-max-age", "an age that is no whole number is stale (RFC 9111, section 4.2.1)"),
    ("head-200-retain", "what a HEAD leaves out is not added to its own answer"),
    ("head-410-update", "a failure of a HEAD says nothing of the fields of what is kept"),
    ("heuristic-delta", "a tenth of the time since the change is over before the test asks again"),
    ("method-POST", "replies to POST are not kept"),
    ("other-cookie", "who sends cookies gets only what says that it may be shared"),
    ("partial-store-partial", "parts are not kept; they are cut out of what is kept whole"),
    (
        "stale-close",
        "the edge answers 502, as it should; the test takes every answer without the origin's field for kept",
    ),
    ("stale-warning", "Warning is no field any more (RFC 9111, section 5.5)"),
    ("surrogate-remove-header", "Surrogate-Control is between service and edge"),
    ("vary-normalise-lang-select", "which language fits a client is the service's to say"),
];

/// Lists the tests with their kinds, as the package describes them.
const LISTED: &str = "
import tests from './tests/index.mjs'
import surrogate from './tests/surrogate-control.mjs'
const kinds = {}
for (const set of [...tests, surrogate])
  for (const test of set.tests)
    if (!test.browser_only) kinds[test.id] = test.kind || 'required'
console.log(JSON.stringify(kinds))
";

contract! {
    /// Hands requests on to the suite's own server.
    pub(super) Origin = "origin" @ "1.0.0" { fetch: Fetch }
}

/// One request as it is.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "origin.fetch", reply = HttpReply, error = Unreachable)]
struct Fetch {
    #[serde(flatten)]
    request: HttpRequest,
}

#[derive(Debug, Problem)]
enum Unreachable {
    /// the origin closed the connection
    #[problem(status = 502)]
    Closed,
}

/// The way to the suite's server.
#[derive(Clone)]
struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

/// A cache beside ours, in the same place.
struct Peer {
    name: &'static str,
    _process: tokio::process::Child,
    address: SocketAddr,
}

pub(super) async fn run(site: &Site) -> Result<Outcome, Error> {
    let package = tools::npm(&site.packages(), catalogue::HTTP_CACHE_TESTS).await?;
    let (_server, origin) = serve(&package, site.folder()).await?;
    let system = site.system().await?;
    let bus = system.bus("origin").await?;
    let upstream = Upstream { client: Client::builder(TokioExecutor::new()).build_http(), address: origin };
    let service =
        Service::new("origin", upstream).serve(Origin, |origin| origin.fetch(fetch)).start(&bus).await?;
    let edge: Role = system.edge(&config()).await?;
    let kinds = listed(&package).await?;
    let results = asked(&package, edge.address()?).await?;
    std::fs::write(site.folder().join("sinew.json"), format!("{results:#}\n"))?;
    let outcome = told(&kinds, &results);
    for peer in peers(site, origin).await {
        let theirs = asked(&package, peer.address).await?;
        std::fs::write(site.folder().join(format!("{}.json", peer.name)), format!("{theirs:#}\n"))?;
        println!("  {}: {}", peer.name, counts(&kinds, &theirs));
    }
    service.drain().await;
    bus.close().await;
    drop(edge);
    system.stop().await?;
    Ok(outcome)
}

/// Every path of the suite goes to the operation; only what it tests is kept.
fn config() -> Value {
    let route = |method: &str, path: &str, policies: Value| json!({ "match": { "method": method, "path": path }, "to": { "forward": "origin.fetch" }, "policies": policies });
    let tested = METHODS.iter().flat_map(|method| {
        let cache = json!({ "cache": { "stale_if_error_ms": 60_000 } });
        ["/test/{id}", "/test/{id}/{file}"].map(|path| route(method, path, cache.clone()))
    });
    let beside = [route("PUT", "/config/{id}", json!({})), route("GET", "/state/{id}", json!({}))];
    json!({ "routes": tested.chain(beside).collect::<Vec<_>>(), "max_headers": 200 })
}

async fn fetch(request: Fetch, State(upstream): State<Upstream>) -> Result<HttpReply, Unreachable> {
    let request = request.request;
    let uri = format!("http://{}{}", upstream.address, request.target);
    let mut asked = hyper::Request::builder().method(request.method.as_str()).uri(uri);
    for (name, value) in request.headers.iter().filter(|(name, _)| name != "host" && name != "content-length")
    {
        asked = asked.header(name, value);
    }
    let body = request.into_body().unwrap_or_default();
    let asked = asked.body(Full::new(body)).map_err(|_| Unreachable::Closed)?;
    let answer = upstream.client.request(asked).await.map_err(|_| Unreachable::Closed)?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_| Unreachable::Closed)?.to_bytes();
    let reply = head.headers.iter().fold(HttpReply::new(head.status.as_u16()), |reply, (name, value)| {
        reply.with(name.as_str(), String::from_utf8_lossy(value.as_bytes()))
    });
    Ok(reply.body(body))
}

/// Starts the suite's server.
async fn serve(package: &Path, folder: &Path) -> Result<(tokio::process::Child, SocketAddr), Error> {
    let address = free().await?;
    let log = std::fs::File::create(folder.join("origin.log"))?;
    let mut command = Command::new("node");
    command.arg("server/server.mjs").current_dir(package).env("npm_config_protocol", "http");
    command.env("npm_config_port", address.port().to_string());
    command.env("npm_config_pidfile", folder.join("origin.pid"));
    let server = command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()?;
    listening(address).await?;
    Ok((server, address))
}

/// Has their client ask a cache, and returns what it found.
async fn asked(package: &Path, cache: SocketAddr) -> Result<Value, Error> {
    let mut command = Command::new("node");
    command
        .args(["--no-warnings", "cli.mjs"])
        .current_dir(package)
        .env("npm_config_id", "")
        .env("npm_package_config_id", "");
    command.env("npm_config_base", format!("http://{cache}")).kill_on_drop(true).stderr(Stdio::null());
    let output = command.output().await?;
    let text = String::from_utf8(output.stdout)?;
    let begin = text.find('{').ok_or("their client found nothing")?;
    Ok(serde_json::from_str(&text[begin..])?)
}

async fn listed(package: &Path) -> Result<BTreeMap<String, String>, Error> {
    let mut command = Command::new("node");
    command.args(["--no-warnings", "--input-type=module", "--eval", LISTED]).current_dir(package);
    Ok(serde_json::from_slice(&command.output().await?.stdout)?)
}

/// Prints how much of each kind passed and every test that did not, and counts.
fn told(kinds: &BTreeMap<String, String>, results: &Value) -> Outcome {
    println!("  sinew: {}", counts(kinds, results));
    let mut failed = 0;
    for (id, kind) in kinds.iter().filter(|(id, _)| results[id.as_str()] != true) {
        failed += 1;
        let reason = KNOWN.iter().find(|(start, _)| id.starts_with(start));
        let reason = reason
            .map_or_else(|| format!("UNEXPECTED {}", results[id.as_str()]), |(_, why)| (*why).to_owned());
        println!("  failed ({kind}): {id}: {reason}");
    }
    Outcome { passed: kinds.len() - failed, failed, asked: ASKED }
}

fn counts(kinds: &BTreeMap<String, String>, results: &Value) -> String {
    let mut all: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (id, kind) in kinds {
        let passed = usize::from(results[id.as_str()] == true);
        for name in ["all", kind] {
            let (sum, of) = all.entry(name).or_default();
            (*sum, *of) = (*sum + passed, *of + 1);
        }
    }
    let told = all.into_iter().map(|(kind, (passed, of))| format!("{kind} {passed} of {of}"));
    told.collect::<Vec<_>>().join(", ")
}

/// Starts the caches that are installed, on the same server.
async fn peers(site: &Site, origin: SocketAddr) -> Vec<Peer> {
    let started = [nginx(site, origin).await, varnish(site, origin).await];
    started.into_iter().flatten().flatten().collect()
}

async fn nginx(site: &Site, origin: SocketAddr) -> Result<Option<Peer>, Error> {
    let Some(program) = installed("nginx") else { return Ok(None) };
    let (address, folder) = (free().await?, site.folder().join("nginx"));
    std::fs::create_dir_all(&folder)?;
    let home = folder.display();
    let config = format!(
        "daemon off; master_process off; pid {home}/pid; error_log {home}/error.log;\nevents {{}}\nhttp {{\n  access_log off;\n  \
         proxy_cache_path {home}/cache keys_zone=kept:10m;\n  server {{\n    listen {address};\n    location / {{\n      \
         proxy_pass http://{origin};\n      proxy_http_version 1.1;\n    }}\n    location /test/ {{\n      \
         proxy_pass http://{origin};\n      proxy_http_version 1.1;\n      proxy_cache kept;\n      \
         proxy_cache_revalidate on;\n      add_header X-Cache $upstream_cache_status;\n    }}\n  }}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(&folder).arg("-c").arg(&file).stderr(Stdio::null());
    let process = command.kill_on_drop(true).spawn()?;
    listening(address).await?;
    Ok(Some(Peer { name: "nginx", _process: process, address }))
}

async fn varnish(site: &Site, origin: SocketAddr) -> Result<Option<Peer>, Error> {
    let Some(program) = installed("varnishd") else { return Ok(None) };
    let (address, folder) = (free().await?, site.folder().join("varnish"));
    let mut command = Command::new(program);
    command.args(["-F", "-b", &origin.to_string(), "-a", &address.to_string()]).arg("-n").arg(&folder);
    let log = std::fs::File::create(site.folder().join("varnish.log"))?;
    let process = command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()?;
    listening(address).await?;
    Ok(Some(Peer { name: "varnish", _process: process, address }))
}

fn installed(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin")];
    std::env::split_paths(&paths).chain(sbin).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Returns an address nobody listens on.
async fn free() -> Result<SocketAddr, Error> {
    Ok(tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}

async fn listening(address: SocketAddr) -> Result<(), Error> {
    let connected = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, connected).await.map_err(|_| format!("nobody listens on {address}").into())
}
