//! Variants that do not say which problem they are.

use sinew::Problem;

#[derive(Debug, Problem)]
enum OrderError {
    #[problem(status = 409)]
    OutOfStock,
    Busy,
    #[problem(code = "closed")]
    Closed,
}

fn main() {}
