//! Request/reply against raw async-nats.

use std::time::Duration;

use sinew::{
    Bus, Config, Ctx,
    wire::{ContentType, encode},
};

use super::ROUNDS;
use crate::bench::{
    Error,
    load::{self, Figures},
    messages::{Echo, headers},
    peer::Peer,
    sample, server,
};

pub(super) async fn run(time: Duration) -> Result<(), Error> {
    println!("\nsdk: request/reply, 256-byte struct, against async-nats with the same bytes and headers");
    let broker = server(false).await?;
    let raw_peer = Peer::start("raw", broker.url())?;
    let service = Peer::start("service", broker.url())?;
    let client = async_nats::connect(broker.url()).await?;
    let bus = Bus::connect(Config::new(broker.url(), "bench")).await?;
    println!("{:>24}  {:.1} MB resident", "idle service", service.resident("VmRSS")?);
    for concurrency in [1, 64, 256] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(raw(&client, concurrency, time).await?);
            ours.push(sdk(&Ctx::detached(&bus, "bench"), concurrency, time).await?);
        }
        load::compare(&format!("{concurrency} in flight"), &ours, &theirs);
    }
    println!("{:>24}  {:.1} MB resident at most", "service", service.resident("VmHWM")?);
    println!("{:>24}  {:.1} MB resident at most", "raw responder", raw_peer.resident("VmHWM")?);
    bus.close().await;
    broker.stop().await?;
    Ok(())
}

/// Calls the echo service, each call on behalf of `ctx`.
pub(super) async fn sdk(ctx: &Ctx, concurrency: usize, time: Duration) -> Result<Figures, Error> {
    let make = async || Ok((ctx.clone(), sample()));
    load::run(concurrency, time, make, |(ctx, sample)| async move {
        let sample = ctx.call(Echo { sample }).await.map_err(|error| error.to_string())?;
        Ok((ctx, sample))
    })
    .await
}

async fn raw(client: &async_nats::Client, concurrency: usize, time: Duration) -> Result<Figures, Error> {
    let payload = encode(ContentType::MessagePack, &Echo { sample: sample() })?;
    let make = async || Ok((client.clone(), payload.clone()));
    #[expect(clippy::disallowed_methods, reason = "the baseline is what the library offers by itself")]
    load::run(concurrency, time, make, |(client, payload)| async move {
        let headers = headers(&[
            ("content-type", "application/msgpack"),
            ("Sinew-Timeout", "30000"),
            ("Sinew-Caller", "bench"),
        ]);
        client.request_with_headers("raw.echo", headers, payload.clone()).await?;
        Ok((client, payload))
    })
    .await
}
