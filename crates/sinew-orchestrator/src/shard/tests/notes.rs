//! What a shard notes for itself: kept through owners and cleaning, told in order.

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Stage, definition};
use crate::{
    Config,
    journal::Journal,
    shard::{Input, Note},
};

const QUICK: &str = "  - a: { set: { b: 1 } }\n";

fn note(stage: &mut Stage, name: &str, value: Value) -> oneshot::Receiver<()> {
    let (told, stored) = oneshot::channel();
    stage.shard.take(Input::Note(Note { stored: Some(told), ..Note::new(name, value) }));
    stored
}

#[tokio::test(start_paused = true)]
async fn a_note_outlives_owners_and_the_records_it_stood_in() {
    let config = Config { clean_every: 8, ..Config::default() };
    let mut stage = Stage::new(definition(QUICK), config).await;
    note(&mut stage, "kept", json!({ "n": 1 }));
    note(&mut stage, "kept", json!({ "n": 2 }));
    note(&mut stage, "gone", json!(1));
    note(&mut stage, "large", json!("x".repeat(1_200_000)));
    stage.settle().await;
    note(&mut stage, "gone", Value::Null);
    let first = stage.journal.read(1).await.unwrap()[0].sequence;
    for number in 0..200 {
        stage.start(&format!("i-{number}"), json!({}), false);
        stage.settle().await;
        while !stage.archives.is_empty() {
            stage.archive(0);
            stage.settle().await;
        }
        if number % 50 == 49 {
            stage.crash().await;
        }
    }
    let notes = stage.shard.notes();
    assert_eq!(notes.keys().collect::<Vec<_>>(), ["kept", "large"]);
    assert_eq!(
        (&notes["kept"], notes["large"].as_str().map(str::len)),
        (&json!({ "n": 2 }), Some(1_200_000))
    );
    assert!(stage.journal.read(1).await.unwrap()[0].sequence > first + 4, "where they stood is forgotten");
    assert_eq!(stage.violations, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_note_is_told_to_be_stored_when_it_is_and_a_mark_behind_what_was_decided_before() {
    let mut stage = Stage::new(definition(QUICK), Config::default()).await;
    let (told, mut at) = oneshot::channel();
    let mut stored = note(&mut stage, "kept", json!(1));
    stage.shard.take(Input::Mark { told });
    stage.send();
    stage.store().await;
    assert!(stored.try_recv().is_err() && at.try_recv().is_err(), "it is not acknowledged");
    stage.acknowledge();
    assert!(stored.try_recv().is_ok() && at.try_recv().is_ok());
    let (told, mut at) = oneshot::channel();
    stage.shard.take(Input::Mark { told });
    assert!(at.try_recv().is_ok(), "nothing is on its way");
    let mut lost = note(&mut stage, "lost", json!(1));
    stage.crash().await;
    assert!(matches!(lost.try_recv(), Err(oneshot::error::TryRecvError::Closed)), "its owner is gone");
}
