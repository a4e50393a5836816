//! Traces: one trace from the first call to the last reaction, and nothing of it lost where nobody records.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sinew::{Attempt, Retry, State};

use super::{identity::Guarded, *};
use crate::harness::{OtlpReceiver, SOON, Span, eventually};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn calls_within_calls_are_one_trace() {
    let stage = Traced::start().await;
    let _desk = stage.serve("desk", desk((), repeat)).await;
    let _front = stage.serve("front", front(async |_: Ask, ctx: Ctx| ask_desk(&ctx).await)).await;
    stage.caller.call(Ask {}).await.unwrap();
    let spans = stage.otlp.wait_for(|spans| spans.len() == 4).await;
    let chain = [
        ("caller", "front/ask", "client"),
        ("front", "front/ask", "server"),
        ("front", "desk/echo", "client"),
        ("desk", "desk/echo", "server"),
    ];
    let mut parent = String::new();
    for (service, name, kind) in chain {
        let span = find(&spans, |span| span.service == service && span.name == name && span.kind == kind);
        assert_eq!(span.parent_id, parent, "{service} {kind}");
        assert_eq!(span.trace_id, spans[0].trace_id);
        assert_eq!(span.attributes["rpc.system"], "sinew");
        assert!(span.start <= span.end && span.error.is_none());
        parent = span.span_id.clone();
    }
}

#[tokio::test]
async fn a_refused_call_is_an_error_on_both_sides() {
    let stage = Traced::start().await;
    let _desk = stage.serve("desk", desk((), async |_: Echo| Err::<String, _>(DeskError::Busy))).await;
    let _ = stage.caller.call(echo("")).no_retry().await;
    let spans = stage.otlp.wait_for(|spans| spans.len() == 2).await;
    assert!(
        spans.iter().all(|span| span.error.as_ref().is_some_and(|error| error.contains("busy"))),
        "{spans:#?}"
    );
}

#[tokio::test]
async fn each_attempt_is_a_span_of_its_own() {
    let stage = Traced::start().await;
    let fail_once = async |request: Echo, State(seen): State<Arc<AtomicUsize>>| match seen
        .fetch_add(1, Ordering::SeqCst)
    {
        0 => Err(DeskError::Busy),
        _ => Ok(request.text),
    };
    let _desk = stage.serve("desk", desk(Arc::<AtomicUsize>::default(), fail_once)).await;
    stage.caller.call(echo("")).await.unwrap();
    let spans = stage.otlp.wait_for(|spans| spans.len() == 4).await;
    for (attempt, failed) in [("1", true), ("2", false)] {
        let sent =
            find(&spans, |span| span.attributes.get("attempt").is_some_and(|number| number == attempt));
        assert_eq!((sent.kind, sent.error.is_some()), ("client", failed), "{sent:#?}");
        let served = find(&spans, |span| span.parent_id == sent.span_id);
        assert_eq!(served.kind, "server");
    }
}

#[tokio::test]
async fn a_fallback_shows_in_the_span_of_the_attempt_it_stands_in_for() {
    let stage = Traced::start().await;
    let told = stage.caller.call(echo("")).no_retry().fallback("instead".to_owned()).await.unwrap();
    assert_eq!(told, "instead");
    let spans = stage.otlp.wait_for(|spans| spans.len() == 1).await;
    assert_eq!(spans[0].attributes["sinew.fallback"], "true");
    assert!(spans[0].error.is_some(), "the call itself did fail");
}

#[tokio::test]
async fn a_stream_is_one_span_on_each_side_from_the_request_to_its_end() {
    #[derive(Request, Serialize, Deserialize, JsonSchema)]
    #[sinew(subject = "meter.read", stream = u32)]
    struct Read {}
    contract! { Meter = "meter" @ "1.0.0" { read: stream Read } }
    let read = |_: Read, ctx: Ctx| {
        futures::stream::once(async move {
            let text = ask_desk(&ctx).await?;
            Ok::<_, Problem>(text.len() as u32)
        })
    };
    let stage = Traced::start().await;
    let _desk = stage.serve("desk", desk((), repeat)).await;
    let meter = Service::new("meter", ()).serve(Meter, |meter| meter.read(read));
    let _meter = stage.serve("meter", meter).await;
    let mut readings = stage.caller.stream(Read {}).await.unwrap();
    while let Some(reading) = readings.next().await {
        reading.unwrap();
    }
    let spans = stage.otlp.wait_for(|spans| spans.len() == 4).await;
    let asked = find(&spans, |span| span.name == "meter/read" && span.kind == "client");
    let served = find(&spans, |span| span.name == "meter/read" && span.kind == "server");
    let within = find(&spans, |span| span.name == "desk/echo" && span.kind == "client");
    assert_eq!((&served.parent_id, &within.parent_id), (&asked.span_id, &served.span_id));
    assert!(asked.start <= within.start && within.end <= asked.end, "the items are within the spans");
    assert!(served.end >= within.end && asked.error.is_none() && served.error.is_none());
}

#[tokio::test]
async fn an_event_is_a_child_of_its_publisher_and_linked_to_it() {
    let stage = Traced::start().await;
    let _mail = stage.serve("mail", mail(async |_: Noted| Ok::<_, Problem>(()))).await;
    stage.caller.publish(Noted { number: 1 }).await.unwrap();
    let spans = stage.otlp.wait_for(|spans| spans.len() == 2).await;
    let sent = find(&spans, |span| span.kind == "producer");
    let taken = find(&spans, |span| span.kind == "consumer");
    assert_eq!((sent.name.as_str(), taken.name.as_str()), ("send desk.noted", "process desk.noted"));
    assert_eq!((&taken.trace_id, &taken.parent_id), (&sent.trace_id, &sent.span_id));
    assert_eq!(taken.links, [(sent.trace_id.clone(), sent.span_id.clone())]);
    assert_eq!(taken.attributes["messaging.consumer.group.name"], "mailer");
}

#[tokio::test]
async fn a_redelivery_is_a_trace_of_its_own_with_a_link() {
    let stage = Traced::start().await;
    let fail_once = async |_: Noted, Attempt(attempt): Attempt| {
        if attempt == 1 { Err(DeskError::Busy) } else { Ok(()) }
    };
    let _mail = stage.serve("mail", mail(fail_once)).await;
    stage.caller.publish(Noted { number: 1 }).await.unwrap();
    let spans = stage.otlp.wait_for(|spans| spans.len() == 3).await;
    let sent = find(&spans, |span| span.kind == "producer");
    let [first, second] = [1, 2].map(|attempt: u32| {
        find(&spans, |span| {
            span.attributes.get("messaging.message.delivery_attempt") == Some(&attempt.to_string())
        })
    });
    assert_eq!(first.trace_id, sent.trace_id);
    assert!(first.error.is_some() && second.error.is_none());
    assert_ne!(second.trace_id, sent.trace_id);
    assert_eq!(second.parent_id, "");
    assert_eq!(second.links, [(sent.trace_id.clone(), sent.span_id.clone())]);
}

#[tokio::test]
async fn a_batch_is_a_trace_of_its_own_that_points_to_every_publisher() {
    let stage = Traced::start().await;
    for number in 0..3 {
        stage.caller.publish(Noted { number }).await.unwrap();
    }
    let write = async |_: sinew::Batch<Noted>| Ok::<(), DeskError>(());
    let search = Service::new("search", ()).on_batch("indexer", write, |group| group.max(3));
    let _search = stage.serve("search", search).await;
    let spans = stage.otlp.wait_for(|spans| spans.len() == 4).await;
    let batch = find(&spans, |span| span.kind == "consumer");
    assert_eq!((batch.parent_id.as_str(), batch.links.len()), ("", 3));
    assert_eq!(batch.attributes["messaging.batch.message_count"], "3");
    for sent in spans.iter().filter(|span| span.kind == "producer") {
        assert_ne!(sent.trace_id, batch.trace_id);
        assert!(batch.links.contains(&(sent.trace_id.clone(), sent.span_id.clone())));
    }
}

#[tokio::test]
async fn p7_a_dead_letter_names_the_trace_of_the_attempt_that_failed_last() {
    let stage = Traced::start().await;
    let _mail = stage
        .serve("mail", mail(async |_: Noted| Err::<(), _>(DeskError::OutOfStock { sku: "tea".into() })))
        .await;
    stage.caller.publish(Noted { number: 1 }).after(Duration::ZERO).await.unwrap();
    let spans = stage.otlp.wait_for(|spans| spans.len() == 2).await;
    let (sent, failed) =
        (find(&spans, |span| span.kind == "producer"), find(&spans, |span| span.kind == "consumer"));
    assert_ne!(failed.trace_id, sent.trace_id, "what was delayed begins a trace");
    assert_eq!(failed.links, [(sent.trace_id.clone(), sent.span_id.clone())]);
    let letters = sinew::dead_letters::DeadLetters::new(stage.caller.bus());
    let letter = eventually(SOON, || async {
        letters.page(&sinew::dead_letters::Filter::default(), 0, 1).await.ok()?.letters.pop()
    });
    let trace = letter.await.trace.unwrap();
    assert_eq!(
        (trace.trace.to_string(), trace.span.to_string()),
        (failed.trace_id.clone(), failed.span_id.clone())
    );
}

#[tokio::test]
async fn an_incoming_trace_is_continued() {
    let stage = Traced::start().await;
    let _desk = stage.serve("desk", desk((), repeat)).await;
    let mut headers = Headers::new();
    headers.set("traceparent", PARENT).unwrap();
    let payload = Bytes::from_static(br#"{"text":""}"#);
    stage.caller.bus().request(Echo::SUBJECT, &headers, payload, PATIENCE).await.unwrap();
    let [span] = &stage.otlp.wait_for(|spans| !spans.is_empty()).await[..] else { panic!("one span") };
    assert_eq!((span.trace_id.as_str(), span.parent_id.as_str()), (&PARENT[3..35], &PARENT[36..52]));
}

#[tokio::test]
async fn a_trace_its_root_does_not_record_is_not_recorded() {
    let stage = Traced::start().await;
    let told = Told::default();
    let _desk = stage.serve("desk", desk(told.clone(), tell)).await;
    let unsampled = PARENT.replace("-01", "-00");
    let mut headers = Headers::new();
    headers.set("traceparent", unsampled.as_str()).unwrap();
    let payload = Bytes::from_static(br#"{"text":""}"#);
    stage.caller.bus().request(Echo::SUBJECT, &headers, payload.clone(), PATIENCE).await.unwrap();
    stage.caller.call(echo("")).await.unwrap();
    let spans = stage.otlp.wait_for(|spans| spans.len() == 2).await;
    assert!(spans.iter().all(|span| span.trace_id != PARENT[3..35]));
    assert!(told.0.lock().unwrap()[0].contains(&PARENT[3..35]), "but its context goes on");
}

#[tokio::test]
async fn without_a_collector_the_context_is_handed_on_unchanged() {
    let stage = Stage::start().await;
    let told = Told::default();
    let _desk = stage.start_service(desk(told.clone(), tell).on("mailer", tell_too, |group| group)).await;
    let both = async |_: Ask, ctx: Ctx| {
        ctx.publish(Noted { number: 1 }).await.map_err(|error| error.to_problem())?;
        ask_desk(&ctx).await
    };
    let _front = stage.start_service(front(both)).await;
    let mut headers = Headers::new();
    headers.set("TraceParent", PARENT).unwrap();
    headers.set("tracestate", "vendor=1,other=2").unwrap();
    headers.set("baggage", "tenant=acme;ttl=3").unwrap();
    stage.caller.bus().request(Ask::SUBJECT, &headers, "{}".into(), PATIENCE).await.unwrap();
    eventually(SOON, || std::future::ready(told.0.lock().unwrap().len() == 2)).await;
    let whole = format!("{PARENT} vendor=1,other=2 tenant=acme;ttl=3");
    assert_eq!(*told.0.lock().unwrap(), [whole.clone(), whole]);
}

#[tokio::test]
async fn the_server_is_told_to_leave_the_trace_of_a_call_alone_unless_the_caller_names_a_place() {
    let accounts = "accounts { APP { users: [ { user: app, password: x } ], msg_trace: told.all } }";
    let server = Guarded::start(accounts).await;
    let bus = Bus::connect(server.config("app:x@")).await.unwrap();
    let _desk = desk((), repeat).start(&bus).await.unwrap();
    let mut told = bus.subscribe("told.*", None).await.unwrap();
    bus.barrier().await.unwrap();
    let caller = Ctx::traced(&bus, "caller", Some(PARENT.parse().unwrap()));
    caller.call(echo("quietly")).await.unwrap();
    let mut headers = Headers::new();
    headers.set("traceparent", PARENT).unwrap();
    bus.publish("elsewhere", &headers, Bytes::new()).await.unwrap();
    caller.call(echo("aloud")).header("Nats-Trace-Dest", "told.mine").await.unwrap();
    let mut next = async || {
        let message = told.next().await.unwrap();
        let event: serde_json::Value = serde_json::from_slice(message.payload()).unwrap();
        (message.subject().to_owned(), event["events"][0]["subj"].as_str().unwrap().to_owned())
    };
    let said = tokio::time::timeout(PATIENCE, async { [next().await, next().await] }).await.unwrap();
    let expected = [("told.all", "elsewhere"), ("told.mine", Echo::SUBJECT)];
    assert_eq!(said, expected.map(|(to, of)| (to.to_owned(), of.to_owned())));
}

#[tokio::test]
async fn a_collector_that_is_down_is_no_reason_to_wait() {
    let harness = Harness::start().await;
    let traced = Config::new(harness.url(), "desk").traced_to(Some("http://127.0.0.1:1".to_owned()));
    let bus = Bus::connect(traced).await.unwrap();
    let _desk = desk((), repeat).start(&bus).await.unwrap();
    let caller = Ctx::detached(&bus, "caller");
    for _ in 0..100 {
        caller.call(echo("")).within(PATIENCE).await.unwrap();
    }
    tokio::time::timeout(SOON, bus.close()).await.expect("closing ends");
}

/// A stage whose every connection records.
struct Traced {
    harness: Harness,
    otlp: OtlpReceiver,
    caller: Ctx,
}

impl Traced {
    async fn start() -> Self {
        let (harness, otlp) = tokio::join!(Harness::start(), OtlpReceiver::start());
        let caller = Ctx::detached(&record(&harness, &otlp, "caller").await, "caller");
        Self { harness, otlp, caller }
    }

    async fn serve<S: Clone + Send + Sync + 'static>(&self, name: &str, service: Service<S>) -> Running {
        let bus = record(&self.harness, &self.otlp, name).await;
        service.start(&bus).await.expect("start the service")
    }
}

/// Passes a question on to the desk.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "front.ask", reply = String)]
struct Ask {}

contract! { Front = "front" @ "1.0.0" { ask: Ask } }

/// What handlers have seen of the headers that make a trace.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn note(&self, ctx: &Ctx) {
        let header = |name| ctx.header(name).unwrap_or("-").to_owned();
        self.0.lock().unwrap().push(["traceparent", "tracestate", "baggage"].map(header).join(" "));
    }
}

async fn record(harness: &Harness, otlp: &OtlpReceiver, name: &str) -> Bus {
    let config = Config::new(harness.url(), name).traced_to(Some(otlp.endpoint().to_owned()));
    Bus::connect(config).await.expect("connect")
}

fn front<M: 'static>(handler: impl Handler<Ask, (), M>) -> Service<()> {
    Service::new("front", ()).serve(Front, |front| front.ask(handler))
}

fn mail<M: Send + Sync + 'static>(handler: impl sinew::EventHandler<Noted, (), M>) -> Service<()> {
    let at_once = Retry::exponential(Duration::from_millis(1), Duration::from_millis(1));
    Service::new("mail", ()).on("mailer", handler, |group| group.retry(at_once))
}

fn find(spans: &[Span], is: impl Fn(&Span) -> bool) -> &Span {
    spans.iter().find(|span| is(span)).unwrap_or_else(|| panic!("a span is missing in {spans:#?}"))
}

async fn ask_desk(ctx: &Ctx) -> Result<String, Problem> {
    ctx.call(echo("from the front")).await.map_err(|error| error.to_problem())
}

async fn tell(request: Echo, ctx: Ctx, State(told): State<Told>) -> Result<String, DeskError> {
    told.note(&ctx);
    Ok(request.text)
}

async fn tell_too(_: Noted, ctx: Ctx, State(told): State<Told>) -> Result<(), Problem> {
    told.note(&ctx);
    Ok(())
}
