//! Clients that take as much as they can: slow heads, slow bodies, slow readers, ranges, and HTTP/2 with many streams.
//!
//! Asked of each: a well-behaved client that asks meanwhile is answered 2xx every time, the edge's memory grows by no more
//! than [`GROWTH`], and what the attack opened is closed soon after it. Of `h2load`, that every answer is 2xx as well.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{process::Command, time::sleep};

use super::{
    Error, Outcome, catalogue, client, desk,
    site::{Role, Site},
    tools,
};

/// Most bytes of memory that an attack may cost: 200 connections, each with all its buffers full.
const GROWTH: u64 = 64 << 20;
/// How long connections may outlive an attack: twice the longest patience below.
const SOON: Duration = Duration::from_secs(30);
/// Between two requests of the well-behaved client.
const PAUSE: Duration = Duration::from_millis(20);
/// Files that are open for other reasons than connections, such as the one to the server.
const OTHERS: usize = 8;
const CONNECTIONS: &str = "200";
const SECONDS: &str = "12";

/// An attack: its name, its program and what that is told; the address of the path comes last.
type Attack = (&'static str, &'static str, &'static [&'static str], &'static str);

const ATTACKS: [Attack; 5] = [
    ("slow heads", "slowhttptest", &["-H", "-i", "1", "-x", "24"], "/tickets"),
    ("slow bodies", "slowhttptest", &["-B", "-i", "1", "-s", "8192", "-t", "POST"], "/tickets"),
    (
        "slow readers",
        "slowhttptest",
        &["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "32", "-k", "3"],
        "/openapi.json",
    ),
    ("ranges", "slowhttptest", &["-R", "-a", "5", "-b", "3000"], "/openapi.json"),
    ("many streams", "h2load", &["-n", "20000", "-c", "20", "-m", "100"], "/tickets"),
];

/// What the well-behaved client and the process saw during one attack.
#[derive(Debug, Default)]
struct Seen {
    answered: usize,
    otherwise: Vec<String>,
    slowest: Duration,
    /// Bytes.
    peak: u64,
    /// Most files, and so connections, that were open.
    open: usize,
}

pub(super) async fn run(site: &Site) -> Result<Outcome, Error> {
    for program in [catalogue::H2LOAD, catalogue::SLOWHTTPTEST] {
        tools::apt(program).await?;
    }
    let system = site.system().await?;
    let bus = system.bus("desk").await?;
    let desk = desk::service().start(&bus).await?;
    let patience =
        json!({ "header_timeout_ms": 5_000, "request_timeout_ms": 10_000, "slow_client_ms": 2_000 });
    let mut edge = system.edge(&patience).await?;
    let address = edge.address()?;
    client::described(address, &["/tickets/{id}/history"]).await?;
    let (mut passed, mut failed) = (0, 0);
    for attack in ATTACKS {
        for (asked, kept) in suffer(attack, &mut edge, address).await? {
            if kept {
                passed += 1;
            } else {
                failed += 1;
                println!("  {}: FAILED: {asked}", attack.0);
            }
        }
    }
    desk.drain().await;
    bus.close().await;
    drop(edge);
    system.stop().await?;
    Ok(Outcome { passed, failed, asked: passed + failed })
}

/// Goes through one attack; returns what is asked, and whether it was kept.
async fn suffer(
    (name, program, arguments, path): Attack,
    edge: &mut Role,
    address: SocketAddr,
) -> Result<Vec<(&'static str, bool)>, Error> {
    let (memory, files) = (edge.resident()?, edge.open_files()?);
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    let url = format!("http://{address}{path}");
    match program {
        "slowhttptest" => command.args(["-c", CONNECTIONS, "-r", CONNECTIONS, "-l", SECONDS, "-u", &url]),
        _ => command.arg(&url),
    };
    let attack = command.output();
    tokio::pin!(attack);
    let mut seen = Seen::default();
    let said = loop {
        tokio::select! {
            done = &mut attack => break done?,
            () = seen.ask(edge, address) => {}
        }
    };
    let closed = closed(edge, files).await?;
    let grown = seen.peak.saturating_sub(memory);
    println!(
        "  {name}: {} answers, the slowest in {:?}; {} MiB and {} MiB more; {files} open files, {} at most, {} now",
        seen.answered,
        seen.slowest,
        memory >> 20,
        grown >> 20,
        seen.open,
        edge.open_files()?
    );
    seen.otherwise.iter().take(3).for_each(|answer| println!("    {answer}"));
    let mut asked = vec![
        ("the edge goes on", edge.is_running()?),
        ("a well-behaved client is answered", seen.answered > 0 && seen.otherwise.is_empty()),
        ("memory stays within its bound", grown <= GROWTH),
        ("connections are closed", closed),
    ];
    if program == "h2load" {
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let all = text.contains("20000 succeeded, 0 failed, 0 errored, 0 timeout");
        text.lines()
            .filter(|line| line.starts_with("requests:") || line.starts_with("finished"))
            .for_each(|line| println!("    {line}"));
        asked.push(("every stream is answered", all && text.contains("20000 2xx")));
    }
    Ok(asked)
}

impl Seen {
    /// Asks once, and looks at the process.
    async fn ask(&mut self, edge: &Role, address: SocketAddr) {
        let began = Instant::now();
        match client::get(address, "/tickets?limit=1").await {
            Ok(answer) if answer.starts_with("HTTP/1.1 2") => self.answered += 1,
            Ok(answer) => self.otherwise.push(answer.lines().next().unwrap_or("nothing").to_owned()),
            Err(error) => self.otherwise.push(error.to_string()),
        }
        self.slowest = self.slowest.max(began.elapsed());
        self.peak = self.peak.max(edge.resident().unwrap_or_default());
        self.open = self.open.max(edge.open_files().unwrap_or_default());
        sleep(PAUSE).await;
    }
}

/// Waits until no more is open than before, and says whether that came.
async fn closed(edge: &Role, before: usize) -> Result<bool, Error> {
    let end = Instant::now() + SOON;
    while edge.open_files()? > before + OTHERS {
        if Instant::now() > end {
            return Ok(false);
        }
        sleep(PAUSE).await;
    }
    Ok(true)
}
