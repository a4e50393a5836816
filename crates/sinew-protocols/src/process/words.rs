//! Splits a command into words as a shell does, and refuses what only a shell could do.

/// Returns the words of a command; none if it takes a shell to run it.
pub(super) fn split(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = command.trim().chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => word.get_or_insert_default().push_str(&single_quoted(&mut rest)?),
            '"' => word.get_or_insert_default().push_str(&double_quoted(&mut rest)?),
            '\\' => word.get_or_insert_default().push(rest.next().filter(|&c| c != '\n')?),
            c if is_special(c) => return None,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    // What begins with an assignment sets a variable instead of naming a command.
    words.first().filter(|first| !first.contains('='))?;
    Some(words)
}

fn single_quoted(rest: &mut std::str::Chars<'_>) -> Option<String> {
    let (quoted, after) = rest.as_str().split_once('\'')?;
    *rest = after.chars();
    Some(quoted.to_owned())
}

fn double_quoted(rest: &mut std::str::Chars<'_>) -> Option<String> {
    let mut quoted = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(quoted),
            '$' | '`' => return None,
            '\\' => match rest.next()? {
                c @ ('"' | '\\' | '$' | '`') => quoted.push(c),
                c => quoted.extend(['\\', c]),
            },
            c => quoted.push(c),
        }
    }
}

fn is_special(c: char) -> bool {
    matches!(
        c,
        ';' | '|'
            | '&'
            | '<'
            | '>'
            | '$'
            | '`'
            | '('
            | ')'
            | '{'
            | '}'
            | '['
            | ']'
            | '*'
            | '?'
            | '~'
            | '#'
            | '!'
            | '\n'
            | '\r'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_split_and_quotes_keep_them_together() {
        assert_eq!(split(" echo  hello ").unwrap(), ["echo", "hello"]);
        assert_eq!(split(r#"echo 'a  b' "c;d" e\ f ''"#).unwrap(), ["echo", "a  b", "c;d", "e f", ""]);
    }

    #[test]
    fn what_takes_a_shell_is_told_apart() {
        for command in [
            "",
            "a; b",
            "a | b",
            "a && b",
            "echo $HOME",
            "echo \"$HOME\"",
            "a\nb",
            "ls *",
            "'open",
            "X=1 a",
            "a > b",
            "a `b`",
        ] {
            assert_eq!(split(command), None, "{command}");
        }
    }

    proptest! {
        #[test]
        fn quoting_a_word_keeps_it(word in "[^']{0,20}") {
            prop_assert_eq!(split(&format!("run '{word}'")), Some(vec!["run".to_owned(), word]));
        }

        #[test]
        fn any_text_is_split_or_refused(command in ".{0,40}") {
            let _ = split(&command);
        }
    }
}
