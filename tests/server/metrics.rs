//! The figures: what is counted, what is documented, and what the dashboard asks for.
//!
//! `UPDATE_DOCUMENTS=1 cargo test --test server metrics` writes the table of `docs/metrics.md` anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use roomcast::config::{EventLog, Secret};
use serde_json::{Value, json};

use crate::support::{TestServer, redis::RedisServer};

/// What is exported: by name, its kind, its help and the names of its labels.
type Families = BTreeMap<String, Family>;

#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// Reads Prometheus' text format; a counter goes by the name of its samples, with `_total`.
fn families(text: &str) -> Families {
    let mut families = Families::new();
    let mut help = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, words)) =
            line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            help.insert(name, words);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let total = if kind == "counter" { "_total" } else { "" };
            let help = help[name].trim_end_matches('.').to_owned();
            let family = Family { kind: kind.to_owned(), help, ..Family::default() };
            assert!(families.insert(format!("{name}{total}"), family).is_none(), "{name} twice");
        } else if let Some((name, rest)) = line.split_once('{') {
            let labels = rest.split_once('}').unwrap().0;
            let labels =
                labels.split("\",").map(|label| label.split_once('=').unwrap().0.to_owned());
            let family = families.get_mut(base(name)).unwrap();
            family.labels.extend(labels.filter(|label| label != "le"));
        }
    }
    families
}

/// The family that a sample, or a name in a query, belongs to.
fn base(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

/// A server with everything turned on that has figures, and that has counted some of each.
async fn figures() -> Families {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.log");
    let redis = RedisServer::start();
    let server = TestServer::one_node(|config| {
        config.redis_url = Some(Secret::new(redis.url()));
        config.event_log = Some(EventLog::File(path));
        config.rate_limit_events = 1;
        config.rate_limit_burst = 4;
        config.rate_limit_http = 1000;
        // Nobody listens there.
        config.handler_url = Some("http://127.0.0.1:1/".to_owned());
    })
    .await;
    let mut client = server.client().await;
    client.join("r").await;
    client.ask("an event of its own", Value::Null).await;
    client.ask("message", json!({"roomName": "r"})).await;
    client.ask("message", Value::Null).await;
    for _ in 0..3 {
        client.ask("ping", Value::Null).await;
    }
    server.get("/nothing").await;
    let mut figures = families(&server.get("/metrics").await.text);
    figures.extend(webhook_figures().await);
    figures
}

/// Those of webhooks, which need a store of its own.
async fn webhook_figures() -> Families {
    let server = TestServer::one_node(|config| {
        config.redis_url = None;
        // Nobody listens there.
        config.webhook_url = Some("http://127.0.0.1:9/".to_owned());
        config.webhook_secret = [b"a key".to_vec()].into_iter().collect();
    })
    .await;
    let failed = "roomcast_webhook_requests_total{outcome=\"connection\"}";
    server.until(|metrics| metrics.contains(failed)).await;
    let mut figures = families(&server.get("/metrics").await.text);
    figures.retain(|name, _| name.starts_with("roomcast_webhook"));
    figures
}

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

#[tokio::test]
async fn the_figures_follow_what_happens() {
    let server = TestServer::start().await;
    let value = |text: &str, sample: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {sample} in {text}")).parse::<f64>().unwrap()
    };
    let mut members = Vec::new();
    for _ in 0..3 {
        let mut member = server.client().await;
        member.join("r").await;
        members.push(member);
    }
    let before = server.get("/metrics").await.text;
    let ack = members[0].ask("message", json!({"resourceId": "nobody"})).await;
    assert_eq!(ack["success"], true);
    let ack = members[0].ask("message", json!({"roomName": "r"})).await;
    assert_eq!(ack["success"], true);
    assert_eq!(members[0].ask("message", Value::Null).await["code"], "no_room");
    let after = server.get("/metrics").await.text;
    let grown = |sample| value(&after, sample) - value(&before, sample);
    let near = |a: f64, b: f64| (a - b).abs() < 0.001;
    for (sample, more) in [
        ("roomcast_packets_delivered_total", 2.0),
        // The message to the room; nobody is in the other one.
        ("roomcast_fan_out_recipients_count", 1.0),
        ("roomcast_fan_out_recipients_sum", 2.0),
        ("roomcast_fan_out_seconds_count", 1.0),
        ("roomcast_acknowledgement_seconds_count", 3.0),
        ("roomcast_store_entries_total", 2.0),
    ] {
        assert!(near(grown(sample), more), "{sample} has grown by {}", grown(sample));
    }
    let labels = "namespace=\"/\",transport=\"websocket\",protocol=\"4\"";
    for (sample, number) in [
        ("roomcast_events_received_total{event=\"message\"}", 3.0),
        ("roomcast_refusals_total{code=\"no_room\"}", 1.0),
        ("roomcast_sessions", 3.0),
        ("roomcast_rooms{namespace=\"/\"}", 1.0),
        ("roomcast_events_waiting", 0.0),
        ("roomcast_store_writes_waiting", 0.0),
        ("roomcast_panics_total", 0.0),
        (&format!("roomcast_connections{{{labels}}}"), 3.0),
    ] {
        assert!(near(value(&after, sample), number), "{sample} is {}", value(&after, sample));
    }
    assert!(value(&after, "roomcast_store_commit_seconds_total") > 0.0);
    assert!(value(&after, "roomcast_store_commits_total") >= 2.0);
}

#[tokio::test]
async fn every_figure_is_documented_and_no_other() {
    const BEGIN: &str = "<!-- metrics:begin -->\n";
    const END: &str = "<!-- metrics:end -->";
    let mut table = "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for (name, Family { kind, help, labels }) in figures().await {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        writeln!(table, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    let path = document("metrics.md");
    let found = fs::read_to_string(&path).unwrap();
    let (before, rest) = found.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(&path, wanted).unwrap();
        return;
    }
    // The figures of the process are read where there is a /proc.
    if cfg!(target_os = "linux") {
        assert!(
            found == wanted,
            "out of date: UPDATE_DOCUMENTS=1 cargo test --test server metrics\n{table}"
        );
    }
}

/// The names of metrics in a query: words that begin as ours do.
fn names(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("roomcast_") || word.starts_with("process_"))
}

/// Every query of the dashboard: its panels' and its variables'.
fn queries(dashboard: &Value) -> Vec<String> {
    match dashboard {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match value {
                Value::String(query)
                    if ["expr", "query", "definition"].contains(&name.as_str()) =>
                {
                    vec![query.clone()]
                }
                value => queries(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(queries).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn the_dashboard_asks_for_what_is_exported_and_shows_all_of_it() {
    let figures = figures().await;
    let text = fs::read_to_string(document("grafana-dashboard.json")).unwrap();
    let queries = queries(&serde_json::from_str(&text).unwrap());
    assert!(queries.len() > 20, "{queries:?}");
    let mut asked = BTreeSet::new();
    for query in &queries {
        for name in names(query) {
            let family = figures.get(base(name));
            let family = family.unwrap_or_else(|| panic!("{name} is not exported: {query}"));
            assert_eq!(family.kind == "histogram", base(name) != name, "{name}: {query}");
            asked.insert(base(name).to_owned());
        }
    }
    let unseen = figures.keys().filter(|name| !asked.contains(*name)).collect::<Vec<_>>();
    assert!(unseen.is_empty(), "no panel shows {unseen:?}");
}

#[tokio::test]
async fn the_chapter_on_operation_names_what_is_exported() {
    let figures = figures().await;
    for chapter in ["operations.md", "metrics.md"] {
        let text = fs::read_to_string(document(chapter)).unwrap();
        for name in names(&text) {
            // `roomcast_store_*` means them all.
            let is_exported = figures.contains_key(base(name))
                || (name.ends_with('_') && figures.keys().any(|known| known.starts_with(name)));
            assert!(is_exported, "{chapter}: {name} is not exported");
        }
    }
}
