//! A Rust file prepared for the rules: its lines of code and comments, and which of them are tests.

use std::collections::BTreeSet;
use std::path::Path;

use super::lexer::{self, Split};

/// A Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file, relative to the root.
    pub(crate) path: String,
    /// The lines as written.
    pub(crate) lines: Vec<String>,
    /// The same lines without comments and the insides of literals.
    pub(crate) code: Vec<String>,
    /// The same lines with nothing but comments.
    pub(crate) comments: Vec<String>,
    /// Which lines belong to an item under `#[cfg(test)]`.
    in_test: Vec<bool>,
    /// Modules declared as `#[cfg(test)] mod name;`, whose files are tests as a whole.
    test_modules: Vec<String>,
}

impl Source {
    /// Prepares a file.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let Split { code, comments } = lexer::split(text);
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let mut source = Self {
            path: path.to_owned(),
            lines: lines(text),
            code: lines(&code),
            comments: lines(&comments),
            in_test: vec![false; text.lines().count()],
            test_modules: Vec::new(),
        };
        source.find_tests(&code);
        source
    }

    /// Tells whether a line, counted from zero, is compiled for tests only.
    pub(crate) fn is_test(&self, line: usize, test_files: &BTreeSet<String>) -> bool {
        self.in_test.get(line).copied().unwrap_or_default() || self.is_test_file(test_files)
    }

    /// Returns the files that hold this file's out-of-line test modules.
    pub(crate) fn test_files(&self) -> Vec<String> {
        let path = Path::new(&self.path);
        let dir = match path.file_name().and_then(|name| name.to_str()) {
            Some("lib.rs" | "main.rs") => path.parent().unwrap_or(path).to_owned(),
            _ => path.with_extension(""),
        };
        let file = |module: &String| dir.join(module).with_extension("rs").to_string_lossy().into_owned();
        self.test_modules.iter().map(file).collect()
    }

    fn is_test_file(&self, test_files: &BTreeSet<String>) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
            || test_files.contains(&self.path)
    }

    fn find_tests(&mut self, code: &str) {
        for marker in ["#[cfg(test)]", "#[cfg(all(test,"] {
            for (start, _) in code.match_indices(marker) {
                let item = item_after(code, start);
                let first = code[..start].matches('\n').count();
                let last = first + code[start..item.end].matches('\n').count();
                self.in_test.iter_mut().take(last + 1).skip(first).for_each(|line| *line = true);
                self.test_modules.extend(item.module);
            }
        }
    }
}

struct Item {
    /// Where the item ends.
    end: usize,
    /// Its name, if it is a module in a file of its own.
    module: Option<String>,
}

/// Finds the item whose attributes begin at `start`: it ends with its first block or semicolon.
fn item_after(code: &str, start: usize) -> Item {
    let mut depth = 0_usize;
    for (at, character) in code[start..].char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Item { end: start + at, module: None };
                }
            }
            ';' if depth == 0 => {
                let name =
                    code[start..start + at].rsplit_once("mod ").map(|(_, name)| name.trim().to_owned());
                return Item { end: start + at, module: name };
            }
            _ => {}
        }
    }
    Item { end: code.len(), module: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn test_lines(text: &str) -> Vec<usize> {
        let source = Source::new("src/a.rs", text);
        let none = BTreeSet::new();
        (0..source.lines.len()).filter(|line| source.is_test(*line, &none)).map(|line| line + 1).collect()
    }

    #[test]
    fn an_item_under_cfg_test_ends_with_its_block() {
        assert_eq!(
            test_lines("fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { {} }\n}\nfn c() {}"),
            [2, 3, 4, 5]
        );
        assert_eq!(test_lines("#[cfg(test)]\n#[allow(x)]\nuse a::{b, c};\nfn d() {}"), [1, 2, 3]);
        assert_eq!(test_lines("#[cfg(all(test, unix))]\nfn a() {\n}\n"), [1, 2, 3]);
        assert_eq!(test_lines("#[cfg(not(test))]\nfn a() {}\n"), [0; 0]);
        assert_eq!(test_lines("// #[cfg(test)]\nfn a() { \"}\" }\n"), [0; 0]);
    }

    #[test]
    fn a_test_module_in_its_own_file_is_found_from_its_parent() {
        let declared = "#[cfg(test)]\nmod testing;\nmod other;\n";
        assert_eq!(Source::new("src/a.rs", declared).test_files(), ["src/a/testing.rs"]);
        assert_eq!(Source::new("src/lib.rs", declared).test_files(), ["src/testing.rs"]);
    }
}
