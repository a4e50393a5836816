//! An error nobody could print.

use sinew::Problem;

#[derive(Problem)]
enum OrderError {
    #[problem(status = 409)]
    OutOfStock,
}

fn main() {}
