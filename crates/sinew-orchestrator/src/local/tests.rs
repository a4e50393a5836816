//! Workflows in one process: what they do must be what they do on the bus.

use std::sync::Arc;

use serde_json::{Value, json};
use sinew::workflow::WorkflowInstance;
use sinew_workflow::Definition;

use super::{Local, Setup};

fn define(name: &str, tasks: &str) -> Arc<Definition> {
    let head = format!("document: {{ dsl: '1.0.3', namespace: test, name: {name}, version: '1.0.0' }}\n");
    Arc::new(Definition::parse(&format!("{head}{tasks}"), "test.yaml").unwrap())
}

async fn run(tasks: &str, input: Value) -> WorkflowInstance {
    let definition = define("flow", tasks);
    let local = Local::open(Setup { definitions: vec![definition.clone()], ..Setup::default() });
    let local = local.await.unwrap();
    let ended = local.run(definition.reference(), "i", input).await.unwrap();
    local.close().await;
    ended
}

#[tokio::test]
async fn a_workflow_without_calls_runs_to_its_end() {
    let ended = run("do: [ { a: { set: { b: '${ .a + 1 }' } } } ]", json!({ "a": 1 })).await;
    assert_eq!((ended.status.as_str(), ended.output), ("completed", Some(json!({ "b": 2 }))));
    assert_eq!(ended.steps[0].pointer, "/do/0/a");
}

#[tokio::test]
async fn time_passes_while_it_waits() {
    let ended = run("do: [ { a: { wait: { milliseconds: 30 } } } ]", json!({})).await;
    assert_eq!(ended.status, "completed");
    assert!(ended.ended_ms.unwrap() - ended.started_ms >= 30, "{ended:?}");
}

#[tokio::test]
async fn an_operation_without_a_bus_says_what_is_missing() {
    let ended = run("do: [ { a: { call: orders.place } } ]", json!({})).await;
    let error = ended.error.unwrap();
    assert_eq!((ended.status.as_str(), error.code.as_deref()), ("faulted", Some("bus-down")));
    assert!(error.detail.unwrap().contains("--nats-url"));
}

#[tokio::test]
async fn an_event_is_published_without_a_bus() {
    let emit = "do: [ { a: { emit: { event: { with: { source: 'https://a', type: a.b } } } } } ]";
    let ended = run(emit, json!({})).await;
    assert_eq!((ended.status.as_str(), &ended.output.unwrap()["type"]), ("completed", &json!("a.b")));
}

#[tokio::test]
async fn a_cancelled_instance_ends_cancelled() {
    let definition = define("flow", "do: [ { a: { wait: { days: 1 } } } ]");
    let local = Local::open(Setup { definitions: vec![definition.clone()], ..Setup::default() });
    let local = local.await.unwrap();
    let (ended, cancelled) = tokio::join!(local.run(definition.reference(), "i", json!({})), async {
        // The start was polled first, so it is ahead of the cancel in the shard's inbox.
        local.cancel("i", Some("enough".to_owned())).await
    });
    assert_eq!(ended.unwrap().status, "cancelled");
    assert_eq!(cancelled.unwrap().id, "i");
    local.close().await;
}

#[tokio::test]
async fn a_child_runs_to_its_end_and_its_failure_is_its_parents() {
    let child = define(
        "child",
        "do: [ { a: { if: '${ .fail }', raise: { error: { type: 'https://a/errors/no', status: 409 } } } }, { b: { set: { doubled: '${ .n * 2 }' } } } ]",
    );
    let run = "run: { workflow: { namespace: test, name: child, version: '1.0.0', input: '${ . }' } }";
    let parent = define("parent", &format!("do: [ {{ a: {{ {run} }} }} ]"));
    let setup = Setup { definitions: vec![parent.clone(), child], ..Setup::default() };
    let local = Local::open(setup).await.unwrap();
    let ended = local.run(parent.reference(), "p-1", json!({ "n": 4, "fail": false })).await.unwrap();
    assert_eq!((ended.status.as_str(), ended.output), ("completed", Some(json!({ "doubled": 8 }))));
    let ended = local.run(parent.reference(), "p-2", json!({ "n": 4, "fail": true })).await.unwrap();
    let error = ended.error.unwrap();
    assert_eq!(
        (ended.status.as_str(), error.kind.as_str(), error.status),
        ("faulted", "https://a/errors/no", 409)
    );
    local.close().await;
}

#[tokio::test]
async fn a_parent_that_fails_undoes_a_child_that_completed() {
    let child = define("child", "do: [ { a: { set: { x: 1 }, compensate: { set: { undone: true } } } } ]");
    let run = "run: { workflow: { namespace: test, name: child, version: '1.0.0' } }";
    let fail = "raise: { error: { type: 'https://a/errors/no', status: 409 } }";
    let parent = define("parent", &format!("do: [ {{ a: {{ {run} }} }}, {{ b: {{ {fail} }} }} ]"));
    let setup = Setup { definitions: vec![parent.clone(), child], ..Setup::default() };
    let local = Local::open(setup).await.unwrap();
    let ended = local.run(parent.reference(), "p", json!({})).await.unwrap();
    assert_eq!((ended.status.as_str(), ended.saga.as_str()), ("faulted", "compensated"));
    let child = local.get(&crate::calls::id_of("p/do/0/a")).await.unwrap();
    assert_eq!((child.status.as_str(), child.saga.as_str()), ("completed", "compensated"));
    local.close().await;
}

#[tokio::test]
async fn each_of_two_tasks_in_turn_hears_one_of_two_events() {
    let listen = "listen: { to: { one: { with: { type: a.b } } } }";
    let definition = define("flow", &format!("do: [ {{ a: {{ {listen} }} }}, {{ b: {{ {listen} }} }} ]"));
    let local =
        Local::open(Setup { definitions: vec![definition.clone()], ..Setup::default() }).await.unwrap();
    for n in 1..=2 {
        local.publish(json!({ "type": "a.b", "source": "https://a", "data": { "n": n } })).await;
    }
    let ended = local.run(definition.reference(), "i", json!({})).await.unwrap();
    assert_eq!((ended.status.as_str(), ended.output), ("completed", Some(json!([{ "n": 2 }]))));
    local.close().await;
}

#[tokio::test]
async fn an_event_reaches_a_task_of_the_same_workflow() {
    let hear = "hear: { listen: { to: { one: { with: { type: a.b } } } } }";
    let tell = "tell: { emit: { event: { with: { source: 'https://a', type: a.b, data: 7 } } } }";
    let tasks = format!("do: [ {{ both: {{ fork: {{ branches: [ {{ {tell} }}, {{ {hear} }} ] }} }} }} ]");
    let ended = run(&tasks, json!({})).await;
    assert_eq!(ended.status, "completed", "{ended:?}");
    assert_eq!(ended.output.unwrap()[1], json!([7]));
}

#[tokio::test]
async fn a_person_answers_and_an_answer_that_does_not_fit_is_refused() {
    let ask = "call: human, with: { title: Approve, schema: { type: object, required: [ approved ] } }";
    let definition = define("flow", &format!("do: [ {{ approve: {{ {ask} }} }} ]"));
    let (people, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let setup = Setup { definitions: vec![definition.clone()], people: Some(people), ..Setup::default() };
    let local = Local::open(setup).await.unwrap();
    let (ended, ()) = tokio::join!(local.run(definition.reference(), "i", json!({})), async {
        let question = asked.recv().await.unwrap();
        assert_eq!((question.name.as_str(), &question.arguments["title"]), ("approve", &json!("Approve")));
        local.answer(&question, json!({ "yes": 1 })).await.unwrap_err();
        local.answer(&question, json!({ "approved": true })).await.unwrap();
    });
    assert_eq!(ended.unwrap().output, Some(json!({ "approved": true })));
    local.close().await;
}

#[tokio::test]
async fn where_nobody_can_be_asked_the_task_says_so() {
    let ended = run("do: [ { approve: { call: human } } ]", json!({})).await;
    assert_eq!((ended.status.as_str(), ended.error.unwrap().status), ("faulted", 400));
}
