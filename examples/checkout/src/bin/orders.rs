//! The orders service as a process of its own: `cargo run -p checkout --bin orders`.

use checkout::{Ledger, orders};

#[tokio::main]
async fn main() -> Result<(), sinew::Error> {
    checkout::run(orders::service(orders::Orders::new(Ledger::default()))).await
}
