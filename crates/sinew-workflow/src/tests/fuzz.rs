//! Documents that were damaged at random: parsing, planning and starting them never panics and never takes long.
//!
//! The corpus are the workflows of our features and the official examples; the generator is seeded, so that a failure
//! can be repeated. It runs for a second, or for `SINEW_FUZZ_SECONDS`.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{features, shared};
use crate::{Definition, Input, State, Timestamp, run};

/// How long one document may take, in an unoptimized build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is put in: words of the languages and what is likely to hurt.
const TOKENS: &[&str] = &[
    "${ ",
    " }",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "\n",
    "&a ",
    "*a ",
    "!!str ",
    "|\n",
    ">\n",
    "? ",
    "\0",
    "\t",
    "\u{feff}",
    "é",
    "do:",
    "try:",
    "catch:",
    "for:",
    "fork:",
    "then: ",
    "compensate: ",
    "pivot: true",
    "switch:",
    "wait: PT1S",
    "call: a.b",
    "run:",
    "listen:",
    "99999999999999999999",
    "-1",
    "1e999",
    ".5",
    "true",
    "null",
    "~",
    "$context",
    "$input",
    "reduce .[] as $x (0; ",
    "def f: f; f",
    "range(1e9)",
    "..",
    ".[]",
    " | ",
    " as $x | ",
    "\"\\(",
    "\\u0000",
    "((((((((",
    "[[[[[[[[[[",
    "P1Y",
    "PT",
    "end",
    "exit",
    "continue",
    "\"$ref\": \"#\"",
];

#[test]
fn damaged_documents_are_refused_or_run() {
    let seconds = std::env::var("SINEW_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let corpus = corpus();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0_u64;
    while Instant::now() < until {
        rounds += 1;
        let mut random = Random(rounds.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let source = damage(&corpus[random.below(corpus.len())], &corpus, &mut random);
        let started = Instant::now();
        attempt(&source);
        assert!(started.elapsed() < PATIENCE, "round {rounds} took {:?}:\n{source}", started.elapsed());
    }
    println!("{rounds} documents");
    assert!(rounds > 0);
}

fn attempt(source: &str) {
    let Ok(definition) = Definition::parse(source, "fuzz.yaml") else { return };
    let start =
        Input::Start { id: "i".to_owned(), input: json!({}), at: Timestamp::from_millis(0), trace: None };
    let mut state = State::default();
    // What cannot run is refused here; what can runs up to the first thing it waits for.
    drop(run(&definition, &mut state, start));
}

fn corpus() -> Vec<String> {
    let mut corpus: Vec<String> = features::workflows().into_iter().map(|(_, source, _)| source).collect();
    if let Some(folder) = shared("open-workflow/examples") {
        corpus.extend(
            fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap()),
        );
    }
    corpus.sort();
    corpus
}

/// Changes a document in a few places.
fn damage(source: &str, corpus: &[String], random: &mut Random) -> String {
    let mut text: Vec<char> = source.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        let end = (at + random.below(20)).min(text.len());
        match random.below(6) {
            0 => drop(text.drain(at..end)),
            1 => drop(text.splice(at..at, TOKENS[random.below(TOKENS.len())].chars())),
            2 => drop(text.splice(at..end, TOKENS[random.below(TOKENS.len())].chars())),
            3 => {
                let piece: Vec<char> =
                    text[at..end].iter().copied().cycle().take(random.below(2_000)).collect();
                text.splice(at..at, piece);
            }
            4 => {
                let other: Vec<char> = corpus[random.below(corpus.len())].chars().collect();
                let from = random.below(other.len() + 1);
                text.truncate(at);
                text.extend(&other[from..]);
            }
            _ => text.truncate(end),
        }
    }
    text.into_iter().collect()
}

/// A generator of numbers that repeats itself for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}
