//! Where arriving messages go: the subscriptions of this process, and the requests that wait for a reply.
//!
//! Requests share one wildcard inbox. A reply finds its requester in one table, from the task that read it off the
//! wire and with no hop in between; a request that timed out or was dropped leaves nothing behind.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::{mpsc, oneshot};

use super::Message;

/// Messages one subscription may hold: our readers only dispatch, so this is a burst.
const CAPACITY: usize = 65_536;
/// Bytes one subscription may hold in messages that are not small.
const CAPACITY_BYTES: usize = 128 << 20;
/// Small messages are bounded by their number alone, and cost no counting.
const SMALL: usize = 1 << 10;
/// The number of the subscription that takes all replies.
pub(super) const REPLIES: u64 = 1;

/// The way in for one subscription.
pub(super) struct Inlet {
    pub(super) subject: String,
    pub(super) group: Option<String>,
    /// The server was told that it ends: it is not made again on the next connection.
    pub(super) ending: bool,
    denied: Arc<AtomicBool>,
    held: Held,
    messages: mpsc::Sender<Message>,
}

/// The bytes a subscription holds, without those in small messages.
#[derive(Clone, Default)]
pub(super) struct Held(Arc<AtomicUsize>);

/// What a subscription reads from.
pub(super) struct Outlet {
    pub(super) sid: u64,
    pub(super) messages: mpsc::Receiver<Message>,
    pub(super) held: Held,
    pub(super) denied: Arc<AtomicBool>,
}

/// Every way in.
#[derive(Debug)]
pub(crate) struct Inlets {
    prefix: String,
    next: AtomicU64,
    /// Makes tokens of numbers that count up, so that nobody who got one request can answer or cancel the next.
    tokens: RandomState,
    subscriptions: Mutex<HashMap<u64, Inlet>>,
    /// A plain lock, held for one map operation and never across an await: a channel to an owning task would cost
    /// every request two more hops between threads.
    waiting: Mutex<Waiters>,
    dropped: AtomicU64,
}

type Waiters = HashMap<u64, Waiter, BuildHasherDefault<Token>>;

struct Waiter {
    /// Tells whose request the server refuses to pass on.
    subject: u64,
    reply: oneshot::Sender<Result<Message, Denied>>,
}

/// What the account may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Publish to the subject of the request.
    Publishing,
    /// Hear the reply.
    Replies,
}

/// One request's place in the table; dropping it gives the place back.
pub(super) struct Waiting {
    token: u64,
    inlets: Arc<Inlets>,
    reply: oneshot::Receiver<Result<Message, Denied>>,
}

/// Tokens are hashes already, with a key of their own.
#[derive(Default)]
struct Token(u64);

impl Hasher for Token {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, token: u64) {
        self.0 = token;
    }
}

impl Inlets {
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            next: AtomicU64::new(REPLIES + 1),
            tokens: RandomState::new(),
            subscriptions: Mutex::default(),
            waiting: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Returns the subject under which all replies arrive.
    pub(super) fn wildcard(&self) -> String {
        format!("{}.r.*", self.prefix)
    }

    /// Returns a fresh subject of this process.
    pub(super) fn inbox(&self) -> String {
        format!("{}.s{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns how many messages were dropped because a subscription was full.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Opens the way in for a subscription.
    pub(super) fn open(&self, subject: &str, group: Option<&str>) -> Outlet {
        let sid = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, messages) = mpsc::channel(CAPACITY);
        let denied = Arc::new(AtomicBool::new(false));
        let held = Held::default();
        let inlet = Inlet {
            subject: subject.to_owned(),
            group: group.map(str::to_owned),
            ending: false,
            denied: denied.clone(),
            held: held.clone(),
            messages: sender,
        };
        self.subscriptions().insert(sid, inlet);
        Outlet { sid, messages, held, denied }
    }

    /// Marks a subscription as ending; what arrives for it is still taken.
    pub(super) fn end(&self, sid: u64) {
        if let Some(inlet) = self.subscriptions().get_mut(&sid) {
            inlet.ending = true;
        }
    }

    /// Takes nothing more for a subscription; what it holds can still be read.
    pub(super) fn shut(&self, sid: u64) {
        self.subscriptions().remove(&sid);
    }

    /// Gives up everybody who waits and every subscription.
    pub(super) fn shut_all(&self) {
        self.subscriptions().clear();
        self.waiting().clear();
    }

    /// Locks the table of subscriptions for a run of deliveries.
    pub(super) fn subscriptions(&self) -> MutexGuard<'_, HashMap<u64, Inlet>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a message to whoever it is for.
    #[cfg_attr(
        not(any(test, feature = "testing")),
        allow(dead_code, reason = "only the testing kit delivers one by one")
    )]
    pub(crate) fn deliver(&self, sid: u64, message: Message) {
        if sid == REPLIES {
            self.settle(message);
        } else {
            self.deliver_among(&self.subscriptions(), sid, message);
        }
    }

    /// As [`Inlets::deliver`], for somebody who holds the table already.
    pub(super) fn deliver_among(&self, table: &HashMap<u64, Inlet>, sid: u64, message: Message) {
        // A subscription that has just been given up may still be sent to.
        let Some(inlet) = table.get(&sid) else { return };
        let fits = inlet.held.take(&message);
        let sent = match fits {
            true => inlet.messages.try_send(message),
            false => Err(mpsc::error::TrySendError::Full(message)),
        };
        if let Err(mpsc::error::TrySendError::Full(message)) = sent {
            if fits {
                inlet.held.give(&message);
            }
            // Logged at powers of two: the burst that overflows a subscription must not overflow the log as well.
            let count = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_power_of_two() {
                tracing::warn!(
                    subject = inlet.subject,
                    count,
                    "messages were dropped: this process reads too slowly"
                );
            }
        }
    }

    /// Takes a place for the reply to a request on `subject`; the text is where to reply to.
    pub(super) fn enlist(self: &Arc<Self>, subject: &str) -> (Waiting, String) {
        let (sender, reply) = oneshot::channel();
        let waiter = Waiter { subject: digest(subject), reply: sender };
        let mut waiting = self.waiting();
        let token = loop {
            let token = self.tokens.hash_one(self.next.fetch_add(1, Ordering::Relaxed));
            if !waiting.contains_key(&token) {
                break token;
            }
        };
        waiting.insert(token, waiter);
        drop(waiting);
        (Waiting { token, inlets: self.clone(), reply }, self.reply_subject(token))
    }

    /// As [`Inlets::enlist`], for a message to the place itself.
    pub(super) fn enlist_barrier(self: &Arc<Self>) -> (Waiting, String) {
        let (waiting, place) = self.enlist("");
        if let Some(waiter) = self.waiting().get_mut(&waiting.token) {
            waiter.subject = digest(&place);
        }
        (waiting, place)
    }

    fn reply_subject(&self, token: u64) -> String {
        let mut subject = String::with_capacity(self.prefix.len() + 24);
        subject.push_str(&self.prefix);
        subject.push_str(".r.");
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = token;
        while rest > 0 || at == digits.len() {
            at -= 1;
            // A digit always fits.
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        subject.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
        subject
    }

    /// Hands a reply to its requester.
    pub(super) fn settle(&self, reply: Message) {
        let token = reply.subject().get(self.prefix.len() + 3..).and_then(|token| token.parse().ok());
        let waiter = token.and_then(|token: u64| self.waiting().remove(&token));
        if let Some(waiter) = waiter {
            // The requester may have given up a moment ago; then the reply is nobody's.
            let _ = waiter.reply.send(Ok(reply));
        }
    }

    /// Tells everybody who waits for a reply from `subject` that the server did not pass the request on.
    pub(super) fn deny_publishing(&self, subject: &str) {
        let subject = digest(subject);
        self.refuse(Denied::Publishing, |waiter| waiter.subject == subject);
    }

    /// Tells everybody who subscribed to `subject` that the server does not allow it.
    pub(super) fn deny_subscribing(&self, subject: &str) {
        if subject == self.wildcard() {
            self.refuse(Denied::Replies, |_| true);
        }
        for inlet in self.subscriptions().values().filter(|inlet| inlet.subject == subject) {
            inlet.denied.store(true, Ordering::Relaxed);
        }
    }

    fn refuse(&self, why: Denied, whom: impl Fn(&Waiter) -> bool) {
        let refused: Vec<Waiter> =
            self.waiting().extract_if(|_, waiter| whom(waiter)).map(|(_, waiter)| waiter).collect();
        for waiter in refused {
            let _ = waiter.reply.send(Err(why));
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiters> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Takes room for a message; the one that goes over the bound is the last.
    fn take(&self, message: &Message) -> bool {
        if message.size() <= SMALL {
            return true;
        }
        let fits = self.0.load(Ordering::Relaxed) < CAPACITY_BYTES;
        if fits {
            self.0.fetch_add(message.size(), Ordering::Relaxed);
        }
        fits
    }

    /// Gives the room of a message back that was read.
    pub(super) fn give(&self, message: &Message) {
        if message.size() > SMALL {
            self.0.fetch_sub(message.size(), Ordering::Relaxed);
        }
    }
}

impl Waiting {
    /// Waits for the reply; `None` once the bus is closed.
    pub(super) async fn reply(mut self) -> Option<Result<Message, Denied>> {
        (&mut self.reply).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // A reply that came took the place with it.
        if self.reply.is_terminated() {
            return;
        }
        self.inlets.waiting().remove(&self.token);
    }
}

impl std::fmt::Debug for Inlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inlet").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiter").finish_non_exhaustive()
    }
}

/// Source: FNV-1a, 64 bits.
fn digest(subject: &str) -> u64 {
    subject.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sinew_wire::Headers;

    use super::*;

    fn reply_on(subject: &str) -> Message {
        Message::from_parts(subject, None, None, &Headers::new(), Bytes::new())
    }

    fn inlets() -> Arc<Inlets> {
        Arc::new(Inlets::new("_INBOX.x".to_owned()))
    }

    #[tokio::test]
    async fn a_reply_reaches_its_requester_and_leaves_no_place_behind() {
        let inlets = inlets();
        let (waiting, subject) = inlets.enlist("a");
        inlets.deliver(REPLIES, reply_on(&subject));
        assert!(waiting.reply().await.is_some_and(|reply| reply.is_ok()));
        assert!(inlets.waiting().is_empty());
    }

    #[tokio::test]
    async fn a_dropped_request_leaves_nothing_behind_and_its_late_reply_is_nobodys() {
        let inlets = inlets();
        let (given_up, late) = inlets.enlist("a");
        let (waiting, other) = inlets.enlist("a");
        drop(given_up);
        assert_eq!(inlets.waiting().len(), 1);
        inlets.settle(reply_on(&late));
        inlets.settle(reply_on(&other));
        let reply = waiting.reply().await.unwrap().unwrap();
        assert_eq!(reply.subject(), other);
        assert!(inlets.waiting().is_empty());
        inlets.settle(reply_on("_INBOX.x.r.nonsense"));
        inlets.settle(reply_on("short"));
    }

    #[test]
    fn whoever_was_sent_some_requests_cannot_tell_the_place_of_another() {
        let tokens = |inlets: Arc<Inlets>| -> Vec<u64> {
            let kept: Vec<_> = (0..100).map(|_| inlets.enlist("a")).collect();
            kept.iter().map(|(_, subject)| subject.rsplit_once('.').unwrap().1.parse().unwrap()).collect()
        };
        let (one, other) = (tokens(inlets()), tokens(inlets()));
        assert!(one.iter().all(|token| !other.contains(token)), "each process has a key of its own");
        let mut steps: Vec<_> = one.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        steps.sort_unstable();
        steps.dedup();
        assert_eq!(steps.len(), 99, "they do not count up");
    }

    #[tokio::test]
    async fn ten_thousand_timeouts_leave_nothing_behind() {
        let inlets = inlets();
        let requests: Vec<_> = (0..10_000).map(|_| inlets.enlist("a").0).collect();
        assert_eq!(inlets.waiting().len(), 10_000);
        for waiting in requests {
            let _ = tokio::time::timeout(std::time::Duration::ZERO, waiting.reply()).await.unwrap_err();
        }
        assert!(inlets.waiting().is_empty());
    }

    #[tokio::test]
    async fn a_denied_subject_ends_the_requests_to_it_and_no_others() {
        let inlets = inlets();
        let (denied, _) = inlets.enlist("secret.door");
        let (allowed, subject) = inlets.enlist("open.door");
        let outlet = inlets.open("secret.door", None);
        inlets.deny_publishing("secret.door");
        assert_eq!(denied.reply().await.unwrap().unwrap_err(), Denied::Publishing);
        assert!(!outlet.denied.load(Ordering::Relaxed), "hearing is not saying");
        inlets.deny_subscribing("secret.door");
        inlets.deny_subscribing("open.door");
        assert!(outlet.denied.load(Ordering::Relaxed));
        inlets.settle(reply_on(&subject));
        assert!(allowed.reply().await.is_some_and(|reply| reply.is_ok()));
    }

    #[tokio::test]
    async fn large_messages_are_bounded_by_their_bytes_until_they_are_read() {
        let inlets = inlets();
        let mut outlet = inlets.open("a", None);
        let large = Bytes::from(vec![0; CAPACITY_BYTES / 4]);
        let deliver = |payload: &Bytes| {
            let message = Message::from_parts("a", None, None, &Headers::new(), payload.clone());
            inlets.deliver(outlet.sid, message);
        };
        (0..6).for_each(|_| deliver(&large));
        assert_eq!((outlet.messages.len(), inlets.dropped()), (4, 2));
        deliver(&Bytes::new());
        assert_eq!(inlets.dropped(), 2, "small ones cost nothing");
        outlet.held.give(&outlet.messages.recv().await.unwrap());
        (0..2).for_each(|_| deliver(&large));
        assert_eq!((outlet.messages.len(), inlets.dropped()), (5, 3));
    }

    #[tokio::test]
    async fn a_shut_subscription_can_be_read_to_its_end() {
        let inlets = inlets();
        let mut outlet = inlets.open("a", None);
        inlets.deliver(outlet.sid, reply_on("a"));
        inlets.shut(outlet.sid);
        inlets.deliver(outlet.sid, reply_on("a"));
        assert!(outlet.messages.recv().await.is_some());
        assert!(outlet.messages.recv().await.is_none());
    }
}
