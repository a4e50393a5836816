//! The shipping service as a process of its own: `cargo run -p checkout --bin shipping`.

use checkout::{Ledger, shipping};

#[tokio::main]
async fn main() -> Result<(), sinew::Error> {
    checkout::run(shipping::service(shipping::Shipping::new(Ledger::default()))).await
}
