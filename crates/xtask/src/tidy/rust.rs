//! Rules for Rust files, one function each, over code from which comments and literals are gone.

use std::collections::BTreeSet;

use super::lexer::is_word;
use super::{Finding, Source};

const LENGTH_LIMIT: usize = 500;

/// Ways to panic, each with what to do instead.
const PANICS: [(&str, &str); 5] = [
    (".unwrap()", "return the error with `?`, or match on it"),
    (".expect(", "return the error with `?`, or match on it"),
    ("panic!", "return an error"),
    ("todo!", "write it, or return an error that says it is missing"),
    ("unimplemented!", "write it, or return an error that says it is missing"),
];

/// Where the client library may be named: its one wrapper, and code that measures or tests from outside.
const CLIENT_HOMES: [&str; 3] = ["crates/sinew/src/bus", "crates/xtask/src/bench", "tests/"];

/// Checks one file; `test_files` are the files that hold nothing but tests.
pub(crate) fn check(source: &Source, test_files: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    opening(source, &mut findings);
    length(source, &mut findings);
    module_file(source, &mut findings);
    unsafe_code(source, &mut findings);
    panics(source, test_files, &mut findings);
    sleeps(source, test_files, &mut findings);
    client(source, &mut findings);
    findings
}

fn opening(source: &Source, findings: &mut Vec<Finding>) {
    if !source.lines.first().is_some_and(|line| line.starts_with("//! ")) {
        let message = "open with a `//!` line that says what the file is, and what it is not";
        findings.push(Finding::new(&source.path, 1, "opening", message));
    }
}

fn length(source: &Source, findings: &mut Vec<Finding>) {
    let lines = source.lines.len();
    if lines > LENGTH_LIMIT {
        let message =
            format!("{lines} lines, {LENGTH_LIMIT} are allowed: move what stands on its own to a module");
        findings.push(Finding::new(&source.path, LENGTH_LIMIT + 1, "length", message));
    }
}

fn module_file(source: &Source, findings: &mut Vec<Finding>) {
    if let Some(dir) = source.path.strip_suffix("/mod.rs") {
        findings.push(Finding::new(&source.path, 1, "mod-rs", format!("move to {dir}.rs")));
    }
}

fn unsafe_code(source: &Source, findings: &mut Vec<Finding>) {
    for (index, code) in source.code.iter().enumerate() {
        if has_word(code, "unsafe") {
            findings.push(Finding::new(
                &source.path,
                index + 1,
                "unsafe",
                "find a safe way: there is no exception",
            ));
        }
    }
}

fn panics(source: &Source, test_files: &BTreeSet<String>, findings: &mut Vec<Finding>) {
    for (index, code) in source.code.iter().enumerate() {
        if source.is_test(index, test_files) {
            continue;
        }
        // Without an argument it is a method of ours: the panicking one takes a message.
        let code = code.replace(".expect()", "");
        for (pattern, remedy) in PANICS {
            if has_word(&code, pattern) {
                let message = format!("`{}` outside tests: {remedy}", pattern.trim_start_matches('.'));
                findings.push(Finding::new(&source.path, index + 1, "panics", message));
            }
        }
    }
}

fn sleeps(source: &Source, test_files: &BTreeSet<String>, findings: &mut Vec<Finding>) {
    for (index, code) in source.code.iter().enumerate() {
        let explained =
            |line: Option<usize>| line.is_some_and(|line| source.comments[line].contains("// why:"));
        let sleeps = has_word(code, "sleep(") || has_word(code, "sleep_until(");
        if sleeps
            && source.is_test(index, test_files)
            && !explained(Some(index))
            && !explained(index.checked_sub(1))
        {
            let message = "a test that sleeps: await the condition, or say `// why:` on the line above";
            findings.push(Finding::new(&source.path, index + 1, "sleep", message));
        }
    }
}

fn client(source: &Source, findings: &mut Vec<Finding>) {
    if CLIENT_HOMES.iter().any(|home| source.path.starts_with(home)) {
        return;
    }
    for (index, code) in source.code.iter().enumerate() {
        if has_word(code, "async_nats") {
            let message = "go through `sinew::bus`, which owns the client library and its traps";
            findings.push(Finding::new(&source.path, index + 1, "client", message));
        }
    }
}

/// Tells whether the pattern occurs with no identifier running into either end of it.
fn has_word(code: &str, pattern: &str) -> bool {
    let joins =
        |inner: Option<char>, outer: Option<char>| inner.is_some_and(is_word) && outer.is_some_and(is_word);
    code.match_indices(pattern).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + pattern.len()..]);
        !joins(pattern.chars().next(), before.chars().next_back())
            && !joins(pattern.chars().next_back(), after.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::brief;
    use super::*;

    #[track_caller]
    fn expect(path: &str, text: &str, found: &[&str]) {
        let source = Source::new(path, text);
        assert_eq!(brief(&check(&source, &source.test_files().into_iter().collect())), found, "{text}");
    }

    #[test]
    fn a_file_opens_by_saying_what_it_is() {
        expect("src/a.rs", "//! A.\n", &[]);
        expect("src/a.rs", "\n//! A.\n", &["opening:1"]);
        expect("src/a.rs", "", &["opening:1"]);
    }

    #[test]
    fn five_hundred_lines_are_enough() {
        expect("src/a.rs", &"//! A.\n".repeat(500), &[]);
        expect("src/a.rs", &"//! A.\n".repeat(501), &["length:501"]);
    }

    #[test]
    fn modules_are_named_by_their_file() {
        expect("src/a/mod.rs", "//! A.\n", &["mod-rs:1"]);
        expect("src/a/amod.rs", "//! A.\n", &[]);
    }

    #[test]
    fn unsafe_is_found_in_tests_too_but_not_in_words_and_comments() {
        expect("tests/src/a.rs", "//! A.\nunsafe { x() }\n", &["unsafe:2"]);
        expect("src/a.rs", "//! A.\n#![forbid(unsafe_code)] // unsafe\nf(\"unsafe\");\n", &[]);
    }

    #[test]
    fn panics_are_for_tests() {
        let body = "a.unwrap();\nb.expect(\"c\");\npanic!();\ntodo!();\nunimplemented!();\n";
        let found = ["panics:2", "panics:3", "panics:4", "panics:5", "panics:6"];
        expect("src/a.rs", &format!("//! A.\n{body}"), &found);
        expect("src/a.rs", &format!("//! A.\n#[cfg(test)]\nmod tests {{\n{body}}}\n"), &[]);
        expect("src/a/tests.rs", &format!("//! A.\n{body}"), &[]);
        expect("tests/src/a.rs", &format!("//! A.\n{body}"), &[]);
        expect(
            "src/a.rs",
            "//! a.unwrap()\na.unwrap_or(b); c.expect_err(d); mux.expect(); core_panic!();\n",
            &[],
        );
    }

    #[test]
    fn a_test_that_sleeps_says_why() {
        let line = "tokio::time::sleep(d).await;";
        expect("tests/src/a.rs", &format!("//! A.\n{line}\nuse sleep::x;\n"), &["sleep:2"]);
        expect("tests/src/a.rs", &format!("//! A.\n// why: it polls.\n{line}\n"), &[]);
        expect(
            "tests/src/a.rs",
            &format!("//! A.\n{line} // why: it polls.\n{line}\n{line}\n"),
            &["sleep:4"],
        );
        expect("src/a.rs", &format!("//! A.\n{line}\n"), &[]);
    }

    #[test]
    fn the_client_library_stays_in_its_wrapper() {
        let text = "//! A.\nuse async_nats::Client;\n";
        expect("crates/sinew-edge/src/a.rs", text, &["client:2"]);
        expect("crates/sinew/src/call.rs", text, &["client:2"]);
        expect("crates/sinew/src/bus/mux.rs", text, &[]);
        expect("tests/src/a.rs", text, &[]);
    }
}
