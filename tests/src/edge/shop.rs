//! The service behind the edge: it tells what it saw, fails as it is told to, and waits at a gate.

use std::sync::Arc;

use futures::{Stream, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{
    Bus, Catalogue, Ctx, FromMessage, Problem, Request, Service, State,
    bus::Object,
    contract,
    wire::{Headers, HttpBinding, OperationDescriptor, ProblemDescriptor, ServiceDescriptor, header},
};
use tokio::sync::Semaphore;

/// The service at work.
pub(super) struct Shop {
    pub(super) bus: Bus,
    pub(super) gate: Gate,
    _running: sinew::Running,
}

/// Where a handler waits until a test lets it pass.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) entered: Arc<Semaphore>,
    pub(super) open: Arc<Semaphore>,
    /// One permit for every stream that was dropped.
    pub(super) gone: Arc<Semaphore>,
}

impl Gate {
    /// Returns a gate that is closed, and that nobody came to.
    pub(super) fn new() -> Self {
        let new = || Arc::new(Semaphore::new(0));
        Self { entered: new(), open: new(), gone: new() }
    }
}

/// Tells that a stream was dropped.
struct Gone(Arc<Semaphore>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

contract! {
    pub(super) ShopContract = "shop" @ "1.0.0" {
        place: Place,
        read: Read,
        fail: Fail,
        guarded: Guarded,
        wait: Wait,
        drop_all: DropAll,
        count: stream Count,
        keep: Keep,
    }
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shop.place", reply = Value, error = ShopError, http = "POST /things")]
struct Place {
    sku: String,
    quantity: u32,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shop.read", reply = Value, error = ShopError, idempotent, http = "GET /things/{id}")]
struct Read {
    id: String,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shop.fail", reply = Value, error = ShopError, http = "POST /fail/{how}")]
struct Fail {
    how: String,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shop.guarded", reply = Value, error = ShopError, http = "GET /guarded")]
struct Guarded {}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shop.wait", reply = Value, error = ShopError, idempotent, http = "POST /wait")]
struct Wait {}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shop.drop_all", reply = (), error = ShopError, http = "DELETE /things", status = 204)]
struct DropAll {}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shop.count", stream = Counted, error = ShopError, idempotent, http = "GET /count/{to}")]
struct Count {
    to: u64,
    /// Waits at the gate behind this one.
    #[serde(default)]
    pause: Option<u64>,
    /// Breaks off behind this one.
    #[serde(default)]
    fail: Option<u64>,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shop.keep", reply = Value, error = ShopError, http = "POST /photos")]
struct Keep {
    title: String,
    photo: Object,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Counted {
    n: u64,
    filler: String,
}

#[derive(Debug, Problem)]
enum ShopError {
    /// out of stock
    #[problem(status = 409)]
    OutOfStock { sku: String },
    /// come back later
    #[problem(status = 503, code = "busy", retry)]
    Busy,
}

/// An extractor that refuses everybody with a code no operation declares.
struct Nobody;

impl<S: Sync> FromMessage<S> for Nobody {
    async fn from_message(_: &Ctx, _: &S) -> Result<Self, Problem> {
        Err(Problem::new(401, "no-badge", "the badge 1234 is not valid").detail("badge 1234"))
    }
}

impl Shop {
    pub(super) async fn start(bus: Bus) -> Self {
        let gate = Gate::new();
        let service = Service::new("shop", gate.clone()).serve(ShopContract, |shop| {
            shop.place(place)
                .read(read)
                .fail(fail)
                .guarded(guarded)
                .wait(wait)
                .drop_all(drop_all)
                .count(count)
                .keep(keep)
        });
        let _running = service.start(&bus).await.unwrap();
        Self { bus, gate, _running }
    }

    /// Announces a service that no Rust code stands behind: its operations are `svc.raw.<name>`, reached by
    /// `POST /raw/<name>`.
    pub(super) async fn announce_raw(&self, names: &[&str]) {
        let descriptor = ServiceDescriptor {
            name: "raw".into(),
            version: "1.0.0".into(),
            operations: names.iter().map(|name| raw_operation(name)).collect(),
            ..ServiceDescriptor::default()
        };
        Catalogue::open(&self.bus).await.unwrap().announce(&descriptor).await.unwrap();
    }

    /// Answers every request on `svc.raw.<name>` with these headers and bytes.
    pub(super) async fn answer_raw(
        &self,
        name: &str,
        headers: &[(&'static str, &str)],
        bytes: &'static [u8],
    ) {
        let mut requests = self.bus.subscribe(&format!("svc.raw.{name}"), None).await.unwrap();
        self.bus.barrier().await.unwrap();
        let mut reply = Headers::new();
        headers.iter().for_each(|(name, value)| reply.set(*name, *value).unwrap());
        let bus = self.bus.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                bus.publish(request.reply_to().unwrap(), &reply, bytes.into()).await.unwrap();
            }
        });
    }
}

fn raw_operation(name: &str) -> OperationDescriptor {
    let path = format!("/raw/{name}");
    OperationDescriptor {
        name: name.to_owned(),
        subject: format!("svc.raw.{name}"),
        description: String::new(),
        idempotent: false,
        stream: false,
        accepts: false,
        upload: None,
        http: Some(HttpBinding { method: "POST".into(), path, body: None, status: None }),
        request: json!({ "type": "object" }),
        reply: json!(true),
        errors: vec![ProblemDescriptor {
            status: 410,
            code: "gone".into(),
            title: String::new(),
            retry: false,
        }],
    }
}

async fn place(request: Place, ctx: Ctx) -> Result<Value, ShopError> {
    ctx.reply_status(201);
    ctx.reply_location(format!("/things/{}", request.sku));
    Ok(json!({ "sku": request.sku, "quantity": request.quantity, "seen": seen(&ctx) }))
}

async fn read(request: Read, ctx: Ctx) -> Result<Value, ShopError> {
    if request.id == "tagged" {
        ctx.reply_etag("tagged");
    }
    Ok(json!({ "id": request.id, "limit": request.limit, "tags": request.tags, "seen": seen(&ctx) }))
}

async fn fail(request: Fail) -> Result<Value, ShopError> {
    match request.how.as_str() {
        "stock" => Err(ShopError::OutOfStock { sku: "tea".into() }),
        "busy" => Err(ShopError::Busy),
        "huge" => Ok(json!("x".repeat(2 * 1024 * 1024))),
        _ => panic!("told to"),
    }
}

async fn guarded(_: Guarded, _: Nobody) -> Result<Value, ShopError> {
    Ok(Value::Null)
}

async fn wait(_: Wait, State(gate): State<Gate>) -> Result<Value, ShopError> {
    gate.entered.add_permits(1);
    gate.open.acquire().await.unwrap().forget();
    Ok(json!("waited"))
}

async fn drop_all(_: DropAll) -> Result<(), ShopError> {
    Ok(())
}

async fn keep(request: Keep, ctx: Ctx) -> Result<Value, ShopError> {
    let photo =
        ctx.bus().known_objects("EDGE_FILES").get(&request.photo).await.unwrap().expect("a whole file");
    let begins = String::from_utf8_lossy(&photo[..6]).into_owned();
    Ok(json!({ "title": request.title, "bytes": photo.len(), "begins": begins }))
}

async fn count(
    request: Count,
    State(gate): State<Gate>,
) -> Result<impl Stream<Item = Result<Counted, ShopError>>, ShopError> {
    if request.to == 0 {
        return Err(ShopError::OutOfStock { sku: "numbers".into() });
    }
    let filler = if request.to > 1_000 { "x".repeat(10_000) } else { String::new() };
    let gone = Gone(gate.gone.clone());
    Ok(stream::unfold((1, gone), move |(n, gone)| {
        let (gate, filler) = (gate.clone(), filler.clone());
        async move {
            if request.pause.is_some_and(|pause| n == pause + 1) {
                gate.entered.add_permits(1);
                gate.open.acquire().await.unwrap().forget();
            }
            let failed = request.fail.is_some_and(|fail| n == fail + 1);
            let item = if failed { Err(ShopError::Busy) } else { Ok(Counted { n, filler }) };
            (n <= request.to).then_some((item, (n + 1, gone)))
        }
    }))
}

/// What came with a request besides its payload.
fn seen(ctx: &Ctx) -> Value {
    let trace =
        ctx.trace().map(|trace| json!({ "trace": trace.trace.to_string(), "span": trace.span.to_string() }));
    json!({
        "trace": trace,
        "tracestate": ctx.header(header::TRACESTATE),
        "baggage": ctx.header(header::BAGGAGE),
        "key": ctx.idempotency_key(),
        "prefer": ctx.header(header::PREFER),
        "content-type": ctx.header(header::CONTENT_TYPE),
        "timeout": ctx.header(header::TIMEOUT),
        "if-match": ctx.header(header::IF_MATCH),
    })
}
