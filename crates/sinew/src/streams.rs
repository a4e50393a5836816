//! The streams events live in: their names, their subjects, and how they come to stand.

use crate::{
    Bus, Error,
    bus::{Retention, StreamConfig},
};

/// The stream that captures every event, and holds back the ones that are not due yet.
pub const EVENTS: &str = "EVENTS";
/// The stream that keeps what no group could handle.
pub const DEAD_LETTERS: &str = "DEAD_LETTERS";
/// The stream of the groups' own inlets: events that are due, or will be, for exactly one group.
pub const REDELIVERIES: &str = "REDELIVERIES";
/// The stream of what waits behind a parked event of an ordered group: a subject for each lane.
pub const LANES: &str = "LANES";
/// The stream of commands: calls of workflows that wait until their service is there.
pub const COMMANDS: &str = "COMMANDS";
/// The stream that keeps the server's word on every event it gave up, until the group has made a dead letter of it.
pub(crate) const GIVEN_UP: &str = "GIVEN_UP";
/// Where the server says that it gave up a message; behind it stand the stream and the group's consumer.
pub(crate) const GIVING_UP: &str = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES";

/// Creates the stream of commands.
///
/// # Errors
/// [`crate::Kind::JetStream`] when the server refuses.
pub async fn ensure_commands(bus: &Bus) -> Result<(), Error> {
    let config = StreamConfig {
        name: COMMANDS.to_owned(),
        subjects: vec!["cmd.>".to_owned()],
        retention: Retention::WorkQueue,
        ..StreamConfig::default()
    };
    bus.provide_stream(&config).await
}

/// Creates the streams of events, dead letters, redeliveries and spilled lanes, and the one in which events that could not be
/// delivered wait to become dead letters. Streams that an older version created are given what they lack.
///
/// # Errors
/// [`crate::Kind::JetStream`] when the server refuses.
pub async fn ensure_streams(bus: &Bus) -> Result<(), Error> {
    let stream = |name: &str, subjects: &[&str]| StreamConfig {
        name: name.to_owned(),
        subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
        ..StreamConfig::default()
    };
    let scheduled = |config| StreamConfig { schedules: true, ..config };
    let queue = |config| StreamConfig { retention: Retention::WorkQueue, ..config };
    // A schedule stands in the stream of its target, on a subject of its own that no group listens to.
    bus.provide_stream(&scheduled(stream(EVENTS, &["evt.>", "evt-at.>", "evt-every.>"]))).await?;
    bus.provide_stream(&stream(DEAD_LETTERS, &["dlq.>", "dlq-original.>"])).await?;
    bus.provide_stream(&scheduled(queue(stream(REDELIVERIES, &["redo.>", "redo-at.>"])))).await?;
    bus.provide_stream(&stream(LANES, &["lane.>"])).await?;
    let advisories = [EVENTS, REDELIVERIES].map(|stream| format!("{GIVING_UP}.{stream}.*"));
    let advisories = advisories.each_ref().map(String::as_str);
    bus.provide_stream(&queue(stream(GIVEN_UP, &advisories))).await
}
