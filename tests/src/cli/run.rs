//! `sinew workflow run`: documents that run in the program itself, against real services and without a broker.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::program::{ended, interrupt, sinew, start};
use crate::{
    harness::{HttpsStub, SOON, eventually, json as answer},
    workflow::Lab,
};

const HEAD: &str = "document: { dsl: '1.0.3', namespace: test, name: flow, version: '1.0.0' }\n";

/// Reserves something over HTTP, and then waits for a long time.
const SAGA: &str = "\
do:
  - reserve:
      call: http
      with: { method: post, endpoint: 'https://stock.example/reserve', body: { sku: shoe } }
      compensate:
        call: http
        with: { method: post, endpoint: 'https://stock.example/release', body: { sku: shoe } }
  - pause: { wait: { days: 1 } }
";

/// A document, the authority of a stub, and the arguments that lead to it.
struct Scene {
    folder: TempDir,
    stub: HttpsStub,
}

impl Scene {
    async fn new(tasks: &str, respond: impl Fn(&str) -> u16 + Send + Sync + 'static) -> Self {
        let stub = HttpsStub::start(&["stock.example"], move |seen| {
            answer(respond(&seen.path), &json!({ "path": seen.path, "token": "shown" }))
        });
        let (folder, stub) = (tempfile::tempdir().unwrap(), stub.await);
        std::fs::write(folder.path().join("flow.yaml"), format!("{HEAD}{tasks}")).unwrap();
        std::fs::write(folder.path().join("ca.pem"), stub.authority()).unwrap();
        Self { folder, stub }
    }

    fn arguments(&self) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let (host, address) = self.stub.resolve().into_iter().next().unwrap();
        let resolve = format!("{host}={address}");
        let fixed = ["--json", "workflow", "run"].map(str::to_owned);
        fixed
            .into_iter()
            .chain([path("flow.yaml"), "--ca".to_owned(), path("ca.pem"), "--resolve".to_owned(), resolve])
            .collect()
    }

    fn asked(&self) -> Vec<String> {
        self.stub.seen().into_iter().map(|seen| seen.path).collect()
    }
}

#[tokio::test]
async fn a_workflow_that_completes_ends_with_0_and_the_promised_members() {
    let (_folder, file) = document("do: [ { greet: { set: { greeting: '${ \"hello \" + .name }' } } } ]");
    let told = sinew(&["workflow", "run", &file, "--set", "name=Ada", "--json"]).await.succeeded().json();
    let (started, finished) = (&told["tasks"][0]["started"], &told["tasks"][0]["ended"]);
    assert!(started.as_str().unwrap().ends_with('Z') && finished.is_string(), "{told}");
    let task = json!({ "name": "greet", "pointer": "/do/0/greet", "status": "completed",
                       "started": started, "ended": finished });
    let expected = json!({ "status": "completed", "output": { "greeting": "hello Ada" }, "error": null,
                           "tasks": [task] });
    assert_eq!(told, expected);
    let text = sinew(&["workflow", "run", &file, "--input", r#"{"name":"Bo"}"#]).await.succeeded().stdout;
    assert!(text.contains("✓ greet") && text.contains(r#"output  {"greeting":"hello Bo"}"#), "{text}");
}

#[tokio::test]
async fn a_workflow_that_faults_ends_with_2_and_its_error() {
    let (_folder, file) = document(
        "do: [ { no: { raise: { error: { type: 'https://a.example/errors/no', status: 409, title: No } } } } ]",
    );
    let ran = sinew(&["workflow", "run", &file, "--json"]).await;
    let expected = json!({ "type": "https://a.example/errors/no", "status": 409, "title": "No", "instance": "/do/0/no" });
    assert_eq!(
        (ran.code, ran.json()["status"].as_str(), &ran.json()["error"]),
        (2, Some("faulted"), &expected)
    );
    assert_eq!(ran.stderr, "", "the result says it already");
}

#[tokio::test]
async fn what_is_invalid_ends_with_3_before_anything_runs() {
    let (_folder, file) = document("do: [ { a: { sett: {} } } ]");
    let ran = sinew(&["workflow", "run", &file, "--json"]).await;
    assert_eq!((ran.code, ran.error_code(), ran.stdout.as_str()), (3, "SNW-5008".into(), ""), "{ran:?}");
    assert_eq!(ran.error()["diagnostics"][0]["line"], 2);
    let (_folder, good) = document("do: [ { a: { set: {} } } ]");
    let ran = sinew(&["workflow", "run", &good, "--input", "{\"a\":", "--json"]).await;
    assert_eq!((ran.code, ran.error_code()), (3, "SNW-5002".into()), "{ran:?}");
    let (_folder, shell) = document("do: [ { a: { run: { shell: { command: ls } } } } ]");
    let ran = sinew(&["workflow", "run", &shell, "--json"]).await;
    assert_eq!(ran.code, 3, "processes are off until they are allowed: {ran:?}");
}

#[tokio::test]
async fn ctrl_c_undoes_what_was_done() {
    let scene = Scene::new(SAGA, |_| 200).await;
    let arguments = scene.arguments();
    let mut child = start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    eventually(SOON, || async { (scene.asked() == ["/reserve"]).then_some(()) }).await;
    interrupt(&child);
    assert_eq!(ended(&mut child).await, Some(130));
    let told: Value = serde_json::from_str(&read(&mut child).await).unwrap();
    assert_eq!((told["status"].as_str(), told["saga"].as_str()), (Some("cancelled"), Some("compensated")));
    assert_eq!(scene.asked(), ["/reserve", "/release"]);
}

#[tokio::test]
async fn a_second_ctrl_c_ends_at_once() {
    // The reservation cannot be released for now, so that undoing goes on and on.
    let scene = Scene::new(SAGA, |path| if path == "/release" { 503 } else { 200 }).await;
    let arguments = scene.arguments();
    let mut child = start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    eventually(SOON, || async { (scene.asked() == ["/reserve"]).then_some(()) }).await;
    interrupt(&child);
    eventually(SOON, || async { scene.asked().contains(&"/release".to_owned()).then_some(()) }).await;
    interrupt(&child);
    assert_eq!(ended(&mut child).await, Some(130));
    let told: Value = serde_json::from_str(&read(&mut child).await).unwrap();
    assert_eq!((told["status"].as_str(), told["saga"].as_str()), (Some("cancelled"), Some("compensating")));
}

#[tokio::test]
async fn a_secret_reaches_the_service_and_nothing_that_is_printed() {
    let tasks = "use: { secrets: [ token ] }\ndo:\n  - ask:\n      call: http\n      with:\n        method: get\n        \
                 endpoint: https://stock.example/items\n        headers: { x-token: '${ $secrets.token }' }\n";
    let scene = Scene::new(tasks, |_| 200).await;
    let mut arguments = scene.arguments();
    arguments.extend(["--secret", "token=hunter2"].map(str::to_owned));
    let ran = sinew(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await.succeeded();
    assert_eq!(scene.stub.seen()[0].headers.get("x-token").map(String::as_str), Some("hunter2"));
    assert!(!ran.stdout.contains("hunter2") && !ran.stderr.contains("hunter2"), "{ran:?}");
}

#[tokio::test]
async fn an_operation_is_called_on_the_bus_that_is_named_and_nowhere_else() {
    let (_folder, file) = document("do: [ { act: { call: lab.act, with: { step: a } } } ]");
    let ran = sinew(&["workflow", "run", &file, "--json"]).await;
    let error = &ran.json()["error"];
    assert_eq!((ran.code, error["code"].as_str()), (2, Some("bus-down")), "{ran:?}");
    assert!(error["detail"].as_str().unwrap().contains("--nats-url"), "{error}");
    let lab = Lab::on(crate::harness::Harness::start().await).await;
    let ran = sinew(&["--nats-url", lab.harness.url(), "workflow", "run", &file, "--json"]).await.succeeded();
    assert_eq!(ran.json()["output"], json!({ "done": "a" }));
    assert_eq!(lab.ledger.lines().len(), 1);
    lab.stop().await;
}

#[tokio::test]
async fn events_are_read_from_a_file_and_children_from_others() {
    let (folder, file) = document(
        "do:\n  - hear: { listen: { to: { one: { with: { type: a.b } } } } }\n  \
         - child: { run: { workflow: { namespace: test, name: child, version: '1.0.0', input: '${ .[0] }' } } }\n",
    );
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let events = write(
        "events.jsonl",
        "{\"type\":\"x\",\"source\":\"s\"}\n{\"type\":\"a.b\",\"source\":\"s\",\"data\":{\"n\":7}}\n",
    );
    let child = HEAD.replace("name: flow", "name: child") + "do: [ { a: { set: { got: '${ .n }' } } } ]";
    let child = write("child.yaml", &child);
    let ran =
        sinew(&["workflow", "run", &file, "--events", &events, "--definitions", &child, "--json"]).await;
    assert_eq!(ran.succeeded().json()["output"], json!({ "got": 7 }));
}

#[tokio::test]
async fn what_people_are_asked_is_answered_on_the_command_line_or_said_to_be_missing() {
    let schema = "schema: { type: object, required: [ approved ] }";
    let (_folder, file) =
        document(&format!("do: [ {{ approve: {{ call: human, with: {{ title: Refund?, {schema} }} }} }} ]"));
    let answer = r#"approve={"approved": true}"#;
    let ran =
        sinew(&["workflow", "run", &file, "--answer", "approve=no", "--answer", answer, "--json"]).await;
    assert_eq!(ran.succeeded().json()["output"], json!({ "approved": true }));
    let ran = sinew(&["workflow", "run", &file, "--json"]).await;
    let detail = ran.json()["error"]["detail"].as_str().unwrap().to_owned();
    assert!(ran.code == 2 && detail.contains("--answer approve=JSON"), "{ran:?}");
}

#[tokio::test]
async fn the_documents_among_the_examples_run_without_a_broker() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/workflows");
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let ran =
        sinew(&["workflow", "run", &file("hello.yaml"), "--set", "name=Ada", "--set", "hour=20", "--json"])
            .await;
    assert_eq!(ran.succeeded().json()["output"], json!({ "greeting": "Good evening, Ada!" }));
    let ran = sinew(&["workflow", "run", &file("trip.yaml"), "--json"]).await;
    assert_eq!(ran.succeeded().json()["output"]["car"], "C-1");
    let ran = sinew(&["workflow", "run", &file("trip.yaml"), "--set", "full=true", "--json"]).await;
    assert_eq!((ran.code, ran.json()["saga"].as_str()), (2, Some("compensated")), "{ran:?}");
}

fn document(tasks: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flow.yaml");
    std::fs::write(&file, format!("{HEAD}{tasks}")).unwrap();
    let name = file.to_str().unwrap().to_owned();
    (folder, name)
}

async fn read(child: &mut tokio::process::Child) -> String {
    use tokio::io::AsyncReadExt;
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    text
}
