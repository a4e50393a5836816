//! Hanging up: a request that is dropped tells the service that nobody waits for its reply. So does one that times out,
//! unless it told the service its deadline, which stops the work as well and needs no message.
//!
//! The message goes to `svc.<service>.$cancel`, which every instance hears, and names the reply's inbox: only who was
//! sent the request knows it. A request that is answered costs nothing more.

use std::time::Duration;

use bytes::Bytes;
use sinew_wire::{Headers, header};
use tokio::time::Instant;

use super::{Bus, link::Outbound};

/// A request that was sent and not answered yet; dropped before it is disarmed, it hangs up.
pub(super) struct Hangup<'a> {
    pub(super) bus: &'a Bus,
    pub(super) subject: &'a str,
    pub(super) reply: &'a str,
    pub(super) headers: &'a Headers,
    pub(super) began: Instant,
    pub(super) limit: Duration,
}

impl Hangup<'_> {
    /// The reply is there.
    pub(super) fn disarm(self) {
        std::mem::forget(self);
    }

    fn is_known_to_be_over(&self) -> bool {
        self.began.elapsed() >= self.limit && self.headers.get(header::TIMEOUT).is_some()
    }
}

impl Drop for Hangup<'_> {
    fn drop(&mut self) {
        if !self.bus.is_connected() || self.is_known_to_be_over() {
            return;
        }
        self.bus.hang_up(self.subject, self.reply);
    }
}

impl Bus {
    /// Tells the service behind `subject` that nobody waits for a reply at `reply` any more.
    pub(crate) fn hang_up(&self, subject: &str, reply: &str) {
        let Some(subject) = crate::service::cancel_subject(subject) else { return };
        let (headers, payload) = (Headers::new(), Bytes::copy_from_slice(reply.as_bytes()));
        let message = Outbound { subject: &subject, reply: None, headers: &headers, payload: &payload };
        // Not worth waiting for: where there is no room just now, the service is left to the deadline.
        if let Err(error) = self.offer(message) {
            tracing::debug!(subject, %error, "a service could not be told that nobody waits");
        }
    }
}
