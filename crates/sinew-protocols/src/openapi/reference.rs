//! References within a document: `$ref: '#/…'`.

use serde_json::Value;

/// How many references are followed, so that a circle ends.
const DEPTH: usize = 32;

/// Returns what a value refers to, or the value itself. References that lead nowhere stay what they are.
pub(crate) fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let mut value = value;
    for _ in 0..DEPTH {
        let target =
            value.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        match target.and_then(|pointer| document.pointer(pointer)) {
            Some(target) => value = target,
            None => break,
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_followed_and_circles_end() {
        let document = json!({ "a": { "$ref": "#/b~1c" }, "b/c": { "x": 1 }, "o": { "$ref": "#/o" }, "n": { "$ref": "#/no" } });
        assert_eq!(resolved(&document, &document["a"]), &json!({ "x": 1 }));
        assert_eq!(resolved(&document, &document["o"]), &document["o"]);
        assert_eq!(resolved(&document, &document["n"]), &document["n"]);
    }
}
