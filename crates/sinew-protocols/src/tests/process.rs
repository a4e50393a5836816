//! `run: shell`, `run: script`, `run: container`.

use std::time::Duration;

use serde_json::{Value, json};
use sinew_workflow::{Outcome, Protocol};

use super::{LIMIT, done, outcome, outcome_within, refused, unknown};
use crate::{Allow, Protocols, Settings};

fn allowing(allow: Allow) -> Protocols {
    Protocols::new(Settings { allow, ..Settings::default() }).unwrap()
}

fn shells(names: &[&str]) -> Protocols {
    allowing(Allow { shell: names.iter().map(|&name| name.to_owned()).collect(), ..Allow::default() })
}

async fn shell(protocols: &Protocols, run: Value) -> Outcome {
    outcome(protocols, Protocol::Shell, &run).await
}

#[tokio::test]
async fn nothing_runs_that_is_not_allowed() {
    let none = allowing(Allow::default());
    for (protocol, run, setting) in [
        (Protocol::Shell, json!({ "shell": { "command": "touch /tmp/x" } }), "allow.shell"),
        (Protocol::Script, json!({ "script": { "language": "js", "code": "" } }), "allow.script"),
        (Protocol::Container, json!({ "container": { "image": "alpine:3" } }), "allow.container"),
    ] {
        let fault = refused(outcome(&none, protocol, &run).await);
        assert_eq!(fault.kind(), "configuration");
        assert!(fault.detail.unwrap().contains(setting));
    }
}

#[tokio::test]
async fn a_single_command_runs_without_a_shell() {
    let echo = shells(&["echo"]);
    let output =
        shell(&echo, json!({ "shell": { "command": "echo 'a  b'", "arguments": ["$HOME;", "c"] } })).await;
    assert_eq!(done(output), json!("a  b $HOME; c\n"));
    for command in ["echo a; touch b", "echo $(id)", "/bin/echo a", "sh -c id"] {
        let fault = refused(shell(&echo, json!({ "shell": { "command": command } })).await);
        assert!(fault.detail.unwrap().contains("allow.shell"), "{command}");
    }
}

#[tokio::test]
async fn the_specifications_example_runs_where_everything_is_allowed() {
    let command = "input=$(cat)\necho \"STDIN was: $input\"\necho \"ARGS are $1 $2\"\n";
    let run = json!({ "shell": { "command": command, "stdin": "Hello World", "arguments": ["Foo", "Bar"] } });
    assert_eq!(done(shell(&shells(&["*"]), run).await), json!("STDIN was: Hello World\nARGS are Foo Bar\n"));
}

#[tokio::test]
async fn a_process_sees_its_own_environment_and_a_path() {
    let run = json!({ "shell": { "command": "env", "environment": { "SHOP": "north", "N": 1 } } });
    let seen = done(shell(&shells(&["env"]), run).await);
    let mut names: Vec<_> =
        seen.as_str().unwrap().lines().map(|line| line.split('=').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["N", "PATH", "SHOP"]);
}

#[tokio::test]
async fn the_output_is_what_return_says() {
    let all = shells(&["*"]);
    let run =
        |wanted: &str| json!({ "shell": { "command": "echo out; echo err >&2; exit 3" }, "return": wanted });
    assert_eq!(done(shell(&all, run("code")).await), json!(3));
    assert_eq!(done(shell(&all, run("stderr")).await), json!("err\n"));
    assert_eq!(
        done(shell(&all, run("all")).await),
        json!({ "code": 3, "stdout": "out\n", "stderr": "err\n" })
    );
    for wanted in ["stdout", "none"] {
        let fault = unknown(shell(&all, run(wanted)).await);
        assert_eq!(fault.kind(), "runtime");
        assert_eq!(fault.detail.as_deref(), Some("the process ended with code 3: err"));
    }
    let fine = json!({ "shell": { "command": "echo out" }, "return": "none" });
    assert_eq!(done(shell(&all, fine).await), Value::Null);
    refused(shell(&all, run("everything")).await);
}

#[tokio::test]
async fn a_process_that_does_not_end_is_killed_with_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("child");
    let command = "sleep 300 & echo $! > \"$1\"; wait";
    let run = json!({ "shell": { "command": command, "arguments": [file] } });
    let limit = Duration::from_millis(500);
    let fault = unknown(outcome_within(&shells(&["*"]), Protocol::Shell, &run, limit).await);
    assert_eq!(fault.kind(), "timeout");
    let child = std::fs::read_to_string(&file).unwrap();
    until(|| !is_running(child.trim())).await;
}

#[tokio::test]
async fn endless_output_is_cut_off() {
    let allow = Allow { shell: ["yes".to_owned()].into(), ..Allow::default() };
    let small = Protocols::new(Settings { allow, max_body: 10_000, ..Settings::default() }).unwrap();
    let fault = unknown(shell(&small, json!({ "shell": { "command": "yes" } })).await);
    assert!(fault.detail.unwrap().contains("10000"));
}

#[tokio::test]
async fn a_command_that_is_not_there_is_named() {
    let fault = refused(
        shell(&shells(&["no-such-command"]), json!({ "shell": { "command": "no-such-command" } })).await,
    );
    assert!(fault.detail.unwrap().contains("`no-such-command`"));
}

#[tokio::test]
async fn what_nobody_waits_for_goes_on_until_the_calls_are_closed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("done");
    let all = shells(&["*"]);
    let run = json!({ "await": false, "shell": { "command": "echo $$ > \"$1.part\"; mv \"$1.part\" \"$1\"; exec sleep 300", "arguments": [file] } });
    assert_eq!(done(shell(&all, run).await), Value::Null);
    until(|| file.exists()).await;
    let id = std::fs::read_to_string(&file).unwrap();
    assert!(is_running(id.trim()));
    all.close().await;
    until(|| !is_running(id.trim())).await;
}

#[tokio::test]
async fn scripts_have_their_input_arguments_and_environment() {
    let allow = Allow { script: ["js".to_owned(), "python".to_owned()].into(), ..Allow::default() };
    let scripts = allowing(allow);
    let python = "import os, sys\nprint(sys.stdin.read(), sys.argv[1], os.environ['foo'])";
    let js = "import { readFileSync } from 'node:fs';\nconst [_, __, arg] = process.argv;\nconsole.log(readFileSync(0, 'utf8'), arg, process.env.foo)";
    for (language, interpreter, code) in [("python", "python3", python), ("js", "node", js)] {
        if !installed(interpreter) {
            println!("skipped: there is no `{interpreter}` here");
            continue;
        }
        let run = json!({ "script": {
            "language": language, "code": code, "stdin": "in", "arguments": ["hello"], "environment": { "foo": "bar" },
        } });
        assert_eq!(
            done(outcome(&scripts, Protocol::Script, &run).await),
            json!("in hello bar\n"),
            "{language}"
        );
    }
    let fault = refused(
        outcome(&scripts, Protocol::Script, &json!({ "script": { "language": "perl", "code": "" } })).await,
    );
    assert!(fault.detail.unwrap().contains("perl"));
}

fn installed(program: &str) -> bool {
    std::process::Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Tells whether a process runs; one that is dead and waits for its parent to notice does not.
fn is_running(id: &str) -> bool {
    let status = std::process::Command::new("ps").args(["-o", "stat=", "-p", id]).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    !status.trim().is_empty() && !status.trim().starts_with('Z')
}

pub(super) async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            // why: files and processes of others are seen by looking again.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("the condition holds in time");
}
