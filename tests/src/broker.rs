//! The broker locator against real servers: starting, stopping, crashing, and dying with the parent.

use std::path::Path;
use std::process::{Command, Stdio};

use async_nats::jetstream;
use sinew::broker::{self, Broker, Config, Error, Source};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::harness::{Harness, SOON, eventually, server};

/// Set for the process that [`parent_to_be_killed`] runs in, and nowhere else.
const HELPER: &str = "SINEW_TEST_PARENT";

#[tokio::test]
async fn a_child_is_ready_when_start_returns_and_gone_when_stop_returns() {
    let broker = start_child().await;
    assert_eq!(*broker.source(), Source::Configured);
    assert!(broker.version().is_supported());
    let (url, data_dir) = (broker.url().to_owned(), broker.data_dir().unwrap().to_owned());
    context(&url).await.query_account().await.expect("JetStream answers the first request");
    assert!(broker.logs().iter().any(|line| line.contains("Server is ready")));
    broker.stop().await.unwrap();
    assert!(!listens(&url).await);
    assert!(!data_dir.exists(), "a temporary directory is removed");
}

#[tokio::test]
async fn children_started_together_do_not_collide() {
    let brokers = futures::future::join_all((0..6).map(|_| start_child())).await;
    for (index, broker) in brokers.iter().enumerate() {
        create_stream(broker.url(), &format!("ONLY_{index}")).await;
    }
    for (index, broker) in brokers.iter().enumerate() {
        assert_eq!(context(broker.url()).await.query_account().await.unwrap().streams, 1, "broker {index}");
    }
    for broker in brokers {
        broker.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_older_than_required_is_refused_with_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("nats-server");
    // Written by another process: a program this one has open for writing could not be run.
    let write = "printf '#!/bin/sh\\necho nats-server: v2.11.0\\n' >\"$0\" && chmod +x \"$0\"";
    assert!(Command::new("/bin/sh").args(["-c", write]).arg(&old).status().unwrap().success());
    let error = broker::start(Config { binary: Some(old), ..Config::default() }, |_| ()).await.unwrap_err();
    assert!(matches!(&error, Error::TooOld { version, .. } if version.to_string() == "2.11.0"), "{error}");
    assert_eq!(error.code(), "SNW-1006");
}

#[tokio::test]
async fn a_running_server_is_used_and_left_running() {
    let mut harness = Harness::start().await;
    let config = Config { url: Some(harness.url().to_owned()), ..Config::default() };
    let broker = broker::start(config, |_| ()).await.unwrap();
    assert_eq!((*broker.source(), broker.pid()), (Source::Running, None));
    assert_eq!(broker.version(), harness.broker().version());
    broker.stop().await.unwrap();
    assert!(listens(harness.url()).await);
}

#[tokio::test]
async fn a_crash_is_reported_with_its_signal() {
    let mut harness = Harness::start().await;
    signal("KILL", harness.broker().pid().unwrap());
    assert_eq!(harness.broker().exited().await.code, Some(128 + 9));
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_and_a_restart() {
    let mut harness = Harness::start_synced().await;
    create_stream(harness.url(), "KEPT").await;
    let context = context(harness.url()).await;
    let acknowledged = context.publish("KEPT.one", "1".into()).await.unwrap();
    acknowledged.await.expect("the server acknowledges the message");
    harness.kill().await;
    assert!(!listens(harness.url()).await);
    harness.revive().await;
    assert_eq!(messages(harness.url(), "KEPT").await, 1);
    harness.restart().await;
    assert_eq!(messages(harness.url(), "KEPT").await, 1);
}

#[tokio::test]
async fn a_child_does_not_outlive_a_parent_killed_without_warning() {
    let mut parent = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "broker::parent_to_be_killed"])
        .env(HELPER, server().await)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let (url, data_dir) = loop {
        let line = lines.next_line().await.unwrap().expect("the helper tells where its broker is");
        if let Some((_, told)) = line.split_once("broker: ") {
            break told.split_once(' ').map(|(url, dir)| (url.to_owned(), dir.to_owned())).unwrap();
        }
    };
    assert!(listens(&url).await);
    parent.kill().await.unwrap();
    eventually(SOON, || async { !listens(&url).await }).await;
    eventually(SOON, || async { !Path::new(&data_dir).exists() }).await;
}

/// Not a test: the other half of the one above, which runs this in a process of its own.
#[tokio::test]
#[ignore = "runs only as the helper of a_child_does_not_outlive_a_parent_killed_without_warning"]
async fn parent_to_be_killed() {
    let Some(binary) = std::env::var_os(HELPER) else { return };
    let config = Config { binary: Some(binary.into()), ..Config::default() };
    let mut broker = broker::start(config, |_| ()).await.unwrap();
    println!("broker: {} {}", broker.url(), broker.data_dir().unwrap().display());
    panic!("the broker should outlast this process: {}", broker.exited().await);
}

async fn start_child() -> Broker {
    let config = Config { binary: Some(server().await), ..Config::default() };
    broker::start(config, |_| ()).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn context(url: &str) -> jetstream::Context {
    jetstream::new(async_nats::connect(url).await.unwrap())
}

async fn create_stream(url: &str, name: &str) {
    let config = jetstream::stream::Config {
        name: name.into(),
        subjects: vec![format!("{name}.>")],
        ..Default::default()
    };
    context(url).await.create_stream(config).await.unwrap();
}

async fn messages(url: &str, stream: &str) -> u64 {
    context(url).await.get_stream(stream).await.unwrap().cached_info().state.messages
}

async fn listens(url: &str) -> bool {
    tokio::net::TcpStream::connect(url.trim_start_matches("nats://")).await.is_ok()
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("/bin/sh").args(["-c", "kill -\"$0\" \"$1\"", name, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}
