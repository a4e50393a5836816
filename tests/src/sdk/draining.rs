//! Promise 5: a process that is asked to stop loses nothing and ends in bounded time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sinew::{Kind, State};
use tokio::sync::Semaphore;

use super::*;
use crate::harness::{SOON, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_replicas_that_come_and_go_under_load_lose_no_request() {
    let stage = Stage::start().await;
    let _stays = stage.serve(repeat).await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..32)
        .map(|_| tokio::spawn(call_on(stage.caller.clone(), stop.clone(), answered.clone())))
        .collect();
    for _ in 0..20 {
        let bus = connect(&stage.harness, "replica").await;
        let replica = desk((), repeat).start(&bus).await.unwrap();
        let goal = answered.load(Ordering::SeqCst) + 100;
        eventually(SOON, || std::future::ready(answered.load(Ordering::SeqCst) > goal)).await;
        replica.drain().await;
        bus.close().await;
    }
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.expect("every request was answered with success");
    }
}

#[tokio::test]
async fn p5_what_is_in_work_or_waits_when_draining_begins_is_finished() {
    let stage = Stage::start().await;
    let gate = Arc::new(Gate::default());
    let desk = stage.start_service(desk(gate.clone(), hold).limits(4, 100)).await;
    let calls =
        (0..20).map(|number| stage.caller.call(echo(&number.to_string())).within(PATIENCE).into_future());
    let calls = tokio::spawn(futures::future::join_all(calls));
    eventually(SOON, || std::future::ready(gate.begun.load(Ordering::SeqCst) == 4)).await;
    // The others may still be on their way to the queue; the drain has to fetch them.
    let (answers, ()) = tokio::join!(calls, async {
        tokio::join!(desk.drain(), async { gate.pass.add_permits(1_000) });
    });
    let answers: Vec<_> = answers.unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(matches!(stage.call("afterwards").await.unwrap_err(), CallError::NoResponders));
}

#[tokio::test]
async fn p5_draining_is_bounded_when_a_handler_hangs() {
    let stage = Stage::start().await;
    let gate = Arc::new(Gate::default());
    let service = desk(gate.clone(), hold).drain_within(Duration::from_millis(100));
    let desk = stage.start_service(service).await;
    let hanging = stage.caller.call(echo("")).within(PATIENCE).into_future();
    let hanging = tokio::spawn(hanging);
    eventually(SOON, || std::future::ready(gate.begun.load(Ordering::SeqCst) == 1)).await;
    let began = Instant::now();
    desk.drain().await;
    stage.bus.close().await;
    assert!(began.elapsed() < PATIENCE / 3);
    hanging.abort();
}

#[tokio::test]
async fn p5_what_a_leaving_member_has_not_begun_goes_to_another() {
    let stage = Stage::start().await;
    let (leaver, stayer) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    stayer.pass.add_permits(1_000);
    let leaving = group(leaver.clone()).start(&stage.bus).await.unwrap();
    for number in 0..8 {
        stage.publish(number).await;
    }
    eventually(SOON, || std::future::ready(leaver.begun.load(Ordering::SeqCst) == 4)).await;
    let other = connect(&stage.harness, "other").await;
    let _stays = group(stayer.clone()).start(&other).await.unwrap();
    tokio::join!(leaving.drain(), async { leaver.pass.add_permits(1_000) });
    let all = || [&leaver, &stayer].iter().map(|gate| gate.done.lock().unwrap().len()).sum::<usize>() == 8;
    eventually(SOON, || std::future::ready(all())).await;
    let both: BTreeSet<u32> =
        [leaver, stayer].iter().flat_map(|gate| gate.done.lock().unwrap().clone()).collect();
    assert_eq!(both, (0..8).collect(), "each was handled, and by one of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_members_that_come_and_go_keep_no_event_back() {
    let stage = Stage::start().await;
    let gate = Arc::new(Gate::default());
    gate.pass.add_permits(1_000_000);
    let _stays = group(gate.clone()).start(&stage.bus).await.unwrap();
    let publisher = stage.caller.clone();
    let publishing = tokio::spawn(async move {
        for number in 0..2_000 {
            publisher.publish(Noted { number }).await.unwrap();
        }
    });
    while !publishing.is_finished() {
        let bus = connect(&stage.harness, "member").await;
        let member = group(gate.clone()).start(&bus).await.unwrap();
        member.drain().await;
        bus.close().await;
    }
    publishing.await.unwrap();
    // Far below the group's `ack_wait`: what was kept back would not come again in time.
    let all = || gate.done.lock().unwrap().iter().collect::<BTreeSet<_>>().len() == 2_000;
    eventually(SOON, || std::future::ready(all())).await;
}

#[tokio::test]
async fn p5_an_event_in_work_when_the_time_is_over_is_begun_anew_elsewhere() {
    let stage = Stage::start().await;
    let (hung, fresh) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    fresh.pass.add_permits(1_000);
    let hanging =
        group(hung.clone()).drain_within(Duration::from_millis(100)).start(&stage.bus).await.unwrap();
    stage.publish(7).await;
    eventually(SOON, || std::future::ready(hung.begun.load(Ordering::SeqCst) == 1)).await;
    let other = connect(&stage.harness, "other").await;
    let _fresh = group(fresh.clone()).start(&other).await.unwrap();
    hanging.drain().await;
    eventually(SOON, || std::future::ready(*fresh.done.lock().unwrap() == [7])).await;
}

#[tokio::test]
async fn p5_a_closed_bus_leaves_no_task_and_no_connection() {
    let stage = Stage::start().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let bus = connect(&stage.harness, "short").await;
    let service = desk(Arc::new(Gate::default()), hold).on("mailer", note, |group| group);
    let running = service.start(&bus).await.unwrap();
    let mut watch = sinew::Catalogue::open(&bus).await.unwrap().watch();
    assert!(watch.next().await.is_some());
    running.drain().await;
    bus.close().await;
    assert!(watch.next().await.is_none(), "watches end");
    drop(watch);
    // The handle lives on, as it may in a handler that hangs.
    eventually(SOON, || std::future::ready(tasks() <= before)).await;
    assert!(!bus.is_connected());
    let error = bus.request(Echo::SUBJECT, &Headers::new(), Bytes::new(), PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Closed);
    assert_eq!(bus.barrier().await.unwrap_err().kind(), Kind::Closed);
    bus.close().await;
}

#[tokio::test]
async fn p5_closing_ends_the_requests_that_still_wait() {
    let stage = Stage::start().await;
    let _deaf = stage.bus.subscribe(Echo::SUBJECT, None).await.unwrap();
    stage.bus.barrier().await.unwrap();
    let bus = connect(&stage.harness, "short").await;
    let (headers, payload) = (Headers::new(), Bytes::new());
    let request = bus.request(Echo::SUBJECT, &headers, payload, PATIENCE);
    let (outcome, ()) = tokio::join!(request, bus.close());
    assert_eq!(outcome.unwrap_err().kind(), Kind::Closed);
}

/// Holds what has begun until it is opened, and notes what is done.
struct Gate {
    begun: AtomicUsize,
    done: Mutex<Vec<u32>>,
    pass: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self { begun: AtomicUsize::new(0), done: Mutex::default(), pass: Semaphore::new(0) }
    }
}

fn group(gate: Arc<Gate>) -> Service<Arc<Gate>> {
    Service::new("mail", gate).on("mailer", note, |group| group.concurrency(4))
}

async fn hold(request: Echo, State(gate): State<Arc<Gate>>) -> Result<String, DeskError> {
    gate.begun.fetch_add(1, Ordering::SeqCst);
    let _pass = gate.pass.acquire().await.unwrap();
    Ok(request.text)
}

async fn note(event: Noted, State(gate): State<Arc<Gate>>) -> Result<(), Problem> {
    gate.begun.fetch_add(1, Ordering::SeqCst);
    let _pass = gate.pass.acquire().await.unwrap();
    gate.done.lock().unwrap().push(event.number);
    Ok(())
}

async fn call_on(caller: Ctx, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let text = number.to_string();
        let reply = caller.call(echo(&text)).within(Duration::from_secs(5)).await;
        assert_eq!(reply.expect("an answer"), text);
        answered.fetch_add(1, Ordering::SeqCst);
        number += 1;
    }
}
