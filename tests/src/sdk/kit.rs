//! The testing kit as a user meets it: the same services, no server, time that stands still until it is moved.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use sinew::testing::{App, Kit, Stub, Timestamp};
use sinew::{Attempt, Retry, State};

use super::*;

/// Asks for a parcel to be sent.
#[derive(Clone, Debug, PartialEq, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "post.send", reply = u32, error = DeskError)]
struct Send {
    number: u32,
}

contract! { Post = "post" @ "1.0.0" { send: Send } }

/// A parcel is on its way.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "post.sent", version = 1)]
struct Sent {
    number: u32,
}

/// Takes notes, has what was noted sent, and tells that it was.
fn clerk() -> Service<()> {
    desk((), repeat)
        .on("sender", send_on, |group| group.retry(Retry::exponential(ms(100), ms(400)).attempts(4)))
}

async fn send_on(event: Noted, ctx: Ctx) -> Result<(), Problem> {
    let sent = ctx.call(Send { number: event.number }).await;
    let number = sent.map_err(|error| error.to_problem())?;
    ctx.publish(Sent { number }).await.map_err(|error| error.to_problem())?;
    Ok(())
}

#[tokio::test]
async fn a_call_is_answered_without_a_server() {
    let app = desk((), repeat).test().await;
    assert_eq!(app.call(echo("hello")).await.unwrap(), "hello");
    assert_eq!(app.calls::<Echo>().len(), 1);
}

#[tokio::test]
async fn publishing_returns_when_the_reactions_of_reactions_have_settled() {
    let seen = Arc::new(AtomicU32::new(0));
    let count = async |event: Sent, State(seen): State<Arc<AtomicU32>>| {
        tokio::task::yield_now().await;
        seen.fetch_add(event.number, Ordering::SeqCst);
        Ok::<_, Problem>(())
    };
    let archive = Service::new("archive", seen.clone()).on("files", count, |group| group);
    let app = Kit::new().service(clerk()).service(archive).stub::<Send>(|send| Ok(send.number + 1)).await;
    app.publish(Noted { number: 41 }).await;
    assert_eq!(seen.load(Ordering::SeqCst), 42);
    assert_eq!(app.calls::<Send>(), [Send { number: 41 }]);
    assert_eq!(app.published::<Sent>(), [Sent { number: 42 }]);
    assert_eq!(app.published::<Noted>(), [], "what the test itself published is known to it");
    assert_eq!(app.consumed::<Noted>("sender"), [Noted { number: 41 }]);
    assert_eq!(app.consumed::<Sent>("archive/files"), [Sent { number: 42 }]);
    assert_eq!(app.consumed::<Sent>("desk/files"), []);
    assert!(app.dead_letters("sender").is_empty());
}

#[tokio::test]
async fn a_retry_comes_when_its_time_comes_and_not_before() {
    let app = clerk()
        .test()
        .in_turn::<Send>([Stub::Refuses(DeskError::Busy), Stub::Absent, Stub::TimesOut, Stub::Replies(7)])
        .await;
    app.publish(Noted { number: 1 }).await;
    let tried = |app: &App| app.calls::<Send>().len();
    assert_eq!(tried(&app), 1);
    app.advance(ms(99)).await;
    assert_eq!(tried(&app), 1, "the first retry waits 100 ms");
    app.advance(ms(1)).await;
    assert_eq!(tried(&app), 2);
    app.advance(ms(200)).await;
    assert_eq!(tried(&app), 3);
    assert_eq!(app.consumed::<Noted>("sender"), []);
    app.advance(ms(400)).await;
    assert_eq!(app.published::<Sent>(), [Sent { number: 7 }]);
    assert_eq!(app.consumed::<Noted>("sender").len(), 1);
}

#[tokio::test]
async fn several_retries_come_due_in_one_step_each_at_its_own_moment() {
    let moments = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = async |_: Noted, ctx: Ctx, State(moments): State<Moments>| {
        moments.lock().unwrap().push(ctx.now());
        Err::<(), _>(DeskError::Busy)
    };
    let service = Service::new("mail", moments.clone())
        .on("mailer", note, |group| group.retry(Retry::exponential(ms(100), ms(400)).attempts(4)));
    let app = service.test().starting_at(new_year()).await;
    app.publish(Noted { number: 1 }).await;
    app.advance(Duration::from_secs(60)).await;
    let seen: Vec<String> = moments.lock().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        seen,
        [
            "2030-01-01T00:00:00Z",
            "2030-01-01T00:00:00.1Z",
            "2030-01-01T00:00:00.3Z",
            "2030-01-01T00:00:00.7Z"
        ]
    );
    assert_eq!(app.now().to_string(), "2030-01-01T00:01:00Z");
    let [letter] = &app.dead_letters("mailer")[..] else { panic!("{}", app.story()) };
    assert_eq!((letter.code.as_str(), letter.attempts), ("busy", 4));
    assert_eq!(letter.event::<Noted>(), Noted { number: 1 });
}

type Moments = Arc<std::sync::Mutex<Vec<Timestamp>>>;

#[tokio::test]
async fn an_event_published_for_later_waits_for_its_time() {
    let app = clerk().test().stub::<Send>(|send| Ok(send.number)).starting_at(new_year()).await;
    app.ctx().publish(Noted { number: 5 }).id("n-5").after(Duration::from_secs(3_600)).await.unwrap();
    app.settled().await;
    let one = "2030-01-01T01:00:00Z".parse().unwrap();
    assert_eq!(app.scheduled::<Noted>(), [(one, Noted { number: 5 })]);
    app.advance(Duration::from_secs(3_599)).await;
    assert!(app.calls::<Send>().is_empty());
    app.advance(Duration::from_secs(1)).await;
    assert_eq!(app.calls::<Send>(), [Send { number: 5 }]);
    assert!(app.scheduled::<Noted>().is_empty());
}

#[tokio::test]
async fn a_recurring_event_comes_each_time() {
    let app = clerk().test().stub::<Send>(|send| Ok(send.number)).await;
    let hourly = sinew::schedule::Recurrence::every(Duration::from_secs(3_600));
    app.ctx().publish(Noted { number: 1 }).repeat("hourly", hourly).await.unwrap();
    app.advance(Duration::from_secs(24 * 3_600)).await;
    assert_eq!(app.consumed::<Noted>("sender").len(), 24);
}

#[tokio::test]
async fn a_retry_put_off_for_hours_is_not_consumed_before_it_succeeds() {
    let retry = Retry::exponential(Duration::from_secs(3_600), Duration::from_secs(7_200)).attempts(3);
    let service = desk((), repeat).on("sender", send_on, |group| group.retry(retry));
    let app = service.test().in_turn::<Send>([Stub::Absent, Stub::Absent, Stub::Replies(9)]).await;
    app.publish(Noted { number: 1 }).await;
    app.advance(Duration::from_secs(3_600)).await;
    assert_eq!(app.calls::<Send>().len(), 2);
    assert_eq!(app.consumed::<Noted>("sender"), []);
    app.advance(Duration::from_secs(7_200)).await;
    assert_eq!(app.consumed::<Noted>("sender"), [Noted { number: 1 }]);
    assert_eq!(app.published::<Sent>(), [Sent { number: 9 }]);
}

#[tokio::test]
async fn a_panicking_reaction_becomes_a_dead_letter() {
    let trip = async |_: Noted, Attempt(attempt): Attempt| {
        assert_eq!(attempt, 0, "this test asks for the panic");
        Ok::<_, Problem>(())
    };
    let service = Service::new("mail", ()).on("mailer", trip, |group| group.retry(Retry::never()));
    let app = service.test().await;
    app.publish(Noted { number: 1 }).await;
    assert_eq!(app.dead_letters("mail/mailer")[0].code, "panic");
}

#[tokio::test]
async fn what_nobody_stubs_is_absent() {
    let app = clerk().test().await;
    app.publish(Noted { number: 1 }).await;
    assert_eq!(app.calls::<Send>(), [Send { number: 1 }], "the attempt can be seen");
    app.advance(Duration::from_secs(1)).await;
    assert_eq!(app.dead_letters("sender")[0].code, "no-responders");
    let refused = app.call(Send { number: 2 }).await;
    assert!(matches!(refused, Err(CallError::NoResponders)));
}

#[tokio::test]
async fn an_idempotent_call_is_repeated_as_in_production() {
    let app = Kit::new().in_turn::<Echo>([Stub::Absent, Stub::Replies("back".to_owned())]).await;
    assert_eq!(app.call(echo("hello")).await.unwrap(), "back");
    assert_eq!(app.calls::<Echo>().len(), 2);
}

#[tokio::test]
async fn every_end_of_a_call_can_be_staged() {
    let failed = Problem::new(500, "broken", "it is broken");
    let kit = Kit::new().in_turn::<Send>([
        Stub::Replies(1),
        Stub::Refuses(DeskError::Busy),
        Stub::Fails(failed),
        Stub::TimesOut,
        Stub::Absent,
    ]);
    let app = kit.await;
    let call = async || app.call(Send { number: 1 }).await;
    assert_eq!(call().await.unwrap(), 1);
    assert!(matches!(call().await, Err(CallError::Refused(DeskError::Busy))));
    assert!(matches!(call().await, Err(CallError::Undeclared(problem)) if problem.code == "broken"));
    assert!(matches!(call().await, Err(CallError::TimedOut)));
    assert!(matches!(call().await, Err(CallError::NoResponders)));
    let Err(CallError::Undeclared(problem)) = call().await else { panic!("there is no sixth answer") };
    assert!(problem.to_string().contains("svc.post.send was called more often"), "{problem}");
    assert_eq!(app.calls::<Send>().len(), 6);
    let app = Kit::new().times_out::<Send>().absent::<Echo>().await;
    assert!(matches!(app.call(Send { number: 1 }).await, Err(CallError::TimedOut)));
    assert!(matches!(app.call(echo("")).await, Err(CallError::NoResponders)));
}

#[tokio::test]
async fn a_stub_may_publish_itself() {
    let kit = clerk().test().stub_async(|send: Send, ctx| async move {
        ctx.publish(Sent { number: send.number }).await.unwrap();
        Err(DeskError::OutOfStock { sku: "tea".to_owned() })
    });
    let app = kit.await;
    app.publish(Noted { number: 3 }).await;
    assert_eq!(app.published::<Sent>(), [Sent { number: 3 }]);
    assert_eq!(app.dead_letters("sender")[0].code, "out-of-stock");
}

#[tokio::test]
async fn an_ordered_group_handles_its_events_in_order() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = async |event: Noted, State(seen): State<Arc<std::sync::Mutex<Vec<u32>>>>| {
        seen.lock().unwrap().push(event.number);
        Ok::<_, Problem>(())
    };
    let service = Service::new("mail", seen.clone())
        .on("mailer", note, |group| group.ordered_by(|event: &Noted| event.number % 2));
    let app = service.test().await;
    for number in 0..20 {
        app.publish(Noted { number }).await;
    }
    assert_eq!(*seen.lock().unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(app.consumed::<Noted>("mailer").len(), 20);
}

#[tokio::test]
async fn p3_an_ordered_retry_waits_for_the_tests_time_and_holds_back_its_key_alone() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = async |event: Noted, Attempt(attempt): Attempt, State(seen): State<Arc<Tries>>| {
        seen.lock().unwrap().push((event.number, attempt));
        if event.number == 1 && attempt < 3 { Err(DeskError::Busy) } else { Ok(()) }
    };
    let service = Service::new("mail", seen.clone()).on("mailer", note, |group| {
        group.ordered_by(|event: &Noted| event.number % 2).retry(Retry::exponential(ms(60_000), ms(120_000)))
    });
    let app = service.test().await;
    let take = || std::mem::take(&mut *seen.lock().unwrap());
    app.publish(Noted { number: 1 }).await;
    app.publish(Noted { number: 3 }).await;
    app.publish(Noted { number: 2 }).await;
    assert_eq!(take(), [(1, 1), (2, 1)], "3 waits behind 1, and 2 behind nobody");
    app.advance(ms(59_999)).await;
    assert_eq!(take(), []);
    app.advance(ms(1)).await;
    assert_eq!(take(), [(1, 2)]);
    app.publish(Noted { number: 5 }).await;
    assert_eq!(take(), []);
    app.advance(ms(120_000)).await;
    assert_eq!(take(), [(1, 3), (3, 1), (5, 1)]);
    assert_eq!(app.consumed::<Noted>("mailer").len(), 4);
    app.advance(Duration::from_secs(3_600)).await;
    assert_eq!(take(), [], "what was handled does not come again");
}

#[tokio::test]
async fn an_ordered_event_that_keeps_failing_is_kept_at_the_time_its_policy_says() {
    let service = Service::new("mail", ()).on(
        "mailer",
        async |event: Noted| if event.number == 1 { Err(DeskError::Busy) } else { Ok(()) },
        |group| group.ordered_by(|_: &Noted| 0).retry(Retry::exponential(ms(1_000), ms(1_000)).attempts(3)),
    );
    let app = service.test().await;
    for number in [1, 2] {
        app.publish(Noted { number }).await;
    }
    app.advance(ms(1_999)).await;
    assert!(app.dead_letters("mailer").is_empty() && app.consumed::<Noted>("mailer").is_empty());
    app.advance(ms(1)).await;
    let [letter] = &app.dead_letters("mailer")[..] else { panic!("{}", app.story()) };
    assert_eq!((letter.code.as_str(), letter.attempts), ("busy", 3));
    assert_eq!(app.consumed::<Noted>("mailer").last(), Some(&Noted { number: 2 }));
}

type Tries = std::sync::Mutex<Vec<(u32, u32)>>;

#[tokio::test]
async fn an_upload_comes_whole_without_a_server() {
    #[derive(Request, Serialize, Deserialize, JsonSchema)]
    #[sinew(subject = "adder.add", upload = u64, reply = u64)]
    struct Add {}
    contract! { Adder = "adder" @ "1.0.0" { add: upload Add } }
    async fn add(_: Add, mut numbers: sinew::Upload<u64>, ctx: Ctx) -> Result<u64, Problem> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
        }
        ctx.publish(Noted { number: 7 }).await.map_err(|error| error.to_problem())?;
        Ok(sum)
    }
    let app = Service::new("adder", ()).serve(Adder, |adder| adder.add(add)).test().await;
    assert_eq!(app.upload(Add {}, futures::stream::iter(1..=1_000)).await.unwrap(), 500_500);
    assert_eq!(app.published::<Noted>(), [Noted { number: 7 }]);
    let broken = futures::stream::iter([Ok(1), Err(Problem::new(422, "unreadable", "cannot be read"))]);
    let error = app.upload(Add {}, broken).await.unwrap_err();
    assert!(matches!(&error, CallError::Refused(told) if told.code == "unreadable"), "{error:?}");
}

#[tokio::test]
async fn an_event_by_the_calendar_comes_on_its_days() {
    let app = clerk().test().stub::<Send>(|send| Ok(send.number)).starting_at(new_year()).await;
    let mornings = sinew::schedule::Recurrence::cron("0 30 8 * * mon-fri");
    app.ctx().publish(Noted { number: 1 }).repeat("mornings", mornings).await.unwrap();
    // 2030 begins with a Tuesday.
    app.advance(Duration::from_secs(8 * 3_600 + 29 * 60)).await;
    assert!(app.consumed::<Noted>("sender").is_empty());
    app.advance(Duration::from_secs(60)).await;
    assert_eq!(app.consumed::<Noted>("sender").len(), 1);
    app.advance(Duration::from_secs(7 * 24 * 3_600)).await;
    assert_eq!(app.consumed::<Noted>("sender").len(), 6);
}

#[tokio::test]
async fn what_a_server_would_not_take_is_not_taken_here() {
    let app = desk((), repeat).test().await;
    let error = app.call(echo(&"x".repeat(2 << 20))).await.unwrap_err();
    assert!(matches!(&error, CallError::NotSent(told) if told.kind() == sinew::Kind::TooLarge), "{error:?}");
    assert!(app.call(echo(&"x".repeat(1_000_000))).await.is_ok());
}

#[tokio::test]
async fn the_story_is_told_in_order() {
    let app = clerk().test().stub::<Send>(|send| Ok(send.number)).await;
    app.publish(Noted { number: 3 }).await;
    expect_test::expect![[r#"
        publish evt.desk.noted
        call svc.post.send
        publish evt.post.sent
        done evt.desk.noted by desk/sender
    "#]]
    .assert_eq(&app.story());
}

#[tokio::test]
#[should_panic(expected = "desk+sender has EVENTS #1 on evt.desk.noted in hand")]
async fn a_reaction_that_hangs_is_named() {
    let hang = async |_: Noted| std::future::pending::<Result<(), Problem>>().await;
    let app = desk((), repeat).on("sender", hang, |group| group).test().patience(ms(50)).await;
    app.publish(Noted { number: 1 }).await;
}

#[tokio::test]
#[should_panic(expected = "the service Bad Name does not start")]
async fn a_service_that_does_not_start_says_why() {
    let _app = Service::new("Bad Name", ()).test().await;
}

#[tokio::test]
async fn a_service_in_a_test_drains_as_in_production() {
    let app = clerk().test().stub::<Send>(|send| Ok(send.number)).await;
    app.publish(Noted { number: 3 }).await;
    tokio::time::timeout(PATIENCE, app.drain()).await.expect("draining ends");
}

fn new_year() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
