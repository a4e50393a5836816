//! Instances that start by themselves: once for each moment and event, whoever runs and whoever is killed.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sinew::workflow::{ListDefinitions, ListWorkflows, RemoveWorkflow, WorkflowInstance};

use super::{
    faults::Orchestrator,
    lab::Lab,
    listen::{Paid, pay},
};
use crate::harness::{Harness, SOON, eventually};

fn scheduled(name: &str, version: &str, schedule: &str) -> String {
    format!(
        "document: {{ dsl: '1.0.3', namespace: test, name: {name}, version: '{version}' }}\nschedule: {schedule}\ndo:\n  - act: {{ call: lab.act, with: {{ step: act }}, output: {{ as: '${{ $workflow.input }}' }} }}\n"
    )
}

async fn instances(lab: &Lab, name: &str) -> Vec<WorkflowInstance> {
    let request = ListWorkflows { name: name.to_owned(), limit: Some(1_000), ..ListWorkflows::default() };
    let list = eventually(SOON, || async { lab.ctx.call(request.clone()).await.ok() }).await;
    let mut instances = list.instances;
    instances.sort_by(|a, b| a.id.cmp(&b.id));
    instances
}

/// Waits until so many instances have completed.
async fn completed(lab: &Lab, name: &str, count: usize) -> Vec<WorkflowInstance> {
    eventually(SOON, || async {
        let instances = instances(lab, name).await;
        let done = instances.iter().filter(|one| one.status == "completed").count();
        (done >= count).then_some(instances)
    })
    .await
}

/// Each instance did its work once.
fn assert_done_once(lab: &Lab, instances: &[WorkflowInstance]) {
    for instance in instances {
        assert_eq!(lab.ledger.effects(&instance.id), ["act act"], "{}", instance.id);
    }
    let ids: BTreeSet<_> = instances.iter().map(|one| &one.id).collect();
    let keys: BTreeSet<_> = lab.ledger.lines().into_iter().map(|line| line.key).collect();
    assert_eq!(ids.len(), keys.len(), "nothing else was done");
}

/// The moments of instances that a clock started, in seconds of a day.
fn moments(instances: &[WorkflowInstance]) -> Vec<u32> {
    let moment = |one: &WorkflowInstance| {
        let time = one.id.split('-').find(|part| part.starts_with("20"))?.split('T').nth(1)?.to_owned();
        let number = |at: usize| time.get(at..at + 2)?.parse::<u32>().ok();
        Some(number(0)? * 3_600 + number(2)? * 60 + number(4)?)
    };
    instances.iter().map(|one| moment(one).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_fire_once_for_each_moment_and_go_on_when_one_is_killed() {
    let lab = Lab::on(Harness::start().await).await;
    let mut replicas: Vec<_> = (0..3).map(|_| Orchestrator::start(lab.harness.url())).collect();
    eventually(SOON, || async { lab.ctx.call(ListDefinitions {}).await.is_ok() }).await;
    lab.apply(&scheduled("tick", "1.0.0", "{ every: PT1S }")).await;
    completed(&lab, "tick", 2).await;
    // One of them owns the shard: killing two of three leaves none but the last in doubt.
    for replica in replicas.drain(..2) {
        let before = instances(&lab, "tick").await.len();
        replica.kill();
        completed(&lab, "tick", before + 2).await;
    }
    let instances = eventually(SOON, || async {
        let instances = instances(&lab, "tick").await;
        instances.iter().all(|one| one.status == "completed").then_some(instances)
    })
    .await;
    let moments = moments(&instances);
    assert!(moments.windows(2).all(|pair| pair[0] != pair[1]), "{moments:?}");
    for instance in &instances {
        assert_eq!(lab.ledger.effects(&instance.id), ["act act"], "{}", instance.id);
    }
    replicas.into_iter().for_each(Orchestrator::kill);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_clock_missed_is_made_up_for_where_that_is_wanted() {
    let mut lab = Lab::on(Harness::start().await).await;
    // What the schedule says counts more than what is said for all.
    lab.config.schedules.missed = sinew_orchestrator::Missed::Skip;
    lab.start_orchestrator().await;
    lab.apply(&scheduled("tick", "1.0.0", "{ every: PT1S, missed: all }")).await;
    completed(&lab, "tick", 1).await;
    lab.stop_orchestrator().await;
    let done = lab.ledger.lines().len();
    // why: time itself has to pass.
    tokio::time::sleep(std::time::Duration::from_millis(3_200)).await;
    assert_eq!(lab.ledger.lines().len(), done, "nobody runs");
    lab.start_orchestrator().await;
    let instances = completed(&lab, "tick", done + 4).await;
    let moments = moments(&instances);
    assert!(moments.windows(2).all(|pair| (pair[1] + 86_400 - pair[0]) % 86_400 == 1), "{moments:?}");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_end_of_one_instance_the_next_one_starts() {
    let mut lab = Lab::start().await;
    lab.apply(&scheduled("again", "1.0.0", "{ after: PT0.2S }")).await;
    completed(&lab, "again", 3).await;
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    let mut instances = completed(&lab, "again", 6).await;
    instances.retain(|one| one.ended_ms.is_some());
    instances.sort_by_key(|one| one.started_ms);
    for pair in instances.windows(2) {
        assert!(pair[1].started_ms >= pair[0].ended_ms.unwrap() + 200, "{pair:?}");
    }
    assert!(instances.iter().all(|one| lab.ledger.effects(&one.id) == ["act act"]));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_starts_one_instance_from_the_moment_its_workflow_is_applied() {
    let mut lab = Lab::start().await;
    pay(&lab, "before", 0).await;
    lab.apply(&scheduled("paid", "1.0.0", "{ on: { one: { with: { type: lab.paid.v1 } } } }")).await;
    for number in 1..=20 {
        pay(&lab, "after", number).await;
    }
    completed(&lab, "paid", 20).await;
    lab.stop_orchestrator().await;
    for number in 21..=40 {
        pay(&lab, "meanwhile", number).await;
    }
    lab.start_orchestrator().await;
    let instances = completed(&lab, "paid", 40).await;
    assert_eq!(instances.len(), 40);
    assert_done_once(&lab, &instances);
    let mut amounts = Vec::new();
    for one in &instances {
        let output = lab.get("paid", &one.id).await.unwrap().output.unwrap();
        assert_eq!(output[0]["type"], "lab.paid.v1", "{output}");
        amounts.push(output[0]["data"]["amount"].as_u64().unwrap());
    }
    amounts.sort_unstable();
    assert_eq!(amounts, (1..=40).collect::<Vec<_>>());
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_events_start_each_instance_once_while_orchestrators_are_killed() {
    let lab = Lab::on(Harness::start().await).await;
    let mut orchestrator = Orchestrator::start(lab.harness.url());
    eventually(SOON, || async { lab.ctx.call(ListDefinitions {}).await.is_ok() }).await;
    lab.apply(&scheduled("paid", "1.0.0", "{ on: { one: { with: { type: lab.paid.v1 } } } }")).await;
    for round in 0..4 {
        for number in 0..25 {
            pay(&lab, "any", round * 25 + number).await;
        }
        let so_far = usize::try_from(round * 25).unwrap() + 5;
        eventually(SOON, || async { instances(&lab, "paid").await.len() >= so_far }).await;
        orchestrator.kill();
        orchestrator = Orchestrator::start(lab.harness.url());
    }
    let instances = completed(&lab, "paid", 100).await;
    assert_eq!(instances.len(), 100);
    for instance in &instances {
        assert_eq!(lab.ledger.effects(&instance.id), ["act act"], "{}", instance.id);
    }
    orchestrator.kill();
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_belong_together_start_one_instance_when_all_are_there() {
    let lab = Lab::start().await;
    let of = |from: &str| {
        format!("{{ with: {{ type: {from} }}, correlate: {{ order: {{ from: .data.order }} }} }}")
    };
    let on = format!("{{ on: {{ all: [ {}, {} ] }} }}", of("lab.paid.v1"), of("lab.packed"));
    lab.apply(&scheduled("ready", "1.0.0", &on)).await;
    let packed = |order: &str| {
        let payload = json!({ "order": order }).to_string();
        let bus = lab.bus.clone();
        async move {
            bus.publish_acked("evt.lab.packed", &Default::default(), payload.into(), SOON).await.unwrap()
        }
    };
    pay(&lab, "a", 1).await;
    pay(&lab, "b", 2).await;
    packed("c").await;
    packed("b").await;
    let instances = completed(&lab, "ready", 1).await;
    assert_eq!(instances.len(), 1);
    let output = lab.get("ready", &instances[0].id).await.unwrap().output.unwrap();
    let orders: Vec<&Value> =
        output.as_array().unwrap().iter().map(|event| &event["data"]["order"]).collect();
    assert_eq!(orders, ["b", "b"]);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_takes_the_schedule_over_and_removing_it_ends_it() {
    let lab = Lab::start().await;
    lab.apply(&scheduled("paid", "1.0.0", "{ on: { one: { with: { type: lab.paid.v1 } } } }")).await;
    pay(&lab, "old", 1).await;
    completed(&lab, "paid", 1).await;
    lab.apply(&scheduled("paid", "1.1.0", "{ on: { one: { with: { type: lab.paid.v1 } } } }")).await;
    pay(&lab, "new", 2).await;
    let instances = completed(&lab, "paid", 2).await;
    let versions: BTreeSet<_> = instances.iter().map(|one| one.version.as_str()).collect();
    assert_eq!((instances.len(), versions), (2, BTreeSet::from(["1.0.0", "1.1.0"])));
    let remove = RemoveWorkflow { name: "paid".into(), version: None };
    assert_eq!(lab.ctx.call(remove.clone()).await.unwrap().removed.len(), 2);
    assert!(lab.ctx.call(ListDefinitions {}).await.unwrap().is_empty());
    let again = lab.ctx.call(remove).await.unwrap_err().to_problem();
    assert_eq!(again.code, "unknown-workflow");
    pay(&lab, "nobody", 3).await;
    // Applied again it is new: what came before does not count.
    lab.apply(&scheduled("paid", "2.0.0", "{ on: { one: { with: { type: lab.paid.v1 } } } }")).await;
    pay(&lab, "newest", 4).await;
    let instances = completed(&lab, "paid", 3).await;
    assert_eq!((instances.len(), instances.iter().filter(|one| one.version == "2.0.0").count()), (3, 1));
    lab.stop().await;
}

/// Keeps the event in the catalogue of what these tests publish.
#[test]
fn the_type_that_starts_instances_is_the_one_that_is_published() {
    assert_eq!(<Paid as sinew::Event>::TYPE, "lab.paid.v1");
}
