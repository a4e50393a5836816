//! Every code that stands in the crates has its page, and every page its code.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{page, pages};

#[test]
fn every_code_of_the_crates_is_explained() {
    let mut missing = BTreeSet::new();
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        for code in numbered(&text).chain(kebab(&text)) {
            if page(&code).is_none() {
                missing.insert(format!("{code} in {}", file.display()));
            }
        }
    }
    assert!(missing.is_empty(), "write pages for: {missing:#?}");
}

#[test]
fn every_page_is_about_a_code_that_exists() {
    let texts: Vec<String> = sources().iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    for page in pages() {
        let quoted = format!("\"{}\"", page.code);
        assert!(texts.iter().any(|text| text.contains(&quoted)), "{} is nowhere else", page.code);
    }
}

#[test]
fn pages_are_unique_and_complete() {
    let mut seen = BTreeSet::new();
    for page in pages() {
        assert!(seen.insert(page.code), "{} has two pages", page.code);
        for text in [page.title, page.cause, page.check, page.remedy] {
            assert!(text.len() > 10 && !text.ends_with(' '), "{}: {text:?}", page.code);
        }
    }
}

#[test]
fn the_scanner_finds_both_kinds_of_codes() {
    let text = "Self::A => \"SNW-1001\",\n#[problem(status = 409, code = \"wrong-state\")]\nProblem::new(503, \"bus-down\", t)";
    assert_eq!(numbered(text).collect::<Vec<_>>(), ["SNW-1001"]);
    assert_eq!(kebab(text).collect::<BTreeSet<_>>(), ["bus-down", "wrong-state"].map(str::to_owned).into());
}

/// Returns the sources of the crates that run in production, this table excepted.
fn sources() -> Vec<PathBuf> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let of = |name: &str| crates.join(name).join("src");
    let mut found = Vec::new();
    for name in ["sinew", "sinew-edge", "sinew-orchestrator", "sinew-workflow", "sinew-cli"] {
        collect(&of(name), &mut found);
    }
    assert!(found.len() > 20, "the sources are not where they should be");
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let skipped = path.ends_with("src/codes") || path.ends_with("tests.rs") || path.ends_with("tests");
        if path.is_dir() && !skipped {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !skipped {
            found.push(path);
        }
    }
}

fn numbered(text: &str) -> impl Iterator<Item = String> + '_ {
    production(text).flat_map(|line| {
        line.match_indices("\"SNW-").filter_map(|(at, _)| line[at + 1..].split('"').next()).map(str::to_owned)
    })
}

/// Finds the codes of problems where they are made: `code = ".."` in a derive, and `Problem::new(status, "..", ..)` or
/// the edge's `Refusal::new`.
fn kebab(text: &str) -> impl Iterator<Item = String> + '_ {
    let after = |line: &str, mark: &str| {
        let rest = line.split_once(mark)?.1;
        let (_, rest) = rest.split_once('"')?;
        rest.split_once('"').map(|(code, _)| code.to_owned())
    };
    production(text).filter_map(move |line| {
        let declared = line.contains("#[problem(").then(|| after(line, "code =")).flatten();
        let made = || {
            after(line, "Problem::new(")
                .or_else(|| after(line, "Refusal::new("))
                .or_else(|| after(line, "Self::new(StatusCode"))
        };
        declared
            .or_else(made)
            .filter(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
    })
}

/// Returns the lines before a file's own tests, without comments.
fn production(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//"))
}
