//! `cargo xtask tidy`: the rules of this repository that neither the compiler nor clippy knows.
//! Exceptions stand in `crates/xtask/tidy.allow`, each with its reason.

mod allow;
mod finding;
mod lexer;
mod rust;
mod source;
mod text;
mod workspace;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use self::allow::AllowList;
use self::finding::Finding;
use self::source::Source;
use crate::Outcome;

const ALLOW_FILE: &str = "crates/xtask/tidy.allow";

/// Checks every file git knows or would add, prints all findings, and fails if there are any.
pub(crate) fn run(root: &Path) -> Outcome {
    let files = files(root)?;
    let mut findings = Vec::new();
    let mut sources = Vec::new();
    for path in &files {
        // A file that is not text (an image, say) has no lines to check; a deleted one is gone from the next commit.
        let Ok(text) = std::fs::read_to_string(root.join(path)) else { continue };
        findings.extend(text::check(path, &text));
        if path.ends_with(".rs") {
            sources.push(Source::new(path, &text));
        }
    }
    let test_files: BTreeSet<String> = sources.iter().flat_map(Source::test_files).collect();
    findings.extend(sources.iter().flat_map(|source| rust::check(source, &test_files)));
    findings.extend(workspace::check(root, &files)?);

    let allowed = std::fs::read_to_string(root.join(ALLOW_FILE)).unwrap_or_default();
    report(AllowList::parse(ALLOW_FILE, &allowed).filter(findings), files.len())
}

fn report(mut findings: Vec<Finding>, files: usize) -> Outcome {
    if findings.is_empty() {
        println!("tidy: {files} files, nothing found");
        return Ok(());
    }
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    Err(format!(
        "tidy: {} to mend; an exception needs a line with its reason in {ALLOW_FILE}",
        findings.len()
    ))
}

/// Lists the files git tracks or would track, relative to the root, with forward slashes.
fn files(root: &Path) -> Result<Vec<String>, String> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "-z"];
    let output = run_tool(root, "git", &arguments)?;
    Ok(output.split_terminator('\0').map(str::to_owned).collect())
}

/// Runs a program in the repository and returns what it printed.
fn run_tool(root: &Path, program: &str, arguments: &[&str]) -> Result<String, String> {
    let command = || format!("`{program} {}`", arguments.join(" "));
    let output = Command::new(program).args(arguments).current_dir(root).output();
    let output = output.map_err(|error| format!("cannot run {}: {error}", command()))?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", command(), String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
