//! Events: published with the stream's acknowledgement, and consumed with ours; against raw async-nats.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::jetstream::{self, consumer::pull};
use futures::StreamExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{
    Bus, Config, Ctx, Event, Problem, Service, State,
    wire::{ContentType, decode, encode},
};
use tokio::sync::Notify;

use super::ROUNDS;
use crate::bench::{
    Error,
    load::{self, Figures},
    messages::{Sample, headers},
    sample, server,
};

/// What the benchmark publishes.
#[derive(Clone, Debug, Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "bench.sampled", version = 1)]
struct Sampled {
    sample: Sample,
}

/// The same under the baseline's subject, so that neither reads the other's.
const RAW_SUBJECT: &str = "evt.bench.raw";
/// Events each consumer reads.
const EVENTS: u64 = 20_000;
/// Events both consumers may have in work at once.
const IN_WORK: usize = 256;

/// Counts what a group handled, and says when it was enough.
#[derive(Clone, Default)]
struct Tally {
    seen: Arc<AtomicU64>,
    wanted: u64,
    enough: Arc<Notify>,
}

pub(super) async fn run(time: Duration) -> Result<(), Error> {
    println!("\nsdk: events of 256 bytes, stored and acknowledged");
    let broker = server(false).await?;
    let bus = Bus::connect(Config::new(broker.url(), "bench")).await?;
    sinew::ensure_streams(&bus).await?;
    let client = async_nats::connect(broker.url()).await?;
    let raw = jetstream::new(client);
    for concurrency in [1, 64, 256] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(publish_raw(&raw, concurrency, time).await?);
            ours.push(publish(&bus, concurrency, time).await?);
        }
        let what = format!("publish, {concurrency} in flight");
        load::compare(&what, &ours, &theirs);
    }
    fill(&bus, &raw).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        theirs.push(consume_raw(&raw, round).await?);
        ours.push(consume(&bus, &format!("bench-{round}"), EVENTS).await?);
    }
    load::compare_rates("consume and acknowledge", &mut ours, &mut theirs);
    allocations(broker.url())?;
    bus.close().await;
    broker.stop().await?;
    Ok(())
}

async fn publish(bus: &Bus, concurrency: usize, time: Duration) -> Result<Figures, Error> {
    let ctx = Ctx::detached(bus, "bench");
    let make = async || Ok((ctx.clone(), Sampled { sample: sample() }));
    load::run(concurrency, time, make, |(ctx, event)| async move {
        ctx.publish(event.clone()).await?;
        Ok((ctx, event))
    })
    .await
}

async fn publish_raw(raw: &jetstream::Context, concurrency: usize, time: Duration) -> Result<Figures, Error> {
    let payload = encode(ContentType::MessagePack, &Sampled { sample: sample() })?;
    let make = async || Ok((raw.clone(), payload.clone()));
    load::run(concurrency, time, make, |(raw, payload)| async move {
        let id = sinew::new_id();
        let mut fields = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-datacontenttype", "application/msgpack"),
            ("ce-type", "bench.sampled.v1"),
            ("ce-source", "/services/bench"),
            ("ce-time", "2026-11-22T06:00:00.000000000Z"),
            ("content-type", "application/msgpack"),
        ]);
        fields.append("ce-id", id.as_str());
        fields.append("Nats-Msg-Id", format!("bench/bench.sampled/{id}"));
        raw.publish_with_headers(RAW_SUBJECT, fields, payload.clone()).await?.await?;
        Ok((raw, payload))
    })
    .await
}

/// Makes the stream long enough for both consumers.
async fn fill(bus: &Bus, raw: &jetstream::Context) -> Result<(), Error> {
    let ctx = Ctx::detached(bus, "bench");
    let payload = encode(ContentType::MessagePack, &Sampled { sample: sample() })?;
    for _ in 0..EVENTS / 100 {
        let ours = (0..100).map(|_| ctx.publish(Sampled { sample: sample() }).into_future());
        futures::future::try_join_all(ours).await?;
        let theirs = (0..100).map(|_| async {
            let fields = headers(&[("content-type", "application/msgpack")]);
            raw.publish_with_headers(RAW_SUBJECT, fields, payload.clone()).await?.await
        });
        futures::future::try_join_all(theirs).await?;
    }
    Ok(())
}

/// Returns the events per second a group handles.
async fn consume(bus: &Bus, service: &str, count: u64) -> Result<f64, Error> {
    let tally = Tally { wanted: count, ..Tally::default() };
    let service = Service::new(service, tally.clone())
        .on("reader", read, |group| group.concurrency(IN_WORK))
        .drain_within(Duration::from_secs(5));
    let began = Instant::now();
    let running = service.start(bus).await?;
    tally.enough.notified().await;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    running.drain().await;
    Ok(rate)
}

async fn read(event: Sampled, State(tally): State<Tally>) -> Result<(), Problem> {
    std::hint::black_box(event);
    if tally.seen.fetch_add(1, Ordering::Relaxed) + 1 == tally.wanted {
        tally.enough.notify_one();
    }
    Ok(())
}

async fn consume_raw(raw: &jetstream::Context, round: usize) -> Result<f64, Error> {
    let began = Instant::now();
    let stream = raw.get_stream(sinew::EVENTS).await?;
    let config = pull::Config {
        durable_name: Some(format!("raw-{round}")),
        filter_subject: RAW_SUBJECT.to_owned(),
        max_ack_pending: 10_000,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut messages = consumer.stream().max_messages_per_batch(IN_WORK).messages().await?;
    for _ in 0..EVENTS {
        let Some(message) = messages.next().await else { break };
        let message = message?;
        std::hint::black_box(decode::<Sampled>(ContentType::MessagePack, &message.payload)?);
        message.ack().await?;
    }
    Ok(EVENTS as f64 / began.elapsed().as_secs_f64())
}

/// Counts what one delivered event allocates, on a runtime of one thread, from the difference of two runs.
fn allocations(url: &str) -> Result<(), Error> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let counted = |count: u64| -> Result<(u64, u64), Error> {
        let url = url.to_owned();
        // A thread of its own: this one is inside a runtime already.
        let counting = std::thread::spawn(move || {
            let mut outcome = Ok(());
            let counted = allocation_counter::measure(|| {
                let consumed = async {
                    let bus = Bus::connect(Config::new(url, "counter")).await?;
                    consume(&bus, &format!("counter-{count}"), count).await?;
                    bus.close().await;
                    Ok::<_, Error>(())
                };
                outcome = runtime().map_err(Error::from).and_then(|runtime| runtime.block_on(consumed));
            });
            outcome.map(|()| (counted.count_total, counted.bytes_total))
        });
        counting.join().map_err(|_| "the counting thread panicked")?
    };
    let (few, many) = (2_000, 12_000);
    let (small, large) = (counted(few)?, counted(many)?);
    let each = |small: u64, large: u64| (large.saturating_sub(small)) as f64 / (many - few) as f64;
    println!(
        "{:>24}  {:.1} allocations, {:.0} bytes per event, from pull to acknowledgement",
        "delivered event",
        each(small.0, large.0),
        each(small.1, large.1),
    );
    Ok(())
}
