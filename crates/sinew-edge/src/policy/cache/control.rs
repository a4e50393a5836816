//! What lets go of kept replies from outside: events that routes follow, and whoever may publish on `_EDGE.purge`.
//!
//! Every replica hears both by itself, without a stream: what is missed while the bus is cut is made good by letting go of
//! everything that events could have changed once it is back.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{
    Bus,
    bus::{Message, Subscription},
    wire::{ContentType, Headers, Subject, decode, encode},
};
use tokio::{sync::mpsc, time::interval};
use tokio_util::task::AbortOnDropHandle;

use super::{path_key, route_tag, store::Sweep};
use crate::{Edge, shape};

/// Where edges are asked to let go of what they keep, in JSON: `all`, `tags`, `paths`. Each answers how much it was.
pub const PURGE: &str = "_EDGE.purge";
/// Messages that wait to be looked at.
const WAITING: usize = 1_024;
/// How often the bus is looked at, and tried again where somebody may not follow an event yet.
const LOOK: Duration = Duration::from_millis(500);

/// What a purge lets go of.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Purge {
    all: bool,
    tags: Vec<String>,
    paths: Vec<String>,
}

/// The task that hears.
pub(crate) struct Control {
    edge: Arc<Edge>,
    heard: mpsc::Receiver<(String, Message)>,
    hears: mpsc::Sender<(String, Message)>,
    /// By subject; each ends with its handle.
    followed: HashMap<String, AbortOnDropHandle<()>>,
    connected: bool,
}

impl Control {
    /// Follows what the routes in force want to know.
    pub(crate) async fn start(edge: Arc<Edge>) -> Self {
        let (hears, heard) = mpsc::channel(WAITING);
        let mut control = Self { edge, heard, hears, followed: HashMap::new(), connected: true };
        control.follow().await;
        control
    }

    /// Hears as long as the edge runs.
    pub(crate) async fn run(self) {
        let closing = self.edge.closing.clone();
        closing.run_until_cancelled(self.hear()).await;
    }

    async fn hear(mut self) {
        let edge = self.edge.clone();
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                Some((subject, message)) = self.heard.recv() => self.take(&subject, &message).await,
                () = edge.policies.caches.rebound.notified() => self.follow().await,
                // Who caches nothing is not woken.
                _ = look.tick(), if !self.followed.is_empty() => self.look_at_the_bus(),
            }
        }
    }

    /// Follows what the routes in force name, and nothing else.
    async fn follow(&mut self) {
        let wanted = self.wanted();
        self.followed.retain(|subject, _| wanted.contains(subject));
        for subject in wanted {
            if self.followed.contains_key(&subject) {
                continue;
            }
            // The first try is waited for: what is published from here on is heard.
            let first = self.edge.bus.subscribe(&subject, None).await.ok();
            let hearing = hear(self.edge.bus.clone(), subject.clone(), first, self.hears.clone());
            self.followed.insert(subject, AbortOnDropHandle::new(tokio::spawn(hearing)));
        }
    }

    fn wanted(&self) -> BTreeSet<String> {
        let table = self.edge.table.load();
        let caches = || table.served().filter_map(|served| served.policies.cache.as_ref());
        let events = caches().flat_map(|cache| &cache.invalidate_on);
        let events = events.filter_map(|one| Some(Subject::event(one.event()).ok()?.as_str().to_owned()));
        let purge = table.caches().then(|| PURGE.to_owned());
        events.chain(purge).collect()
    }

    async fn take(&self, subject: &str, message: &Message) {
        if subject == PURGE {
            return self.purge(message).await;
        }
        let table = self.edge.table.load();
        let event: Option<Value> =
            message.content_type().ok().and_then(|codec| decode(codec, message.payload()).ok());
        let mut tags = BTreeSet::new();
        for cache in table.served().filter_map(|served| served.policies.cache.as_ref()) {
            let about = |one: &&crate::config::Invalidation| {
                Subject::event(one.event()).is_ok_and(|own| own.as_str() == subject)
            };
            for one in cache.invalidate_on.iter().filter(about) {
                let written = |tag: &String| shape::text(tag, event.as_ref()?);
                match one.tags().iter().map(written).collect::<Option<Vec<_>>>() {
                    Some(named) if !named.is_empty() => tags.extend(named),
                    // An event that does not say what changed may have changed anything.
                    _ => drop(tags.insert(route_tag(&cache.route))),
                }
            }
        }
        let count = self.edge.policies.caches.sweep(tags.into_iter().map(Sweep::Tag));
        tracing::debug!(subject, count, "an event let go of kept replies");
    }

    async fn purge(&self, message: &Message) {
        let purge = match decode::<Purge>(ContentType::Json, message.payload()) {
            Ok(purge) => purge,
            Err(error) => return tracing::warn!(%error, "a purge cannot be read"),
        };
        tracing::info!(?purge, "kept replies are purged");
        let paths = purge.paths.iter().map(|path| Sweep::Path(path_key(path)));
        let all = purge.all.then_some(Sweep::All).into_iter();
        let count =
            self.edge.policies.caches.sweep(all.chain(paths).chain(purge.tags.into_iter().map(Sweep::Tag)));
        let Some(to) = message.reply_to() else { return };
        let answer = json!({ "edge": self.edge.bus.name(), "purged": count });
        if let Ok(answer) = encode(ContentType::Json, &answer)
            && let Err(error) = self.edge.bus.publish(to, &Headers::new(), answer).await
        {
            tracing::debug!(%error, "nobody was told of a purge");
        }
    }

    fn look_at_the_bus(&mut self) {
        let connected = self.edge.bus.is_connected();
        if connected && !self.connected {
            let count = self.edge.policies.caches.sweep([Sweep::All]);
            tracing::info!(count, "the bus was cut: kept replies that events may have changed are let go of");
        }
        self.connected = connected;
    }
}

/// Hands on what is heard on one subject.
async fn hear(
    bus: Bus,
    subject: String,
    mut heard: Option<Subscription>,
    to: mpsc::Sender<(String, Message)>,
) {
    loop {
        if let Some(messages) = &mut heard {
            while let Some(message) = messages.next().await {
                if to.send((subject.clone(), message)).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
        heard = bus.subscribe(&subject, None).await.inspect_err(|error| tracing::warn!(subject, %error, "kept replies outlive this event: it cannot be followed")).ok();
    }
}
