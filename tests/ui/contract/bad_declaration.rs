//! A name, a version and operations that cannot be published.

use sinew::contract;

contract! { Orders = "Orders" @ "1.0" { place: PlaceOrder, place: GetOrder, unimplemented: ListOrders } }

contract! { Stock = "stock" { reserve: ReserveStock } }

contract! { Payments = "payments" @ "1.0.0" { pay } }

fn main() {}
