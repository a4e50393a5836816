//! `run: container`, against a program that plays the command line of an engine. The same arguments were given to
//! docker's own program by hand; no engine runs where these tests do.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sinew_workflow::{Outcome, Protocol};
use tempfile::TempDir;

use super::process::until;
use super::{LIMIT, done, not_sent, outcome, outcome_within, refused, unknown};
use crate::{Allow, Call, Protocols, Settings};

const PROGRAM: &str = include_str!("container/engine.sh");

/// The name of the container of a call without a name.
const NAME: &str = "sinew-order-7-charge-";

/// An engine, and calls that may use it.
struct Engine {
    folder: TempDir,
    protocols: Protocols,
}

impl Engine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker");
        std::fs::write(&path, PROGRAM).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let protocols = Self::calls(folder.path());
        Self { folder, protocols }
    }

    fn calls(folder: &Path) -> Protocols {
        let allow = Allow {
            container: ["*".to_owned()].into(),
            file: [folder.to_owned()].into(),
            ..Allow::default()
        };
        let container_engine = Some(folder.join("docker"));
        Protocols::new(Settings { allow, container_engine, ..Settings::default() }).unwrap()
    }

    /// As after a restart of the process: nothing is known of what was.
    fn restarted(&mut self) {
        self.protocols = Self::calls(self.folder.path());
    }

    async fn run(&self, container: Value) -> Outcome {
        outcome(&self.protocols, Protocol::Container, &json!({ "container": container })).await
    }

    async fn attempt(&self, attempt: u32, container: Value) -> Outcome {
        let run = json!({ "container": container });
        let call = Call {
            protocol: Protocol::Container,
            arguments: &run,
            key: "order-7/charge",
            attempt,
            limit: LIMIT,
            traceparent: None,
        };
        self.protocols.call(call).await
    }

    /// What it was asked, one line each.
    fn asked(&self) -> Vec<String> {
        let asked = std::fs::read_to_string(self.folder.path().join("asked")).unwrap_or_default();
        asked.lines().map(str::to_owned).collect()
    }

    /// What it was asked to do, verbs only, without looking around.
    fn verbs(&self) -> Vec<String> {
        let verb = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
        self.asked().iter().map(verb).filter(|verb| verb != "ps").collect()
    }

    /// The containers there are.
    fn containers(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join("containers")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[tokio::test]
async fn a_container_is_asked_for_as_the_task_says() {
    let engine = Engine::new();
    let directory = engine.folder.path().to_str().unwrap().to_owned();
    let output = engine
        .run(json!({
            "image": "alpine:3", "name": "mine", "command": "cat; echo $1 $SHOP $PORT; exit 0\n",
            "arguments": ["it's"], "stdin": "in ", "ports": { "8080": 80 }, "volumes": { directory.clone(): "/data" },
            "environment": { "SHOP": "north = south", "PORT": 7 }, "lifetime": { "cleanup": "always" },
            "pullPolicy": "never",
        }))
        .await;
    assert_eq!(done(output), json!("in it's north = south 7\n"));
    let asked = engine.asked();
    let created = asked.iter().find(|line| line.starts_with("create ")).unwrap();
    let (head, tail) = created.split_once(" --env-file=").unwrap();
    let expected = format!(
        "create --name=mine --label=io.sinew.call=order-7/charge@1 --label=io.sinew.keep-ms=3600000 --interactive \
         --pull=never --publish=8080:80 --volume={directory}:/data"
    );
    assert_eq!(head, expected);
    assert!(tail.contains(" --entrypoint=sh alpine:3 -c cat; echo $1 $SHOP $PORT; exit 0"), "{tail}");
    assert!(!created.contains("north"), "other users of the machine see arguments");
    assert_eq!(engine.containers(), [""; 0], "always removed");

    let outside = refused(engine.run(json!({ "image": "alpine", "volumes": { "/etc": "/data" } })).await);
    assert!(outside.detail.unwrap().contains("allow.file"));
}

#[tokio::test]
async fn the_environment_of_a_container_is_not_that_of_its_engine() {
    let engine = Engine::new();
    // With this variable for itself, the engine's program would find neither its tools nor its engine.
    let environment = json!({ "PATH": "/nowhere:/bin:/usr/bin", "DOCKER_HOST": "tcp://elsewhere" });
    let output = engine
        .run(json!({ "image": "alpine", "command": "echo $DOCKER_HOST $PATH;", "environment": environment }));
    assert_eq!(done(output.await), json!("tcp://elsewhere /nowhere:/bin:/usr/bin\n"));
    let lines = json!({ "image": "alpine", "environment": { "KEY": "a\nb" } });
    assert!(refused(engine.run(lines).await).detail.unwrap().contains("`KEY`"));
}

#[tokio::test]
async fn what_a_container_leaves_is_what_return_says() {
    let engine = Engine::new();
    let run = |wanted: &'static str| {
        let container = json!({ "image": "alpine", "command": "echo out; echo err >&2; exit 3", "lifetime": { "cleanup": "always" } });
        let arguments = json!({ "container": container, "return": wanted });
        let protocols = engine.protocols.clone();
        async move { outcome(&protocols, Protocol::Container, &arguments).await }
    };
    assert_eq!(done(run("code").await), json!(3));
    assert_eq!(done(run("stderr").await), json!("err\n"));
    assert_eq!(done(run("all").await), json!({ "code": 3, "stdout": "out\n", "stderr": "err\n" }));
    assert_eq!(unknown(run("stdout").await).detail.as_deref(), Some("the process ended with code 3: err"));
    assert_eq!(unknown(run("none").await).kind(), "runtime");
}

#[tokio::test]
async fn a_container_is_kept_removed_or_removed_eventually() {
    let engine = Engine::new();
    let never = json!({ "image": "alpine", "name": "kept" });
    done(engine.run(never).await);
    let always = json!({ "image": "alpine", "name": "gone", "lifetime": { "cleanup": "always" } });
    done(engine.run(always).await);
    assert_eq!(engine.containers(), ["kept"]);
    let lifetime = json!({ "cleanup": "eventually", "after": { "milliseconds": 10 } });
    done(engine.run(json!({ "image": "alpine", "name": "later", "lifetime": lifetime })).await);
    until(|| engine.asked().contains(&"rm --force later".to_owned())).await;
    until(|| engine.containers() == ["kept"]).await;
}

#[tokio::test]
async fn a_container_that_does_not_end_is_killed_and_cleaned_up() {
    for (cleanup, left) in [("never", vec!["mine"]), ("always", vec![])] {
        let engine = Engine::new();
        let container = json!({ "image": "alpine", "name": "mine", "command": "sleep 300", "lifetime": { "cleanup": cleanup } });
        let run = json!({ "container": container });
        let limit = Duration::from_millis(700);
        assert_eq!(
            unknown(outcome_within(&engine.protocols, Protocol::Container, &run, limit).await).kind(),
            "timeout"
        );
        engine.protocols.close().await;
        assert_eq!(engine.containers(), left, "{cleanup}");
        let ends = if cleanup == "never" { "kill" } else { "rm" };
        assert_eq!(engine.verbs(), ["create", "start", ends]);
    }
}

#[tokio::test]
async fn a_cancelled_call_leaves_no_container_running_even_when_everything_ends_at_once() {
    let engine = Engine::new();
    let (begun, container) = (
        engine.file("begun"),
        json!({ "image": "alpine", "name": "mine", "command": "sh", "arguments": ["-c", "touch \"$0\"; sleep 300", engine.file("begun")], "lifetime": { "cleanup": "always" } }),
    );
    tokio::select! {
        ended = engine.run(container) => panic!("it has not ended: {ended:?}"),
        () = until(|| begun.exists()) => {}
    }
    engine.protocols.close().await;
    assert_eq!(engine.containers(), [""; 0]);
}

#[tokio::test]
async fn a_call_repeated_after_a_crash_finds_its_container_and_no_other() {
    let mut engine = Engine::new();
    let (go, lines) = (engine.file("go"), engine.file("lines"));
    let command = "echo ran >> \"$1\"; until [ -e \"$0\" ]; do sleep 0.02; done; cat; echo done";
    let container = json!({
        "image": "alpine", "command": "sh", "arguments": ["-c", command, go, lines], "stdin": "in ",
        "lifetime": { "cleanup": "always" },
    });
    let (program, first) = (engine.file("docker"), engine.attempt(1, container.clone()));
    tokio::select! {
        ended = first => panic!("it has not ended: {ended:?}"),
        () = until(|| lines.exists()) => {
            // As if the process were killed: nobody is there to kill the container.
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
    engine.protocols.close().await;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    engine.restarted();
    std::fs::write(&go, "").unwrap();
    assert_eq!(done(engine.attempt(1, container.clone()).await), json!("in done\n"));
    assert_eq!(std::fs::read_to_string(&lines).unwrap(), "ran\n", "one container, one effect");
    assert_eq!(done(engine.attempt(2, container).await), json!("in done\n"));
    assert_eq!(std::fs::read_to_string(&lines).unwrap(), "ran\nran\n", "a retry is a run of its own");
    assert_eq!(engine.containers(), [""; 0]);
}

#[tokio::test]
async fn a_container_without_a_name_is_called_after_its_task_and_attempt() {
    let engine = Engine::new();
    done(engine.attempt(1, json!({ "image": "alpine" })).await);
    done(engine.attempt(2, json!({ "image": "alpine" })).await);
    let mut names = engine.containers();
    names.sort();
    assert!(names.len() == 2 && names.iter().all(|name| name.starts_with(NAME)), "{names:?}");
    assert_eq!(names[1], format!("{}-2", names[0]));
}

#[tokio::test]
async fn what_never_ran_is_told_apart_from_what_failed() {
    let engine = Engine::new();
    let fault = not_sent(engine.run(json!({ "image": "no-such-image" })).await);
    assert!(fault.detail.unwrap().contains("pull access denied"));
    let fault = not_sent(engine.run(json!({ "image": "alpine", "command": "no-such-program" })).await);
    assert!(fault.detail.unwrap().contains("executable file not found"));
    assert_eq!(engine.containers(), [""; 0], "what never ran need not be kept");

    done(engine.run(json!({ "image": "alpine", "name": "mine" })).await);
    let other = engine.attempt(2, json!({ "image": "alpine", "name": "mine" })).await;
    assert!(refused(other).detail.unwrap().contains("another container with the name `mine`"));
    for name in ["-rm", "a b", "x"] {
        assert_eq!(
            refused(engine.run(json!({ "image": "alpine", "name": name })).await).kind(),
            "configuration"
        );
    }
}

#[tokio::test]
async fn a_container_nobody_waits_for_is_its_engines() {
    let engine = Engine::new();
    let file = engine.file("said");
    for (name, stdin) in [("plain", Value::Null), ("fed", json!("in"))] {
        let container = json!({
            "image": "alpine", "name": name, "command": "sh", "arguments": ["-c", "cat > \"$0.part\"; mv \"$0.part\" \"$0\"", file],
            "stdin": stdin, "lifetime": { "cleanup": "always" },
        });
        let run = json!({ "container": container, "await": false });
        assert_eq!(done(outcome(&engine.protocols, Protocol::Container, &run).await), Value::Null);
        until(|| file.exists()).await;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), stdin.as_str().unwrap_or_default());
        std::fs::remove_file(&file).unwrap();
    }
    let created: Vec<_> = engine.asked().into_iter().filter(|line| line.starts_with("create ")).collect();
    assert!(created.len() == 2 && created.iter().all(|line| line.contains(" --rm ")), "{created:?}");
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_by_the_next_one() {
    let mut engine = Engine::new();
    let lifetime = json!({ "cleanup": "eventually", "after": { "milliseconds": 1 } });
    let long = json!({ "cleanup": "eventually", "after": { "days": 1 } });
    done(engine.run(json!({ "image": "alpine", "name": "due", "lifetime": lifetime })).await);
    done(engine.run(json!({ "image": "alpine", "name": "kept", "lifetime": long })).await);
    until(|| engine.containers() == ["kept"]).await;
    // The first one again, this time left behind.
    engine.protocols.close().await;
    engine.restarted();
    let container = engine.file("containers/kept/keep");
    std::fs::write(container, "0").unwrap();
    done(engine.run(json!({ "image": "alpine", "name": "other" })).await);
    until(|| engine.containers() == ["other"]).await;
}
