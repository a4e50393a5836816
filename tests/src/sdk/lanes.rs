//! Promise 3: the events of one key are handled in the order they were stored, whatever happens; other keys go on.

mod spill;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sinew::dead_letters::{By, DeadLetters, Filter};
use sinew::{DEAD_LETTERS, Ordered, Retry, State};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::*;
use crate::harness::{SOON, eventually};

/// Longer than [`SOON`]: hundreds of events with retries and take-overs on a busy machine.
const LATER: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_order_holds_per_key_under_random_failures() {
    let stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Sometimes);
    let _board = stage.start_service(board(&ledger, |group| group.concurrency(8))).await;
    publish(&stage, 20, 20).await;
    eventually(LATER, || std::future::ready(ledger.has_all(20, 20))).await;
    ledger.check(20, 20);
    assert!(ledger.failed.load(Ordering::SeqCst) > 20, "the test means something only if much failed");
    assert_eq!(ledger.handled(), 400, "nothing was handled twice");
    assert_eq!(dead_letters(&stage).await, 0);
}

#[tokio::test]
async fn p3_a_parked_key_does_not_stop_others() {
    let stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Key(0));
    // Far more wait behind the parked one than are taken ahead.
    let _board = stage.start_service(board(&ledger, |group| group.concurrency(2).retry(patient()))).await;
    for step in 0..50 {
        moved(&stage, 0, step).await;
    }
    for step in 0..20 {
        moved(&stage, 1, step).await;
        moved(&stage, 2, step).await;
    }
    eventually(SOON, || std::future::ready(ledger.handled() == 40)).await;
    assert!(ledger.steps(0).is_empty(), "its first event fails, so none of the others has begun");
    ledger.calm();
    eventually(SOON, || std::future::ready(ledger.handled() == 90)).await;
    assert_eq!(ledger.steps(0), (0..50).collect::<Vec<_>>());
    assert_eq!(ledger.begun_first(0), (0..50).collect::<Vec<_>>(), "nothing behind it was tried before");
}

#[tokio::test]
async fn p3_a_hopeless_event_becomes_a_dead_letter_and_its_key_goes_on() {
    let stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Event(1, 3));
    let _board = stage.start_service(board(&ledger, |group| group.retry(quick().attempts(4)))).await;
    for step in 0..6 {
        moved(&stage, 1, step).await;
    }
    let poison = Bytes::from_static(b"\xc1 not what it says");
    stage.bus.publish_acked(Moved::SUBJECT, &Headers::new(), poison, PATIENCE).await.unwrap();
    moved(&stage, 1, 6).await;
    eventually(SOON, || std::future::ready(ledger.handled() == 6)).await;
    assert_eq!(ledger.steps(1), [0, 1, 2, 4, 5, 6]);
    eventually(SOON, || async { dead_letters(&stage).await == 2 }).await;
    let mut letters = stage.bus.read_stream(DEAD_LETTERS, "dlq.board.screen", 1).await.unwrap();
    let letters = letters.batch().await.unwrap();
    let told = |name| letters.iter().map(|letter| letter.headers.get(name).unwrap().to_owned()).collect();
    let codes: BTreeSet<String> = told("Sinew-Dead-Code");
    assert_eq!(codes, ["busy".to_owned(), "poison".to_owned()].into());
    let attempts: BTreeSet<String> = told("Sinew-Dead-Attempts");
    assert_eq!(attempts, ["1".to_owned(), "4".to_owned()].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_a_standby_takes_over_from_a_member_that_dies_in_the_middle() {
    let stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Sometimes);
    let mut member = Doomed::start(&stage, &ledger);
    let standby = connect(&stage.harness, "standby").await;
    let _standby = board(&ledger, hasty).start(&standby).await.unwrap();
    let publisher = stage.caller.clone();
    let publishing = tokio::spawn(async move {
        for number in 0..600 {
            let event = Moved { key: number % 20, step: number / 20 };
            publisher.publish(event).await.unwrap();
        }
    });
    // Whichever is the active one: sooner or later it is one that dies.
    for round in 1..=2 {
        eventually(LATER, || std::future::ready(ledger.handled() >= round * 100)).await;
        member.kill();
        member = Doomed::start(&stage, &ledger);
    }
    publishing.await.unwrap();
    eventually(LATER, || std::future::ready(ledger.has_all(20, 30))).await;
    member.kill();
    ledger.check(20, 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_the_active_member_dies_with_work_in_its_hands_and_nothing_overtakes_it() {
    let stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Nothing);
    let member = Doomed::start(&stage, &ledger);
    ledger.close();
    for key in 0..3 {
        moved(&stage, key, 0).await;
    }
    eventually(SOON, || std::future::ready(ledger.begun() == 3)).await;
    let standby = connect(&stage.harness, "standby").await;
    let _standby = board(&ledger, hasty).start(&standby).await.unwrap();
    member.kill();
    ledger.open();
    // Newer ones of the keys that died with it, and of one that did not.
    for key in 0..4 {
        moved(&stage, key, 1).await;
    }
    eventually(SOON, || std::future::ready(ledger.steps(3) == [1])).await;
    eventually(SOON, || std::future::ready((0..3).all(|key| ledger.steps(key).len() == 2))).await;
    for key in 0..3 {
        assert_eq!(ledger.steps(key), [0, 1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_order_holds_when_the_server_is_killed_in_the_middle() {
    let mut stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Sometimes);
    let _board = stage.start_service(board(&ledger, hasty)).await;
    let publisher = stage.caller.clone();
    let publishing = tokio::spawn(async move {
        for number in 0..600 {
            let event = Moved { key: number % 20, step: number / 20 };
            // An id of its own: offered again after a lost answer, it is stored once.
            publisher.publish(event).id(format!("m-{number}")).await.unwrap();
        }
    });
    eventually(LATER, || std::future::ready(ledger.handled() >= 100)).await;
    stage.harness.kill().await;
    stage.harness.revive().await;
    eventually(LATER, || std::future::ready(ledger.handled() >= 250)).await;
    stage.harness.restart().await;
    publishing.await.unwrap();
    eventually(LATER, || std::future::ready(ledger.has_all(20, 30))).await;
    ledger.check(20, 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_a_leaving_member_hands_over_at_once_but_not_what_it_still_runs() {
    let stage = Stage::start().await;
    let (leaver, stayer) = (Ledger::new(Trouble::Nothing), Ledger::new(Trouble::Nothing));
    leaver.close();
    // Neither silence nor lost patience can help here, only the word of the one that leaves.
    let unhurried = |group: Ordered<Moved>| group.takeover_after(LATER).ack_wait(LATER).concurrency(1);
    let leaving = board(&leaver, unhurried).start(&stage.bus).await.unwrap();
    for step in 0..3 {
        moved(&stage, 0, step).await;
        moved(&stage, 1, step).await;
    }
    eventually(SOON, || std::future::ready(leaver.begun() == 1)).await;
    let other = connect(&stage.harness, "other").await;
    let _stays = board(&stayer, unhurried).start(&other).await.unwrap();
    let draining = tokio::spawn(leaving.drain());
    eventually(SOON, || std::future::ready(stayer.steps(1) == [0, 1, 2])).await;
    assert!(stayer.steps(0).is_empty(), "the leaver still has the first event of that key");
    leaver.open();
    draining.await.unwrap();
    eventually(SOON, || std::future::ready(stayer.steps(0) == [1, 2])).await;
    assert_eq!(leaver.steps(0), [0]);
    assert_eq!(leaver.handled() + stayer.handled(), 6, "nothing was handled twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_order_holds_while_the_active_member_changes_all_the_time() {
    let stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Sometimes);
    let other = connect(&stage.harness, "other").await;
    let _first = stage.start_service(board(&ledger, |group| group)).await;
    let _second = board(&ledger, |group| group).start(&other).await.unwrap();
    let publisher = stage.caller.clone();
    let publishing = tokio::spawn(async move {
        for number in 0..600 {
            publisher.publish(Moved { key: number % 20, step: number / 20 }).await.unwrap();
        }
    });
    let mut changes = 0;
    // Each time, what one member holds goes to the other, while what it runs stays.
    while !ledger.has_all(20, 30) {
        let goal = ledger.handled() + 10;
        let further = || std::future::ready(ledger.handled() >= goal || ledger.has_all(20, 30));
        eventually(LATER, further).await;
        let (headers, body) = (Headers::new(), Bytes::from_static(br#"{"group":"lanes"}"#));
        let unpin = "$JS.API.CONSUMER.UNPIN.EVENTS.board+screen";
        stage.bus.request(unpin, &headers, body, PATIENCE).await.unwrap();
        changes += 1;
    }
    publishing.await.unwrap();
    assert!(changes > 5, "there were {changes} changes");
    ledger.check(20, 30);
    assert_eq!(ledger.handled(), 600, "each was handed over before it began, or not at all");
}

#[tokio::test]
async fn p3_a_retried_dead_letter_waits_for_its_turn_like_any_other() {
    let stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Key(1));
    let _board = stage.start_service(board(&ledger, |group| group.retry(Retry::never()))).await;
    moved(&stage, 1, 0).await;
    let letters = DeadLetters::new(&stage.bus);
    let letter =
        eventually(SOON, || async { letters.page(&Filter::default(), 0, 1).await.unwrap().letters.pop() })
            .await;
    ledger.calm();
    ledger.close();
    moved(&stage, 1, 1).await;
    eventually(SOON, || std::future::ready(ledger.begun() == 2)).await;
    assert!(letters.retry(letter.sequence, &By::new("ada")).await.unwrap());
    moved(&stage, 2, 0).await;
    eventually(SOON, || std::future::ready(ledger.begun() == 3)).await;
    ledger.open();
    eventually(SOON, || std::future::ready(ledger.handled() == 3)).await;
    assert_eq!(ledger.steps(1), [1, 0], "the one that ran was not disturbed");
    assert_eq!(dead_letters(&stage).await, 0);
}

#[tokio::test]
async fn p3_a_full_window_stops_at_its_bound_and_goes_on() {
    let stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Key(0));
    let tiny = |group: Ordered<Moved>| group.window(10, 1 << 20).retry(patient());
    let _board = stage.start_service(board(&ledger, tiny)).await;
    for step in 0..30 {
        moved(&stage, 0, step).await;
    }
    moved(&stage, 1, 0).await;
    eventually(SOON, || std::future::ready(ledger.begun() > 0)).await;
    ledger.calm();
    eventually(SOON, || std::future::ready(ledger.handled() == 31)).await;
    assert_eq!(ledger.steps(0), (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn p3_a_group_becomes_ordered_under_its_name() {
    let stage = Stage::start().await;
    let (before, after) = (Ledger::new(Trouble::Key(0)), Ledger::new(Trouble::Nothing));
    let plain = Service::new("board", before.clone()).on("screen", show, |group| group.retry(patient()));
    let plain = plain.start(&stage.bus).await.unwrap();
    moved(&stage, 0, 0).await;
    moved(&stage, 1, 0).await;
    eventually(SOON, || std::future::ready(before.handled() == 1 && before.begun() == 2)).await;
    plain.drain().await;
    let _board = stage.start_service(board(&after, |group| group)).await;
    moved(&stage, 0, 1).await;
    moved(&stage, 1, 1).await;
    eventually(SOON, || std::future::ready(after.steps(0) == [0, 1] && after.steps(1) == [1])).await;
}

/// Something moved on.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "board.moved", version = 1)]
struct Moved {
    key: u32,
    step: u32,
}

/// What goes wrong.
#[derive(Clone, Copy)]
enum Trouble {
    Nothing,
    /// Any attempt may fail.
    Sometimes,
    /// Everything of this key fails, until it is calm.
    Key(u32),
    /// This event of this key fails.
    Event(u32, u32),
}

/// What the members of a group have done, in the order they did it.
struct Ledger {
    trouble: Trouble,
    calm: AtomicBool,
    failed: AtomicUsize,
    gate: Semaphore,
    begun: Mutex<Vec<(u32, u32)>>,
    handled: Mutex<Vec<(u32, u32)>>,
}

impl Ledger {
    fn new(trouble: Trouble) -> Arc<Self> {
        Arc::new(Self {
            trouble,
            calm: AtomicBool::new(false),
            failed: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS / 2),
            begun: Mutex::default(),
            handled: Mutex::default(),
        })
    }

    fn calm(&self) {
        self.calm.store(true, Ordering::SeqCst);
    }

    fn close(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn open(&self) {
        self.gate.add_permits(1_000_000);
    }

    fn fails(&self, event: &Moved) -> bool {
        match self.trouble {
            Trouble::Nothing => false,
            Trouble::Sometimes => rand() < 0.3,
            Trouble::Key(key) => event.key == key && !self.calm.load(Ordering::SeqCst),
            Trouble::Event(key, step) => (event.key, event.step) == (key, step),
        }
    }

    fn begun(&self) -> usize {
        self.begun.lock().unwrap().len()
    }

    fn handled(&self) -> usize {
        self.handled.lock().unwrap().len()
    }

    /// The steps of a key in the order they were handled for the first time.
    fn steps(&self, key: u32) -> Vec<u32> {
        first(&self.handled.lock().unwrap(), key)
    }

    /// The steps of a key in the order they were begun for the first time.
    fn begun_first(&self, key: u32) -> Vec<u32> {
        first(&self.begun.lock().unwrap(), key)
    }

    fn has_all(&self, keys: u32, steps: usize) -> bool {
        (0..keys).all(|key| self.steps(key).len() == steps)
    }

    fn check(&self, keys: u32, steps: u32) {
        for key in 0..keys {
            assert_eq!(self.steps(key), (0..steps).collect::<Vec<_>>(), "the order of key {key}");
        }
    }
}

fn first(log: &[(u32, u32)], key: u32) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    log.iter().filter(|entry| entry.0 == key && seen.insert(entry.1)).map(|entry| entry.1).collect()
}

/// A member in a process of its own, as far as one can be killed within a test.
struct Doomed(Runtime);

impl Doomed {
    fn start(stage: &Stage, ledger: &Arc<Ledger>) -> Self {
        Self::with(stage, ledger, hasty)
    }

    fn with(stage: &Stage, ledger: &Arc<Ledger>, configure: fn(Ordered<Moved>) -> Ordered<Moved>) -> Self {
        let runtime = Runtime::new().unwrap();
        let (config, ledger) = (Config::new(stage.harness.url(), "doomed"), ledger.clone());
        let (tell, told) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let bus = Bus::connect(config).await.unwrap();
            let _running = board(&ledger, configure).start(&bus).await.unwrap();
            tell.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        told.recv().unwrap();
        Self(runtime)
    }

    /// Ends all of its tasks where they stand, its connection included.
    fn kill(self) {
        self.0.shutdown_background();
    }
}

fn board(
    ledger: &Arc<Ledger>,
    configure: impl FnOnce(Ordered<Moved>) -> Ordered<Moved>,
) -> Service<Arc<Ledger>> {
    Service::new("board", ledger.clone()).on("screen", show, |group| {
        configure(group.ordered_by(|event: &Moved| event.key).retry(quick().attempts(100)))
    })
}

async fn show(event: Moved, State(ledger): State<Arc<Ledger>>) -> Result<(), DeskError> {
    let step = (event.key, event.step);
    ledger.begun.lock().unwrap().push(step);
    ledger.gate.acquire().await.unwrap().forget();
    tokio::task::yield_now().await;
    if ledger.fails(&event) {
        ledger.failed.fetch_add(1, Ordering::SeqCst);
        return Err(DeskError::Busy);
    }
    ledger.handled.lock().unwrap().push(step);
    Ok(())
}

/// Quick to see that somebody is gone.
fn hasty(group: Ordered<Moved>) -> Ordered<Moved> {
    group.takeover_after(Duration::from_millis(600)).ack_wait(Duration::from_secs(1))
}

fn quick() -> Retry {
    Retry::exponential(Duration::from_millis(2), Duration::from_millis(10))
}

fn patient() -> Retry {
    Retry::exponential(Duration::from_secs(1), Duration::from_secs(1)).attempts(10_000)
}

fn rand() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

async fn publish(stage: &Stage, keys: u32, steps: u32) {
    for step in 0..steps {
        for key in 0..keys {
            moved(stage, key, step).await;
        }
    }
}

async fn moved(stage: &Stage, key: u32, step: u32) {
    stage.caller.publish(Moved { key, step }).await.unwrap();
}

async fn dead_letters(stage: &Stage) -> u64 {
    stage.bus.stream_state(DEAD_LETTERS).await.unwrap().messages
}
