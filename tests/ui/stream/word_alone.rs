//! The word without a type, and another word.

use sinew::contract;

contract! { Reports = "reports" @ "1.0.0" { rows: stream, lines: stream Lines } }

contract! { Orders = "orders" @ "1.0.0" { place: many PlaceOrder } }

fn main() {}
