//! A status of success, a code that is none, data that cannot travel, a misspelled key.

use sinew::Problem;

#[derive(Debug, Problem)]
enum OrderError {
    #[problem(status = 200)]
    Fine,
    #[problem(status = 409, code = "OutOfStock")]
    OutOfStock,
    #[problem(status = 400)]
    TooMany(u32),
    #[problem(status = 400)]
    Rejected { title: String },
    #[problem(status = 503, retires)]
    Busy,
}

fn main() {}
