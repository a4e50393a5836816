//! What people are asked and how they answer; and what operators say to instances.

use serde_json::json;
use sinew::{
    Problem,
    workflow::{
        AnswerTask, CancelWorkflow, ClaimTask, DeclineTask, GetTask, ListTasks, ListWorkflows, PauseWorkflow,
        ReleaseTask, ResumeWorkflow, TerminateWorkflow, WorkflowTask,
    },
};

use super::lab::{Lab, THREE, timeline};
use crate::harness::{SOON, eventually};

const APPROVAL: &str = "\
document: { dsl: '1.0.3', namespace: test, name: approval, version: '1.0.0' }
do:
  - reserve: { call: lab.act, with: { step: reserve }, output: { as: '${ $workflow.input }' }, compensate: { call: lab.undo, with: { step: reserve } } }
  - approve:
      call: human
      with:
        title: '${ \"Approve order \\(.order)\" }'
        candidates: [ sales ]
        order: '${ .order }'
        schema: { type: object, required: [ approved ], properties: { approved: { type: boolean } } }
      timeout: { after: PT1H }
";

async fn asked(lab: &Lab, count: usize) -> Vec<WorkflowTask> {
    eventually(SOON, || async {
        let tasks = lab.ctx.call(ListTasks::default()).await.ok()?.tasks;
        (tasks.len() == count).then_some(tasks)
    })
    .await
}

async fn complete(lab: &Lab, id: &str, answer: serde_json::Value, who: &str) -> Result<String, Problem> {
    let request = AnswerTask { id: id.to_owned(), answer, who: who.to_owned() };
    let instance = lab.ctx.call(request).await.map_err(|error| error.to_problem())?;
    Ok(timeline(&instance))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_answers_once_in_the_form_that_is_asked_for_and_is_remembered() {
    let mut lab = Lab::start().await;
    lab.apply(APPROVAL).await;
    lab.begin("approval", "a-1", json!({ "order": 7 })).await;
    let task = asked(&lab, 1).await.remove(0);
    assert_eq!(
        (task.title.as_deref(), &task.candidates[..]),
        (Some("Approve order 7"), &["sales".to_owned()][..])
    );
    assert_eq!((&task.details, task.instance.as_str()), (&json!({ "order": 7 }), "a-1"));
    assert_eq!(task.due_ms.unwrap() - task.asked_ms, 3_600_000);
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    assert_eq!(lab.ctx.call(GetTask { id: task.id.clone() }).await.unwrap(), task, "asked until answered");
    let wrong = complete(&lab, &task.id, json!({ "approved": "yes" }), "eve").await.unwrap_err();
    assert_eq!((wrong.status, wrong.code.as_str()), (422, "invalid-answer"));
    assert!(wrong.detail.as_ref().unwrap().contains("boolean"), "{wrong:?}");
    complete(&lab, &task.id, json!({ "approved": true }), "ada").await.unwrap();
    let ended = lab.closed("approval", "a-1").await;
    assert_eq!(ended.output, Some(json!({ "approved": true })));
    let by: Vec<_> = ended.steps.iter().map(|step| step.by.as_deref()).collect();
    assert_eq!(by, [None, Some("ada")]);
    let late = complete(&lab, &task.id, json!({ "approved": false }), "eve").await.unwrap_err();
    assert_eq!((late.status, late.code.as_str()), (404, "unknown-task"));
    assert_eq!(complete(&lab, "nonsense", json!({}), "eve").await.unwrap_err().code, "unknown-task");
    asked(&lab, 0).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_listed_for_whom_they_are_meant_and_declining_one_undoes_what_was_done() {
    let lab = Lab::start().await;
    lab.apply(APPROVAL).await;
    lab.apply(&APPROVAL.replace("name: approval", "name: legal").replace("[ sales ]", "[ lawyers ]")).await;
    lab.begin("approval", "a-1", json!({ "order": 1 })).await;
    asked(&lab, 1).await;
    lab.begin("legal", "l-1", json!({ "order": 2 })).await;
    asked(&lab, 2).await;
    let listed = async |workflow: Option<&str>, candidate: Option<&str>| {
        let (workflow, candidate) = (workflow.map(str::to_owned), candidate.map(str::to_owned));
        let tasks = lab.ctx.call(ListTasks { workflow, candidate, limit: None }).await.unwrap().tasks;
        tasks.into_iter().map(|task| task.instance).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, None).await, ["a-1", "l-1"]);
    assert_eq!(listed(None, Some("lawyers")).await, ["l-1"]);
    assert_eq!(listed(Some("approval"), None).await, ["a-1"]);
    assert!(listed(Some("approval"), Some("lawyers")).await.is_empty());
    let id = lab.ctx.call(ListTasks::default()).await.unwrap().tasks[0].id.clone();
    lab.ctx.call(DeclineTask { id, why: "too dear".into(), who: "ada".into() }).await.unwrap();
    let ended = lab.closed("approval", "a-1").await;
    assert_eq!(timeline(&ended), "reserve completed ↶compensated | approve refused → faulted/compensated");
    let error = ended.error.unwrap();
    assert_eq!(
        (error.status, error.code.as_deref(), error.detail.as_deref()),
        (409, Some("declined"), Some("too dear"))
    );
    assert_eq!(lab.ledger.effects("a-1"), ["act reserve", "undo reserve"]);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_instance_begins_nothing_keeps_what_comes_in_and_goes_on_when_resumed() {
    let mut lab = Lab::start().await;
    lab.apply(APPROVAL).await;
    lab.apply(THREE).await;
    lab.begin("approval", "a-1", json!({ "order": 1 })).await;
    let task = asked(&lab, 1).await.remove(0);
    let pause = PauseWorkflow { name: "approval".into(), id: "a-1".into() };
    assert!(lab.ctx.call(pause.clone()).await.unwrap().paused);
    assert!(lab.ctx.call(pause).await.unwrap().paused, "pausing twice is pausing");
    let answered = complete(&lab, &task.id, json!({ "approved": true }), "ada").await.unwrap();
    assert!(answered.ends_with("→ running/none"), "{answered}");
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    let listed = lab.ctx.call(ListWorkflows::default()).await.unwrap().instances;
    assert!(listed[0].paused && listed[0].status == "running", "{listed:?}");
    let resume = ResumeWorkflow { name: "approval".into(), id: "a-1".into() };
    lab.ctx.call(resume).await.unwrap();
    assert_eq!(lab.closed("approval", "a-1").await.output, Some(json!({ "approved": true })));
    lab.run("three", "t-1", json!({})).await.unwrap();
    let ended = PauseWorkflow { name: "three".into(), id: "t-1".into() };
    assert_eq!(lab.ctx.call(ended).await.unwrap_err().to_problem().code, "wrong-state");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminating_undoes_nothing_where_cancelling_undoes_all() {
    let lab = Lab::start().await;
    lab.apply(APPROVAL).await;
    for id in ["cancelled", "terminated"] {
        lab.begin("approval", id, json!({ "order": id })).await;
    }
    asked(&lab, 2).await;
    let (name, reason) = ("approval".to_owned(), Some("enough".to_owned()));
    let (cancelled, terminated) = ("cancelled".to_owned(), "terminated".to_owned());
    let cancel = CancelWorkflow { name: name.clone(), id: cancelled, reason: reason.clone() };
    lab.ctx.call(cancel).await.unwrap();
    lab.ctx.call(TerminateWorkflow { name, id: terminated, reason }).await.unwrap();
    let cancelled = lab.closed("approval", "cancelled").await;
    let terminated = lab.closed("approval", "terminated").await;
    assert_eq!((cancelled.status.as_str(), cancelled.saga.as_str()), ("cancelled", "compensated"));
    assert_eq!((terminated.status.as_str(), terminated.saga.as_str()), ("cancelled", "abandoned"));
    assert_eq!(terminated.error.unwrap().detail.as_deref(), Some("enough"));
    assert_eq!(lab.ledger.effects("cancelled"), ["act reserve", "undo reserve"]);
    assert_eq!(lab.ledger.effects("terminated"), ["act reserve"]);
    asked(&lab, 0).await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_task_is_answered_by_nobody_else_until_it_is_released_or_the_time_is_over() {
    let mut lab = Lab::start().await;
    lab.apply(APPROVAL).await;
    lab.begin("approval", "a-1", json!({ "order": 1 })).await;
    let id = asked(&lab, 1).await.remove(0).id;
    let (ada, eve) = ("ada".to_owned(), "eve".to_owned());
    let claim = |who: &str, for_ms| ClaimTask { id: id.clone(), who: who.to_owned(), for_ms };
    let claimed = lab.ctx.call(claim("ada", None)).await.unwrap().claim.unwrap();
    assert_eq!((claimed.who.as_str(), claimed.until_ms - claimed.since_ms), ("ada", 8 * 3_600 * 1_000));
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    assert_eq!(asked(&lab, 1).await[0].claim.as_ref().unwrap().who, "ada");
    let refusal = complete(&lab, &id, json!({ "approved": true }), "eve").await.unwrap_err();
    assert_eq!((refusal.status, refusal.code.as_str()), (409, "task-claimed"));
    assert!(refusal.detail.unwrap().contains("ada"), "it says who has it");
    assert_eq!(lab.ctx.call(claim("eve", None)).await.unwrap_err().to_problem().code, "task-claimed");
    let release = |who: String| ReleaseTask { id: id.clone(), who };
    assert_eq!(lab.ctx.call(release(eve)).await.unwrap_err().to_problem().code, "task-claimed");
    assert_eq!(lab.ctx.call(release(ada)).await.unwrap().claim, None);
    lab.ctx.call(claim("bob", Some(1))).await.unwrap();
    eventually(SOON, || async { asked(&lab, 1).await[0].claim.is_none() }).await;
    complete(&lab, &id, json!({ "approved": true }), "eve").await.unwrap();
    let ended = lab.closed("approval", "a-1").await;
    let who: Vec<_> = ended.steps[1].claims.iter().map(|claim| claim.who.as_str()).collect();
    assert_eq!((who, ended.steps[1].by.as_deref()), (vec!["ada", "bob"], Some("eve")));
    lab.stop().await;
}
