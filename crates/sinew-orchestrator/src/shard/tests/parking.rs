//! What is parked: it wakes for what happens to it, once, and nothing of it is lost wherever its owner dies.

use std::time::Duration;

use serde_json::json;
use sinew::workflow::WorkflowError;
use sinew_workflow::{Effect, Outcome, Status, TaskId};
use tokio::sync::oneshot;

use super::{Stage, definition};
use crate::{
    Config,
    id::Id,
    journal::Journal,
    shard::{Answer, Ask, Input, Note, Reply},
};

const NAP: &str = "  - nap: { wait: PT24H }\n  - a: { call: svc.a }\n";
const HEAR: &str =
    "  - heard: { listen: { to: { one: { with: { type: heard } } } } }\n  - a: { call: svc.a }\n";
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn config() -> Config {
    Config { park_after_seconds: 0, ..Config::default() }
}

/// Starts instances and lets them be parked.
async fn parked(tasks: &str, config: Config, count: usize) -> Stage {
    let mut stage = Stage::new(definition(tasks), config).await;
    for number in 0..count {
        stage.start(&format!("i-{number}"), json!({ "n": number }), false);
    }
    stage.settle().await;
    assert_eq!((stage.shard.live.len(), stage.shard.parked.len()), (0, count));
    stage
}

/// Returns the instances that were asked for a call.
fn called(stage: &Stage) -> Vec<&str> {
    let calls = stage.begun.iter().filter(|(_, effect)| matches!(effect, Effect::Call { .. }));
    calls.map(|(id, _)| id.as_str()).collect()
}

fn listens(stage: &Stage) -> (TaskId, u32) {
    let listens = stage.begun.iter().find_map(|(_, effect)| match effect {
        Effect::Listen { task, attempt, .. } => Some((*task, *attempt)),
        _ => None,
    });
    listens.expect("somebody listens")
}

async fn ends(stage: &mut Stage) {
    while let Some(at) = stage.begun.iter().position(|(_, effect)| matches!(effect, Effect::Call { .. })) {
        stage.reply(at, Outcome::Completed(json!({})));
        stage.settle().await;
    }
    assert!(!stage.archives.is_empty(), "somebody ended");
    assert!(stage.archives.iter().all(|record| record.instance().unwrap().status == "completed"));
    assert_eq!(stage.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_parked_instance_wakes_once_for_its_timer() {
    let mut stage = parked(NAP, config(), 3).await;
    stage.pass(DAY - Duration::from_secs(60)).await;
    stage.settle().await;
    assert_eq!(stage.shard.parked.len(), 3, "it is not time yet");
    stage.pass(Duration::from_secs(120)).await;
    stage.settle().await;
    stage.pass(Duration::from_secs(1)).await;
    stage.settle().await;
    let mut woken = called(&stage);
    woken.sort_unstable();
    assert_eq!(woken, ["i-0", "i-1", "i-2"], "each is called once");
    ends(&mut stage).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_reaches_a_parked_listener_exactly_once_whoever_owns_it() {
    let mut stage = parked(HEAR, config(), 1).await;
    let listens = listens(&stage);
    stage.crash().await;
    assert_eq!(stage.shard.parked.len(), 1, "the next owner leaves it where it is");
    assert_eq!(self::listens(&stage), listens, "and listens on its behalf");
    stage.hear_of("i-0", listens, "EVENTS/7");
    stage.hear_of("i-0", listens, "EVENTS/7");
    stage.settle().await;
    assert_eq!(called(&stage), ["i-0"]);
    ends(&mut stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_instance_is_shown_repeated_and_cancelled_like_any_other() {
    let mut stage = parked(NAP, config(), 2).await;
    stage.get("i-0");
    stage.start("i-0", json!({ "n": 0 }), false);
    stage.start("i-0", json!({ "n": 9 }), false);
    let (_, mut duplicate) = stage.open.pop().unwrap();
    let before = stage.accepted.len();
    stage.settle().await;
    assert_eq!(stage.accepted.len(), before + 2, "shown, and answered as a repetition");
    assert!(matches!(duplicate.try_recv(), Ok(Err(WorkflowError::DuplicateStart(_)))));
    let last = stage.shard.last;
    stage.pass(Duration::from_secs(5)).await;
    stage.settle().await;
    assert_eq!(
        (stage.shard.parked.len(), stage.shard.last),
        (2, last),
        "nothing changed: nothing is written"
    );
    stage.cancel("i-1");
    stage.settle().await;
    assert_eq!(stage.archives[0].instance().unwrap().status, "cancelled");
    assert_eq!(stage.shard.parked.len(), 1);
    assert_eq!(stage.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_parked_are_listed_the_newest_first_and_only_as_many_as_wanted() {
    let mut stage = Stage::new(definition(NAP), config()).await;
    for number in 0..300 {
        stage.start(&format!("i-{number}"), json!({}), false);
        stage.haul().await;
        stage.pass(Duration::from_millis(10)).await;
    }
    assert_eq!(stage.shard.parked.len(), 300);
    let ask = async |stage: &mut Stage, status: Option<&str>| {
        let (reply, answer) = Reply::pair();
        let list = Ask::List { name: "flow".to_owned(), status: status.map(str::to_owned), limit: 4 };
        stage.shard.take(Input::Ask { ask: list, reply });
        stage.read().await;
        let Ok(Ok(Answer::List(found))) = answer.await else { panic!("no list") };
        found.into_iter().map(|instance| instance.id).collect::<Vec<_>>()
    };
    assert_eq!(ask(&mut stage, Some("running")).await, ["i-299", "i-298", "i-297", "i-296"]);
    assert_eq!(ask(&mut stage, Some("faulted")).await, [""; 0]);
    assert_eq!(stage.shard.parked.len(), 300, "nobody was woken");
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_and_a_crash_leave_the_parked_where_they_are() {
    let mut stage = parked(NAP, config(), 5).await;
    stage.drain().await;
    assert_eq!((stage.shard.live.len(), stage.shard.parked.len()), (0, 5));
    // Somebody is being woken when the owner dies.
    stage.cancel("i-3");
    stage.crash().await;
    assert_eq!((stage.shard.live.len(), stage.shard.parked.len()), (0, 5));
    stage.pass(DAY).await;
    stage.settle().await;
    assert_eq!(called(&stage).len(), 5);
    ends(&mut stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_before_the_parked_state_is_acknowledged_loses_nothing() {
    let mut stage = Stage::new(definition(HEAR), config()).await;
    stage.start("i-0", json!({}), false);
    stage.send();
    stage.store().await;
    stage.acknowledge();
    assert_eq!(stage.shard.live.len(), 1, "its parked state is on its way");
    stage.look().await;
    let listens = listens(&stage);
    stage.send();
    // What happens now stands behind the parked state.
    stage.hear_of("i-0", listens, "EVENTS/7");
    stage.store().await;
    stage.acknowledge();
    assert_eq!(stage.shard.live.len(), 1, "it has more to do than to wait");
    stage.send();
    stage.store().await;
    stage.crash().await;
    assert_eq!(called(&stage), ["i-0"]);
    assert_eq!(stage.shard.live["i-0"].state.status(), Status::Running);
    ends(&mut stage).await;
}

#[tokio::test(start_paused = true)]
async fn the_cleaner_moves_the_parked_forward_and_the_log_stays_short() {
    let mut stage = parked(NAP, Config { clean_every: 20, ..config() }, 200).await;
    stage.pass(Duration::from_secs(3_600)).await;
    for number in 0..3_000 {
        let id = format!("busy-{number}");
        stage.start(&id, json!({}), false);
        stage.cancel(&id);
        stage.haul().await;
        stage.shard.take(Input::Archived { id });
        stage.haul().await;
    }
    let stored = stage.journal.read(0).await.unwrap().len();
    assert!(stored < 1_500, "{stored} records are kept of some 6,000");
    stage.crash().await;
    assert_eq!((stage.shard.live.len(), stage.shard.parked.len()), (0, 200));
    stage.pass(DAY).await;
    stage.settle().await;
    assert_eq!(called(&stage).len(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_note_and_a_mark_wait_for_those_who_were_being_woken_before() {
    let mut stage = parked(HEAR, config(), 1).await;
    let listens = listens(&stage);
    stage.hear_of("i-0", listens, "EVENTS/7");
    let (told, mut at) = oneshot::channel();
    stage.shard.take(Input::Mark { told });
    stage.shard.take(Input::Note(Note::new("events", json!({ "sequence": 7, "at": 1 }))));
    assert!(stage.shard.batch.is_empty(), "it speaks of an event that nobody has taken yet");
    assert!(at.try_recv().is_err());
    stage.crash().await;
    assert!(!stage.shard.notes().contains_key("events"), "the next owner reads the event again");
    stage.hear_of("i-0", listens, "EVENTS/7");
    stage.shard.take(Input::Note(Note::new("events", json!({ "sequence": 7, "at": 1 }))));
    stage.settle().await;
    stage.crash().await;
    assert!(stage.shard.notes().contains_key("events"));
    assert_eq!(called(&stage), ["i-0"]);
    assert_eq!(stage.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_an_instance_keeps_it_from_being_parked() {
    let mut stage = Stage::new(definition(NAP), config()).await;
    stage.start("i-0", json!({}), true);
    stage.settle().await;
    stage.pass(Duration::from_secs(10)).await;
    stage.settle().await;
    assert_eq!(stage.shard.live.len(), 1);
    stage.open.clear();
    stage.pass(Duration::from_secs(10)).await;
    stage.settle().await;
    assert!(stage.shard.parked.get(&Id::of("i-0")).is_some());
}

#[tokio::test(start_paused = true)]
async fn in_a_crowd_those_who_wait_are_parked_at_once_and_who_cannot_be_holds_nobody_up() {
    let config = Config { park_after_seconds: 3_600, park_above: 10, ..Config::default() };
    let mut stage = Stage::new(definition(NAP), config).await;
    // Somebody waits for the first one, and it comes first in the queue.
    stage.start("i-awaited", json!({}), true);
    for number in 0..500 {
        stage.start(&format!("i-{number}"), json!({}), false);
    }
    stage.settle().await;
    for _ in 0..8 {
        stage.pass(Duration::from_millis(250)).await;
        stage.settle().await;
    }
    let left = stage.shard.live.len();
    assert!(left <= 10, "{left} are a crowd");
    assert!(stage.shard.live.contains_key("i-awaited"));
    stage.crash().await;
    assert_eq!((stage.shard.live.len(), stage.shard.parked.len()), (left, 501 - left));
    assert_eq!(stage.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_parked_instances_wake_at_the_same_moment() {
    let mut stage = Stage::new(definition(NAP), config()).await;
    for number in 0..1_000 {
        stage.start(&format!("i-{number}"), json!({}), false);
    }
    stage.haul().await;
    assert_eq!(stage.shard.parked.len(), 1_000);
    stage.crash().await;
    let mut passes = 0;
    while !stage.shard.parked.is_empty() {
        stage.pass(DAY).await;
        stage.settle().await;
        passes += 1;
        assert!(passes < 100, "{} are still parked", stage.shard.parked.len());
    }
    for _ in 0..20 {
        stage.pass(Duration::from_secs(1)).await;
        stage.settle().await;
    }
    assert_eq!(called(&stage).len(), 1_000);
    assert_eq!(stage.violations, [""; 0]);
}
