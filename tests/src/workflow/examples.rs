//! The 68 documents the specification ships as examples: each parses, and each runs, against stand-ins for whatever they
//! name.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
};

use serde_json::{Value, json};
use sinew::workflow::WorkflowInstance;
use sinew_orchestrator::{
    Allow, fetch,
    local::{Calling, Local, Setup, protocols},
};
use sinew_workflow::{Definition, Resources};
use tempfile::TempDir;

use super::{
    features::shared,
    hosts::{self, Hosts},
};
use crate::{
    cli::program,
    harness::{SOON, eventually},
};
use greeter::Greeter;
use notifications::Notifications;
use plays::{Enough, Play, Runs, plays};

mod greeter;
mod notifications;
mod plays;

/// The examples there are; fewer would mean that files were not read.
const EXAMPLES: usize = 68;

/// Plays the command line of a container engine.
const ENGINE: &str = include_str!("../../../crates/sinew-protocols/src/tests/container/engine.sh");
/// Plays npx, and the server it would fetch.
const NPX: &str = include_str!("examples/npx.py");

/// Everything that one example meets.
struct Stage {
    hosts: Hosts,
    notifications: Notifications,
    greeter: Greeter,
    folder: TempDir,
}

#[tokio::test]
async fn every_official_example_runs() {
    let Some(folder) = shared("open-workflow/examples") else { return };
    let (plays, found) = (plays(), files(&folder));
    let named: BTreeSet<&str> = plays.iter().map(|(file, _)| *file).collect();
    assert_eq!(found.len(), EXAMPLES);
    assert_eq!(named, found.keys().map(String::as_str).collect(), "each has its play");
    let mut surprises = Vec::new();
    for (file, play) in plays {
        Definition::parse(&found[file], file).unwrap();
        match play {
            Play::Waits => println!("{file}: runs with a clock of its own"),
            Play::Program(..) => println!("{file}: runs by the program"),
            Play::Runs(Runs { takes: Some(program), .. }) if !is_installed(program) => {
                println!("{file}: SKIPPED, there is no `{program}` here");
            }
            Play::Runs(ref runs) | Play::Endless(ref runs, _) => {
                let stage = Stage::new().await;
                let ended = run(file, &found[file], &play, &stage).await;
                println!("{file}: {}", ended.status);
                surprises.extend(runs.surprise(&ended, &stage).map(|surprise| format!("{file}: {surprise}")));
            }
        }
    }
    assert_eq!(surprises, Vec::<String>::new());
}

#[tokio::test]
async fn an_example_that_starts_a_server_runs_by_the_program() {
    let Some(folder) = shared("open-workflow/examples") else { return };
    let programs = tempfile::tempdir().unwrap();
    let mut count = 0;
    for (file, play) in plays() {
        let Play::Program(command, output) = play else { continue };
        install(&programs.path().join(command), NPX);
        let path = folder.join(format!("{file}.yaml"));
        let allow = format!("--allow-shell={command}");
        let arguments = ["workflow", "run", path.to_str().unwrap(), &allow, "--json"];
        let ran = program::sinew_finding(programs.path(), &arguments).await.succeeded();
        assert_eq!(ran.json()["output"], output, "{file}");
        count += 1;
    }
    assert_eq!(count, 1);
}

#[tokio::test]
async fn a_message_that_is_told_twice_is_heard_once() {
    let source = "
document: { dsl: '1.0.3', namespace: test, name: notified, version: '1.0.0' }
do:
  - notified:
      call: asyncapi
      with:
        document: { endpoint: https://fake.com/docs/asyncapi.json }
        operation: getNotifications
        protocol: http
        subscription: { filter: '${ .payload.n }', consume: { amount: 5 } }
";
    let ended = run("notified.yaml", source, &Play::on(json!({})), &Stage::new().await).await;
    assert_eq!(ended.output, Some(plays::all_notifications()));
}

/// Those that only wait need no stand-in, and their time passes at once.
#[tokio::test(start_paused = true)]
async fn examples_that_wait_run_too() {
    let Some(folder) = shared("open-workflow/examples") else { return };
    let found = files(&folder);
    let waiting = plays().into_iter().filter(|(_, play)| matches!(play, Play::Waits));
    let mut count = 0;
    for (file, _) in waiting {
        let definition = Arc::new(Definition::parse(&found[file], file).unwrap());
        let setup = Setup { definitions: vec![definition.clone()], ..Setup::default() };
        let local = Local::open(setup).await.unwrap();
        let ended = local.run(definition.reference(), "i", json!({})).await.unwrap();
        assert_eq!(ended.status, "completed", "{file}");
        assert!(ended.ended_ms.unwrap() - ended.started_ms >= 30_000, "{file}");
        local.close().await;
        count += 1;
    }
    assert_eq!(count, 2);
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        install(&folder.path().join("docker"), ENGINE);
        let greeter = Greeter::start(folder.path()).await;
        Self { hosts: hosts::start().await, notifications: Notifications::start().await, greeter, folder }
    }

    fn calling(&self) -> Calling {
        let all = || BTreeSet::from(["*".to_owned()]);
        let file = BTreeSet::from([self.folder.path().to_owned()]);
        let own = self.notifications.resolve().into_iter().chain([self.greeter.resolve()]);
        Calling {
            extra_roots: vec![self.hosts.authority()],
            resolve: self.hosts.resolve().into_iter().chain(own).collect(),
            secrets: BTreeMap::from([("mySecret".to_owned(), hosts::policy())]),
            allow: Allow { shell: all(), script: all(), container: all(), file },
            container_engine: Some(self.folder.path().join("docker")),
        }
    }

    /// What the container engine was asked.
    fn asked(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("asked")).unwrap_or_default()
    }
}

async fn run(file: &str, source: &str, play: &Play, stage: &Stage) -> WorkflowInstance {
    let (Play::Runs(runs) | Play::Endless(runs, _)) = play else { unreachable!("only those that run") };
    // Only documents of version 2 have channels to name.
    stage.hosts.describe_in_version_2(source.contains("channel: /"));
    let protocols = protocols(stage.calling()).unwrap();
    let resources = fetch(source, file, Resources::default(), &protocols, None).await.unwrap();
    let definition = Definition::parse_with(source, file, &resources).unwrap();
    definition.runnable().unwrap_or_else(|missing| panic!("{file}: {missing}"));
    let definition = Arc::new(definition);
    let children = runs.children.iter().map(|text| Arc::new(Definition::parse(text, "child.yaml").unwrap()));
    let definitions = std::iter::once(definition.clone()).chain(children).collect();
    let local =
        Local::open(Setup { definitions, protocols: Some(protocols), ..Setup::default() }).await.unwrap();
    for event in &runs.events {
        local.publish(event.clone()).await;
    }
    let running = local.run(definition.reference(), "i", runs.input.clone());
    let (ended, ()) = tokio::join!(tokio::time::timeout(SOON, running), async {
        if let Play::Endless(_, enough) = play {
            enough.has_happened(&local, stage).await;
            local.cancel("i", None).await.unwrap();
            stage.notifications.is_left().await;
        }
    });
    local.close().await;
    ended.unwrap_or_else(|_| panic!("{file} does not end")).unwrap()
}

impl Enough {
    async fn has_happened(&self, local: &Local, stage: &Stage) {
        let Self::Completed(task, times) = self else { return stage.notifications.is_heard().await };
        let times = *times;
        eventually(SOON, || async move {
            let instance = local.get("i").await.ok()?;
            let done = instance.steps.iter().filter(|step| step.name == *task && step.outcome == "completed");
            (done.count() >= times).then_some(())
        })
        .await;
    }
}

impl Runs {
    fn surprise(&self, ended: &WorkflowInstance, stage: &Stage) -> Option<String> {
        let asked = stage.asked();
        let fits = ended.status == self.status
            && self.output.as_ref().is_none_or(|output| ended.output.as_ref() == Some(output))
            && self.asks.iter().all(|wanted| asked.contains(wanted));
        let (output, error) = (ended.output.as_ref().map(Value::to_string), &ended.error);
        (!fits).then(|| format!("{} with {output:?} {error:?}, asked {asked}", ended.status))
    }
}

fn install(path: &Path, program: &str) {
    std::fs::write(path, program).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn is_installed(program: &str) -> bool {
    std::process::Command::new(program).arg("--version").output().is_ok_and(|ran| ran.status.success())
}

fn files(folder: &Path) -> BTreeMap<String, String> {
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(read).collect()
}
