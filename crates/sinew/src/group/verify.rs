//! Finding out what is out: which events the server has handed to somebody and counts on.

use std::time::Duration;

use futures::future::BoxFuture;

use super::{
    lanes::{Key, Standing},
    ordered::Order,
    spill::Shelf,
};
use crate::{Bus, Error, bus::PullConfig};

/// Pause between two questions to the server while something is out.
const POLL: Duration = Duration::from_millis(200);
/// How often a lagging replica is asked for what it must have.
const PATIENCE: usize = 20;

/// What was found out.
pub(super) enum Finding {
    /// What the server says about the consumer, the pin it knows, and the lanes that were spilled by then.
    Standing(Standing, String, Vec<Key>),
    /// The first and the last event of lanes that were spilled.
    Spilled(Vec<(Key, u64, u64)>),
    /// Every event that may be out, with its key.
    Suspects(Vec<(u64, Key)>),
}

/// Asks the server where the group stands, after a while if so wished, until it answers.
pub(super) fn ask(
    bus: &Bus,
    config: &PullConfig,
    shelf: &Shelf,
    after_a_while: bool,
) -> BoxFuture<'static, Finding> {
    let (bus, config, shelf) = (bus.clone(), config.clone(), shelf.clone());
    Box::pin(async move {
        if after_a_while {
            tokio::time::sleep(POLL).await;
        }
        loop {
            match stand(&bus, &config, &shelf).await {
                Ok(finding) => return finding,
                Err(error) => {
                    tracing::debug!(consumer = config.durable, %error, "where the group stands is not known")
                }
            }
            tokio::time::sleep(POLL).await;
        }
    })
}

/// Reads the keys of everything that was delivered above the floor, until that succeeds.
pub(super) fn suspects(
    bus: &Bus,
    config: &PullConfig,
    order: &Order,
    standing: Standing,
) -> BoxFuture<'static, Finding> {
    let (bus, config, order) = (bus.clone(), config.clone(), order.clone());
    Box::pin(async move {
        for attempt in 0.. {
            match read(&bus, &config, &order, &standing).await {
                // The last message of all may be gone from the stream; a replica that lags has it soon.
                Ok((found, complete)) if complete || attempt >= PATIENCE => return Finding::Suspects(found),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(consumer = config.durable, %error, "what is out is not known yet")
                }
            }
            tokio::time::sleep(POLL).await;
        }
        Finding::Suspects(Vec::new())
    })
}

async fn stand(bus: &Bus, config: &PullConfig, shelf: &Shelf) -> Result<Finding, Error> {
    let state = bus.consumer_progress(config).await?;
    // Asked afterwards: an event is spilled before it is acknowledged, so what is not out any more is listed here.
    let spilled = shelf.lanes().await?;
    let standing = Standing {
        floor: state.floor,
        delivered: state.delivered,
        pending: state.pending,
        redelivered: state.redelivered,
    };
    Ok(Finding::Standing(standing, state.pin, spilled))
}

/// Says as well whether the stream was read to the end of what was delivered.
async fn read(
    bus: &Bus,
    config: &PullConfig,
    order: &Order,
    standing: &Standing,
) -> Result<(Vec<(u64, Key)>, bool), Error> {
    let mut found = Vec::new();
    let mut reader = bus.read_stream(&config.stream, &config.filter, standing.floor + 1).await?;
    loop {
        let batch = reader.batch().await?;
        let Some(last) = batch.last().map(|stored| stored.sequence) else { return Ok((found, false)) };
        for stored in batch.into_iter().filter(|stored| stored.sequence <= standing.delivered) {
            let sequence = stored.sequence;
            // What has no key blocks nothing.
            if let Ok(key) = order.key_of(stored.headers.media_type().as_deref(), &stored.payload) {
                found.push((sequence, key));
            }
        }
        if last >= standing.delivered {
            return Ok((found, true));
        }
    }
}
