//! The specification's conformance features: read from their files, and held against how an instance ended.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use sinew::workflow::WorkflowInstance;

/// A scenario of a feature file: its definition, its input, and what it expects.
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) definition: String,
    pub(super) input: Value,
    expected: Vec<(String, Option<Value>)>,
}

/// Finds a folder of shared test data, or says that its tests are skipped.
pub(super) fn shared(folder: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("SINEW_SHARED") else {
        println!("skipped: set SINEW_SHARED to the folder that holds {folder}");
        return None;
    };
    Some(PathBuf::from(root).join(folder))
}

/// Reads the official scenarios in the order of their files; `None` where the files are not at hand.
pub(super) fn official() -> Option<Vec<Scenario>> {
    let folder = shared("open-workflow/ctk/features")?;
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    Some(texts.flat_map(|text| text.split("Scenario: ").skip(1).map(read).collect::<Vec<_>>()).collect())
}

/// Parses YAML as the language reads it.
pub(super) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true }).unwrap()
}

impl Scenario {
    /// Says what of this scenario does not hold.
    pub(super) fn broken(&self, ended: &WorkflowInstance) -> Vec<String> {
        let failed = |(line, value): &&(String, Option<Value>)| !holds(line, value.as_ref(), ended);
        let told = |(line, value): &(String, Option<Value>)| {
            let value = value.as_ref().map(Value::to_string).unwrap_or_default();
            format!(
                "{}: {line} {value}\n  but: {} {:?} {:?}",
                self.name, ended.status, ended.output, ended.error
            )
        };
        self.expected.iter().filter(failed).map(told).collect()
    }
}

/// Decides one line of a scenario.
fn holds(line: &str, value: Option<&Value>, ended: &WorkflowInstance) -> bool {
    let status = ended.status.as_str();
    let at = |path: &str| {
        let output = ended.output.as_ref()?;
        path.split('.').try_fold(output, |place, name| place.get(name))
    };
    match line.trim_end_matches(':') {
        "the workflow should complete" => status == "completed",
        "the workflow should fault" => status == "faulted",
        "the workflow should complete with output" => status == "completed" && ended.output.as_ref() == value,
        "the workflow should fault with error" => {
            let error = ended.error.as_ref().map(|error| json!(error));
            status == "faulted" && error.as_ref() == value
        }
        line if line.contains("should have properties") => quoted(line).all(|path| at(path).is_some()),
        line if line.contains("property with value") => quoted(line).next().and_then(at) == value,
        line if line.contains("property containing 1 items") => {
            let items = quoted(line).next().and_then(at).and_then(Value::as_array);
            items.map(Vec::len) == Some(1)
        }
        line if line.ends_with("should run first") => ran(ended).first() == line.split(' ').next().as_ref(),
        line if line.ends_with("should run last") => ran(ended).last() == line.split(' ').next().as_ref(),
        line if line.contains(" should run after ") => {
            let (later, earlier) = line.split_once(" should run after ").unwrap();
            let place = |task: &str| ran(ended).iter().position(|ran| *ran == task);
            place(earlier).is_some() && place(earlier) < place(later)
        }
        other => panic!("unknown expectation `{other}`"),
    }
}

fn ran(ended: &WorkflowInstance) -> Vec<&str> {
    ended.steps.iter().map(|step| step.name.as_str()).collect()
}

fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('\'').skip(1).step_by(2)
}

fn read(text: &str) -> Scenario {
    let mut lines = text.lines().peekable();
    let name = lines.next().unwrap().trim().to_owned();
    let mut scenario = Scenario { name, definition: String::new(), input: json!({}), expected: Vec::new() };
    while let Some(line) = lines.next() {
        let words = ["Given", "And", "When", "Then"];
        let step = line.trim().split_once(' ').filter(|(word, _)| words.contains(word));
        let Some((_, step)) = step else { continue };
        let is_block = lines.peek().is_some_and(|line| line.trim().starts_with("\"\"\""));
        let block: Option<Vec<&str>> =
            is_block.then(|| lines.by_ref().skip(1).take_while(|line| line.trim() != "\"\"\"").collect());
        let block = block.map(|lines| lines.join("\n"));
        match step {
            "a workflow with definition:" => scenario.definition = block.unwrap(),
            "given the workflow input is:" => scenario.input = yaml(&block.unwrap()),
            "the workflow is executed" => {}
            expected => scenario.expected.push((expected.to_owned(), block.as_deref().map(yaml))),
        }
    }
    scenario
}

#[test]
fn an_expectation_that_does_not_hold_is_told() {
    let scenario = read(
        "Colours\n Given a workflow with definition:\n \"\"\"yaml\n do: []\n \"\"\"\n \
         Then the workflow should complete with output:\n \"\"\"yaml\n colors: [ red ]\n \"\"\"\n \
         And setRed should run first",
    );
    let ended = |output: Value| -> WorkflowInstance {
        let step = json!({ "name": "setRed", "pointer": "/do/0", "kind": "set", "outcome": "completed",
                           "attempts": 0, "started_ms": 0 });
        let instance = json!({ "id": "i", "name": "n", "version": "1", "status": "completed", "saga": "none",
                               "output": output, "steps": [step], "started_ms": 0 });
        serde_json::from_value(instance).unwrap()
    };
    assert_eq!(scenario.broken(&ended(json!({ "colors": ["red"] }))), Vec::<String>::new());
    assert_eq!(scenario.broken(&ended(json!({ "colors": ["blue"] }))).len(), 1);
}
