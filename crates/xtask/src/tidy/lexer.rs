//! Separates the code of a Rust file from its comments and literals, as far as the rules need it. Not a parser.

/// A file split in two texts with the same lines as the original: what is not theirs is blank.
#[derive(Debug, Default)]
pub(crate) struct Split {
    /// Everything but comments and the insides of literals.
    pub(crate) code: String,
    /// The insides of comments.
    pub(crate) comments: String,
}

/// Splits the text of a Rust file.
pub(crate) fn split(text: &str) -> Split {
    let mut lexer = Lexer { rest: text, split: Split::default() };
    while !lexer.rest.is_empty() {
        lexer.step();
    }
    lexer.split
}

/// Tells whether a character can be part of an identifier.
pub(crate) fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

struct Lexer<'a> {
    rest: &'a str,
    split: Split,
}

/// Which of the two texts a piece belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

impl Lexer<'_> {
    fn step(&mut self) {
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.take(end, Kind::Comment);
        } else if self.rest.starts_with("/*") {
            self.take(block_comment(self.rest), Kind::Comment);
        } else if let Some(length) = raw_string(self.rest) {
            self.take(length, Kind::Literal);
        } else if self.rest.starts_with('"') {
            self.take(quoted(self.rest, '"'), Kind::Literal);
        } else if is_char_literal(self.rest) {
            self.take(quoted(self.rest, '\''), Kind::Literal);
        } else {
            // A whole word at once, so that the `r` that ends `var` cannot begin a raw string.
            let word = self.rest.find(|character| !is_word(character)).unwrap_or(self.rest.len());
            let first = self.rest.chars().next().map_or(0, char::len_utf8);
            self.take(word.max(first), Kind::Code);
        }
    }

    fn take(&mut self, length: usize, kind: Kind) {
        let (piece, rest) = self.rest.split_at(length);
        let shown = |is_shown: bool| {
            move |character: char| if is_shown || character == '\n' { character } else { ' ' }
        };
        self.split.code.extend(piece.chars().map(shown(kind == Kind::Code)));
        self.split.comments.extend(piece.chars().map(shown(kind == Kind::Comment)));
        self.rest = rest;
    }
}

/// Returns the length of the (possibly nested) comment the text begins with.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        let (step, change) = match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => (2, 1),
            Some(b"*/") => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth = depth.saturating_add_signed(change);
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Returns the length of the raw string the text begins with, prefix included.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| text.starts_with(prefix))?;
    let after = &text[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inside = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(text.len() - inside.len() + length)
}

/// Returns the length of the literal between two quotes, in which a backslash hides the next character.
fn quoted(text: &str, quote: char) -> usize {
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            end if end == quote => return at + end.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Tells `'a'` and `'\n'` from the lifetime `'a`.
fn is_char_literal(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next() == Some('\'')
        && match characters.next() {
            Some('\\') => true,
            Some(_) => characters.next() == Some('\''),
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, code: &str, comments: &str) {
        let split = split(text);
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            (squeeze(&split.code).as_str(), squeeze(&split.comments).as_str()),
            (code, comments),
            "{text}"
        );
        assert_eq!(split.code.lines().count(), text.lines().count(), "{text}");
    }

    #[test]
    fn comments_and_code_are_told_apart() {
        check("a // b\nc", "a c", "// b");
        check("a /* b /* c */ d\n*/ e", "a e", "/* b /* c */ d */");
        check("a / b * c", "a / b * c", "");
        check("a /* never ends", "a", "/* never ends");
    }

    #[test]
    fn literals_vanish() {
        check(r#"f("// no \" comment", 'x', '"', '\'', b"y", c"z")"#, "f( , , , , b , c )", "");
        check(r###"f(r"\", r#"a"b"#, br##"c"#d"##)"###, "f( , , )", "");
        check("\"two\nlines\" a", "a", "");
    }

    #[test]
    fn lifetimes_and_raw_identifiers_stay() {
        check("fn f<'a>(r#type: &'a str) -> &'static str", "fn f<'a>(r#type: &'a str) -> &'static str", "");
        check("for\"x\" var", "for var", "");
    }
}
