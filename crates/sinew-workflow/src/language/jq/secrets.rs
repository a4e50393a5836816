//! Where an expression names secrets. The engine never sees their values: each name becomes a placeholder text, which
//! whoever carries the call out replaces last, so that no log, history or error can show a secret.

use jaq_core::load::Lexer;
use jaq_core::load::lex::{StrPart, Tok, Token};
use jaq_core::load::span;

use super::{mentions, size};

/// Opens a placeholder. The character is for private use: no text of any language holds it.
pub(crate) const OPEN: char = '\u{E000}';
/// Closes a placeholder.
pub(crate) const CLOSE: char = '\u{E001}';

/// Why `$secrets` cannot be used as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// Which secret is meant is only known when the expression runs.
    Dynamic,
    /// A part of the name holds a character that a secret's name cannot hold.
    Name(String),
}

/// Says whether an expression may use secrets at all.
pub(crate) fn used(source: &str) -> bool {
    mentions(source, "secrets")
}

/// Writes the placeholder of `$authorization.parameter`.
pub(crate) fn authorization() -> String {
    format!("{OPEN}authorization{CLOSE}")
}

/// Replaces every `$secrets.name.key` by the text that stands for it, and returns the names of the secrets used.
///
/// What is no expression at all stays as it is, for the compiler to report.
pub(crate) fn inline(source: &str) -> Result<(String, Vec<String>), Misuse> {
    // The lexer recurses into brackets, so their depth is bounded before it runs.
    let tokens = match size::check(source).ok().and_then(|()| Lexer::new(source).lex().ok()) {
        Some(tokens) => tokens,
        None => return Ok((source.to_owned(), Vec::new())),
    };
    let mut found = Vec::new();
    find(source, &tokens, &mut found)?;
    let (mut text, mut names, mut end) = (String::with_capacity(source.len()), Vec::new(), 0);
    for Found { from, to, path } in found {
        text.push_str(&source[end..from]);
        text.push_str(&format!("\"{OPEN}secret:{}{CLOSE}\"", path.join(".")));
        names.extend(path.into_iter().next());
        end = to;
    }
    text.push_str(&source[end..]);
    Ok((text, names))
}

/// Finds the placeholders in a text.
pub(crate) fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(OPEN).filter_map(|(at, _)| {
        let end = text[at..].find(CLOSE)?;
        Some(&text[at..at + end + CLOSE.len_utf8()])
    })
}

/// A use of `$secrets`, with where it stands.
struct Found {
    from: usize,
    to: usize,
    path: Vec<String>,
}

fn find(source: &str, tokens: &[Token<&str>], found: &mut Vec<Found>) -> Result<(), Misuse> {
    let mut rest = tokens;
    while let Some((Token(text, token), after)) = rest.split_first() {
        rest = after;
        match token {
            Tok::Var if *text == "$secrets" => {
                let (path, end, after) = path(rest)?;
                let place = span(source, text);
                let to = end.map_or(place.end, |last| span(source, last).end);
                found.push(Found { from: place.start, to, path });
                rest = after;
            }
            Tok::Block(inner) => find(source, inner, found)?,
            Tok::Str(parts) => {
                for part in parts {
                    if let StrPart::Term(term) = part {
                        find(source, std::slice::from_ref(term), found)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

type Path<'t, 's> = (Vec<String>, Option<&'s str>, &'t [Token<&'s str>]);

/// Reads the constant path behind `$secrets`.
fn path<'t, 's>(mut rest: &'t [Token<&'s str>]) -> Result<Path<'t, 's>, Misuse> {
    let (mut path, mut end) = (Vec::new(), None);
    loop {
        let (name, last, after) = match rest {
            [Token(text, Tok::Sym), after @ ..] if text.len() > 1 && is_field(text) => {
                (&text[1..], *text, after)
            }
            [Token(".", Tok::Sym), Token(text, Tok::Str(parts)), after @ ..] => {
                (literal(parts).ok_or(Misuse::Dynamic)?, *text, after)
            }
            [Token(text, Tok::Block(inner)), after @ ..] if text.starts_with('[') => match &inner[..] {
                [Token(_, Tok::Str(parts)), _] => (literal(parts).ok_or(Misuse::Dynamic)?, *text, after),
                _ => return Err(Misuse::Dynamic),
            },
            _ if path.is_empty() => return Err(Misuse::Dynamic),
            _ => return Ok((path, end, rest)),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            return Err(Misuse::Name(name.to_owned()));
        }
        path.push(name.to_owned());
        (end, rest) = (Some(last), after);
    }
}

fn is_field(symbol: &str) -> bool {
    symbol.starts_with('.') && symbol != ".."
}

fn literal<'s>(parts: &[StrPart<&'s str, Token<&'s str>>]) -> Option<&'s str> {
    if let [StrPart::Str(text)] = parts { Some(text) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::language::jq::Expression;

    fn inlined(source: &str) -> String {
        inline(source).unwrap().0.replace(OPEN, "<").replace(CLOSE, ">")
    }

    #[test]
    fn secrets_become_texts_wherever_they_are_named() {
        for (source, text) in [
            ("$secrets.a", "\"<secret:a>\""),
            ("[$secrets.a.b, .c]", "[\"<secret:a.b>\", .c]"),
            ("$secrets[\"a-b\"].c | length", "\"<secret:a-b.c>\" | length"),
            ("$secrets.\"a-b\"", "\"<secret:a-b>\""),
            ("\"x \\($secrets.a) $secrets.b\"", "\"x \\(\"<secret:a>\") $secrets.b\""),
            ("{ x: $secrets.a } # $secrets.b", "{ x: \"<secret:a>\" } # $secrets.b"),
            ("$secretsx.a", "$secretsx.a"),
            ("$secrets.a, $secrets.a", "\"<secret:a>\", \"<secret:a>\""),
        ] {
            assert_eq!(inlined(source), text);
        }
        for source in [
            "$secrets",
            "$secrets[.x]",
            "$secrets.a[.x]",
            "$secrets.a[0]",
            "$secrets as $s | $s.a",
            "$secrets[\"\\(.x)\"]",
            "$secrets.\"\\(.x)\"",
        ] {
            assert_eq!(inline(source), Err(Misuse::Dynamic), "{source}");
        }
        assert_eq!(inline("$secrets[\"a b\"]"), Err(Misuse::Name("a b".to_owned())));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail(source in "[$a-c.\\[\\]\"()\\\\ {}|,:ü]{0,30}|(\\$secrets|\\.a|\\[|\\]|\"|\\\\\\(|\\)| ){0,12}") {
            if let Ok((text, names)) = inline(&source) {
                prop_assert!(!names.is_empty() || text == source);
                // With every use replaced, nothing is left that could name one.
                if let Ok(expression) = Expression::compile(&text, []) {
                    prop_assert_eq!(expression.placeholders().count(), text.matches(OPEN).count());
                }
            }
        }
    }
}
