//! Transparent variants that hold something else than a problem, and one too many of them.

use sinew::Problem;

#[derive(Debug, Problem)]
enum OrderError {
    #[problem(transparent)]
    Other(String),
}

#[derive(Debug, Problem)]
enum StockError {
    #[problem(transparent)]
    One(sinew::Problem),
    #[problem(transparent)]
    Two(sinew::Problem),
    #[problem(transparent)]
    Empty,
}

fn main() {}
