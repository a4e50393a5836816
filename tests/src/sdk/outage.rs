//! The server goes away and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use sinew::{Catalogue, CatalogueChange, Kind, State, bus::KvChange};
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn without_a_server_everything_says_so_and_nothing_hangs() {
    let mut stage = Stage::start().await;
    let seen = Arc::new(AtomicU32::new(0));
    let desk = stage.start_service(both(&seen)).await;
    assert!(desk.is_ready() && stage.bus.is_connected());
    stage.harness.kill().await;
    let caller = stage.caller.bus().clone();
    eventually(SOON, || std::future::ready(!caller.is_connected() && !stage.bus.is_connected())).await;
    assert!(!desk.is_ready());
    let began = Instant::now();
    let error = stage.call("anybody?").await.unwrap_err();
    assert!(matches!(&error, CallError::NotSent(inner) if inner.kind() == Kind::Disconnected), "{error:?}");
    assert!(!error.is_unknown() && error.is_retryable());
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
    // More than the client's queue takes: the rest has to hear "no" after a while.
    let headers = Headers::new();
    let flood =
        futures::future::join_all((0..5_000).map(|_| caller.publish("noise", &headers, Bytes::new())));
    let (flood, event) = tokio::join!(flood, stage.caller.publish(Noted { number: 1 }));
    assert!(flood.iter().any(|sent| sent.as_ref().is_err_and(|error| error.kind() == Kind::Disconnected)));
    let kind = event.unwrap_err().kind();
    assert!(
        matches!(kind, Kind::Disconnected | Kind::TimedOut),
        "an event is never said to be stored: {kind:?}"
    );
}

#[tokio::test]
async fn when_the_server_is_back_everything_is() {
    let mut stage = Stage::start().await;
    let seen = Arc::new(AtomicU32::new(0));
    let desk = stage.start_service(both(&seen)).await;
    let catalogue = Catalogue::open(stage.caller.bus()).await.unwrap();
    let mut watch = catalogue.watch();
    assert!(matches!(watch.next().await, Some(CatalogueChange::Served(_))));
    for round in 1..=3 {
        if round == 2 {
            stage.harness.restart().await;
        } else {
            stage.harness.kill().await;
            stage.harness.revive().await;
        }
        // All of it well before any heartbeat is missed: nobody waits for silence to find out.
        eventually(Duration::from_secs(5), || async { stage.call("good").await.is_ok() }).await;
        eventually(Duration::from_secs(5), || std::future::ready(desk.is_ready())).await;
        stage.publish(round).await;
        eventually(Duration::from_secs(5), || std::future::ready(seen.load(Ordering::SeqCst) == round)).await;
        let mut changed = desk_descriptor();
        changed.version = format!("{round}.0.0");
        eventually(SOON, || async { catalogue.announce(&changed).await.is_ok() }).await;
        let told = tokio::time::timeout(Duration::from_secs(5), told(&mut watch, &changed.version)).await;
        told.expect("the watch tells");
    }
}

#[tokio::test]
async fn what_went_while_the_watch_was_blind_is_told() {
    let stage = Stage::start().await;
    let server = stage.harness.url().strip_prefix("nats://").unwrap().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let line = tokio::spawn(forward(listener, server.clone()));
    let bus = Bus::connect(Config::new(format!("nats://{address}"), "watcher")).await.unwrap();
    let kv = bus.kv("TEST").await.unwrap();
    let revision = kv.put("a", "1".into()).await.unwrap();
    let mut watches: Vec<_> = (0..20).map(|_| kv.watch()).collect();
    for watch in &mut watches {
        assert_eq!(watch.next().await, Some(KvChange::Put("a".into(), "1".into())));
    }
    line.abort();
    eventually(SOON, || std::future::ready(!bus.is_connected())).await;
    // By somebody whose line stands, and without a trace in the bucket.
    stage.bus.purge_stream("KV_TEST", "$KV.TEST.a", revision + 1).await.unwrap();
    let listener = eventually(SOON, || tokio::net::TcpListener::bind(address)).await;
    let line = tokio::spawn(forward(listener, server));
    for watch in &mut watches {
        let told = tokio::time::timeout(PATIENCE, watch.next());
        assert_eq!(told.await.unwrap(), Some(KvChange::Gone("a".into())));
    }
    kv.put("b", "2".into()).await.unwrap();
    for watch in &mut watches {
        assert_eq!(watch.next().await, Some(KvChange::Put("b".into(), "2".into())));
    }
    line.abort();
}

/// Hands on what comes, both ways, until it is ended; then every connection is.
pub(super) async fn forward(listener: tokio::net::TcpListener, to: String) {
    let mut lines = tokio::task::JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        let to = to.clone();
        lines.spawn(async move {
            let mut far = tokio::net::TcpStream::connect(to).await?;
            tokio::io::copy_bidirectional(&mut near, &mut far).await
        });
    }
}

#[tokio::test]
async fn a_request_under_way_when_the_server_dies_has_an_unknown_outcome() {
    let mut stage = Stage::start().await;
    let _deaf = stage.bus.subscribe(Echo::SUBJECT, None).await.unwrap();
    stage.bus.barrier().await.unwrap();
    let call = stage.caller.call(echo("")).within(Duration::from_secs(1)).into_future();
    let (outcome, ()) = tokio::join!(call, stage.harness.kill());
    let error = outcome.unwrap_err();
    // Killed before it was asked, the server is known not to have passed it on.
    assert!(
        matches!(&error, CallError::TimedOut)
            || matches!(&error, CallError::NotSent(inner) if inner.kind() == Kind::Disconnected),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_reader_too_slow_loses_messages_and_the_bus_counts_them() {
    let stage = Stage::start().await;
    let mut slow = stage.bus.subscribe("flood", None).await.unwrap();
    stage.bus.barrier().await.unwrap();
    let caller = stage.caller.bus();
    let sent = 70_000;
    for _ in 0..sent {
        caller.publish("flood", &Headers::new(), Bytes::new()).await.unwrap();
    }
    caller.barrier().await.unwrap();
    // The server has passed everything on; behind it comes our own word.
    stage.bus.barrier().await.unwrap();
    slow.drain().await;
    let mut read = 0;
    while slow.next().await.is_some() {
        read += 1;
    }
    assert!(read < sent, "what one subscription holds is bounded");
    eventually(SOON, || std::future::ready(stage.bus.dropped() > 0)).await;
    assert_eq!(caller.dropped(), 0);
}

#[tokio::test]
async fn a_server_too_old_is_refused() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let old_server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let info = r#"INFO {"server_id":"OLD","version":"2.11.9","max_payload":1048576,"headers":true}"#;
        socket.write_all(format!("{info}\r\n").as_bytes()).await.unwrap();
        // It may be asked anything: "PONG" is all the client waits for.
        socket.write_all(b"PONG\r\n").await.unwrap();
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        connected = Bus::connect(Config::new(url, "modern")) => connected.unwrap_err(),
        () = old_server => unreachable!("it never ends"),
    };
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("2.11.9"), "{error}");
}

fn both(seen: &Arc<AtomicU32>) -> Service<Arc<AtomicU32>> {
    desk(seen.clone(), repeat).on("mailer", count, |group| group)
}

fn desk_descriptor() -> wire::ServiceDescriptor {
    desk((), repeat).describe()
}

async fn count(event: Noted, State(seen): State<Arc<AtomicU32>>) -> Result<(), Problem> {
    seen.fetch_max(event.number, Ordering::SeqCst);
    Ok(())
}

async fn told(watch: &mut sinew::CatalogueWatch, version: &str) {
    while let Some(change) = watch.next().await {
        if matches!(change, CatalogueChange::Served(descriptor) if descriptor.version == version) {
            return;
        }
    }
}
