//! The inventory service as a process of its own: `cargo run -p checkout --bin inventory`.

use checkout::{Ledger, inventory};

#[tokio::main]
async fn main() -> Result<(), sinew::Error> {
    checkout::run(inventory::service(inventory::Inventory::new(Ledger::default()))).await
}
