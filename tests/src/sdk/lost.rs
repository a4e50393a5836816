//! Replies that went into a broken connection: who waits long for them hears of it soon after the next one.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use sinew::{Kind, State};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

use super::*;
use crate::harness::{SOON, eventually};

/// A handler that has begun, and may go on.
#[derive(Clone, Default)]
struct Door {
    begun: Arc<Notify>,
    open: Arc<Notify>,
}

async fn wait(request: Echo, State(door): State<Door>) -> Result<String, DeskError> {
    door.begun.notify_one();
    door.open.notified().await;
    Ok(request.text)
}

/// A desk, and a caller behind a line that can be cut.
struct Scene {
    stage: Stage,
    door: Door,
    _desk: Running,
    caller: Bus,
    address: SocketAddr,
    line: JoinHandle<()>,
}

impl Scene {
    async fn set() -> Self {
        let (stage, door) = (Stage::start().await, Door::default());
        let desk = stage.start_service(desk(door.clone(), wait)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = tokio::spawn(outage::forward(listener, server(&stage)));
        let caller = Bus::connect(Config::new(format!("nats://{address}"), "caller")).await.unwrap();
        Self { stage, door, _desk: desk, caller, address, line }
    }

    /// Asks, and returns once somebody is at work on it.
    async fn ask(&self) -> JoinHandle<Result<Message, sinew::Error>> {
        let caller = self.caller.clone();
        let asked = tokio::spawn(async move {
            let payload = Bytes::from_static(br#"{"text":"kept"}"#);
            caller.request_unless_lost(Echo::SUBJECT, &Headers::new(), payload, PATIENCE).await
        });
        tokio::time::timeout(SOON, self.door.begun.notified()).await.unwrap();
        asked
    }

    async fn cut(&mut self) {
        self.line.abort();
        eventually(SOON, || std::future::ready(!self.caller.is_connected())).await;
    }

    async fn mend(&mut self) {
        let listener = eventually(SOON, || TcpListener::bind(self.address)).await;
        self.line = tokio::spawn(outage::forward(listener, server(&self.stage)));
        self.caller.connected(SOON).await.unwrap();
    }
}

fn server(stage: &Stage) -> String {
    stage.harness.url().strip_prefix("nats://").unwrap().to_owned()
}

#[tokio::test]
async fn a_reply_lost_with_the_connection_is_not_waited_for_to_the_end() {
    let mut scene = Scene::set().await;
    let asked = scene.ask().await;
    scene.cut().await;
    scene.door.open.notify_one();
    // Replied into nowhere: the server passes nothing on behind this.
    scene.stage.bus.barrier().await.unwrap();
    scene.mend().await;
    let mended = Instant::now();
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::TimedOut, "the outcome is unknown: {error}");
    assert!(mended.elapsed() < PATIENCE / 3, "it took {:?}", mended.elapsed());
    scene.line.abort();
}

#[tokio::test]
async fn a_reply_that_comes_over_the_next_connection_counts_however_late() {
    let mut scene = Scene::set().await;
    let asked = scene.ask().await;
    scene.cut().await;
    let mut questions = scene.stage.bus.subscribe("svc.desk.$held", None).await.unwrap();
    scene.stage.bus.barrier().await.unwrap();
    scene.mend().await;
    // Asked, the desk says that it works on it; what is asked again comes long after silence would have counted.
    for _ in 0..2 {
        tokio::time::timeout(SOON, questions.next()).await.unwrap().unwrap();
    }
    scene.door.open.notify_one();
    let reply = asked.await.unwrap().unwrap();
    assert_eq!(reply.payload().as_ref(), br#""kept""#);
    scene.line.abort();
}
