//! Hanging up: a request that is dropped or times out tells the service that nobody waits for its reply.
//!
//! The message goes to `svc.<service>.$cancel`, which every instance hears, and names the reply's inbox: only who was
//! sent the request knows it. A request that is answered costs nothing more.

use bytes::Bytes;
use sinew_wire::Headers;

use super::Bus;

/// A request that was sent and not answered yet; dropped before it is disarmed, it hangs up.
pub(super) struct Hangup<'a> {
    bus: &'a Bus,
    subject: &'a str,
    reply: &'a str,
    armed: bool,
}

impl<'a> Hangup<'a> {
    pub(super) fn new(bus: &'a Bus, subject: &'a str, reply: &'a str) -> Self {
        Self { bus, subject, reply, armed: true }
    }

    pub(super) fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Hangup<'_> {
    fn drop(&mut self) {
        if !self.armed || !self.bus.is_connected() {
            return;
        }
        let Some(subject) = crate::service::cancel_subject(self.subject) else { return };
        let payload = Bytes::copy_from_slice(self.reply.as_bytes());
        // Not worth waiting for: where there is no room just now, the service is left to the deadline.
        if let Err(error) = self.bus.offer(&subject, None, &Headers::new(), &payload) {
            tracing::debug!(subject, %error, "a service could not be told that nobody waits");
        }
    }
}
