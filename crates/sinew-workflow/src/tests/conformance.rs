//! The scenarios of the specification's conformance features, as far as they need no protocol of their own.

use std::fs;

use serde_json::{Value, json};

use super::features::gherkin::{self, Step};
use super::shared;
use super::world::World;
use crate::language::yaml::Node;
use crate::{Definition, Status};

/// A scenario of a feature file: its definition, its input, and what it expects.
struct Scenario<'t> {
    name: &'t str,
    definition: String,
    input: Value,
    expected: Vec<(&'t str, Option<Value>)>,
}

#[test]
fn scenarios_of_the_specification_hold() {
    let Some(folder) = shared("open-workflow/ctk/features") else { return };
    let (mut parsed, mut ran) = (0, Vec::new());
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        for scenario in gherkin::read(&text).unwrap().into_iter().map(scenario) {
            let definition = Definition::parse(&scenario.definition, scenario.name).unwrap();
            parsed += 1;
            if definition.runnable_by(|_| false).is_ok() {
                hold(&scenario, definition);
                ran.push(scenario.name.to_owned());
            }
        }
    }
    assert_eq!((parsed, ran.len()), (21, 12), "{ran:?}");
}

fn hold(scenario: &Scenario<'_>, definition: Definition) {
    let mut world = World::start(definition, scenario.input.clone());
    world.play("");
    let (name, state) = (scenario.name, &world.state);
    let output = || state.output().cloned().unwrap_or_default();
    for (line, value) in &scenario.expected {
        match *line {
            "the workflow should complete" => assert_eq!(state.status(), Status::Completed, "{name}"),
            "the workflow should fault" => assert_eq!(state.status(), Status::Faulted, "{name}"),
            "the workflow should complete with output" => assert_eq!(Some(output()), *value, "{name}"),
            "the workflow should fault with error" => {
                assert_eq!(Some(json!(state.fault())), *value, "{name}")
            }
            line if line.contains("should have properties") => {
                quoted(line)
                    .for_each(|property| assert!(output().get(property).is_some(), "{name}: {property}"));
            }
            line if line.contains("property with value") => {
                let property = quoted(line).next().unwrap();
                assert_eq!(output().get(property).cloned(), *value, "{name}: {property}");
            }
            line if line.contains("property containing 1 items") => {
                let property = quoted(line).next().unwrap();
                assert_eq!(output()[property].as_array().map(Vec::len), Some(1), "{name}");
            }
            line if line.ends_with("should run first") => {
                assert_eq!(ran(&world).first(), line.split(' ').next().as_ref(), "{name}")
            }
            line if line.ends_with("should run last") => {
                assert_eq!(ran(&world).last(), line.split(' ').next().as_ref(), "{name}")
            }
            line if line.contains(" should run after ") => {
                let (later, earlier) = line.split_once(" should run after ").unwrap();
                let place = |task: &str| ran(&world).iter().position(|ran| *ran == task).unwrap();
                assert!(place(earlier) < place(later), "{name}: {line}");
            }
            other => panic!("{name}: unknown expectation `{other}`"),
        }
    }
}

fn ran(world: &World) -> Vec<&str> {
    world.state.steps().iter().map(|step| &*step.name).collect()
}

fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('\'').skip(1).step_by(2)
}

fn scenario(read: gherkin::Scenario<'_>) -> Scenario<'_> {
    let name = read.name;
    let mut scenario = Scenario { name, definition: String::new(), input: json!({}), expected: Vec::new() };
    for Step { text, block, .. } in read.steps {
        match text {
            "a workflow with definition" => scenario.definition = block.unwrap(),
            "given the workflow input is" => scenario.input = yaml(&block.unwrap()),
            "the workflow is executed" => {}
            expected => scenario.expected.push((expected, block.as_deref().map(yaml))),
        }
    }
    scenario
}

fn yaml(text: &str) -> Value {
    Node::parse(text).unwrap().value()
}
