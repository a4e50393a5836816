//! A contract that lists a type which is no request.

use sinew::contract;

struct PlaceOrder;

contract! { Orders = "orders" @ "1.0.0" { place: PlaceOrder } }

fn main() {}
