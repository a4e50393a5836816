//! Events over time: an order that is not paid is reminded of, a mail server that is down is waited for over a day, and
//! what cannot be mailed is kept.
//!
//! ```sh
//! sinew dev                                     # first terminal: a broker and every role of Sinew
//! cargo run -p reminders                        # second terminal: this service
//! sinew publish shop.order-placed '{"order":"o-1","email":"ada@example.org"}'    # third: a reminder in ten seconds
//! sinew publish shop.order-placed '{"order":"o-2","email":"nobody"}'             # ends as a dead letter
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Batch, Config, Ctx, Event, Outcomes, Problem, Retry, Service, schedule::Recurrence};

/// Somebody ordered.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shop.order-placed")]
struct OrderPlaced {
    order: String,
    email: String,
}

/// An order has waited long enough for its money.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shop.reminder-due")]
struct ReminderDue {
    order: String,
    email: String,
}

/// A minute has passed.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shop.minute-passed")]
struct MinutePassed {}

#[derive(Debug, Problem)]
enum MailError {
    /// the mail server does not answer
    #[problem(status = 503, code = "mail-down", retry)]
    Down,
    /// this is no address
    #[problem(status = 422, code = "no-address")]
    NoAddress,
}

/// Sets the reminder: under the order's id there is one, however often the event is delivered.
async fn watch(event: OrderPlaced, ctx: Ctx) -> Result<(), Problem> {
    let OrderPlaced { order, email } = event;
    let reminder = ReminderDue { order: order.clone(), email };
    let scheduled = ctx.publish(reminder).id(order).after(Duration::from_secs(10)).await;
    scheduled.map(|_| ()).map_err(|error| error.to_problem())
}

/// Mails. The error decides: one is tried again for a day, the other makes a dead letter at once.
async fn remind(event: ReminderDue, ctx: Ctx) -> Result<(), MailError> {
    if !event.email.contains('@') {
        return Err(MailError::NoAddress);
    }
    if ctx.attempt() == 1 {
        return Err(MailError::Down);
    }
    println!("dear {}, order {} is not paid (attempt {})", event.email, event.order, ctx.attempt());
    Ok(())
}

/// Files orders, many at once; one that is no order does not stop the others.
async fn file(batch: Batch<OrderPlaced>) -> Outcomes {
    let mut outcomes = batch.outcomes();
    for item in &batch {
        if item.event.order.is_empty() {
            outcomes.fail(item, Problem::new(422, "no-order", "an order without an id"));
        }
    }
    println!("filed {} orders", batch.len());
    outcomes
}

async fn look(_: MinutePassed) -> Result<(), Problem> {
    println!("another minute");
    Ok(())
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "says to whoever started it what to do next")]
async fn main() -> Result<(), sinew::Error> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    // A second, two, four, … up to six hours: about a day in all, waited for at the server.
    let patient = Retry::exponential(Duration::from_secs(1), Duration::from_secs(6 * 3600)).attempts(18);
    let order = r#"{"order":"o-1","email":"ada@example.org"}"#;
    eprintln!("connecting to {url}; then try: sinew publish shop.order-placed '{order}'");
    Service::new("reminders", ())
        .on("watcher", watch, |group| group)
        .on("mailer", remind, |group| group.concurrency(4).retry(patient))
        .on_batch("archive", file, |group| group.max(500).linger(Duration::from_millis(50)))
        .on("clock", look, |group| group)
        .repeat("every-minute", Recurrence::cron("0 * * * * *"), MinutePassed {})
        .run(Config::new(url, "reminders"))
        .await
}
