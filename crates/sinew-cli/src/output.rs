//! What reaches the terminal. Results go to stdout, everything said along the way to stderr.
//!
//! A reader that goes away, such as `head`, is no error: what it does not want to read is dropped, and the command
//! still finishes what it has to finish, draining its roles among it.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::error::Error;

/// How a word looks on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Good,
    Bad,
    Doubtful,
    Quiet,
    Strong,
}

/// The way to the terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    color: bool,
}

impl Output {
    /// Creates the way out: JSON where it is asked for, colours only on a terminal that wants them.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, color: !json && wants_color() && io::stdout().is_terminal() }
    }

    /// Says whether results are printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Says whether somebody may be looking at what is said along the way.
    pub(crate) fn is_watched(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Prints a result: `value` as JSON, or what `text` makes of it for people.
    pub(crate) fn show<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        if self.json {
            self.value(value);
        } else {
            self.text(&text(value));
        }
    }

    /// Prints a result that is JSON either way: on one line where JSON is asked for, else laid out for reading.
    pub(crate) fn value<T: Serialize + ?Sized>(&self, value: &T) {
        let text = if self.json { serde_json::to_string(value) } else { serde_json::to_string_pretty(value) };
        // What is printed here has string keys only, which is all that JSON could refuse.
        self.text(&text.unwrap_or_default());
    }

    /// Prints lines of text to stdout.
    pub(crate) fn text(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        let text = text.trim_end_matches('\n');
        let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    }

    /// Prints one line of something that has no end.
    ///
    /// # Errors
    /// When nobody reads any more, so that the source can be closed.
    pub(crate) fn line(&self, line: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush())
    }

    /// Prints a part of a longer result; programs get the whole at the end instead.
    pub(crate) fn part(&self, text: &str) {
        if !self.json {
            self.text(text);
        }
    }

    /// Tells people what happens meanwhile; programs are spared.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// Prints why the command failed.
    pub(crate) fn error(&self, error: &Error) {
        if error.is_told() {
            return;
        }
        let mut stderr = io::stderr().lock();
        if self.json {
            let _ = writeln!(stderr, "{}", error.to_json());
            return;
        }
        let _ = writeln!(stderr, "error[{}]: {error}", error.code());
        if let Some(hint) = error.next_step() {
            let _ = writeln!(stderr, "  hint: {hint}");
        }
    }

    /// Colours a word, where colours are wanted.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        let number = match style {
            Style::Good => "32",
            Style::Bad => "31",
            Style::Doubtful => "33",
            Style::Quiet => "2",
            Style::Strong => "1",
        };
        if self.color { format!("\x1b[{number}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Says whether the user has nothing against colours.
pub(crate) fn wants_color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Lays rows out in columns, two spaces apart; the last column is as wide as it likes.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn columns_line_up_and_end_without_spaces() {
        let rows = [vec!["a".into(), "bb".into(), String::new()], vec!["ccc".into(), "d".into(), "e".into()]];
        assert_eq!(columns(&rows), "a    bb\nccc  d   e");
    }
}
