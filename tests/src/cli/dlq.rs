//! Dead letters, replay and schedules by hand.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{Bus, Config, Ctx, Event, Problem, Retry, Running, Service, State, schedule::Recurrence};
use tokio::sync::mpsc;

use super::program::{Ran, sinew};
use crate::harness::{Harness, SOON, eventually};

/// A parcel has to be delivered.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "parcels.sent")]
struct Sent {
    number: u32,
    street: String,
}

#[derive(Clone)]
struct Road {
    open: Arc<AtomicBool>,
    delivered: mpsc::UnboundedSender<u32>,
}

async fn deliver(event: Sent, State(road): State<Road>) -> Result<(), Problem> {
    if event.street.is_empty() {
        return Err(Problem::new(422, "no-street", "nobody lives nowhere"));
    }
    if !road.open.load(Ordering::SeqCst) {
        return Err(Problem::new(422, "closed", "the road is closed"));
    }
    road.delivered.send(event.number).map_err(|_| Problem::new(500, "internal", "nobody counts"))
}

#[tokio::test]
async fn letters_are_listed_shown_and_retried() {
    let mut depot = Depot::open(false).await;
    for number in 1..=3 {
        depot.send(number, "main street").await;
    }
    let listed = depot.letters(3).await;
    assert_eq!((&listed[0]["service"], &listed[0]["group"]), (&json!("depot"), &json!("van")));
    assert_eq!((&listed[0]["code"], &listed[0]["data"]["number"]), (&json!("closed"), &json!(1)));
    let chosen = depot.run(&["dlq", "ls", "depot/van", "--code", "closed", "--filter", "number>2"]).await;
    assert_eq!(chosen.succeeded().json()[0]["data"]["number"], 3);
    assert_eq!(depot.run(&["dlq", "ls", "--code", "other"]).await.succeeded().json(), json!([]));
    let text = sinew(&["--nats-url", depot.harness.url(), "dlq", "show", "2"]).await.succeeded().stdout;
    for part in ["dead letter 2 of depot/van", "parcels.sent.v1", "the road is closed", "\"number\": 2"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }

    depot.road.store(true, Ordering::SeqCst);
    let dry = depot.run(&["dlq", "retry", "--all", "--dry-run"]).await.succeeded().json();
    assert_eq!((&dry["matched"], &dry["done"]), (&json!(3), &json!(0)));
    assert_eq!(depot.letters(3).await.len(), 3);
    let one = depot.run(&["dlq", "retry", "2", "--reason", "road works over", "--by", "ada"]).await;
    assert_eq!(one.succeeded().json()["done"], 1);
    assert_eq!(depot.next().await, 2);
    let rest =
        depot.run(&["dlq", "retry", "depot/van", "--code", "closed", "--rate", "100"]).await.succeeded();
    assert_eq!(rest.json()["done"], 2);
    assert_eq!([depot.next().await, depot.next().await], [1, 3]);
    assert_eq!(depot.letters(0).await, Vec::<Value>::new());
    let told = depot
        .run(&["tail", "sinew.dead-letter-retried", "--since", "1", "--count", "1"])
        .await
        .succeeded()
        .json();
    assert_eq!((&told["data"]["who"], &told["data"]["why"]), (&json!("ada"), &json!("road works over")));
    assert_eq!((&told["data"]["sequence"], &told["data"]["group"]), (&json!(2), &json!("van")));
    let gone = depot.run(&["dlq", "retry", "2"]).await;
    assert_eq!((gone.code, gone.error_code()), (1, "SNW-5021".into()), "{gone:?}");
    depot.close().await;
}

#[tokio::test]
async fn a_letter_is_mended_or_dropped() {
    let mut depot = Depot::open(true).await;
    depot.send(1, "").await;
    depot.send(2, "").await;
    depot.letters(2).await;
    let unfit = depot.run(&["dlq", "edit", "1", r#"{"number":1}"#]).await;
    assert_eq!((unfit.code, unfit.error_code()), (1, "SNW-5023".into()), "{unfit:?}");
    let edit =
        ["dlq", "edit", "1", r#"{"number":7,"street":"high street"}"#, "--reason", "found it", "--retry"];
    let dry = depot.run(&[&edit[..], &["--dry-run"]].concat()).await.succeeded().json();
    assert_eq!((&dry["replacement"], depot.letters(2).await.len()), (&Value::Null, 2));
    let edited = depot.run(&edit).await.succeeded().json();
    assert_eq!(edited["retried"], true);
    assert_eq!(depot.next().await, 7);

    let drop =
        depot.run(&["dlq", "drop", "depot", "--code", "no-street", "--reason", "too late"]).await.succeeded();
    assert_eq!(drop.json()["done"], 1);
    assert_eq!(depot.letters(0).await, Vec::<Value>::new());
    let told = depot.run(&["tail", "sinew.*", "--since", "1", "--count", "3"]).await.succeeded().stdout;
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = told.iter().map(|line| line["type"].as_str().unwrap()).collect();
    let expected = ["edited", "retried", "dropped"].map(|what| format!("sinew.dead-letter-{what}.v1"));
    assert_eq!(kinds, expected);
    assert!(told[2]["data"]["who"].as_str().unwrap().contains('@'), "user@host: {}", told[2]);
    depot.close().await;
}

#[tokio::test]
async fn nothing_is_done_to_letters_nobody_named() {
    let depot = Depot::open(true).await;
    for arguments in [
        &["dlq", "retry"][..],
        &["dlq", "drop"],
        &["dlq", "retry", "1", "--all"],
        &["dlq", "retry", "1", "depot"],
    ] {
        let ran = depot.run(arguments).await;
        assert_eq!((ran.code, ran.error_code()), (2, "SNW-5001".into()), "{ran:?}");
    }
    assert_eq!(depot.run(&["dlq", "drop", "--all"]).await.succeeded().json()["matched"], 0);
    let empty = Harness::start().await;
    let none = sinew(&["--json", "--nats-url", empty.url(), "dlq", "ls"]).await.succeeded();
    assert_eq!(none.json(), json!([]), "where nothing ever died");
    let show = sinew(&["--json", "--nats-url", empty.url(), "dlq", "show", "1"]).await;
    assert_eq!((show.code, show.error_code()), (1, "SNW-5021".into()), "{show:?}");
    depot.close().await;
}

#[tokio::test]
async fn a_range_of_the_past_is_given_to_a_group_again() {
    let mut depot = Depot::open(true).await;
    for number in 1..=4 {
        depot.send(number, "main street").await;
        assert_eq!(depot.next().await, number);
    }
    let replay = ["replay", "depot/van", "--from", "2", "--to", "3"];
    let dry = depot.run(&[&replay[..], &["--dry-run"]].concat()).await.succeeded().json();
    assert_eq!((&dry["copied"], &dry["dryRun"]), (&json!(2), &json!(true)));
    let done = depot.run(&replay).await.succeeded().json();
    assert_eq!((&done["copied"], &done["whole"]), (&json!(2), &json!(true)));
    let mut again = [depot.next().await, depot.next().await];
    again.sort_unstable();
    assert_eq!(again, [2, 3]);
    let wrong = depot.run(&["replay", "depot/lorry", "--from", "1"]).await;
    assert_eq!((wrong.code, wrong.error_code()), (1, "SNW-1101".into()), "{wrong:?}");
    depot.close().await;
}

#[tokio::test]
async fn what_waits_is_listed_and_taken_back() {
    let depot = Depot::open(true).await;
    let ctx = Ctx::detached(&depot.bus, "depot");
    let sent = |number| Sent { number, street: "main street".into() };
    let once = ctx.publish(sent(1)).id("p-1").after(Duration::from_secs(3_600)).await.unwrap();
    ctx.publish(sent(2)).repeat("nightly", Recurrence::cron("@daily")).await.unwrap();
    let listed = depot.run(&["schedules", "ls"]).await.succeeded().json();
    assert_eq!((&listed[0]["id"], &listed[0]["when"]), (&json!(once.id.as_str()), &json!("once")));
    assert_eq!((&listed[1]["id"], &listed[1]["event"]), (&json!("depot/nightly"), &json!("parcels.sent")));
    depot.run(&["schedules", "rm", once.id.as_str(), "depot/nightly"]).await.succeeded();
    assert_eq!(depot.run(&["schedules", "ls"]).await.succeeded().json(), json!([]));
    let gone = depot.run(&["schedules", "rm", "depot/nightly"]).await;
    assert_eq!((gone.code, gone.error_code()), (1, "SNW-5024".into()), "{gone:?}");
    depot.close().await;
}

/// A service whose group delivers parcels while the road is open.
struct Depot {
    harness: Harness,
    bus: Bus,
    running: Running,
    road: Arc<AtomicBool>,
    delivered: mpsc::UnboundedReceiver<u32>,
}

impl Depot {
    async fn open(road: bool) -> Self {
        let harness = Harness::start().await;
        let bus = Bus::connect(Config::new(harness.url(), "depot")).await.unwrap();
        let (told, delivered) = mpsc::unbounded_channel();
        let road = Arc::new(AtomicBool::new(road));
        let state = Road { open: road.clone(), delivered: told };
        // One at a time, so that letters come in the order of events.
        let service = Service::new("depot", state)
            .on("van", deliver, |group| group.retry(Retry::never()).concurrency(1));
        let running = service.start(&bus).await.unwrap();
        Self { harness, bus, running, road, delivered }
    }

    async fn send(&self, number: u32, street: &str) {
        let event = Sent { number, street: street.into() };
        Ctx::detached(&self.bus, "shop").publish(event).await.unwrap();
    }

    /// Waits until there are so many letters, and returns them.
    async fn letters(&self, count: usize) -> Vec<Value> {
        eventually(SOON, || async {
            let listed = self.run(&["dlq", "ls"]).await.succeeded().json();
            let listed = listed.as_array().unwrap().clone();
            (listed.len() == count).then_some(listed)
        })
        .await
    }

    /// Returns the next parcel that is delivered.
    async fn next(&mut self) -> u32 {
        tokio::time::timeout(SOON, self.delivered.recv()).await.expect("it is delivered").unwrap()
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        sinew(&[&["--json", "--nats-url", self.harness.url()], arguments].concat()).await
    }

    async fn close(self) {
        self.running.drain().await;
        self.bus.close().await;
    }
}
