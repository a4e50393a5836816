//! The past, given to one group once more.

use sinew::replay::{Progress, Replay};
use sinew::{Bulk, Kind, REDELIVERIES, Redelivery};

use super::book::{Book, mail, write_down};
use super::*;
use crate::harness::{RawClient, SOON, eventually};

#[tokio::test]
async fn a_range_comes_again_to_one_group_and_says_that_it_does() {
    let stage = Stage::start().await;
    let (book, audit) = (Book::default(), Book::default());
    let _mail = stage.start_service(mail(&book, |group| group.concurrency(1))).await;
    let audited = Service::new("audit", audit.clone()).on("mailer", write_down, |group| group);
    let _audit = stage.start_service(audited).await;
    noted(&stage, 10).await;
    book.reaches(10).await;
    let mut reports = Vec::new();
    let done =
        replay().from_sequence(3).to_sequence(6).run(&stage.bus, Bulk::default(), |at| reports.push(at));
    let done = done.await.unwrap();
    assert_eq!(done, Progress { first: 3, last: 6, copied: 4, skipped: 0, next: 7 });
    assert_eq!(
        reports.iter().map(|at| (at.copied, at.next)).collect::<Vec<_>>(),
        [(1, 4), (2, 5), (3, 6), (4, 7)]
    );
    let entries = book.reaches(14).await;
    assert_eq!(book.numbers()[10..], [2, 3, 4, 5]);
    assert!(
        entries[10..].iter().all(|entry| entry.redelivery == Some(Redelivery::Replay) && entry.attempt == 1)
    );
    assert_eq!(entries[10].id, entries[2].id, "the id it always had");
    eventually(SOON, || std::future::ready(audit.numbers().len() == 10)).await;
    eventually(SOON, || async { stage.bus.stream_state(REDELIVERIES).await.unwrap().messages == 0 }).await;
}

#[tokio::test]
async fn a_replay_may_begin_and_end_at_a_moment_and_take_some_only() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    noted(&stage, 3).await;
    let middle = now();
    for number in 3..6 {
        let about = if number == 4 { "desk 4" } else { "another" };
        stage.caller.publish(Noted { number }).about(about).await.unwrap();
    }
    book.reaches(6).await;
    let dry = async |replay: Replay| {
        replay.run(&stage.bus, Bulk::default().dry_run(), |_| ()).await.unwrap().copied
    };
    assert_eq!(dry(replay()).await, 6);
    assert_eq!(dry(replay().from_time(middle)).await, 3);
    assert_eq!(dry(replay().to_time(middle)).await, 3);
    assert_eq!(dry(replay().header("ce-subject", "desk%204")).await, 1);
    assert_eq!(stage.bus.stream_state(REDELIVERIES).await.unwrap().last_sequence, 0, "nothing was copied");
}

#[tokio::test]
async fn a_replay_that_stopped_goes_on_where_it_was() {
    let stage = Stage::start().await;
    let book = Book::default();
    let mail = stage.start_service(mail(&book, |group| group)).await;
    noted(&stage, 20).await;
    book.reaches(20).await;
    mail.drain().await;
    let replay = replay().id("after the fix");
    let part = replay.clone().run(&stage.bus, Bulk::default().limit(8), |_| ()).await.unwrap();
    assert_eq!((part.copied, part.next), (8, 9));
    // Three of them twice: a report may have been lost with its process.
    let rest = replay.from_sequence(part.next - 3).run(&stage.bus, Bulk::default(), |_| ()).await.unwrap();
    assert_eq!((rest.copied, rest.next), (15, 21));
    assert_eq!(stage.bus.stream_state(REDELIVERIES).await.unwrap().messages, 20, "each once");
}

#[tokio::test]
async fn a_replay_keeps_its_rate() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    noted(&stage, 6).await;
    let began = std::time::Instant::now();
    replay().run(&stage.bus, Bulk::default().rate(25.0), |_| ()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(190), "five pauses took {:?}", began.elapsed());
}

#[tokio::test]
async fn bytes_that_cost_a_connection_do_not_stop_a_replay() {
    let stage = Stage::start().await;
    let book = Book::default();
    sinew::ensure_streams(&stage.bus).await.unwrap();
    let mut raw = RawClient::connect(stage.harness.url()).await;
    let quickly =
        |group: sinew::Group| group.ack_wait(Duration::from_millis(100)).retry(sinew::Retry::never());
    let _mail = stage.start_service(mail(&book, quickly)).await;
    raw.publish(Noted::SUBJECT, b"NATS/1.0\r\nx-mark: a\rb\r\n\r\n", br#"{"number":1}"#).await;
    stage.publish(2).await;
    eventually(SOON, || std::future::ready(book.numbers().contains(&2))).await;
    let run = async || replay().run(stage.caller.bus(), Bulk::default(), |_| ()).await;
    let done = eventually(SOON, run).await;
    assert_eq!(done.copied, 2);
    eventually(SOON, || std::future::ready(book.numbers().contains(&1))).await;
}

#[tokio::test]
async fn a_group_that_does_not_stand_is_no_place_for_the_past() {
    let stage = Stage::start().await;
    sinew::ensure_streams(&stage.bus).await.unwrap();
    let refused = replay().run(&stage.bus, Bulk::default(), |_| ()).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Config);
}

fn replay() -> Replay {
    Replay::new("mail", "mailer")
}

async fn noted(stage: &Stage, count: u32) {
    for number in 0..count {
        stage.publish(number).await;
    }
}
