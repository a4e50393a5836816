//! Taking back what waits.

use super::{EVERY, ScheduleId, token};
use crate::{Bus, Error, streams::EVENTS};

/// Removes a recurring event, and says whether there was one.
///
/// # Errors
/// [`crate::Kind::JetStream`] when the streams do not stand.
pub async fn remove(bus: &Bus, service: &str, name: &str) -> Result<bool, Error> {
    let subject = format!("{EVERY}{}.{}", token(service), token(name));
    bus.purge_subject(EVENTS, &subject).await.map(|removed| removed > 0)
}

/// Takes back a single event, and says whether it was still there: not published, not cancelled before.
pub(crate) async fn cancel(bus: &Bus, id: &ScheduleId) -> Result<bool, Error> {
    bus.purge_subject(EVENTS, &id.subject()).await.map(|removed| removed > 0)
}
