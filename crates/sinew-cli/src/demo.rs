//! The demo: a complete system in one process, and a customer who places four orders over real HTTP.
//!
//! One order succeeds. One is refused by its bank, one is shipped by a carrier that answers too late: both are undone.
//! One meets an inventory that is away for two seconds, and succeeds all the same.

mod client;
mod script;
mod stage;
mod timeline;

use std::time::Duration;

use serde_json::{Value, json};

use self::{
    client::Client,
    script::{ORDERS, Order},
    stage::Stage,
    timeline::Told,
};
use crate::{
    error::{Error, code},
    roles,
    session::Session,
};

/// How long the inventory stays away before the last order.
const ABSENCE: Duration = Duration::from_secs(2);

/// Plays the demo. With `once` it ends after the orders; otherwise it stays up until it is asked to stop.
pub(crate) async fn run(session: &Session, once: bool) -> Result<(), Error> {
    let mut stage = Stage::default();
    let played = tokio::select! {
        played = play(&mut stage, session, once) => played,
        () = sinew::shutdown::requested() => interrupted(once),
    };
    session.output.note("draining");
    stage.close().await;
    played
}

async fn play(stage: &mut Stage, session: &Session, once: bool) -> Result<(), Error> {
    stage.open(session).await?;
    let client = Client::new(stage.address());
    client.wait_until_ready().await?;
    session.output.part(&timeline::opening(stage, client.base()));
    let mut told: Vec<Told> = Vec::new();
    let mut first_saga_ms = None;
    for order in &ORDERS {
        let one = place(stage, session, &client, order).await?;
        if first_saga_ms.is_none() && one.outcome() == "completed" {
            first_saga_ms = Some(session.began.elapsed().as_millis());
        }
        session.output.part(&one.to_text(&session.output));
        told.push(one);
    }
    let summary = json!({
        "orders": told.iter().map(Told::to_json).collect::<Vec<Value>>(),
        "broker": stage.broker(),
        "first_saga_ms": first_saga_ms,
    });
    session.output.show(&summary, |_| timeline::closing(stage, session, client.base(), &told, once));
    if !once {
        let exit = stage.roles.broker_lost().await;
        return Err(roles::broker_lost(&exit));
    }
    unexpected(&told)
}

/// Places one order and waits until its saga has ended.
async fn place(
    stage: &mut Stage,
    session: &Session,
    client: &Client,
    order: &'static Order,
) -> Result<Told, Error> {
    let id = format!("demo-{}", short_id());
    let request = order.request(&id);
    if !order.inventory_away {
        return Told::new(order, id, client, client.post("/orders", &request).await?).await;
    }
    stage.drain_inventory().await;
    let back = async {
        tokio::time::sleep(ABSENCE).await;
        stage.start_inventory(session).await
    };
    // The order is placed while nobody serves `inventory.reserve`: the workflow's retry policy carries it through.
    let (answer, back) = tokio::join!(client.post("/orders", &request), back);
    back?;
    Told::new(order, id, client, answer?).await
}

/// Whoever wanted all four orders did not get them; whoever was looking around has seen enough.
fn interrupted(once: bool) -> Result<(), Error> {
    if once { Err(Error::failed(code::DEMO, "the demo was interrupted")) } else { Ok(()) }
}

fn unexpected(told: &[Told]) -> Result<(), Error> {
    let wrong: Vec<String> = told.iter().filter_map(Told::surprise).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let error = Error::failed(code::DEMO, format!("the demo did not end as expected: {}", wrong.join("; ")));
    Err(error.hint("run it again with RUST_LOG=info and read the timeline"))
}

/// Orders of several runs may meet on one bus, so each gets an id of its own.
fn short_id() -> String {
    let id = sinew::new_id();
    id[id.len().saturating_sub(10)..].to_owned()
}
