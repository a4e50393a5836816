//! The 21 scenarios of the specification, files untouched: in one process, and through an orchestrator on a server.

use std::sync::Arc;

use sinew_orchestrator::local::{Calling, Local, Setup, protocols};
use sinew_workflow::Definition;

use super::{
    features::{Scenario, official},
    hosts::{self, Hosts},
    lab::Lab,
};
use crate::harness::Harness;

/// The scenarios there are; fewer would mean that files were not read.
const SCENARIOS: usize = 21;

#[tokio::test]
async fn every_official_scenario_holds_in_one_process() {
    let Some(scenarios) = official() else { return };
    let stub = hosts::start().await;
    let mut broken = Vec::new();
    for scenario in &scenarios {
        let definition = Arc::new(Definition::parse(&scenario.definition, &scenario.name).unwrap());
        let calling =
            Calling { extra_roots: vec![stub.authority()], resolve: stub.resolve(), ..Calling::default() };
        let protocols = Some(protocols(calling).unwrap());
        let definitions = vec![definition.clone()];
        let local = Local::open(Setup { definitions, protocols, ..Setup::default() }).await.unwrap();
        let ended = local.run(definition.reference(), "i", scenario.input.clone()).await.unwrap();
        broken.extend(scenario.broken(&ended));
        local.close().await;
    }
    assert_eq!((scenarios.len(), broken.len()), (SCENARIOS, 0), "{broken:#?}");
}

#[tokio::test]
async fn every_official_scenario_holds_on_an_orchestrator() {
    let Some(scenarios) = official() else { return };
    let stub = hosts::start().await;
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&stub, folder.path()).await;
    let mut broken = Vec::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        lab.apply(&scenario.definition).await;
        let name = name_of(scenario);
        let id = format!("c-{number}");
        // What it answers when a workflow faults is tested elsewhere; here the instance itself is looked at.
        let _ = lab.run(&name, &id, scenario.input.clone()).await;
        broken.extend(scenario.broken(&lab.closed(&name, &id).await));
    }
    assert_eq!((scenarios.len(), broken.len()), (SCENARIOS, 0), "{broken:#?}");
    lab.stop().await;
}

/// Starts an orchestrator whose calls reach the stub.
async fn lab(stub: &Hosts, folder: &std::path::Path) -> Lab {
    let authority = folder.join("authority.pem");
    std::fs::write(&authority, stub.authority()).unwrap();
    let mut lab = Lab::on(Harness::start().await).await;
    lab.config.calls.ca = vec![authority];
    lab.config.calls.resolve = stub.resolve();
    lab.with_orchestrator().await
}

fn name_of(scenario: &Scenario) -> String {
    let definition = Definition::parse(&scenario.definition, &scenario.name).unwrap();
    definition.reference().name.clone()
}
