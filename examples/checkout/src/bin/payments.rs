//! The payments service as a process of its own: `cargo run -p checkout --bin payments`.

use checkout::{Ledger, payments};

#[tokio::main]
async fn main() -> Result<(), sinew::Error> {
    checkout::run(payments::service(payments::Payments::new(Ledger::default()))).await
}
