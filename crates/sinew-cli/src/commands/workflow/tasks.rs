//! What workflows ask people: listed, shown, answered. All of it is asked of the workflow service.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use sinew::workflow::{AnswerTask, ClaimTask, DeclineTask, GetTask, ListTasks, ReleaseTask, WorkflowTask};

use super::instances::{SHORT, ask, show};
use crate::{
    document,
    error::Error,
    operation::duration,
    output::{Output, Style, columns},
    session::Session,
};

/// What to do with the tasks of people.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Lists what people are asked, the oldest first
    #[command(visible_alias = "list")]
    Ls(List),
    /// Shows what one task asks, and what its answer must look like
    #[command(visible_alias = "get")]
    Show(Which),
    /// Claims a task: nobody else can answer it until it is released or the claim is over
    Claim(Claim),
    /// Gives a claimed task back to everybody
    Release(Release),
    /// Answers a task; the answer becomes its output
    Complete(Complete),
    /// Says that a task cannot be done; the workflow may catch that
    Fail(Fail),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sinew workflow task ls\n  sinew workflow task ls --for sales")]
pub(crate) struct List {
    /// Only of this workflow
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only what this person or group may answer
    #[arg(long = "for", value_name = "CANDIDATE")]
    candidate: Option<String>,
    /// At most so many
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sinew workflow task show o-1.3")]
pub(crate) struct Which {
    /// The task, as `task ls` names it
    id: String,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Claimed again by the same person, it lasts from then on.\n\nExamples:\n  sinew workflow task claim \
                  o-1.3 --as ada\n  sinew workflow task claim o-1.3 --as ada --for 30m"
)]
pub(crate) struct Claim {
    #[command(flatten)]
    which: Which,
    /// Who claims it; kept in the history
    #[arg(long = "as", visible_alias = "who", env = "USER", hide_env_values = true, value_name = "WHO")]
    who: String,
    /// For how long, such as 30m or 8h; 8 hours where nothing is said
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<Duration>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sinew workflow task release o-1.3 --as ada")]
pub(crate) struct Release {
    #[command(flatten)]
    which: Which,
    /// Who claimed it
    #[arg(long = "as", visible_alias = "who", env = "USER", hide_env_values = true, value_name = "WHO")]
    who: String,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "An answer that does not fit the task's schema is refused, and the task goes on waiting. The first \
                  answer counts.\n\nExamples:\n  sinew workflow task complete o-1.3 --answer '{\"approved\": true}'\n  \
                  sinew workflow task complete o-1.3 --answer @answer.json --who ada"
)]
pub(crate) struct Complete {
    #[command(flatten)]
    which: Which,
    /// The answer: JSON, @FILE or - for standard input
    #[arg(long, default_value = "{}", value_name = "JSON")]
    answer: String,
    /// Who answers; kept in the history
    #[arg(long, env = "USER", hide_env_values = true, default_value = "unknown")]
    who: String,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The task fails with status 409 and code `declined`. Where nothing catches that, what the workflow did is \
                  undone.\n\nExamples:\n  sinew workflow task fail o-1.3 --why 'we do not sell to this country'"
)]
pub(crate) struct Fail {
    #[command(flatten)]
    which: Which,
    /// Why; becomes the detail of the error
    #[arg(long)]
    why: String,
    /// Who says so; kept in the history
    #[arg(long, env = "USER", hide_env_values = true, default_value = "unknown")]
    who: String,
}

pub(super) async fn run(command: Command, session: &Session) -> Result<(), Error> {
    match command {
        Command::Ls(args) => list(args, session).await,
        Command::Show(args) => {
            let task = ask(session, GetTask { id: args.id }, SHORT).await?;
            session.output.show(&task, |task| text(task, &session.output));
            Ok(())
        }
        Command::Claim(args) => {
            let for_ms = args.lasts.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            let task = ask(session, ClaimTask { id: args.which.id, who: args.who, for_ms }, SHORT).await?;
            session.output.show(&task, |task| text(task, &session.output));
            Ok(())
        }
        Command::Release(args) => {
            let task = ask(session, ReleaseTask { id: args.which.id, who: args.who }, SHORT).await?;
            session.output.show(&task, |task| text(task, &session.output));
            Ok(())
        }
        Command::Complete(args) => {
            let answer: Value = document::read(&args.answer)?;
            let request = AnswerTask { id: args.which.id, answer, who: args.who };
            show(ask(session, request, SHORT).await?, session);
            Ok(())
        }
        Command::Fail(args) => {
            let request = DeclineTask { id: args.which.id, why: args.why, who: args.who };
            show(ask(session, request, SHORT).await?, session);
            Ok(())
        }
    }
}

async fn list(args: List, session: &Session) -> Result<(), Error> {
    let List { workflow, candidate, limit } = args;
    let tasks = ask(session, ListTasks { workflow, candidate, limit }, SHORT).await?.tasks;
    session.output.show(&tasks, |tasks| {
        if tasks.is_empty() {
            return "nobody is asked anything".to_owned();
        }
        let row = |task: &WorkflowTask| {
            let title = task.title.clone().unwrap_or_else(|| task.name.clone());
            let claimed = claimed(task).unwrap_or_default();
            vec![
                task.id.clone(),
                task.workflow.clone(),
                title,
                task.candidates.join(", "),
                when(task),
                claimed,
            ]
        };
        columns(&tasks.iter().map(row).collect::<Vec<_>>())
    });
    Ok(())
}

/// Draws one task with everything a person needs to answer it.
fn text(task: &WorkflowTask, output: &Output) -> String {
    let title = task.title.as_deref().unwrap_or(&task.name);
    let mut lines = vec![format!("{}  {title}  {}", task.id, output.paint(Style::Quiet, &when(task)))];
    let WorkflowTask { workflow, instance, name, candidates, schema, details, .. } = task;
    lines.push(format!("  of      {name} in {workflow}  {instance}"));
    if !candidates.is_empty() {
        lines.push(format!("  for     {}", candidates.join(", ")));
    }
    lines.extend(claimed(task).map(|claimed| format!("  claim   {claimed}")));
    if !details.is_null() {
        lines.push(format!("  about   {details}"));
    }
    if let Some(schema) = schema {
        lines.push(format!("  answer  {schema}"));
    }
    lines.join("\n")
}

/// Says who has a task to themselves, and how long they still will.
fn claimed(task: &WorkflowTask) -> Option<String> {
    let claim = task.claim.as_ref()?;
    Some(format!("claimed by {}, {} left", claim.who, span(claim.until_ms.saturating_sub(now()))))
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// Says how long a task waits already, and how long it still will.
fn when(task: &WorkflowTask) -> String {
    let now = now();
    let asked = format!("asked {} ago", span(now.saturating_sub(task.asked_ms)));
    match task.due_ms {
        Some(due) if due > now => format!("{asked}, {} left", span(due - now)),
        Some(_) => format!("{asked}, overdue"),
        None => asked,
    }
}

fn span(millis: i64) -> String {
    let seconds = millis.max(0) / 1_000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans_are_short_and_a_task_shows_what_it_asks() {
        assert_eq!(
            [0, 119_000, 7_100_000, 172_000_000, 864_000_000].map(span),
            ["0s", "119s", "118m", "47h", "10d"]
        );
        let task: WorkflowTask = serde_json::from_value(json!({
            "id": "o-1.3", "workflow": "place-order", "instance": "o-1", "name": "approve", "pointer": "/do/2/approve",
            "title": "Approve order 7", "candidates": ["sales"], "schema": { "type": "object" }, "asked_ms": 0, "due_ms": 1
        }))
        .unwrap();
        let text = text(&task, &Output::new(true));
        assert!(text.starts_with("o-1.3  Approve order 7  asked ") && text.contains("overdue"), "{text}");
        assert!(
            text.ends_with(
                "  of      approve in place-order  o-1\n  for     sales\n  answer  {\"type\":\"object\"}"
            ),
            "{text}"
        );
    }
}
