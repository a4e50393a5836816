//! Events that the server holds back: published when due, once, whatever happens meanwhile; and recurring ones.

use std::time::Instant;

use sinew::schedule::{self, Declared, Recurrence, Waiting};
use sinew::{EVENTS, Kind};

use super::book::{Book, mail};
use super::*;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn a_delayed_event_comes_late_rather_than_early_and_once() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    let began = Instant::now();
    let delay = Duration::from_millis(900);
    let scheduled = stage.caller.publish(Noted { number: 1 }).id("n-1").after(delay).await.unwrap();
    stage.publish(2).await;
    let entries = book.reaches(2).await;
    assert!(began.elapsed() >= delay, "it came after {:?}", began.elapsed());
    assert_eq!(book.numbers(), [2, 1], "what waits holds nothing up");
    assert_eq!((entries[1].id.as_deref(), entries[1].attempt), (Some("n-1"), 1));
    assert!(!stage.caller.cancel_scheduled(&scheduled.id).await.unwrap(), "it is out");
    assert!(schedule::list(&stage.bus).await.unwrap().is_empty());
    assert_eq!(stage.bus.stream_state(EVENTS).await.unwrap().messages, 2, "each of them once");
}

#[tokio::test]
async fn an_event_for_a_moment_that_has_passed_comes_at_once() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    let past = "2020-01-01T00:00:00Z".parse().unwrap();
    stage.caller.publish(Noted { number: 1 }).at(past).await.unwrap();
    book.reaches(1).await;
}

#[tokio::test]
async fn a_cancelled_event_never_comes() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    let doomed = stage.caller.publish(Noted { number: 1 }).after(Duration::from_millis(700)).await.unwrap();
    // A name that was written down does as well.
    let id = doomed.id.to_string().parse().unwrap();
    assert!(stage.caller.cancel_scheduled(&id).await.unwrap());
    assert!(!stage.caller.cancel_scheduled(&id).await.unwrap(), "once is enough");
    // Comes after the other one would have.
    stage.caller.publish(Noted { number: 2 }).after(Duration::from_millis(1_500)).await.unwrap();
    book.reaches(1).await;
    assert_eq!(book.numbers(), [2]);
}

#[tokio::test]
async fn an_event_scheduled_again_under_its_id_is_moved() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    let remind = async |number, seconds| {
        let event = stage.caller.publish(Noted { number }).id("order-7");
        event.after(Duration::from_secs(seconds)).await.unwrap()
    };
    let first = remind(1, 3_600).await;
    let second = remind(2, 0).await;
    assert_eq!(first.id, second.id);
    book.reaches(1).await;
    assert_eq!(book.numbers(), [2]);
    assert!(schedule::list(&stage.bus).await.unwrap().is_empty());
}

#[tokio::test]
async fn p1_what_waits_survives_a_killed_server() {
    let mut stage = Stage::on(Harness::start_synced().await).await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    stage.caller.publish(Noted { number: 1 }).after(Duration::from_millis(800)).await.unwrap();
    stage.caller.publish(Noted { number: 2 }).after(Duration::from_secs(4)).await.unwrap();
    stage.harness.kill().await;
    stage.harness.revive().await;
    // The first was due while the server was down, or soon after.
    book.reaches(2).await;
    assert_eq!(book.numbers(), [1, 2]);
}

#[tokio::test]
async fn a_recurring_event_comes_again_and_again_as_a_new_event_each_time() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    let declared = tick(&stage.caller, 1, 1).await;
    assert_eq!(declared, Declared::New);
    let entries = book.reaches(2).await;
    assert!(entries[0].id.is_some() && entries[0].id != entries[1].id, "{entries:?}");
    let [Waiting::Recurring { service, name, next, .. }] = &schedule::list(&stage.bus).await.unwrap()[..]
    else {
        panic!("one recurring event");
    };
    assert_eq!((service.as_str(), name.as_str()), ("caller", "tick"));
    assert!(next.is_some_and(|next| next > now() - Duration::from_secs(2)), "{next:?}");
    assert!(schedule::remove(&stage.bus, "caller", "tick").await.unwrap());
    assert!(!schedule::remove(&stage.bus, "caller", "tick").await.unwrap());
}

#[tokio::test]
async fn declaring_the_same_from_many_replicas_makes_one_schedule() {
    let stage = Stage::start().await;
    let other = Ctx::detached(&connect(&stage.harness, "replica").await, "caller");
    let (mine, theirs) = tokio::join!(tick(&stage.caller, 1, 3_600), tick(&other, 1, 3_600));
    let mut both = [mine, theirs];
    both.sort_by_key(|declared| *declared == Declared::Unchanged);
    assert_eq!(both, [Declared::New, Declared::Unchanged]);
    assert_eq!(tick(&other, 1, 7_200).await, Declared::Replaced);
    assert_eq!(tick(&stage.caller, 2, 7_200).await, Declared::Replaced, "another content");
    let waiting = schedule::list(&stage.bus).await.unwrap();
    let [Waiting::Recurring { recurrence, next, .. }] = &waiting[..] else { panic!("{waiting:?}") };
    assert_eq!(recurrence, &Recurrence::every(Duration::from_secs(7_200)));
    assert!(next.is_some_and(|next| next > now() + Duration::from_secs(7_000)));
}

#[tokio::test]
async fn a_recurrence_the_server_cannot_read_is_a_mistake_of_ours() {
    let stage = Stage::start().await;
    for (spec, zone) in
        [("0 0 25 * * *", None), ("0 0 5 * * *", Some("Europe/Nowhere")), ("30 2 * * *", None)]
    {
        let mut recurrence = Recurrence::cron(spec);
        recurrence = if let Some(zone) = zone { recurrence.zone(zone) } else { recurrence };
        let refused = stage.caller.publish(Noted { number: 1 }).repeat("bad", recurrence).await;
        assert_eq!(refused.unwrap_err().kind(), Kind::Config, "{spec} {zone:?}");
    }
    let berlin = Recurrence::cron("0 30 2 * * mon-fri").zone("Europe/Berlin");
    let declared = stage.caller.publish(Noted { number: 1 }).repeat("good", berlin).await;
    assert_eq!(declared.unwrap(), Declared::New);
}

#[tokio::test]
async fn p1_a_recurring_event_goes_on_after_the_server_was_killed() {
    let mut stage = Stage::on(Harness::start_synced().await).await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    tick(&stage.caller, 1, 1).await;
    book.reaches(1).await;
    stage.harness.kill().await;
    stage.harness.revive().await;
    let before = book.entries().len();
    eventually(SOON, || std::future::ready(book.entries().len() >= before + 2)).await;
}

#[tokio::test]
async fn a_service_declares_its_recurring_events_at_its_start() {
    let stage = Stage::start().await;
    let book = Book::default();
    let hourly = || Recurrence::cron("@hourly");
    let service = || mail(&book, |group| group).repeat("hourly", hourly(), Noted { number: 1 });
    let _one = stage.start_service(service()).await;
    let _two = stage.start_service(service()).await;
    let waiting = schedule::list(&stage.bus).await.unwrap();
    let [Waiting::Recurring { service, name, recurrence, target, .. }] = &waiting[..] else {
        panic!("{waiting:?}")
    };
    assert_eq!((service.as_str(), name.as_str(), target.as_str()), ("mail", "hourly", Noted::SUBJECT));
    assert_eq!(recurrence, &hourly());
}

async fn tick(ctx: &Ctx, number: u32, seconds: u64) -> Declared {
    let every = Recurrence::every(Duration::from_secs(seconds));
    ctx.publish(Noted { number }).repeat("tick", every).await.expect("declare a schedule")
}
