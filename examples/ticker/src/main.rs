//! A streaming reply in forty lines: a service that ticks, and a caller that listens for a while.
//!
//! ```sh
//! sinew dev                          # first terminal: a broker and every role of Sinew
//! cargo run -p ticker                # second terminal: this service
//! cargo run -p ticker -- listen 5    # third: five ticks, one every second; then the service's stream is dropped
//! ```

use std::time::Duration;

use futures::{Stream, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Bus, Config, Ctx, Problem, Request, Service, contract};

/// Ticks until the caller has heard enough.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "ticker.ticks", stream = Tick, idempotent)]
struct Ticks {
    every_ms: u64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Tick {
    number: u64,
}

contract! {
    /// Keeps time.
    Ticker = "ticker" @ "1.0.0" { ticks: stream Ticks }
}

async fn ticks(request: Ticks) -> Result<impl Stream<Item = Result<Tick, Problem>>, Problem> {
    if request.every_ms == 0 {
        return Err(Problem::new(400, "too-fast", "a tick takes at least a millisecond"));
    }
    let pause = Duration::from_millis(request.every_ms);
    Ok(stream::unfold(1, move |number| async move {
        tokio::time::sleep(pause).await;
        Some((Ok(Tick { number }), number + 1))
    }))
}

#[expect(clippy::print_stdout, reason = "what was heard is the output of this program")]
async fn listen(config: Config, count: usize) -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::connect(config).await?;
    let ticker = Ticker::client(&Ctx::detached(&bus, "listener"));
    let mut ticks = ticker.ticks(Ticks { every_ms: 1_000 }).credit(2).await?;
    for _ in 0..count {
        let Some(tick) = ticks.next().await else { break };
        println!("tick {}", tick?.number);
    }
    drop(ticks);
    bus.close().await;
    Ok(())
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "says to whoever started it what to do next")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let config = Config::new(url, "ticker");
    match std::env::args().nth(1).as_deref() {
        Some("listen") => {
            let count = std::env::args().nth(2).map_or(Ok(3), |count| count.parse())?;
            listen(config, count).await
        }
        _ => {
            eprintln!("connecting to {}; then try: cargo run -p ticker -- listen 5", config.url);
            Ok(Service::new("ticker", ()).serve(Ticker, |routes| routes.ticks(ticks)).run(config).await?)
        }
    }
}
