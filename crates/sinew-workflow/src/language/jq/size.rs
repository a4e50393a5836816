//! Refuses expressions that nest so deep, or chain so many operators, that parsing or running them could exhaust the
//! stack. Brackets nest, and jq chains operators by nesting too.

/// The longest expression, in bytes.
const MAX_BYTES: usize = 16 << 10;
/// The deepest nesting of brackets and operators. A stack of 2 MiB holds about twice as many in an unoptimized build.
const MAX_DEPTH: usize = 100;
/// The words that nest what follows them.
const WORDS: &[&str] =
    &["and", "or", "as", "if", "elif", "else", "try", "catch", "reduce", "foreach", "label", "def"];

pub(super) fn check(source: &str) -> Result<(), String> {
    if source.len() > MAX_BYTES {
        return Err(format!("an expression is at most {MAX_BYTES} bytes long"));
    }
    if deepest(source) > MAX_DEPTH {
        return Err(format!(
            "an expression nests or chains at most {MAX_DEPTH} brackets and operators; split it"
        ));
    }
    Ok(())
}

/// A bracket or text that is open, and how many operators were chained in it so far.
struct Level {
    open: u8,
    chained: usize,
    /// How many were, where each definition began that is not over yet.
    definitions: Vec<usize>,
}

impl Level {
    const fn new(open: u8) -> Self {
        Self { open, chained: 0, definitions: Vec::new() }
    }
}

/// Estimates how deep the tree of an expression is, from above.
fn deepest(source: &str) -> usize {
    let mut levels = vec![Level::new(b'(')];
    let (mut depth, mut deepest, mut after_definition) = (0, 0, false);
    let mut rest = source.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let in_text = levels.last().is_some_and(|level| level.open == b'"');
        match byte {
            b'\\' if in_text => {
                let interpolated = rest.first() == Some(&b'(');
                rest = rest.get(1..).unwrap_or_default();
                if interpolated {
                    levels.push(Level::new(b'('));
                    depth += 1;
                }
            }
            b'"' if in_text => close(&mut levels, &mut depth),
            _ if in_text => {}
            b'"' | b'(' | b'[' | b'{' => {
                levels.push(Level::new(*byte));
                depth += 1;
            }
            b')' | b']' | b'}' => close(&mut levels, &mut depth),
            b';' => after_definition = end(&mut levels, &mut depth),
            b',' if levels.last().is_some_and(|level| level.open == b'{') => forget(&mut levels, &mut depth),
            b'|' | b',' | b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' => {
                chain(&mut levels, &mut depth)
            }
            b'a'..=b'z' => {
                let length =
                    rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
                let word = &source[source.len() - rest.len() - 1..source.len() - rest.len() + length];
                rest = &rest[length..];
                if word == "def" {
                    define(&mut levels, &mut depth, after_definition);
                } else if WORDS.contains(&word) {
                    chain(&mut levels, &mut depth);
                }
            }
            _ => {}
        }
        after_definition &= matches!(byte, b';' | b' ' | b'\t' | b'\r' | b'\n');
        deepest = deepest.max(depth);
    }
    deepest
}

fn chain(levels: &mut [Level], depth: &mut usize) {
    if let Some(level) = levels.last_mut() {
        level.chained += 1;
        *depth += 1;
    }
}

/// Begins a definition. What stands behind it is inside it; but definitions in a row are a list.
fn define(levels: &mut [Level], depth: &mut usize, after_definition: bool) {
    if !after_definition {
        chain(levels, depth);
    }
    if let Some(level) = levels.last_mut() {
        level.definitions.push(level.chained);
    }
}

/// Ends a definition, which it says, or an argument: those stand side by side.
fn end(levels: &mut [Level], depth: &mut usize) -> bool {
    let began = levels.last_mut().and_then(|level| level.definitions.pop());
    match (began, levels.last_mut()) {
        (Some(began), Some(level)) => {
            *depth -= level.chained - began;
            level.chained = began;
        }
        _ => forget(levels, depth),
    }
    began.is_some()
}

fn forget(levels: &mut [Level], depth: &mut usize) {
    if let Some(level) = levels.last_mut() {
        level.definitions.clear();
        *depth -= std::mem::take(&mut level.chained);
    }
}

fn close(levels: &mut Vec<Level>, depth: &mut usize) {
    // The outermost level stays: closing what was never open is for the parser to report.
    if levels.len() > 1 {
        forget(levels, depth);
        levels.pop();
        *depth -= 1;
    }
}
