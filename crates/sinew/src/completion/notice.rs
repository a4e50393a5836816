//! Word that nobody waits for work any more, sent to whoever holds its token. A hint to ask, never the truth itself:
//! that is for the instance to say.

use bytes::Bytes;
use sinew_wire::Headers;
use tokio::sync::watch;

use crate::{Bus, Error, bus::Subscription};

/// What hears it. Where the bus gives no subscription, or the connection was lost meanwhile, it errs towards asking.
pub(super) struct Notice {
    told: Option<Subscription>,
    connects: watch::Receiver<u64>,
}

impl Notice {
    /// Listens from now on: what was said before is not heard, so that whoever calls this asks once afterwards.
    pub(super) async fn open(bus: &Bus, token: &str) -> Self {
        let connects = bus.connects();
        let told = match bus.subscribe(&subject(token), None).await {
            Ok(told) => bus.barrier().await.is_ok().then_some(told),
            Err(error) => {
                tracing::debug!(%error, "whether work is still waited for is known by asking only");
                None
            }
        };
        Self { told, connects }
    }

    /// Waits until there is a reason to ask.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn heard(&mut self) {
        let Some(told) = &mut self.told else { return std::future::pending().await };
        tokio::select! {
            word = told.next() => if word.is_none() { self.told = None },
            // What was said while there was no connection is lost.
            changed = self.connects.changed() => if changed.is_err() { self.told = None },
        }
    }
}

/// Says it.
pub(super) async fn give(bus: &Bus, token: &str) -> Result<(), Error> {
    bus.publish(&subject(token), &Headers::new(), Bytes::new()).await
}

/// Returns where it is said: below the cancellations of the workflow service, under what the token names. The seal of the
/// token is left out, because subjects are no place for secrets.
fn subject(token: &str) -> String {
    let named = token.rsplit_once('.').map_or(token, |(named, _)| named);
    format!("svc.workflow.$cancel.{named}")
}

#[cfg(test)]
mod tests {
    use super::subject;

    #[test]
    fn the_subject_names_the_attempt_and_keeps_the_seal() {
        assert_eq!(subject("order-17.3.1.c2VhbA"), "svc.workflow.$cancel.order-17.3.1");
        assert_eq!(subject("garbage"), "svc.workflow.$cancel.garbage");
    }
}
