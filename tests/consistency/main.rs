//! Clients write, join, leave, page, recover, vanish and come back by random schedules, while nodes and Redis are
//! killed, stopped, emptied, paused and replaced, the disk fills up and clocks jump. What every client did and saw
//! is recorded, and a checker decides afterwards whether it may be: see `checker` for its rules.
//!
//! - `schedule` makes a plan from a seed; `run` lets it happen: `actor` does a client's steps by its `link`, and
//!   `world` is the servers and what is done to them. `history` is what is recorded.
//! - Each run prints its seed. `ROOMCAST_CONSISTENCY_SEED=7` repeats the schedule of one seed; which message is
//!   where when a process dies is up to the machine.
//! - `ROOMCAST_CONSISTENCY_SECONDS=3600` goes on with further seeds for that long, each topology for itself.
//! - `ROOMCAST_BIN=/path/to/roomcast` looks at another binary than the one that was built.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod actor;
mod checker;
mod handshake;
mod history;
mod link;
mod random;
mod redis;
mod run;
mod schedule;
#[path = "../support/mod.rs"]
mod support;
mod targeted;
mod world;

use std::time::{Duration, Instant};

use self::schedule::{Plan, Topology};

/// How many steps each client does in a run.
const STEPS: usize = 40;

fn number_of(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a number")))
}

/// Runs with these seeds, or the one that is asked for, or with further ones for as long as is asked for.
async fn runs(topology: Topology, seeds: std::ops::Range<u64>) {
    let time = number_of("ROOMCAST_CONSISTENCY_SECONDS").map(Duration::from_secs);
    let (first, last) = match number_of("ROOMCAST_CONSISTENCY_SEED") {
        Some(seed) => (seed, seed),
        None => (seeds.start, seeds.end - 1),
    };
    let begun = Instant::now();
    for seed in first.. {
        if seed > last && time.is_none_or(|time| begun.elapsed() > time) {
            return;
        }
        let plan = Plan::random(seed, topology, STEPS);
        println!("ROOMCAST_CONSISTENCY_SEED={seed} repeats this schedule ({topology:?})");
        let outcome = run::run(&plan).await;
        println!("{}", run::summary(&plan, &outcome));
        assert!(outcome.violations.is_empty(), "{}", run::report(&plan, &outcome));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_keeps_what_it_promises() {
    runs(Topology::Embedded, 1..4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_on_redis_keeps_what_it_promises() {
    runs(Topology::Redis, 1..3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_redis_keep_what_they_promise() {
    runs(Topology::Cluster, 1..3).await;
}
