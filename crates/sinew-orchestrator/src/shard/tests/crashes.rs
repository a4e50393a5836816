//! Property: whatever happens, and wherever an owner is killed, replay(prefix) + rest ≡ live, nothing leaves before it
//! is stored, and every accepted start ends.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use sinew_workflow::{Fault, Outcome};

use super::{Stage, definition};
use crate::Config;

const FLOW: &str =
    "  - a: { call: svc.a, compensate: { call: svc.undo }, output: { as: '${ $workflow.input }' } }
  - nap: { wait: PT1S }
  - heard: { listen: { to: { one: { with: { type: heard } } } }, timeout: { after: PT9S } }
  - said: { emit: { event: { with: { type: said } } } }
  - b: { call: svc.b, timeout: { after: PT5S }, compensate: { call: svc.undo } }
  - c: { call: svc.c }
";

/// Small, so that records are split, states come in pieces, and the cleaner always has something to do.
fn config(park_after_seconds: u64) -> Config {
    Config { clean_every: 3, max_record_bytes: 4 * 1024, park_after_seconds, ..Config::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replay_goes_on_where_a_killed_owner_was(
        tape in proptest::collection::vec(any::<(u8, u8)>(), 1..160),
        park_after in prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(u64::MAX)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let violations = runtime.block_on(play(&tape, park_after));
        prop_assert!(violations.is_empty(), "{violations:#?}");
    }
}

async fn play(tape: &[(u8, u8)], park_after: u64) -> Vec<String> {
    let mut stage = Stage::new(definition(FLOW), config(park_after)).await;
    let mut started = 0;
    for (what, which) in tape {
        happen(&mut stage, *what, usize::from(*which), &mut started).await;
        stage.look().await;
    }
    finish(&mut stage).await;
    let lost = stage.accepted.iter().filter(|id| !stage.history.contains_key(*id));
    let lost: Vec<String> = lost.map(|id| format!("{id} was accepted and never ended")).collect();
    stage.violations.into_iter().chain(lost).collect()
}

async fn happen(stage: &mut Stage, what: u8, which: usize, started: &mut usize) {
    let some = format!("i-{}", which % (*started).max(1));
    match what % 22 {
        0 | 1 => {
            let (id, size) = (format!("i-{started}"), [10, 10, 900, 3_000][which % 4]);
            stage.start(&id, json!({ "text": "x".repeat(size) }), which.is_multiple_of(2));
            *started += 1;
        }
        // Whoever starts looks into the history first.
        2 if *started > 0 && !stage.history.contains_key(&some) => {
            stage.start(&some, json!({ "text": "x".repeat(10) }), which.is_multiple_of(2))
        }
        3..=7 if !stage.begun.is_empty() => {
            let index = which % stage.begun.len();
            stage.reply(index, outcome(which / 8));
        }
        8 if !stage.archives.is_empty() => stage.archive(which % stage.archives.len()),
        9 | 10 => stage.send(),
        11 | 12 => stage.store().await,
        13 | 14 => stage.acknowledge(),
        15 => stage.pass(Duration::from_millis(700)).await,
        16 if which.is_multiple_of(4) => stage.cancel(&some),
        17 => stage.get(&some),
        18 if which.is_multiple_of(4) => stage.crash().await,
        19 if which.is_multiple_of(8) => stage.drain().await,
        20 => stage.read().await,
        21 => stage.list(which % 5),
        _ => stage.settle().await,
    }
}

fn outcome(which: usize) -> Outcome {
    match which % 12 {
        0 => Outcome::Refused(Fault::communication("no")),
        1 => Outcome::Unknown(Fault::timeout("lost")),
        2 => Outcome::Completed(json!("y".repeat(5_000))),
        3 => Outcome::Completed(json!("y".repeat(1_500))),
        _ => Outcome::Completed(json!({ "done": true })),
    }
}

/// Lets everything succeed until no instance is left.
async fn finish(stage: &mut Stage) {
    stage.crash().await;
    for _ in 0..2_000 {
        stage.settle().await;
        if stage.shard.live() == 0 {
            return;
        }
        if !stage.begun.is_empty() {
            stage.reply(0, Outcome::Completed(json!({})));
        } else if !stage.archives.is_empty() {
            stage.archive(0);
        } else {
            stage.pass(Duration::from_secs(60)).await;
        }
    }
    stage.violations.push("instances never end".to_owned());
}
