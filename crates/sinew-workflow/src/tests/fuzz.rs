//! Damaged input: parsing, planning and running it never panics, never overflows the stack, and never takes long.
//!
//! Each target says what an input made the crate do: which findings, which kinds of tasks, how deep. What shows something
//! new stays among the seeds, so that the next damage goes on from there. The generator is seeded, so that a failure can
//! be repeated. Each runs for a second, or for `SINEW_FUZZ_SECONDS`. An overflow of the stack leaves no message: with
//! `SINEW_FUZZ_KEEP=<file>` the input is written there before it is tried.

mod documents;
mod expressions;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one input may take, in an unoptimized build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most seeds.
const MAX_SEEDS: usize = 2_000;
/// The longest input that becomes a seed, in characters.
const MAX_SEED: usize = 20_000;

/// What an input made the crate do, in words that are few.
type Traits = Vec<String>;

/// Damages seeds until the time is over.
fn fuzz(seeds: Vec<String>, tokens: &[&str], attempt: impl Fn(&str) -> Traits) {
    let seconds = std::env::var("SINEW_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let keep = std::env::var_os("SINEW_FUZZ_KEEP");
    let mut known: HashSet<String> = seeds.iter().flat_map(|seed| attempt(seed)).collect();
    let (given, mut seeds) = (seeds.len(), seeds);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0_u64;
    while Instant::now() < until {
        rounds += 1;
        let mut random = Random(rounds.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // What was found last has been damaged least.
        let newest = seeds.len().saturating_sub(50);
        let from = if random.below(2) == 0 {
            newest + random.below(seeds.len() - newest)
        } else {
            random.below(seeds.len())
        };
        let source = damage(&seeds[from], &seeds, tokens, &mut random);
        if let Some(file) = &keep {
            fs::write(file, &source).unwrap();
        }
        let started = Instant::now();
        let traits = attempt(&source);
        assert!(started.elapsed() < PATIENCE, "round {rounds} took {:?}:\n{source}", started.elapsed());
        let before = known.len();
        known.extend(traits);
        if known.len() > before && seeds.len() < MAX_SEEDS && source.chars().count() <= MAX_SEED {
            seeds.push(source);
        }
    }
    println!("{rounds} rounds, {} seeds from {given}, {} traits", seeds.len(), known.len());
    assert!(rounds > 0 && known.len() > 10, "the targets say what they do");
}

/// Reads the seeds below a folder of the corpus.
fn corpus(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
    let mut seeds: Vec<String> =
        fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    seeds.sort();
    seeds
}

/// Changes an input in a few places.
fn damage(source: &str, seeds: &[String], tokens: &[&str], random: &mut Random) -> String {
    let mut text: Vec<char> = source.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        let end = (at + random.below(20)).min(text.len());
        match random.below(7) {
            0 => drop(text.drain(at..end)),
            1 => drop(text.splice(at..at, tokens[random.below(tokens.len())].chars())),
            2 => drop(text.splice(at..end, tokens[random.below(tokens.len())].chars())),
            3 => {
                let piece: Vec<char> =
                    text[at..end].iter().copied().cycle().take(random.below(2_000)).collect();
                text.splice(at..at, piece);
            }
            4 => {
                let other: Vec<char> = seeds[random.below(seeds.len())].chars().collect();
                let from = random.below(other.len() + 1);
                text.truncate(at);
                text.extend(&other[from..]);
            }
            5 => {
                let other: Vec<char> = seeds[random.below(seeds.len())].chars().collect();
                let from = random.below(other.len() + 1);
                let to = (from + random.below(200)).min(other.len());
                text.splice(at..end, other[from..to].iter().copied());
            }
            _ => text.truncate(end),
        }
    }
    text.into_iter().collect()
}

/// Leaves of a message what does not depend on the input.
fn outline(message: &str) -> String {
    let mut quoted = false;
    message
        .chars()
        .filter(|c| {
            quoted ^= *c == '`';
            !quoted && !c.is_ascii_digit()
        })
        .take(60)
        .collect()
}

/// Puts a number into one of few classes.
fn class(number: usize) -> u32 {
    usize::BITS - number.leading_zeros()
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
