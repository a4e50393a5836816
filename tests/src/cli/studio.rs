//! The example of work that takes a while: taken on and brought later, left as a command, and stopped when it is cancelled.

use std::{path::Path, process::Stdio, time::Duration};

use bytes::Bytes;
use serde_json::json;
use sinew::wire::Headers;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::program::{Ran, sinew, start_example, watch_example};
use crate::{
    harness::{Harness, SOON, eventually},
    workflow::Lab,
};

async fn lab() -> Lab {
    let lab = Lab::on(Harness::start().await).await.with_orchestrator().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let file = root.join("examples/studio/film.yaml");
    run(&lab, &["apply", file.to_str().unwrap()]).await.succeeded();
    lab
}

/// Waits until the studio is open.
async fn open(lab: &Lab) {
    let ping = || async {
        lab.bus
            .request("$SRV.PING.studio", &Headers::new(), Bytes::new(), Duration::from_secs(1))
            .await
            .is_ok()
    };
    eventually(SOON, ping).await;
}

async fn run(lab: &Lab, arguments: &[&str]) -> Ran {
    sinew(&[&["--json", "--nats-url", lab.harness.url(), "workflow"], arguments].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_is_cut_and_archived_although_the_studio_closes_in_between() {
    let lab = lab().await;
    let mut studio = start_example("studio", lab.harness.url());
    let film = ["start", "film", "--id", "f-1", "--no-wait", "--input", r#"{"script":"dawn"}"#];
    open(&lab).await;
    run(&lab, &film).await.succeeded();
    let cut = || async {
        let instance = lab.get("film", "f-1").await.unwrap();
        instance.steps.first().is_some_and(|step| step.outcome == "completed")
    };
    eventually(SOON, cut).await;
    studio.kill().await.unwrap();
    let _next = start_example("studio", lab.harness.url());
    let output = lab.closed("film", "f-1").await.output;
    assert_eq!(output, Some(json!({ "url": "films/dawn.mp4", "shelf": 7 })));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_film_is_given_up_at_once_and_thrown_away() {
    let lab = lab().await;
    let mut studio = watch_example("studio", lab.harness.url(), Stdio::piped());
    let mut said = BufReader::new(studio.stderr.take().unwrap()).lines();
    // A minute's work, and the first sign of life after three seconds.
    let script = format!(r#"{{"script":"{}"}}"#, vec!["scene"; 60].join(","));
    let film = ["start", "film", "--id", "f-2", "--no-wait", "--input", &script];
    open(&lab).await;
    run(&lab, &film).await.succeeded();
    let begun = || async { !lab.get("film", "f-2").await.unwrap().steps.is_empty() };
    eventually(SOON, begun).await;
    run(&lab, &["cancel", "film", "f-2"]).await.succeeded();
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let line =
            tokio::time::timeout(Duration::from_secs(30), said.next_line()).await.unwrap().unwrap().unwrap();
        heard.extend(["given up", "thrown away"].into_iter().filter(|word| line.starts_with(word)));
    }
    heard.sort_unstable();
    assert_eq!(heard, ["given up", "thrown away"]);
    let ended = lab.closed("film", "f-2").await;
    assert_eq!((ended.status.as_str(), ended.saga.as_str()), ("cancelled", "compensated"));
    lab.stop().await;
}
