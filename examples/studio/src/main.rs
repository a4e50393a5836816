//! Work that takes a while, for workflows: a film that is taken on and brought later, and a command that waits for whoever
//! carries it out. Beside it `film.yaml`, the workflow that wants both.
//!
//! ```sh
//! sinew dev --workflows examples/studio   # first terminal: a broker and every role of Sinew
//! cargo run -p studio                     # second terminal: this service
//! sinew workflow start film --input '{"script": "dawn, noon, dusk"}'        # third: about a second per scene
//! sinew workflow start film --id long --no-wait --input '{"script": "a, b, c, d, e, f, g, h, i, j, k, l"}'
//! sinew workflow cancel film long         # the studio stops at once, and throws away what it has
//! ```

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Accepted, Bus, Completion, Config, Problem, Request, Service, State, contract};
use tokio::sync::mpsc;

/// Cuts a film, a scene after the other.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "studio.cut", reply = Film, idempotent)]
struct Cut {
    script: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Film {
    url: String,
}

/// Throws a film away, or what there is of it.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "studio.discard", reply = (), idempotent)]
struct Discard {
    key: String,
}

/// Puts a film into the archive.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "studio.archive", reply = Archived, idempotent)]
struct Archive {
    url: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Archived {
    url: String,
    shelf: u32,
}

contract! {
    /// Makes films.
    Studio = "studio" @ "1.0.0" { cut: Cut, discard: Discard, archive: Archive }
}

/// A film to make. Here it waits in memory; a studio that must not forget keeps it in a table.
struct Job {
    script: String,
    token: String,
}

async fn cut(
    request: Cut,
    film: Completion<Film>,
    State(jobs): State<mpsc::Sender<Job>>,
) -> Result<Accepted<Film>, Problem> {
    let job = Job { script: request.script, token: film.token().to_owned() };
    let full =
        |_| Problem::new(503, "studio-full", "all tables are taken").retry_after(Duration::from_secs(5));
    jobs.try_send(job).map_err(full)?;
    // Without a sign of life for ten seconds the film counts as lost, and is undone.
    Ok(film.later().heartbeat(Duration::from_secs(10)).within(Duration::from_secs(3_600)))
}

#[expect(clippy::print_stderr, reason = "says to whoever watches what the studio does")]
async fn discard(request: Discard) -> Result<(), Problem> {
    eprintln!("thrown away: {}", request.key);
    Ok(())
}

async fn archive(request: Archive) -> Result<Archived, Problem> {
    Ok(Archived { url: request.url, shelf: 7 })
}

/// Makes one film after the other. It needs no more than the tokens: it could as well be another process.
#[expect(clippy::print_stderr, reason = "says to whoever watches what the studio does")]
async fn work(bus: &Bus, mut jobs: mpsc::Receiver<Job>) {
    while let Some(Job { script, token }) = jobs.recv().await {
        let film = Completion::<Film>::resume(bus, token);
        // Gives signs of life, and stops at the next await once the workflow gives the film up.
        let made = match film.during(Duration::from_secs(3), make(&script)).await {
            Ok(made) => film.complete(&made).await,
            Err(refusal) => Err(refusal),
        };
        match made {
            Ok(()) => eprintln!("done: {script}"),
            Err(refusal) => eprintln!("given up: {script}: {}", refusal.to_problem()),
        }
    }
}

async fn make(script: &str) -> Film {
    for _ in script.split(',') {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Film { url: format!("films/{}.mp4", script.replace(", ", "-")) }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let config = Config::new(url, "studio");
    let bus = Bus::connect(config.clone()).await?;
    let (sender, jobs) = mpsc::channel(16);
    let service = Service::new("studio", sender)
        .serve(Studio, |routes| routes.cut(cut).discard(discard).archive(archive))
        .commands(4);
    tokio::select! {
        served = service.run(config) => served?,
        () = work(&bus, jobs) => {}
    }
    bus.close().await;
    Ok(())
}
