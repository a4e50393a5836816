//! What every broker does that Sinew runs on: the testing kit's own, one nats-server, a cluster of three.
//!
//! A behaviour is written once. Where they differ, the documentation of `sinew::testing` says so.

mod consumers;
mod messages;
mod services;
mod streams;

use futures::future::BoxFuture;
use sinew::bus::{Kv, PubAck, PullConfig, Retention, StreamConfig};
use sinew::testing::{App, Kit};

use super::*;
use crate::harness::{Cluster, SOON, eventually};

/// A broker as a behaviour sees it.
#[derive(Clone)]
struct Backend {
    bus: Bus,
    /// Another connection.
    other: Bus,
    /// The behaviour's own word: servers are shared by all of them.
    own: String,
    replicas: usize,
    /// Where time is moved, in the kit.
    app: Option<std::sync::Arc<App>>,
}

struct Behaviour {
    name: &'static str,
    check: fn(Backend) -> BoxFuture<'static, ()>,
}

/// Names behaviours, so that a failure can.
macro_rules! behaviours {
    ($($module:ident: $($name:ident)*;)*) => {
        const BEHAVIOURS: &[Behaviour] = &[$($(Behaviour {
            name: stringify!($name),
            check: |backend| Box::pin($module::$name(backend)),
        }),*),*];
    };
}

behaviours! {
    messages: a_request_is_answered
        a_request_that_nobody_serves_says_so
        one_of_a_queue_group_takes_a_message
        wildcards_take_what_they_match
        several_replies_are_gathered
        headers_arrive_as_they_were_sent;
    streams: appends_are_numbered
        an_append_that_no_stream_takes_says_so
        an_append_behind_the_wrong_message_is_a_conflict
        the_same_message_id_is_stored_once
        a_limit_per_subject_keeps_the_newest
        the_newest_message_of_a_subject_is_read
        purging_leaves_what_stands_behind
        a_reader_goes_on_where_it_ended
        ensuring_twice_changes_nothing_and_overlaps_are_refused
        a_scheduled_message_comes_when_it_is_due
        a_bucket_compares_and_sets
        an_entry_expires
        a_watch_tells_what_stands_and_what_changes;
    consumers: a_message_is_out_until_it_is_acknowledged
        what_is_handed_back_comes_again_after_its_delay
        silence_is_taken_for_failure
        progress_holds_the_message
        what_is_terminated_never_comes_again
        a_message_given_up_is_told_of
        no_more_are_out_than_allowed
        a_filter_takes_its_subject_only
        a_durable_consumer_goes_on_where_it_ended
        a_work_queue_forgets_what_is_done;
    services: a_service_answers_refuses_and_is_discovered
        an_upload_comes_whole_and_no_faster_than_it_is_taken
        an_event_reaches_every_group_once
        a_failing_event_is_tried_again_and_kept
        a_contract_stands_in_the_catalogue;
}

#[tokio::test]
async fn the_testing_kit_conforms() {
    conform(async |behaviour| {
        let app = Kit::new().await;
        let bus = app.ctx().bus().clone();
        Backend { other: bus.clone(), bus, own: behaviour, replicas: 1, app: Some(app.into()) }
    })
    .await;
}

#[tokio::test]
async fn a_server_conforms() {
    let harness = Harness::start().await;
    let (bus, other) = (connect(&harness, "one").await, connect(&harness, "other").await);
    conform(async |own| Backend { bus: bus.clone(), other: other.clone(), own, replicas: 1, app: None })
        .await;
}

#[tokio::test]
async fn a_cluster_of_three_conforms() {
    let cluster = Cluster::start().await;
    let connect = async |name| Bus::connect(Config::new(cluster.url(), name)).await.unwrap();
    let (bus, other) = (connect("one").await, connect("other").await);
    for (name, subject) in [("EVENTS", "evt.>"), ("DEAD_LETTERS", "dlq.>")] {
        let (name, subjects) = (name.to_owned(), vec![subject.to_owned()]);
        bus.ensure_stream(&StreamConfig { name, subjects, replicas: 3, ..StreamConfig::default() })
            .await
            .unwrap();
    }
    conform(async |own| Backend { bus: bus.clone(), other: other.clone(), own, replicas: 3, app: None })
        .await;
}

/// Checks every behaviour, and names those that fail.
async fn conform(backend: impl AsyncFn(String) -> Backend) {
    let mut failed = Vec::new();
    for Behaviour { name, check } in BEHAVIOURS {
        // As short as a name of a stream has to be, and different for each.
        let own = format!("b{}", BEHAVIOURS.iter().position(|other| other.name == *name).unwrap());
        let check = tokio::spawn(check(backend(own).await));
        if tokio::time::timeout(2 * PATIENCE, check).await.is_ok_and(|checked| checked.is_ok()) {
            continue;
        }
        failed.push(*name);
    }
    assert!(failed.is_empty(), "these behaviours fail: {failed:#?}");
}

impl Backend {
    /// Returns a subject of the behaviour's own.
    fn subject(&self, rest: &str) -> String {
        format!("{}.{rest}", self.own)
    }

    fn stream_name(&self) -> String {
        self.own.to_uppercase()
    }

    /// Makes a stream of everything on the behaviour's own subjects.
    async fn stream(&self, change: impl FnOnce(StreamConfig) -> StreamConfig) -> String {
        let config = StreamConfig {
            name: self.stream_name(),
            subjects: vec![self.subject(">")],
            replicas: self.replicas,
            ..StreamConfig::default()
        };
        self.bus.ensure_stream(&change(config)).await.expect("create a stream");
        if self.replicas > 1 {
            self.is_heard_of().await;
        }
        self.stream_name()
    }

    /// Waits until the servers of both connections know who takes the stream's messages: the one that led its creation
    /// answers first. What is sent for that is refused.
    async fn is_heard_of(&self) {
        let mut headers = Headers::new();
        headers.set("Nats-Expected-Stream", "another").unwrap();
        for bus in [&self.bus, &self.other] {
            eventually(SOON, || async {
                let sent = bus.publish_acked(&self.subject("asked"), &headers, Bytes::new(), PATIENCE).await;
                sent.is_err_and(|error| error.kind() != sinew::Kind::NoResponders)
            })
            .await;
        }
    }

    async fn append(&self, rest: &str, payload: &str) -> Result<PubAck, sinew::Error> {
        self.append_with(rest, payload, &[]).await
    }

    async fn append_with(
        &self,
        rest: &str,
        payload: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<PubAck, sinew::Error> {
        let mut checked = Headers::new();
        for (name, value) in headers {
            checked.set(*name, *value).unwrap();
        }
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        self.bus.publish_acked(&self.subject(rest), &checked, payload, PATIENCE).await
    }

    async fn kv(&self) -> Kv {
        self.bus.kv(&self.stream_name()).await.expect("open a bucket")
    }

    fn consumer(&self) -> PullConfig {
        PullConfig {
            stream: self.stream_name(),
            durable: "reader".to_owned(),
            filter: self.subject(">"),
            ack_wait: Duration::from_secs(30),
            max_deliver: -1,
            max_ack_pending: 100,
            begin: sinew::bus::Begin::First,
        }
    }

    /// Lets time pass where it stands still; elsewhere it passes by itself.
    async fn pass(&self, time: Duration) {
        if let Some(app) = &self.app {
            app.advance(time).await;
        }
    }
}
