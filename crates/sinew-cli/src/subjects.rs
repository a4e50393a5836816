//! Patterns of subjects. Pure.

/// Says whether every subject that `pattern` stands for is also one that `cover` stands for.
pub(crate) fn covers(cover: &str, pattern: &str) -> bool {
    let (mut wide, mut narrow) = (cover.split('.'), pattern.split('.'));
    loop {
        match (wide.next(), narrow.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(wide), Some(narrow)) if wide == narrow && narrow != ">" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_is_covered_by_what_is_wider() {
        for (cover, pattern) in [
            ("evt.>", "evt.a.b"),
            ("evt.>", "evt.>"),
            ("evt.*.b", "evt.a.b"),
            (">", "a"),
            ("evt.>", "evt.*"),
            ("a", "a"),
        ] {
            assert!(covers(cover, pattern), "{cover} {pattern}");
        }
        for (cover, pattern) in [
            ("evt.>", "evt"),
            ("evt.*", "evt.>"),
            ("evt.a", "evt.*"),
            ("evt.*", "evt.a.b"),
            ("evt.a.b", "evt.a"),
            ("a", ">"),
        ] {
            assert!(!covers(cover, pattern), "{cover} {pattern}");
        }
    }

    /// Says by the letter whether a subject without wildcards is meant by a pattern.
    fn matches(pattern: &[String], subject: &[String]) -> bool {
        match (pattern.first().map(String::as_str), subject.first()) {
            (None, None) => true,
            (Some(">"), Some(_)) => true,
            (Some(token), Some(own)) => {
                (token == "*" || token == own) && matches(&pattern[1..], &subject[1..])
            }
            _ => false,
        }
    }

    fn pattern() -> impl Strategy<Value = Vec<String>> {
        let tokens = proptest::collection::vec(prop_oneof!["a", "b", Just("*".to_owned())], 1..4);
        (tokens, any::<bool>()).prop_map(|(mut tokens, open)| {
            if open {
                tokens.push(">".to_owned());
            }
            tokens
        })
    }

    proptest! {
        #[test]
        fn whoever_covers_a_pattern_takes_all_it_takes(
            cover in pattern(),
            narrow in pattern(),
            subject in proptest::collection::vec("[abc]", 1..6),
        ) {
            if covers(&cover.join("."), &narrow.join(".")) && matches(&narrow, &subject) {
                prop_assert!(matches(&cover, &subject));
            }
            prop_assert_eq!(covers(&cover.join("."), &subject.join(".")), matches(&cover, &subject));
        }
    }
}
