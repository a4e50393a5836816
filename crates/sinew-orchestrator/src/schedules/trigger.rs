//! `on`: events start instances. Each event, or each set of events that belongs together, starts one.

use std::time::Duration;

use futures::{StreamExt, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use sinew::{
    EVENTS,
    bus::{Follow, Followed, admin::Place},
};
use sinew_workflow::{Gathering, Schedule, Timestamp};
use tokio::time::MissedTickBehavior;

use super::Job;
use crate::{listen, starter::Wanted, view};

pub(super) const KIND: &str = "on";
/// Starts under way at once.
const AT_ONCE: usize = 64;
/// Events after which it is noted how far the reading is; what the engine remembers of events (1,024) must reach back
/// further.
const EVERY: usize = 256;
/// How often that is noted at least, where anything was read.
const REMEMBER: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(500);

/// How far the stream is read, and the events that wait for others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Read {
    digest: String,
    position: u64,
    gathering: Gathering,
}

/// Reads the stream of events and starts instances; returns where events start none.
pub(super) async fn run(job: &Job, schedule: &Schedule) {
    if !schedule.is_triggered() {
        return;
    }
    let mut read = begin(job).await;
    let subjects = listen::subjects(&job.definition.triggers()).into_iter().collect();
    let mut follow = job.bus.follow(EVENTS, subjects, Place::Sequence(read.position + 1));
    let mut starting = FuturesUnordered::new();
    let mut tick = tokio::time::interval(REMEMBER);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unnoted = 0;
    loop {
        let remember = tokio::select! {
            followed = next(&mut follow), if starting.len() < AT_ONCE => {
                unnoted += 1;
                if let Some(wanted) = take(job, &mut read, &followed) {
                    let starter = job.starter.clone();
                    starting.push(async move { starter.start(&wanted).await });
                }
                unnoted >= EVERY
            }
            Some(_) = starting.next() => false,
            _ = tick.tick() => unnoted > 0,
        };
        if remember {
            // What is noted as read is started: an heir would not start it.
            while starting.next().await.is_some() {}
            job.note(KIND, &read).await;
            unnoted = 0;
        }
    }
}

/// Finds where to begin: where this or the version before was, else with what came after the definition was applied.
async fn begin(job: &Job) -> Read {
    let digest = job.newest.digest.clone();
    let read = match job.recall::<Read>(KIND).await {
        Some(read) if read.digest == digest => return read,
        // Events that waited for others waited for those of another definition.
        Some(Read { position, .. }) => Read { digest, position, gathering: Gathering::default() },
        None => {
            let position = match job.newest.since {
                Some(since) => since,
                None => head(job).await,
            };
            Read { digest, position, gathering: Gathering::default() }
        }
    };
    job.note(KIND, &read).await;
    read
}

async fn head(job: &Job) -> u64 {
    loop {
        match job.bus.stream_state(EVENTS).await {
            Ok(state) => return state.last_sequence,
            Err(error) => tracing::debug!(%error, "the stream of events cannot be asked yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn next(follow: &mut Follow) -> Followed {
    loop {
        if let Some(followed) = follow.next().await {
            return followed;
        }
    }
}

/// Takes an event into account; returns what it starts.
fn take(job: &Job, read: &mut Read, followed: &Followed) -> Option<Wanted> {
    let Followed { message, sequence, .. } = followed;
    let event = listen::read(message.subject(), *sequence, &message.headers(), message.payload());
    read.position = *sequence;
    let (origin, at) = (listen::origin_of(*sequence), Timestamp::from_millis(followed.stored_ms()));
    let input = job.definition.gather(&mut read.gathering, &event, Some(&origin), at)?;
    // The sequence alone would come again with a stream that was made anew.
    let text = |name: &str| event.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let told = view::digest_of_text(&format!("{} {}", text("source"), text("id"))) & 0xffff_ffff;
    Some(job.wanted(&format!("e{sequence}-{told:08x}"), input))
}
