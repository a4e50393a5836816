//! Single promises of a shard, each with the story it was broken in.

use std::time::Duration;

use serde_json::json;
use sinew::{bus::Object, workflow::WorkflowError};
use sinew_workflow::{Outcome, Saga, Status};

use super::{Stage, definition};
use crate::{
    Config, MemoryJournal,
    journal::{Appended, Journal, JournalError},
    shard::{Answer, Ask, Input, live::Live, open::Folded},
};

const CALL: &str = "  - a: { call: svc.a, compensate: { call: svc.undo } }\n";
const TWO: &str = "  - a: { call: svc.a, compensate: { call: svc.undo } }\n  - b: { call: svc.b }\n";
const NAP: &str = "  - nap: { wait: PT24H }\n";

fn ok() -> Outcome {
    Outcome::Completed(json!({}))
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_leaves_early_is_noticed() {
    let mut stage = Stage::new(definition(CALL), Config::default()).await;
    stage.shard.leaks = true;
    stage.start("i-1", json!({}), false);
    stage.look().await;
    assert_eq!(stage.violations.len(), 1, "{:?}", stage.violations);
}

#[tokio::test(start_paused = true)]
async fn an_answer_shows_nothing_that_is_not_acknowledged() {
    let mut stage = Stage::new(definition(CALL), Config::default()).await;
    stage.start("i-1", json!({}), false);
    stage.send();
    // Decided while the start is on its way: the answer to the start must not speak of it.
    stage.cancel("i-1");
    stage.store().await;
    stage.look().await;
    stage.acknowledge();
    stage.look().await;
    assert_eq!(stage.accepted, ["i-1"], "the start is answered");
    assert_eq!(stage.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_duplicate_waits_for_what_it_duplicates() {
    let mut stage = Stage::new(definition(CALL), Config::default()).await;
    stage.start("i-1", json!(1), false);
    stage.start("i-1", json!(2), false);
    let (_, mut duplicate) = stage.open.pop().unwrap();
    assert!(duplicate.try_recv().is_err(), "the first start may never have happened");
    stage.settle().await;
    assert!(matches!(duplicate.try_recv(), Ok(Err(WorkflowError::DuplicateStart(_)))));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_fenced_while_it_drains_tells_nobody_an_end() {
    let mut stage = Stage::new(definition(CALL), Config::default()).await;
    stage.start("i-1", json!({}), true);
    stage.settle().await;
    stage.reply(0, ok());
    let (_, waiting) = stage.open.pop().unwrap();
    let last = stage.journal.last().await.unwrap().unwrap();
    stage.journal.append(last.sequence, last.record).await.unwrap();
    let heir = Stage::new(definition(CALL), Config::default()).await;
    std::mem::replace(&mut stage.shard, heir.shard).finish(None).await;
    assert!(waiting.await.is_err(), "the end is not in the log");
}

#[tokio::test(start_paused = true)]
async fn a_read_in_doubt_is_answered_only_by_an_owner_that_can_still_append() {
    let mut stage = Stage::new(definition(NAP), Config::default()).await;
    stage.start("i-1", json!({}), false);
    stage.settle().await;
    stage.get("i-1");
    stage.look().await;
    assert_eq!(stage.accepted.len(), 2, "under the lease a read costs no append");
    tokio::time::advance(Duration::from_secs(1)).await;
    stage.lease.send_replace(tokio::time::Instant::now());
    stage.get("i-1");
    stage.look().await;
    assert_eq!(stage.accepted.len(), 2, "somebody else may know better");
    stage.settle().await;
    assert_eq!(stage.accepted.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_an_owner_before_may_have_done_is_undone_though_it_is_refused_now() {
    let nobody = || sinew_workflow::Fault::communication("nobody serves this operation right now");
    for outcome in [Outcome::NotSent(nobody()), Outcome::Refused(nobody())] {
        let mut stage = Stage::new(definition(CALL), Config::default()).await;
        stage.start("i-1", json!({}), false);
        stage.settle().await;
        stage.crash().await;
        stage.reply(0, outcome);
        stage.settle().await;
        assert_eq!(stage.shard.live["i-1"].state.saga(), Saga::Compensating);
        assert_eq!(stage.begun.len(), 1, "its undo is under way");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_too_large_for_the_log_is_undone_and_the_shard_goes_on() {
    let config = Config { max_record_bytes: 16 * 1024, max_value_bytes: 16 * 1024, ..Config::default() };
    let mut stage = Stage::new(definition(TWO), config).await;
    stage.start("i-1", json!({}), false);
    stage.settle().await;
    stage.reply(0, Outcome::Completed(json!("x".repeat(64 * 1024))));
    stage.settle().await;
    let live = &stage.shard.live["i-1"];
    assert_eq!((live.state.status(), live.state.saga()), (Status::Faulted, Saga::Compensating));
    assert_eq!(live.state.fault().unwrap().code.as_deref(), Some("too-large"));
    stage.reply(0, ok());
    stage.settle().await;
    assert_eq!(stage.archives[0].instance().unwrap().saga, "compensated");
    assert_eq!(stage.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn data_that_outgrow_the_log_end_the_instance() {
    let config = Config { max_record_bytes: 16 * 1024, max_value_bytes: 16 * 1024, ..Config::default() };
    let tasks = "  - a: { call: svc.a, compensate: { call: svc.undo } }\n  - nap: { wait: PT1S }\n  - grow: { set: { all: '${ [range(20000)] }' } }\n";
    let mut stage = Stage::new(definition(tasks), config).await;
    stage.start("i-1", json!({}), false);
    stage.settle().await;
    stage.reply(0, ok());
    stage.settle().await;
    stage.pass(Duration::from_secs(2)).await;
    stage.settle().await;
    assert_eq!(stage.shard.live["i-1"].state.status(), Status::Cancelled);
    assert_eq!(stage.begun.len(), 1, "its undo is under way");
}

#[tokio::test(start_paused = true)]
async fn fifty_thousand_starts_at_a_slow_log_are_accepted_or_turned_away_at_once() {
    let mut stage = Stage::new(definition(NAP), Config::default()).await;
    stage.start("first", json!({}), false);
    // The log is at it, and says nothing yet.
    stage.send();
    for number in 0..50_000 {
        stage.start(&format!("i-{number}"), json!({ "text": "x".repeat(1_000) }), false);
    }
    let held = stage.shard.live();
    assert!((10_000..17_000).contains(&held), "about 16 MiB wait for the log: {held}");
    let mut refused = 0;
    for (_, answer) in &mut stage.open {
        refused += usize::from(matches!(answer.try_recv(), Ok(Err(WorkflowError::Overloaded))));
    }
    assert_eq!(refused + held, 50_001, "who is not held is told at once");
    stage.settle().await;
    assert_eq!(stage.shard.live(), held, "all of those stand in the log");
    stage.start("late", json!({}), false);
    stage.settle().await;
    assert_eq!(stage.shard.live(), held + 1, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn what_no_record_holds_stands_beside_the_log_until_its_instance_is_gone() {
    let config = Config { max_record_bytes: 16 * 1024, ..Config::default() };
    let mut stage = Stage::new(definition(TWO), config).await;
    let large = json!({ "text": "x".repeat(100_000) });
    stage.start("i-1", large.clone(), false);
    stage.settle().await;
    stage.reply(0, Outcome::Completed(json!("y".repeat(200_000))));
    stage.settle().await;
    stage.crash().await;
    let live = &stage.shard.live["i-1"];
    assert_eq!(live.state.input(), &large, "found again where it stands");
    assert_eq!(live.claims.len(), 2);
    let claims = live.claims.clone();
    let records = stage.journal.read(0).await.unwrap();
    assert!(records.iter().all(|one| one.record.len() < 16 * 1024), "no record holds them");
    stage.reply(0, ok());
    stage.settle().await;
    assert_eq!(stage.archives[0].instance().unwrap().status, "completed");
    stage.archive(0);
    stage.settle().await;
    tokio::task::yield_now().await;
    for claim in &claims {
        assert_eq!(stage.journal.kept(claim).await, Ok(None), "forgotten with the instance");
    }
    stage.crash().await;
    assert!(stage.shard.live.is_empty(), "its entries are not missed any more");
    assert_eq!(stage.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn many_idle_instances_do_not_keep_the_log_long() {
    let config = Config { clean_every: 50, park_after_seconds: u64::MAX, ..Config::default() };
    let mut stage = Stage::new(definition(NAP), config).await;
    for number in 0..600 {
        stage.start(&format!("idle-{number}"), json!({}), false);
    }
    stage.haul().await;
    for number in 0..3_000 {
        let id = format!("busy-{number}");
        stage.start(&id, json!({}), false);
        stage.haul().await;
        stage.cancel(&id);
        stage.haul().await;
        stage.shard.take(Input::Archived { id });
        stage.haul().await;
    }
    let stored = stage.journal.read(0).await.unwrap().len();
    assert!(stored < 4_000, "{stored} records are kept of 9,000");
    stage.crash().await;
    let running = |live: &Live| live.state.status() == Status::Running && live.id.starts_with("idle");
    assert_eq!(stage.shard.live.values().filter(|live| running(live)).count(), 600);
    assert_eq!(stage.shard.live(), 600);
}

#[tokio::test(start_paused = true)]
async fn a_shard_with_nothing_to_do_does_not_clean_for_ever() {
    let config = Config { clean_every: 1, ..Config::default() };
    let mut stage = Stage::new(definition(NAP), config).await;
    for number in 0..600 {
        stage.start(&format!("i-{number}"), json!({}), false);
        stage.settle().await;
    }
    let last = stage.shard.last;
    stage.settle().await;
    assert_eq!(stage.shard.last, last);
}

#[tokio::test(start_paused = true)]
async fn timers_and_waiters_go_when_they_are_of_no_use() {
    let mut stage = Stage::new(definition(NAP), Config::default()).await;
    stage.start("i-1", json!({}), false);
    stage.settle().await;
    assert!(stage.shard.timers.next().is_some());
    for _ in 0..100 {
        stage.start("i-1", json!({}), true);
        stage.open.clear();
    }
    assert_eq!(stage.shard.live.get_mut("i-1").unwrap().take_waiters().len(), 1);
    stage.cancel("i-1");
    stage.settle().await;
    assert_eq!(stage.shard.timers.next(), None, "a day is long, and there may be many of them");
}

/// A log that is read record by record, and of which the first `most` are forgotten after the first was read.
#[derive(Clone)]
struct Forgetting(MemoryJournal, u64);

impl Journal for Forgetting {
    fn append(
        &self,
        expected: u64,
        record: bytes::Bytes,
    ) -> impl Future<Output = Result<u64, JournalError>> + Send + 'static {
        self.0.append(expected, record)
    }

    async fn last(&self) -> Result<Option<Appended>, JournalError> {
        self.0.last().await
    }

    async fn read(&self, sequence: u64) -> Result<Vec<Appended>, JournalError> {
        let mut read = self.0.read(sequence).await?;
        read.truncate(1);
        if read.first().is_some_and(|one| one.sequence == 2) {
            self.0.forget(self.1).await?;
        }
        Ok(read)
    }

    async fn at(&self, sequence: u64) -> Result<Option<bytes::Bytes>, JournalError> {
        self.0.at(sequence).await
    }

    fn forget(&self, sequence: u64) -> impl Future<Output = Result<(), JournalError>> + Send + 'static {
        self.0.forget(sequence)
    }

    fn claim(&self, name: &str, value: &bytes::Bytes) -> Object {
        self.0.claim(name, value)
    }

    async fn keep(&self, claim: &Object, value: bytes::Bytes) -> Result<(), JournalError> {
        self.0.keep(claim, value).await
    }

    async fn kept(&self, claim: &Object) -> Result<Option<bytes::Bytes>, JournalError> {
        self.0.kept(claim).await
    }

    async fn discard(&self, claim: &Object) -> Result<(), JournalError> {
        self.0.discard(claim).await
    }

    async fn standing(&self) -> Result<Vec<Object>, JournalError> {
        self.0.standing().await
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_owner_forgets_under_the_reader_does_not_rise_again() {
    let mut stage = Stage::new(definition(CALL), Config::default()).await;
    stage.start("i-1", json!({}), false);
    stage.settle().await;
    stage.reply(0, ok());
    stage.settle().await;
    stage.archive(0);
    stage.settle().await;
    stage.start("i-2", json!({}), false);
    stage.settle().await;
    let since = stage.shard.live["i-2"].since;
    let mut folded = Folded::default();
    folded.read(&Forgetting(stage.journal.clone(), since)).await.unwrap();
    assert_eq!(folded.live.keys().collect::<Vec<_>>(), ["i-2"], "the first one ended in what was forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_second_operator_is_told_that_there_is_nothing_to_decide() {
    let mut stage = Stage::new(definition(NAP), Config::default()).await;
    stage.start("i-1", json!({}), false);
    stage.settle().await;
    let (who, why) = ("ada".to_owned(), "test".to_owned());
    let action = sinew::workflow::Operation::Retry;
    stage.ask("i-1", Ask::Operate { id: "i-1".to_owned(), action, who, why });
    let (_, mut answer) = stage.open.pop().unwrap();
    assert!(matches!(answer.try_recv(), Ok(Err(WorkflowError::WrongState(_)))));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_was_undone_before_it_started_never_starts() {
    let config = Config { clean_every: 8, ..Config::default() };
    let mut stage = Stage::new(definition(NAP), config).await;
    stage.ask("c-1", Ask::Bury { id: "c-1".to_owned() });
    let (_, mut answer) = stage.open.pop().unwrap();
    assert!(answer.try_recv().is_err(), "it is not in the log yet");
    stage.settle().await;
    assert!(matches!(answer.try_recv(), Ok(Ok(Answer::Unknown))));
    stage.crash().await;
    for number in 0..40 {
        stage.start(&format!("i-{number}"), json!({}), false);
        stage.settle().await;
    }
    stage.crash().await;
    stage.start_child("c-1", json!({}));
    let (_, mut late) = stage.open.pop().unwrap();
    stage.settle().await;
    assert!(matches!(late.try_recv(), Ok(Err(WorkflowError::InvalidStart(_)))));
    assert!(!stage.shard.live.contains_key("c-1"));
    // A grave is forgotten after its time, once the log would have to carry it on.
    stage.pass(Duration::from_secs(25 * 3_600)).await;
    for number in 40..80 {
        stage.start(&format!("i-{number}"), json!({}), false);
        stage.settle().await;
    }
    assert_eq!(stage.shard.notes().len(), 0);
    assert_eq!(stage.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_started_meanwhile_is_not_buried() {
    let mut stage = Stage::new(definition(NAP), Config::default()).await;
    stage.start_child("c-1", json!({}));
    stage.ask("c-1", Ask::Bury { id: "c-1".to_owned() });
    let (_, mut answer) = stage.open.pop().unwrap();
    stage.settle().await;
    assert!(matches!(answer.try_recv(), Ok(Ok(Answer::Instance(_)))));
    assert_eq!(stage.shard.notes().len(), 0);
}
