//! URI templates: simple string expansion of RFC 6570, which is all the language has of it.

use serde_json::Value;

use crate::Fault;

/// A part of a URI template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    /// `{name}`: a property of the input.
    Variable(String),
}

/// Finds the variables of a template. Braces that enclose no name are text.
pub(crate) fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut rest, mut literal) = (text, String::new());
    while let Some((before, after)) = rest.split_once('{') {
        literal.push_str(before);
        match after.split_once('}').filter(|(name, _)| is_name(name)) {
            Some((name, after)) => {
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Variable(name.to_owned()));
                rest = after;
            }
            None => {
                literal.push('{');
                rest = after;
            }
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    parts
}

/// Fills a template from the properties of an input; what is absent is left out.
pub(crate) fn expand(parts: &[Part], input: &Value) -> Result<String, Box<Fault>> {
    let mut uri = String::new();
    for part in parts {
        match part {
            Part::Text(text) => uri.push_str(text),
            Part::Variable(name) => match input.get(name) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => escape(text, &mut uri),
                Some(Value::Array(_) | Value::Object(_)) => {
                    let detail =
                        format!("`{{{name}}}` in a URI is a text, number or boolean; write an expression");
                    return Err(Fault::expression(detail).into());
                }
                Some(other) => escape(&other.to_string(), &mut uri),
            },
        }
    }
    Ok(uri)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// Appends a text in which only unreserved characters stand for themselves.
fn escape(text: &str, uri: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn filled(template: &str, input: Value) -> Result<String, u16> {
        expand(&parts(template), &input).map_err(|fault| fault.status)
    }

    #[test]
    fn properties_of_the_input_are_filled_in() {
        let input = json!({ "id": 7, "pet.id": "a b/ü", "gone": null, "yes": true, "list": [] });
        assert_eq!(
            filled("https://x/{id}/{pet.id}?{gone}{absent}{yes}", input.clone()).unwrap(),
            "https://x/7/a%20b%2F%C3%BC?true"
        );
        assert_eq!(filled("a{}b{ id }{id", input.clone()).unwrap(), "a{}b{ id }{id");
        assert_eq!(filled("{list}", input), Err(400));
        assert_eq!(filled("x{id}y", json!("text")).unwrap(), "xy");
    }

    proptest! {
        #[test]
        fn values_cannot_leave_their_place(value in ".*") {
            let uri = filled("https://host/{v}/end", json!({ "v": value })).unwrap();
            let inside = uri.strip_prefix("https://host/").and_then(|rest| rest.strip_suffix("/end")).unwrap();
            prop_assert!(inside.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
        }

        #[test]
        fn text_without_variables_stays(text in "[^{}]*") {
            prop_assert_eq!(filled(&text, json!({})).unwrap(), text);
        }
    }
}
