//! Events in batches: as many as there are, each with an outcome of its own.

use std::sync::{Arc, Mutex};

use sinew::{Batch, BatchGroup, Group, Outcomes, REDELIVERIES, Retry, State, dead_letters};

use super::book::quick;
use super::*;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn events_come_together_up_to_the_limit() {
    let stage = Stage::start().await;
    let desk = Desk::default();
    published(&stage, 0..25).await;
    let _search = stage.start_service(search(&desk, write, |group| group.max(10).linger(secs(1)))).await;
    desk.reaches(25).await;
    let sizes: Vec<_> = desk.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(desk.numbers(), (0..25).collect::<Vec<_>>());
    settled(&stage).await;
}

#[tokio::test]
async fn a_batch_that_is_not_full_waits_no_longer_than_it_may() {
    let stage = Stage::start().await;
    let desk = Desk::default();
    let _search = stage.start_service(search(&desk, write, |group| group.linger(ms(20)))).await;
    let began = std::time::Instant::now();
    stage.publish(1).await;
    desk.reaches(1).await;
    assert!(began.elapsed() < secs(5), "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn p1_each_event_of_a_batch_has_its_own_outcome() {
    let stage = Stage::start().await;
    let desk = Desk::default();
    // Even numbers are written; 3 is busy once; 5 is refused for good.
    let choosy = async |batch: Batch<Noted>, State(desk): State<Desk>| {
        let mut outcomes = batch.outcomes();
        for item in &batch {
            desk.note(vec![item.event.number]);
            match item.event.number {
                3 if item.attempt() == 1 => outcomes.fail(item, DeskError::Busy),
                5 => outcomes.fail(item, DeskError::OutOfStock { sku: "tea".into() }),
                _ => {}
            }
        }
        Ok::<Outcomes, DeskError>(outcomes)
    };
    published(&stage, 0..8).await;
    let _search = stage.start_service(search(&desk, choosy, |group| group.max(8))).await;
    desk.reaches(9).await;
    settled(&stage).await;
    let mut numbers = desk.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 3, 4, 5, 6, 7], "only the busy one came again");
    let letters = dead(&stage).await;
    assert_eq!(letters, [("out-of-stock".into(), 6, 1)]);
}

#[tokio::test]
async fn p1_poison_in_a_batch_is_buried_and_its_neighbours_are_handled() {
    let stage = Stage::start().await;
    let desk = Desk::default();
    stage.publish(1).await;
    stage.bus.publish_acked(Noted::SUBJECT, &Headers::new(), "spam".into(), PATIENCE).await.unwrap();
    stage.publish(3).await;
    let _search = stage.start_service(search(&desk, write, |group| group.max(3))).await;
    desk.reaches(2).await;
    settled(&stage).await;
    assert_eq!(desk.batches(), [vec![1, 3]], "one batch, without the poison");
    assert_eq!(dead(&stage).await, [("poison".into(), 2, 1)]);
}

#[tokio::test]
async fn p1_a_batch_that_fails_as_a_whole_is_tried_again_as_a_whole() {
    let stage = Stage::start().await;
    let desk = Desk::default();
    let at_last = async |batch: Batch<Noted>, State(desk): State<Desk>| {
        let first = batch.iter().all(|item| item.attempt() == 1);
        desk.note(batch.iter().map(|item| item.event.number).collect());
        if first { Err(DeskError::Busy) } else { Ok(()) }
    };
    published(&stage, 0..4).await;
    let _search = stage.start_service(search(&desk, at_last, |group| group.max(4).linger(ms(300)))).await;
    desk.reaches(8).await;
    settled(&stage).await;
    assert!(dead(&stage).await.is_empty());
}

#[tokio::test]
async fn p1_one_event_that_fails_its_batch_does_not_take_its_neighbours_along() {
    let stage = Stage::start().await;
    let desk = Desk::default();
    // Says nothing of single events, and panics at one of them.
    let clumsy = async |batch: Batch<Noted>, State(desk): State<Desk>| {
        let numbers: Vec<_> = batch.into_iter().map(|item| item.event.number).collect();
        assert!(!numbers.contains(&2), "this test asks for the panic");
        desk.note(numbers);
        Ok::<(), DeskError>(())
    };
    published(&stage, 0..4).await;
    let two = |group: BatchGroup| group.max(4).linger(ms(300)).retry(quick().attempts(2));
    let _search = stage.start_service(search(&desk, clumsy, two)).await;
    settled(&stage).await;
    let mut numbers = desk.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 3]);
    assert_eq!(dead(&stage).await, [("panic".into(), 3, 2)]);
}

#[tokio::test]
async fn p1_a_slow_batch_has_its_events_for_itself_and_so_has_the_next_one() {
    let stage = Stage::start().await;
    let desk = Desk::default();
    let slow = async |batch: Batch<Noted>, State(desk): State<Desk>| {
        // why: only time shows that the server does not lose its patience.
        tokio::time::sleep(ms(700)).await;
        assert!(batch.iter().all(|item| item.attempt() == 1));
        desk.note(batch.iter().map(|item| item.event.number).collect());
        Ok::<(), DeskError>(())
    };
    published(&stage, 0..6).await;
    let _search = stage.start_service(search(&desk, slow, |group| group.max(3).ack_wait(ms(200)))).await;
    desk.reaches(6).await;
    settled(&stage).await;
    assert_eq!(desk.numbers(), [0, 1, 2, 3, 4, 5], "each of them once");
}

#[tokio::test]
async fn p1_long_delays_and_retried_letters_reach_a_batch_group_too() {
    let stage = Stage::start().await;
    let desk = Desk::default();
    let choosy = async |batch: Batch<Noted>, State(desk): State<Desk>| {
        let told = batch.iter().map(|item| {
            desk.note(vec![item.attempt()]);
            if item.ctx().redelivery().is_none() { Err(DeskError::Busy) } else { Ok(()) }
        });
        told.collect::<Vec<_>>()
    };
    stage.publish(1).await;
    let hold = |group: BatchGroup| group.longest_hold(Duration::ZERO).linger(ms(5));
    let _search = stage.start_service(search(&desk, choosy, hold)).await;
    desk.reaches(2).await;
    assert_eq!(desk.numbers(), [1, 2]);
    eventually(SOON, || async { stage.bus.stream_state(REDELIVERIES).await.unwrap().messages == 0 }).await;
}

#[tokio::test]
async fn p5_a_member_that_stops_hands_back_what_it_gathered() {
    let stage = Stage::start().await;
    let desk = Desk::default();
    let patient = |group: BatchGroup| group.max(100).linger(secs(60)).retry(Retry::never());
    let first = stage.start_service(search(&desk, write, patient)).await;
    published(&stage, 0..5).await;
    eventually(SOON, || async { unanswered(&stage).await == 5 }).await;
    first.drain().await;
    assert!(desk.numbers().is_empty(), "nothing was begun");
    let _second = stage.start_service(search(&desk, write, |group| group.linger(ms(20)))).await;
    desk.reaches(5).await;
    settled(&stage).await;
    assert!(dead(&stage).await.is_empty());
}

#[tokio::test]
async fn a_batch_group_is_described_with_its_settings() {
    let service = search(&Desk::default(), write, |group| group.max(500).linger(ms(50)).concurrency(2));
    let group = service.describe().groups.remove(0);
    let batch = group.batch.unwrap();
    assert_eq!((batch.max, batch.linger_ms, group.concurrency), (500, 50, 2));
    let single =
        Service::new("mail", ()).on("mailer", async |_: Noted| Ok::<(), Problem>(()), |group: Group| group);
    assert_eq!(single.describe().groups[0].batch, None);
}

/// The batches a handler has seen.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Vec<Vec<u32>>>>);

impl Desk {
    fn note(&self, numbers: Vec<u32>) {
        self.0.lock().unwrap().push(numbers);
    }

    fn batches(&self) -> Vec<Vec<u32>> {
        self.0.lock().unwrap().clone()
    }

    fn numbers(&self) -> Vec<u32> {
        self.batches().concat()
    }

    async fn reaches(&self, events: usize) {
        eventually(SOON, || std::future::ready(self.numbers().len() >= events)).await;
    }
}

async fn write(batch: Batch<Noted>, State(desk): State<Desk>) -> Result<(), DeskError> {
    desk.note(batch.iter().map(|item| item.event.number).collect());
    Ok(())
}

fn search<M: Send + Sync + 'static>(
    desk: &Desk,
    handler: impl sinew::BatchHandler<Noted, Desk, M>,
    configure: impl FnOnce(BatchGroup) -> BatchGroup,
) -> Service<Desk> {
    Service::new("search", desk.clone()).on_batch("indexer", handler, |group| configure(group.retry(quick())))
}

async fn published(stage: &Stage, numbers: std::ops::Range<u32>) {
    for number in numbers {
        stage.publish(number).await;
    }
}

async fn unanswered(stage: &Stage) -> u64 {
    let state = stage.bus.consumer_state(sinew::EVENTS, "search+indexer").await.unwrap();
    state.map_or(0, |state| state.unanswered)
}

/// Waits until every event is answered for good.
async fn settled(stage: &Stage) {
    let all = async || {
        let state = stage.bus.consumer_state(sinew::EVENTS, "search+indexer").await.unwrap();
        state.is_some_and(|state| state.unanswered == 0 && state.waiting == 0)
    };
    eventually(SOON, all).await;
}

/// Returns code, sequence of the event and attempts of every dead letter.
async fn dead(stage: &Stage) -> Vec<(String, u64, u32)> {
    let desk = dead_letters::DeadLetters::new(&stage.bus);
    let page = desk.page(&dead_letters::Filter::default(), 0, 100).await.unwrap();
    page.letters.into_iter().map(|letter| (letter.code, letter.origin, letter.attempts)).collect()
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}
