//! Services: calls, events and contracts, on top of everything else.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use futures::StreamExt as _;
use sinew::{Catalogue, Retry, State};

use super::*;

pub(super) async fn a_service_answers_refuses_and_is_discovered(backend: Backend) {
    let moody = async |request: Echo| match request.text.as_str() {
        "tea" => Err(DeskError::OutOfStock { sku: request.text }),
        _ => Ok(request.text),
    };
    let running = desk((), moody).start(&backend.bus).await.unwrap();
    let caller = Ctx::detached(&backend.other, "caller");
    assert_eq!(caller.call(echo("hello")).await.unwrap(), "hello");
    let refused = caller.call(echo("tea")).await;
    assert!(matches!(refused, Err(CallError::Refused(DeskError::OutOfStock { .. }))));
    let asked = backend.other.request("$SRV.INFO.desk", &Headers::new(), Bytes::new(), PATIENCE).await;
    let info: serde_json::Value = serde_json::from_slice(asked.unwrap().payload()).unwrap();
    assert_eq!(info["endpoints"][0]["subject"], "svc.desk.echo");
    running.drain().await;
    assert!(matches!(caller.call(echo("hello")).await, Err(CallError::NoResponders)));
}

pub(super) async fn an_upload_comes_whole_and_no_faster_than_it_is_taken(backend: Backend) {
    #[derive(Request, Serialize, Deserialize, JsonSchema)]
    #[sinew(subject = "adder.add", upload = u64, reply = u64)]
    struct Add {
        most: usize,
    }
    contract! { Adder = "adder" @ "1.0.0" { add: upload Add } }
    async fn add(request: Add, numbers: sinew::Upload<u64>) -> Result<u64, Problem> {
        let numbers = numbers.take(request.most);
        futures::TryStreamExt::try_fold(numbers, 0, async |sum, number| Ok(sum + number)).await
    }
    let adder = Service::new("adder", ()).serve(Adder, |adder| adder.add(add));
    let running = adder.start(&backend.bus).await.unwrap();
    let caller = Ctx::detached(&backend.other, "caller");
    let made = Arc::new(AtomicU32::new(0));
    let numbers = |to| {
        let made = made.clone();
        futures::stream::iter(1..=to).inspect(move |_| _ = made.fetch_add(1, Ordering::SeqCst))
    };
    for to in [0, 1, 3_000] {
        let sum = caller.upload(Add { most: usize::MAX }, numbers(to)).await;
        assert_eq!(sum.unwrap(), to * (to + 1) / 2);
    }
    made.store(0, Ordering::SeqCst);
    assert_eq!(caller.upload(Add { most: 2 }, numbers(1_000_000)).await.unwrap(), 3);
    assert!(made.load(Ordering::SeqCst) < 600);
    running.drain().await;
    let nobody = caller.upload(Add { most: 1 }, numbers(1)).await;
    assert!(matches!(nobody, Err(CallError::NoResponders)));
}

pub(super) async fn an_event_reaches_every_group_once(backend: Backend) {
    let counts = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let service = Service::new(backend.own.clone(), counts.clone())
        .on("first", async |_: Noted, State(counts): State<Counts>| count(&counts[0]), |group| group)
        .on("second", async |_: Noted, State(counts): State<Counts>| count(&counts[1]), |group| group);
    let running = service.start(&backend.bus).await.unwrap();
    let caller = Ctx::detached(&backend.other, "caller");
    let seen = || counts.iter().map(|count| count.load(Ordering::SeqCst)).collect::<Vec<_>>();
    // Other behaviours share the stream: what they left is read first.
    let before = settle(&backend, &seen).await;
    for number in 0..5 {
        caller.publish(Noted { number }).id(format!("{}-{number}", backend.own)).await.unwrap();
        caller.publish(Noted { number }).id(format!("{}-{number}", backend.own)).await.unwrap();
    }
    let all: Vec<u32> = before.iter().map(|count| count + 5).collect();
    eventually(SOON, || std::future::ready(seen() >= all)).await;
    assert_eq!(settle(&backend, seen).await, all);
    running.drain().await;
}

pub(super) async fn a_failing_event_is_tried_again_and_kept(backend: Backend) {
    let tries = Arc::new(AtomicU32::new(0));
    let fail = async |event: Noted, State(tries): State<Arc<AtomicU32>>| {
        if event.number == 4_711 {
            tries.fetch_add(1, Ordering::SeqCst);
            return Err(DeskError::Busy);
        }
        Ok(())
    };
    let retry = Retry::exponential(Duration::from_millis(20), Duration::from_millis(40)).attempts(3);
    let running = Service::new(backend.own.clone(), tries.clone())
        .on("failing", fail, |group| group.retry(retry))
        .start(&backend.bus)
        .await
        .unwrap();
    Ctx::detached(&backend.other, "caller").publish(Noted { number: 4_711 }).await.unwrap();
    backend.pass(Duration::from_secs(1)).await;
    let subject = format!("dlq.{}.failing", backend.own);
    let kept = || async { backend.other.last_message(sinew::DEAD_LETTERS, &subject).await.ok().flatten() };
    let letter = eventually(SOON, kept).await;
    assert_eq!(letter.headers.get("Sinew-Dead-Code"), Some("busy"));
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    running.drain().await;
}

pub(super) async fn a_contract_stands_in_the_catalogue(backend: Backend) {
    let service = desk((), repeat);
    let described = service.describe();
    let running = service.start(&backend.bus).await.unwrap();
    let catalogue = Catalogue::open(&backend.other).await.unwrap();
    assert_eq!(catalogue.get("desk").await.unwrap(), Some(described));
    running.drain().await;
}

type Counts = Arc<[AtomicU32; 2]>;

fn count(count: &AtomicU32) -> Result<(), Problem> {
    count.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// Returns what was seen once it has not changed for a while.
async fn settle(backend: &Backend, seen: impl Fn() -> Vec<u32>) -> Vec<u32> {
    if let Some(app) = &backend.app {
        app.settled().await;
        return seen();
    }
    loop {
        let before = seen();
        // why: that nothing more comes shows only in time.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if seen() == before {
            return before;
        }
    }
}
