//! `cargo xtask check`: everything short of the tests that a change must pass before review.

use std::path::Path;
use std::process::Command;

use crate::{Outcome, tidy};

const STEPS: [&[&str]; 2] = [
    &["fmt", "--all", "--check"],
    &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"],
];

/// Runs the steps in order and stops at the first that fails.
pub(crate) fn run(root: &Path) -> Outcome {
    for step in STEPS {
        let command = format!("cargo {}", step.join(" "));
        eprintln!("$ {command}");
        let status = Command::new("cargo").args(step).current_dir(root).status();
        let status = status.map_err(|error| format!("cannot run `{command}`: {error}"))?;
        if !status.success() {
            return Err(format!("`{command}` found something: mend what it names above, then check again"));
        }
    }
    tidy::run(root)
}
