//! Two problems callers could not tell apart.

use sinew::Problem;

#[derive(Debug, Problem)]
enum OrderError {
    #[problem(status = 409)]
    OutOfStock,
    #[problem(status = 410, code = "out-of-stock")]
    SoldOut,
}

fn main() {}
