//! The load generator: puts one scenario on a server that runs already, and prints one JSON line of
//! what it cost.

use std::{io, process::ExitCode, rc::Rc, time::Duration};

use clap::{Parser, ValueEnum};
use serde::Serialize;
use tokio::task::LocalSet;

mod client;
mod process;
mod scenarios;
mod setup;
mod tally;

use process::Process;
use setup::Bench;
use tally::Tally;

/// No scenario takes longer than this unless the server stands still.
const DEADLINE: Duration = Duration::from_secs(90);

/// What the server is made to do.
#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Scenario {
    /// 1 publisher, 1 message in flight, a room of 1,000.
    Fanout1,
    /// 4 publishers, each with 1 message in flight, a room of 1,000.
    Fanout4,
    /// 400 rooms of 5, 4,000 messages a second.
    Rooms,
    /// 16 clients, each alone in its room, each getting its own message back before the next.
    Echo,
    /// POST /messages/broadcast on 32 connections, a room of 10.
    Post,
    /// 5,000 idle websockets.
    Idle,
    /// From the TCP connect to the ack of the join.
    Connect,
    /// 4 publishers, each up to 300 messages ahead, a room of 1,000, of whom one does not read.
    Flood,
    /// As echo with 64 clients, each sending 16 messages at once: what the server carries, rather than
    /// the generator.
    Workers,
}

/// Puts one scenario on a server that runs on 127.0.0.1, and prints one JSON line of what it cost.
#[derive(Parser)]
struct Args {
    /// What the server is made to do
    scenario: Scenario,
    /// The server's port
    #[arg(long)]
    port: u16,
    /// The server's process id
    #[arg(long)]
    pid: u32,
    /// What the server is called in the output
    #[arg(long)]
    peer: String,
    /// How long to measure
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How long to run before that
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// What the numbers of clients, rooms and messages are multiplied by
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
}

/// The line that is printed.
#[derive(Serialize)]
struct Report {
    peer: String,
    scenario: Scenario,
    /// How many units were measured.
    units: u64,
    /// The server's CPU time per unit, in microseconds.
    cpu: f64,
    /// Units a second.
    rate: f64,
    /// Latency of a unit in microseconds.
    p50: u32,
    p99: u32,
    /// The most memory that the server ever had, in bytes.
    peak: u64,
    /// Bytes of memory per connection (idle).
    per_connection: Option<f64>,
    /// The part of the messages that members did not get who read all the time (flood).
    lost: Option<f64>,
    /// The part of the time that the generator itself was busy.
    generator: f64,
    faults: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let run = |runtime: tokio::runtime::Runtime| LocalSet::new().block_on(&runtime, run(&args));
    match runtime.and_then(run) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> io::Result<String> {
    let tally = Rc::new(Tally::default());
    let process = Process(args.pid);
    let bench = Bench {
        port: args.port,
        process,
        seconds: Duration::from_secs_f64(args.seconds),
        warmup: Duration::from_secs_f64(args.warmup),
        scale: args.scale,
        tally: tally.clone(),
    };
    let done = tokio::time::timeout(DEADLINE, async {
        bench.ready().await?;
        bench.run(args.scenario).await
    });
    let Ok(found) = done.await else {
        let faults = tally.faults().join("; ");
        let units = tally.units.get();
        return Err(io::Error::other(format!(
            "no end within {DEADLINE:?}, after {units} units. {faults}"
        )));
    };
    let found = found?;
    let span = found.span;
    if span.units == 0 {
        tally.fault("nothing moved");
    }
    #[expect(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]
    let (cpu, own, units) = (span.cpu as f64, span.own as f64, span.units as f64);
    let seconds = span.time.as_secs_f64().max(f64::EPSILON);
    let report = Report {
        peer: args.peer.clone(),
        scenario: args.scenario,
        units: span.units,
        cpu: cpu / units.max(1.0),
        rate: units / seconds,
        p50: tally.percentile(50),
        p99: tally.percentile(99),
        peak: process.peak_memory()?,
        per_connection: found.per_connection,
        lost: found.lost,
        generator: own / 1e6 / seconds,
        faults: tally.faults(),
    };
    Ok(serde_json::to_string(&report)?)
}
