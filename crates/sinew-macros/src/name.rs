//! Names: of services and operations, and the spellings derived from a type's name.

use syn::LitStr;

/// The two tokens of a subject: `<service>.<operation>` or `<domain>.<event>`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Subject {
    pub(crate) first: String,
    pub(crate) second: String,
}

const ALPHABET: &str = "lower case letters, digits, '-' and '_', starting with a letter, at most 48 of them";

/// Reads a subject whose tokens are called `what`, for example `["service", "operation"]`.
pub(crate) fn subject(literal: &LitStr, what: [&str; 2]) -> syn::Result<Subject> {
    let text = literal.value();
    let refuse = |message: String| Err(syn::Error::new(literal.span(), message));
    for prefix in ["svc.", "evt."] {
        if let Some(rest) = text.strip_prefix(prefix).filter(|rest| rest.contains('.')) {
            return refuse(format!("leave the prefix `{prefix}` out, it is added: write {rest:?}"));
        }
    }
    let Some((first, second)) = text.split_once('.').filter(|(_, second)| !second.contains('.')) else {
        return refuse(format!(
            "{text:?} is no subject: write \"{}.{}\", two names and a dot",
            what[0], what[1]
        ));
    };
    for (name, what) in [first, second].into_iter().zip(what) {
        if !is_name(name) {
            return refuse(format!("{name:?} is no {what} name: use {ALPHABET}"));
        }
    }
    Ok(Subject { first: first.to_owned(), second: second.to_owned() })
}

/// Checks the name of a service.
pub(crate) fn service(literal: &LitStr) -> syn::Result<()> {
    let text = literal.value();
    if is_name(&text) {
        return Ok(());
    }
    Err(syn::Error::new(literal.span(), format!("{text:?} is no service name: use {ALPHABET}")))
}

/// Says whether `text` is lower case words joined by single hyphens.
pub(crate) fn is_kebab(text: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.split('-').all(|word| !word.is_empty() && word.bytes().all(lower))
}

/// Splits the name of a type or variant into lower case words: `HttpError2` is `http error2`.
pub(crate) fn words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.trim_start_matches("r#").chars().collect();
    let mut words = vec![String::new()];
    for (at, &letter) in letters.iter().enumerate() {
        let after_lower = at > 0 && !letters[at - 1].is_uppercase();
        let before_lower = letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        let starts = letter == '_' || (letter.is_uppercase() && (after_lower || before_lower));
        if starts && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter != '_') {
            word.extend(letter.to_lowercase());
        }
    }
    words
}

/// Says whether `text` is a semantic version: `major.minor.patch`, then perhaps `-pre.release` and `+build`.
pub(crate) fn is_semantic_version(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, release) = text.split_once('-').map_or((text, None), |(core, release)| (core, Some(release)));
    let number = |part: &str| is_number(part) && (part == "0" || !part.starts_with('0'));
    let identifier = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    core.split('.').count() == 3
        && core.split('.').all(number)
        && release.is_none_or(|text| {
            text.split('.').all(|part| identifier(part) && (!is_number(part) || number(part)))
        })
        && build.is_none_or(|text| text.split('.').all(identifier))
}

fn is_name(text: &str) -> bool {
    let tail = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    text.len() <= 48 && text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(tail)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proc_macro2::Span;

    use super::*;

    fn read(text: &str) -> Result<Subject, String> {
        let literal = LitStr::new(text, Span::call_site());
        subject(&literal, ["service", "operation"]).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn a_subject_is_two_names() {
        let expected = Subject { first: "order-desk".into(), second: "place_2".into() };
        assert_eq!(read("order-desk.place_2"), Ok(expected));
        for bad in
            ["", "orders", "orders.", ".place", "Orders.place", "orders.place.now", "orders.9", "a b.c"]
        {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read(&format!("{}.place", "a".repeat(49))).is_err());
        assert!(read(&format!("{}.place", "a".repeat(48))).is_ok());
        assert!(read("svc.orders.place").unwrap_err().contains("write \"orders.place\""));
        assert!(read("svc.place").is_ok(), "a service may be called svc");
    }

    #[test]
    fn words_keep_abbreviations_together() {
        for (name, expected) in [
            ("OutOfStock", "out of stock"),
            ("HTTPError", "http error"),
            ("V2", "v2"),
            ("Sku12Missing", "sku12 missing"),
            ("r#Move", "move"),
            ("Snake_Case", "snake case"),
        ] {
            assert_eq!(words(name).join(" "), expected);
        }
    }

    #[test]
    fn a_code_is_kebab_case() {
        for good in ["busy", "out-of-stock", "v2", "no-v2-3"] {
            assert!(is_kebab(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "A", "a_b", "2a", "ä"] {
            assert!(!is_kebab(bad), "{bad}");
        }
    }

    #[test]
    fn versions_are_semantic() {
        for good in ["1.2.0", "0.0.0", "10.20.30", "1.0.0-rc.1", "1.0.0-0a+build.007", "1.0.0+x-y"] {
            assert!(is_semantic_version(good), "{good}");
        }
        for bad in
            ["", "1", "1.2", "1.2.3.4", "v1.2.3", "01.2.3", "1.2.x", "1.2.3-", "1.2.3-01", "1.2.3+", "1..2"]
        {
            assert!(!is_semantic_version(bad), "{bad}");
        }
    }
}
