//! The 68 documents the specification ships as examples: each parses, and each that needs no third party beyond a
//! stand-in runs.

use std::{
    collections::{BTreeMap, BTreeSet},
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

use super::{
    features::shared,
    hosts::{self, Hosts},
};
use crate::harness::SOON;
use plays::{Play, plays};

mod plays;

/// The examples there are; fewer would mean that files were not read.
const EXAMPLES: usize = 68;

#[tokio::test]
async fn every_official_example_that_needs_no_third_party_runs() {
    let Some(folder) = shared("open-workflow/examples") else { return };
    let (plays, hosts) = (plays(), hosts::start().await);
    let named: BTreeSet<&str> = plays.iter().map(|(file, _)| *file).collect();
    let found = files(&folder);
    assert_eq!(found.len(), EXAMPLES);
    assert_eq!(named, found.keys().map(String::as_str).collect(), "each has its play");
    let mut surprises = Vec::new();
    for (file, play) in plays {
        Definition::parse(&found[file], file).unwrap();
        match play {
            Play::Left(why) => println!("{file}: left, {why}"),
            Play::Waits => println!("{file}: runs with a clock of its own"),
            Play::Runs { .. } => {
                let ended = run(file, &found[file], &play, &hosts).await;
                println!("{file}: {}", ended.status);
                surprises.extend(play.surprise(&ended).map(|surprise| format!("{file}: {surprise}")));
            }
        }
    }
    assert_eq!(surprises, Vec::<String>::new());
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

async fn run(file: &str, source: &str, play: &Play, hosts: &Hosts) -> WorkflowInstance {
    let Play::Runs { input, events, children, .. } = play else { unreachable!("only those that run") };
    let calling = Calling {
        extra_roots: vec![hosts.authority()],
        resolve: hosts.resolve(),
        secrets: BTreeMap::from([("mySecret".to_owned(), hosts::policy())]),
        allow: Allow { shell: BTreeSet::from(["*".to_owned()]), ..Allow::default() },
        ..Calling::default()
    };
    let protocols = protocols(calling).unwrap();
    let resources = fetch(source, file, Resources::default(), &protocols, None).await.unwrap();
    let definition = Definition::parse_with(source, file, &resources).unwrap();
    definition.runnable().unwrap_or_else(|missing| panic!("{file}: {missing}"));
    let definition = Arc::new(definition);
    let mut definitions = vec![definition.clone()];
    definitions.extend(children.iter().map(|text| Arc::new(Definition::parse(text, "child.yaml").unwrap())));
    let local = Local::open(Setup { definitions, protocols: Some(protocols), bus: None }).await.unwrap();
    for event in events {
        local.publish(event.clone()).await;
    }
    let running = local.run(definition.reference(), "i", input.clone());
    let ended = tokio::time::timeout(SOON, running).await.unwrap_or_else(|_| panic!("{file} does not end"));
    local.close().await;
    ended.unwrap()
}

impl Play {
    fn surprise(&self, ended: &WorkflowInstance) -> Option<String> {
        let Self::Runs { status, output, .. } = self else { return None };
        let fits = ended.status == *status
            && output.as_ref().is_none_or(|output| ended.output.as_ref() == Some(output));
        let (output, error) = (ended.output.as_ref().map(Value::to_string), &ended.error);
        (!fits).then(|| format!("{} with {output:?} {error:?}", ended.status))
    }
}

fn files(folder: &Path) -> BTreeMap<String, String> {
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(read).collect()
}
