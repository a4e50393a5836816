//! JSON given as an argument: written out, `@FILE`, or `-` for standard input. Errors point at the place.

use std::{io::Read, path::Path};

use serde_json::Value;

use crate::error::{Error, Kind, code};

/// Reads the argument and parses it.
pub(crate) fn read(argument: &str) -> Result<Value, Error> {
    let (text, name) = match argument.strip_prefix('@') {
        Some(path) => (file(Path::new(path))?, path),
        None if argument == "-" => (standard_input()?, "standard input"),
        None => (argument.to_owned(), "the argument"),
    };
    serde_json::from_str(&text).map_err(|error| malformed(&text, name, &error))
}

/// Reads the text of a file, or of standard input for `-`, with the name that findings call it by.
pub(crate) fn text(path: &Path) -> Result<(String, String), Error> {
    if path == Path::new("-") {
        return Ok((standard_input()?, "standard input".to_owned()));
    }
    Ok((file(path)?, path.display().to_string()))
}

fn file(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::unreadable(path, &error))
}

fn standard_input() -> Result<String, Error> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map(|_| text)
        .map_err(|error| Error::failed(code::FILE, format!("cannot read standard input: {error}")))
}

fn malformed(text: &str, name: &str, error: &serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    let reason = error.to_string();
    let reason = reason.split(" at line").next().unwrap_or_default();
    let message = format!("{name} is not JSON: {reason} at line {line}, column {column}");
    let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let hint = format!("look here:\n    {shown}\n    {}^", " ".repeat(column.saturating_sub(1)));
    Error::new(Kind::Usage, code::JSON, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_mistake_is_pointed_at() {
        let error = read(r#"{"name": Ada}"#).unwrap_err();
        assert!(error.to_string().ends_with("at line 1, column 10"), "{error}");
        assert!(error.next_step().unwrap().ends_with("\n             ^"), "{:?}", error.next_step());
        assert_eq!(read("[1]").unwrap(), serde_json::json!([1]));
    }
}
