//! Refuses expressions that nest so deep, or chain so many operators, that parsing or running them could exhaust the
//! stack. Brackets nest, and jq chains operators by nesting too.

/// The longest expression, in bytes.
const MAX_BYTES: usize = 16 << 10;
/// The deepest nesting of brackets and operators. A stack of 2 MiB holds about twice as many in an unoptimized build.
const MAX_DEPTH: usize = 100;
/// The words that nest what follows them.
const WORDS: &[&str] =
    &["and", "or", "as", "if", "elif", "else", "try", "catch", "reduce", "foreach", "label"];

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
}

/// Estimates how deep the tree of an expression is, from above.
fn deepest(source: &str) -> usize {
    let mut levels = vec![Level { open: b'(', chained: 0 }];
    let (mut depth, mut deepest) = (0, 0);
    let mut rest = source.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let in_text = levels.last().is_some_and(|level| level.open == b'"');
        match byte {
            b'\\' if in_text => {
                let interpolated = rest.first() == Some(&b'(');
                rest = rest.get(1..).unwrap_or_default();
                if interpolated {
                    levels.push(Level { open: b'(', chained: 0 });
                    depth += 1;
                }
            }
            b'"' if in_text => close(&mut levels, &mut depth),
            _ if in_text => {}
            b'"' | b'(' | b'[' | b'{' => {
                levels.push(Level { open: *byte, chained: 0 });
                depth += 1;
            }
            b')' | b']' | b'}' => close(&mut levels, &mut depth),
            // Arguments and the entries of an object stand side by side.
            b';' => forget(&mut levels, &mut depth),
            b',' if levels.last().is_some_and(|level| level.open == b'{') => forget(&mut levels, &mut depth),
            b'|' | b',' | b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' => {
                chain(&mut levels, &mut depth)
            }
            b'a'..=b'z' => {
                let length =
                    rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
                let word = &source[source.len() - rest.len() - 1..source.len() - rest.len() + length];
                rest = &rest[length..];
                if WORDS.contains(&word) {
                    chain(&mut levels, &mut depth);
                }
            }
            _ => {}
        }
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

fn forget(levels: &mut [Level], depth: &mut usize) {
    if let Some(level) = levels.last_mut() {
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
