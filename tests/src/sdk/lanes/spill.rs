//! Promise 3, where more waits behind a failing event than its group may hold: it is spilled, and comes back in order.

use sinew::{EVENTS, LANES};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_a_key_parked_with_more_followers_than_the_window_does_not_stop_others() {
    let stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Key(0));
    let _board = stage.start_service(board(&ledger, narrow)).await;
    for step in 0..201 {
        moved(&stage, 0, step).await;
    }
    for key in 1..=50 {
        moved(&stage, key, 0).await;
    }
    eventually(LATER, || std::future::ready(ledger.handled() == 50)).await;
    assert!(ledger.steps(0).is_empty(), "its first event fails, so none of the others has begun");
    assert!(spilled(&stage).await > 150, "what waits is not held in memory");
    ledger.calm();
    eventually(LATER, || std::future::ready(ledger.steps(0).len() == 201)).await;
    ledger.check(1, 201);
    assert_eq!(ledger.begun_first(0), (0..201).collect::<Vec<_>>(), "nothing behind it was tried before");
    assert_eq!(ledger.handled(), 251, "nothing was handled twice");
    eventually(SOON, || async { spilled(&stage).await == 0 }).await;
    // The lane is an ordinary one again, and nothing is left out at the server.
    moved(&stage, 0, 201).await;
    eventually(SOON, || std::future::ready(ledger.steps(0).len() == 202)).await;
    eventually(SOON, || async { unanswered(&stage).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_spilled_events_survive_a_takeover_in_order() {
    let stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Key(0));
    let member = Doomed::with(&stage, &ledger, |group| hasty(narrow(group)));
    for step in 0..100 {
        moved(&stage, 0, step).await;
    }
    eventually(LATER, || async { spilled(&stage).await > 80 }).await;
    let standby = connect(&stage.harness, "standby").await;
    let _standby = board(&ledger, |group| hasty(narrow(group))).start(&standby).await.unwrap();
    member.kill();
    // Newer ones go behind what the dead one has spilled.
    for step in 100..150 {
        moved(&stage, 0, step).await;
    }
    ledger.calm();
    eventually(LATER, || std::future::ready(ledger.steps(0).len() == 150)).await;
    ledger.check(1, 150);
    eventually(SOON, || async { spilled(&stage).await == 0 }).await;
    eventually(SOON, || async { unanswered(&stage).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_a_spilled_lane_goes_on_after_its_member_died_and_nothing_new_comes() {
    let stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Key(0));
    let member = Doomed::with(&stage, &ledger, |group| hasty(narrow(group)));
    for step in 0..60 {
        moved(&stage, 0, step).await;
    }
    eventually(LATER, || async { spilled(&stage).await == 59 }).await;
    // It dies in the middle of what it reads back: its first event is long settled.
    ledger.close();
    ledger.calm();
    ledger.gate.add_permits(10);
    eventually(LATER, || std::future::ready(ledger.steps(0).len() >= 5)).await;
    member.kill();
    assert!(spilled(&stage).await >= 45, "much is left to the next one");
    ledger.open();
    let _next = stage.start_service(board(&ledger, |group| hasty(narrow(group)))).await;
    eventually(LATER, || std::future::ready(ledger.steps(0).len() == 60)).await;
    ledger.check(1, 60);
    eventually(SOON, || async { spilled(&stage).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_spilled_events_survive_a_kill_of_the_server_in_order() {
    let mut stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Key(0));
    let _board = stage.start_service(board(&ledger, |group| hasty(narrow(group)))).await;
    let publisher = stage.caller.clone();
    let publishing = tokio::spawn(async move {
        for step in 0..200 {
            publisher.publish(Moved { key: 0, step }).id(format!("m-{step}")).await.unwrap();
        }
    });
    // In the middle of spilling, and of reading back.
    eventually(LATER, || async { spilled(&stage).await > 30 }).await;
    stage.harness.kill().await;
    stage.harness.revive().await;
    publishing.await.unwrap();
    ledger.calm();
    eventually(LATER, || std::future::ready(ledger.steps(0).len() > 20)).await;
    stage.harness.kill().await;
    stage.harness.revive().await;
    eventually(LATER, || std::future::ready(ledger.steps(0).len() == 200)).await;
    ledger.check(1, 200);
    eventually(LATER, || async { spilled(&stage).await == 0 }).await;
}

#[tokio::test]
async fn p3_a_hopeless_event_that_was_spilled_becomes_a_dead_letter_like_any_other() {
    let stage = Stage::start().await;
    let ledger = Ledger::new(Trouble::Key(0));
    let twice = |group| narrow(group).retry(quick().attempts(200));
    let _board = stage.start_service(board(&ledger, twice)).await;
    for step in 0..40 {
        moved(&stage, 0, step).await;
    }
    eventually(LATER, || async { spilled(&stage).await > 20 }).await;
    eventually(LATER, || async { dead_letters(&stage).await >= 2 }).await;
    ledger.calm();
    eventually(LATER, || async { spilled(&stage).await == 0 }).await;
    let buried = dead_letters(&stage).await;
    eventually(SOON, || std::future::ready(ledger.handled() as u64 == 40 - buried)).await;
    let mut letters = stage.bus.read_stream(DEAD_LETTERS, "dlq.board.screen", 1).await.unwrap();
    let letters = letters.batch().await.unwrap();
    for (at, letter) in letters.iter().enumerate() {
        assert_eq!(letter.headers.get("Sinew-Dead-Subject"), Some(Moved::SUBJECT));
        assert_eq!(letter.headers.get("Sinew-Dead-Sequence"), Some((at + 1).to_string().as_str()));
        assert_eq!(letter.headers.get("Sinew-Dead-Attempts"), Some("200"));
    }
}

/// Has room for few, and never gives up.
fn narrow(group: Ordered<Moved>) -> Ordered<Moved> {
    group.window(20, 1 << 20).retry(quick().attempts(1_000_000))
}

async fn spilled(stage: &Stage) -> u64 {
    stage.bus.stream_state(LANES).await.map_or(0, |state| state.messages)
}

async fn unanswered(stage: &Stage) -> u64 {
    stage.bus.consumer_state(EVENTS, "board+screen").await.unwrap().unwrap().unanswered
}
