//! Repository chores, run as `cargo xtask <task>`. This file only picks the task.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its terminal")]

mod bench;
mod check;
mod conformance;
mod schemas;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
Repository chores.

Usage: cargo xtask <task>

Tasks:
  check    Runs what a change must pass before review: fmt, clippy and tidy
  bench    Prints ratios against baselines: [workflow-engine] [sdk] [edge] [saga] [SECONDS],
           all of them by default; of the edge by parts: edge [ratio] [cost] [idle] [reload] [feeds]
  conformance
           Runs other people's tests against the edge: [SUITE].. [--if-reachable], all of them by default
  schemas  Writes schemas/ from the code; with --check only compares
  tidy     Checks the rules of this repository that no other tool checks
  help     Prints this text
";

/// What a task ends with: success, or what went wrong in words.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Outcome {
    match arguments {
        ["bench", names @ ..] => bench::run(&root(), names),
        ["conformance", names @ ..] => conformance::run(&root(), names),
        ["schemas"] => schemas::run(&root(), false),
        ["schemas", "--check"] => schemas::run(&root(), true),
        ["check"] => check::run(&root()),
        ["tidy"] => tidy::run(&root()),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        [task, ..] => {
            Err(format!("cannot run `{}`: no task `{task}` takes that\n\n{HELP}", arguments.join(" ")))
        }
    }
}

/// Returns the root of the repository; cargo tells a program it runs where its package is.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root = package.as_deref().and_then(|package| package.ancestors().nth(2));
    let root = root.map_or_else(|| PathBuf::from("."), PathBuf::from);
    root.canonicalize().unwrap_or(root)
}
