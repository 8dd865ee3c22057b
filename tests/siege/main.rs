//! Hostile clients by the hundred, against a server that may have little memory: it never dies of them, healthy
//! clients get all of theirs meanwhile, and the memory is given back when they have gone.
//!
//! `ROOMCAST_SIEGE_SECONDS=600` makes it last for so long (by default 15 s), with three times as many of them,
//! who push much harder: look at a `dist` build then. `ROOMCAST_SIEGE_ONLY=Loud,Slow` lets only these kinds come.
//! `ROOMCAST_BIN=/path/to/roomcast` besieges another binary than the one that was built. The figures are printed: how
//! long healthy clients wait is told and not judged, as it depends on the machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod healthy;
mod hostile;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use self::{
    healthy::Healthy,
    hostile::{Force, KINDS},
    server::{Besieged, LIMIT},
};

/// How long anything may take that must happen.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long the memory may take to come back.
const GIVE_BACK: Duration = Duration::from_mins(1);
/// How much more than before the server may hold when they have gone: half of what it may have at all.
const LEFT: u64 = 128_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_lives_through_hostile_clients_and_gives_the_memory_back() {
    let asked = std::env::var("ROOMCAST_SIEGE_SECONDS").ok();
    let seconds = asked.as_ref().map_or(15, |seconds| seconds.parse().unwrap());
    let force = if asked.is_some() { Force::FULL } else { Force::LIGHT };
    let only = std::env::var("ROOMCAST_SIEGE_ONLY").ok();
    let mut server = Besieged::start().await;
    println!("the server {}", server.bound);
    hostile::prepare(server.address()).await;
    let healthy = Arc::new(Healthy::default());
    // On a thread of their own: what is measured is how long the server takes, and not the hostile clients beside it.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.unwrap();
    let coming = healthy::begin(server.address(), healthy.clone());
    let clients = runtime.spawn(coming).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    let before = server.rss().expect("it lives");
    let quiet = healthy.take_times();
    let mut enemies = Vec::new();
    for (kind, count) in KINDS {
        let name = format!("{kind:?}");
        if only.as_ref().is_some_and(|only| only.split(',').all(|one| one != name)) {
            continue;
        }
        for number in 0..*count * force.times {
            enemies.push(tokio::spawn(hostile::live(*kind, number, server.address(), force)));
        }
    }
    println!("{} hostile clients", enemies.len());
    let (mut most, begun, mut told) = (before, Instant::now(), 0);
    let mut under_siege = healthy::Times::default();
    while begun.elapsed() < Duration::from_secs(seconds) {
        sleep(Duration::from_millis(200)).await;
        let Some(rss) = server.rss() else { break };
        most = most.max(rss);
        if begun.elapsed().as_secs() / 5 > told {
            told = begun.elapsed().as_secs() / 5;
            let times = healthy.take_times();
            println!("{:>4} s: {} MB; {times}", begun.elapsed().as_secs(), rss / 1_000_000);
            under_siege.add(times);
        }
    }
    under_siege.add(healthy.take_times());
    for enemy in &enemies {
        enemy.abort();
    }
    let gone = Instant::now();
    let mut after = server.rss().unwrap_or(0);
    while after > before + LEFT && gone.elapsed() < GIVE_BACK {
        sleep(Duration::from_millis(200)).await;
        after = server.rss().unwrap_or(0);
    }
    println!(
        "memory: {} MB before, {} MB at most, {} MB {:.1} s after they went",
        before / 1_000_000,
        most / 1_000_000,
        after / 1_000_000,
        gone.elapsed().as_secs_f64()
    );
    println!("healthy clients before: {quiet}");
    println!("healthy clients meanwhile: {under_siege}");
    let faults = healthy.end(clients).await;
    runtime.shutdown_background();
    let died = server.rss().is_none();
    println!("{}", server.told().await);
    assert!(!died, "the server died");
    assert!(faults.is_empty(), "healthy clients did not get theirs: {faults:?}");
    assert!(most < LIMIT, "it took {most} bytes");
    assert!(after <= before + LEFT, "it keeps {after} bytes, and had {before}");
    server.end().await;
}
