//! The memory of the process is bounded: who holds most goes, and everybody else stays.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::process::{self, ServerProcess};

async fn figures(server: &ServerProcess) -> String {
    reqwest::get(format!("http://{}/metrics", server.address()))
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
}

fn figure(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test]
async fn the_connection_that_holds_most_goes_before_the_process_does() {
    const LIMIT: f64 = 50_000_000.0;
    let directory = tempfile::tempdir().unwrap();
    let mut command = process::command(&directory.path().join("store.db"));
    command.env("MEMORY_LIMIT", "50MB").env("SEND_BUFFER", "1GB").env("SEND_TIMEOUT", "1h");
    command.env("HISTORY_SIZE", "0");
    let server = process::start(command).await;
    let mut silent = server.connecting().join().await;
    silent.join("r").await;
    let mut publisher = server.connecting().join().await;
    let cut_off = "roomcast_connections_cut_off_total{reason=\"memory_limit\"}";
    let mut sent = 0;
    loop {
        let message = json!({"roomName": "r", "text": "x".repeat(900_000)});
        let ack = publisher.ask("message", message).await;
        let text = figures(&server).await;
        // The program itself, mapped from its file, is not counted by the limit.
        assert!(figure(&text, "process_resident_memory_bytes") < 3.0 * LIMIT, "after {sent}");
        if figure(&text, cut_off) > 0.0 {
            break;
        }
        assert_eq!(ack["success"], true, "{ack}");
        sent += 1;
        assert!(sent < 1000, "nobody was cut off: {text}");
    }
    // Everybody else is still there, and others can come again.
    assert_eq!(publisher.ask("ping", Value::Null).await["success"], true);
    let begun = Instant::now();
    while figure(&figures(&server).await, "roomcast_memory_level") > 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the memory is not given back");
    }
    let mut late = server.connecting().join().await;
    assert_eq!(late.ask("ping", Value::Null).await["success"], true);
    assert_eq!(server.terminate().await, Some(0));
}
