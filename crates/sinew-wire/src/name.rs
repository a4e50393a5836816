//! Names parsed once at the border: services, operations, workflow instances.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Names a service: the second token of its subjects and its queue group.
///
/// Lower case ASCII letters, digits, `-` and `_`, starting with a letter, at most 48 characters: with an operation
/// behind it, it still fits the 64 characters a tool name may have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

/// Names an operation of a service: the last token of its subject. Same alphabet as [`ServiceName`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OperationName(String);

/// Identifies one run of a workflow; one subject token, chosen by the starter or generated.
///
/// ASCII letters, digits, `-` and `_`, at most 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(String);

/// Says why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: use {allowed}")]
pub struct InvalidName {
    text: String,
    what: &'static str,
    allowed: &'static str,
}

const LOWER: &str = "1 to 48 lower case letters, digits, '-' or '_', starting with a letter";
const TOKEN: &str = "1 to 128 letters, digits, '-' or '_'";

fn lower(text: &str) -> bool {
    let tail = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    text.len() <= 48 && text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(tail)
}

fn token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

macro_rules! name {
    ($name:ident, $what:literal, $accepts:ident, $allowed:ident) => {
        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                if $accepts(&text) {
                    Ok(Self(text))
                } else {
                    // Long input is cut so that an error never echoes a megabyte.
                    let text = text.chars().take(80).collect();
                    Err(InvalidName { text, what: $what, allowed: $allowed })
                }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(ServiceName, "a service name", lower, LOWER);
name!(OperationName, "an operation name", lower, LOWER);
name!(InstanceId, "an instance id", token, TOKEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_plain_names_and_refuses_what_would_break_a_subject() {
        assert!("orders".parse::<ServiceName>().is_ok());
        for bad in ["", "Orders", "9lives", "a.b", "a b", "a*", "ä", &"a".repeat(49)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
        assert!("9A-b_c".parse::<InstanceId>().is_ok());
        assert!("a.b".parse::<InstanceId>().is_err());
    }

    #[test]
    fn a_name_that_came_by_wire_is_checked_too() {
        assert!(serde_json::from_str::<ServiceName>("\"svc.>\"").is_err());
    }
}
