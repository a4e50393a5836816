//! Subjects and patterns: `*` stands for one token, `>` for all that follow. Pure.

/// Says whether `pattern` takes `subject`.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let (mut patterns, mut tokens) = (pattern.split('.'), subject.split('.'));
    loop {
        match (patterns.next(), tokens.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
}

/// Says whether some subject is taken by both patterns.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    loop {
        match (ones.next(), others.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_stand_for_tokens() {
        for (pattern, subject, taken) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*", "a.b", false),
            ("a.b", "a.bc", false),
        ] {
            assert_eq!(matches(pattern, subject), taken, "{pattern} {subject}");
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        let token = prop_oneof![Just("a"), Just("b"), Just("*")];
        (proptest::collection::vec(token, 1..4), any::<bool>())
            .prop_map(|(tokens, open)| format!("{}{}", tokens.join("."), if open { ".>" } else { "" }))
    }

    proptest! {
        #[test]
        fn two_patterns_that_take_the_same_subject_overlap(one in pattern(), other in pattern(), subject in "[ab](\\.[ab]){0,4}") {
            prop_assert_eq!(overlap(&one, &other), overlap(&other, &one));
            if matches(&one, &subject) && matches(&other, &subject) {
                prop_assert!(overlap(&one, &other));
            }
        }
    }
}
