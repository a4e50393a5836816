//! The binary `sinew` as its users meet it: arguments in, text and exit codes out.

mod bus;
mod check;
mod demo;
mod describe;
mod dlq;
mod documents;
mod edge;
mod foreign;
mod people;
pub(crate) mod program;
mod run;
mod studio;
mod tail;
mod top;
mod uploads;
mod validate;

use serde_json::Value;

use self::program::{Ran, sinew};

#[tokio::test]
async fn help_names_every_command_and_each_has_its_own() {
    let help = sinew(&["--help"]).await.succeeded();
    for command in [
        "dev",
        "demo",
        "edge",
        "orchestrator",
        "call",
        "publish",
        "services",
        "describe",
        "tail",
        "top",
        "dlq",
        "replay",
        "schedules",
        "workflow",
        "check",
        "explain",
        "completions",
    ] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{command} is missing in {}", help.stdout);
        let own = sinew(&[command, "--help"]).await.succeeded();
        assert!(own.stdout.contains(&format!("sinew {command}")), "{}", own.stdout);
        if !["workflow", "dlq", "schedules"].contains(&command) {
            assert!(own.stdout.contains(&format!("\n  sinew {command}")), "no example: {}", own.stdout);
        }
    }
    for (group, commands) in [
        ("workflow", &["validate", "apply", "definitions", "start", "get", "list", "cancel", "operate"][..]),
        ("dlq", &["ls", "show", "retry", "edit", "drop"]),
        ("schedules", &["ls", "rm"]),
    ] {
        for command in commands {
            let own = sinew(&[group, command, "--help"]).await.succeeded();
            assert!(
                own.stdout.contains(&format!("\n  sinew {group} {command}")),
                "no example: {}",
                own.stdout
            );
        }
    }
}

#[tokio::test]
async fn completions_are_written_for_every_shell() {
    for (shell, mark) in [("bash", "_sinew()"), ("zsh", "#compdef sinew"), ("fish", "complete -c sinew")] {
        let script = sinew(&["completions", shell]).await.succeeded();
        assert!(script.stdout.contains(mark), "{shell}");
    }
}

#[tokio::test]
async fn a_command_line_that_is_not_understood_ends_with_2() {
    let ran = sinew(&["call"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    let ran = sinew(&["--json", "call", "orders"]).await;
    assert_eq!((ran.code, ran.error_code()), (2, "SNW-5001".into()));
    assert!(ran.error()["message"].as_str().unwrap().contains("<service>.<operation>"), "{ran:?}");
}

#[tokio::test]
async fn an_argument_that_is_no_json_is_pointed_at() {
    let ran = sinew(&["call", "greeter.hello", r#"{"name": Ada}"#]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("line 1, column 10"), "{}", ran.stderr);
    assert!(ran.stderr.contains("             ^"), "{}", ran.stderr);
}

#[tokio::test]
async fn an_unreachable_bus_ends_with_4_and_says_how_to_get_one() {
    for command in [&["call", "a.b"][..], &["services"], &["workflow", "list"], &["publish", "a.b"]] {
        let ran = sinew(&[&["--json", "--nats-url", "nats://127.0.0.1:1"], command].concat()).await;
        assert_eq!((ran.code, ran.error_code()), (4, "SNW-1102".into()), "{ran:?}");
        assert!(ran.error()["hint"].as_str().unwrap().contains("sinew dev"), "{ran:?}");
        assert_eq!(ran.stdout, "");
    }
}

#[tokio::test]
async fn check_shows_the_settings_even_without_a_bus() {
    let ran = sinew(&["--json", "--nats-url", "nats://ada:hunter2@127.0.0.1:1", "check"]).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(!ran.stdout.contains("hunter2") && !ran.stderr.contains("hunter2"), "{ran:?}");
    let report: Value = ran.json();
    assert_eq!(report["bus"], Value::Null);
    let url = &report["settings"][0];
    assert_eq!((url["name"].as_str(), url["source"].as_str()), (Some("nats-url"), Some("flag")));
}

#[tokio::test]
async fn codes_are_explained_and_near_misses_suggested() {
    let page = sinew(&["explain", "snw-1102"]).await.succeeded();
    for part in ["SNW-1102", "cause", "check", "remedy"] {
        assert!(page.stdout.contains(part), "{part} is missing in {}", page.stdout);
    }
    let ran = sinew(&["explain", "no-responder"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("did you mean no-responders"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let ran: Ran = program::sinew_unread(&["--json", "explain"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[tokio::test]
async fn an_address_of_another_protocol_is_a_usage_error_that_names_the_schemes() {
    for command in [&["services"][..], &["call", "greeter.hello"], &["check"]] {
        let arguments = [&["--json", "--nats-url", "http://bus:4222"], command].concat();
        let refused = sinew(&arguments).await;
        assert_eq!((refused.code, refused.error_code()), (2, "SNW-1101".into()), "{refused:?}");
        let told = refused.error()["message"].to_string();
        assert!(told.contains("nats") && told.contains("tls"), "{told}");
    }
}
