//! `roomcast webhooks`: lists, retries and discards what was given up, through the HTTP API of a running server.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Args, Subcommand};
use reqwest::{Client, Method, RequestBuilder, redirect::Policy};
use serde_json::{Value, json};
use url::Url;

use crate::{config::Config, protocol::error_chain::error_chain};

/// How long the server may take for one request.
const TIMEOUT: Duration = Duration::from_mins(1);
/// The most ids in one request, so that an address stays short.
const IDS: usize = 100;

/// The arguments of `webhooks`.
#[derive(Debug, Args)]
pub struct WebhooksArgs {
    /// What to do
    #[command(subcommand)]
    act: Act,

    /// The server's URL [default: this machine, at the configured port]
    #[arg(long, global = true)]
    url: Option<Url>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Print how many webhooks wait, and those that were given up
    List {
        /// Print each one that was given up as a line of JSON, with its body
        #[arg(long)]
        json: bool,
    },
    /// Send webhooks again that were given up
    Retry(Which),
    /// Discard webhooks that were given up
    Discard(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// Their ids, as `list` prints them
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All of them; to retry, also those that wait for their next attempt
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

/// Runs the command; `nearby` is the URL of a server on this machine. The error is a message to print before exiting with
/// code 1.
pub(super) async fn run(config: &Config, args: &WebhooksArgs, nearby: &str) -> Result<(), String> {
    let api = Api::of(config, args.url.as_ref(), nearby)?;
    match &args.act {
        Act::List { json } => list(&api, *json).await,
        Act::Retry(which) => retry(&api, which).await,
        Act::Discard(which) => discard(&api, which).await,
    }
}

/// The HTTP API of a server.
struct Api {
    client: Client,
    base: Url,
    key: Option<String>,
}

impl Api {
    fn of(config: &Config, url: Option<&Url>, nearby: &str) -> Result<Self, String> {
        let mut builder = Client::builder().timeout(TIMEOUT).redirect(Policy::none());
        let base = if let Some(url) = url {
            url.clone()
        } else {
            if config.port == 0 {
                return Err("PORT is 0, so the port is not known; give --url".to_owned());
            }
            // The server is nearby: a proxy from the environment would only get in the way.
            builder = builder.no_proxy();
            Url::parse(nearby).map_err(|error| error.to_string())?
        };
        if base.scheme() == "http" {
            // Plain HTTP needs no root certificates, which the machine may lack.
            builder = builder.tls_certs_only([]);
        } else if base.scheme() != "https" {
            return Err(format!("--url {base}: it must begin with http:// or https://"));
        }
        let client = builder.build().map_err(|error| error_chain(&error))?;
        let key = config.api_keys.first().map(|key| key.expose().to_owned());
        Ok(Self { client, base, key })
    }

    /// A request to a route, with these parameters.
    fn request(&self, method: Method, route: &str, query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{route}", self.base.path().trim_end_matches('/')));
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.client.request(method, url);
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends it: the answer's JSON, or why there is none.
    async fn send(&self, request: RequestBuilder) -> Result<Value, String> {
        let failed =
            |error: reqwest::Error| format!("{}: {}", self.base, error_chain(&error.without_url()));
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(failed)?;
        let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(body);
        }
        let why = match &body["message"] {
            Value::String(message) => message.clone(),
            Value::Array(messages) => {
                messages.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
            }
            _ => "is this a roomcast server?".to_owned(),
        };
        Err(format!("{} answered {status}: {why}", self.base))
    }
}

async fn list(api: &Api, as_json: bool) -> Result<(), String> {
    if !as_json {
        let state = api.send(api.request(Method::GET, "/webhooks", &[])).await?;
        let since = match state["oldest"].as_str() {
            Some(oldest) => format!(", the oldest since {oldest}"),
            None => String::new(),
        };
        print(&format!("waiting: {}{since}", state["pending"]))?;
        print(&format!("failed: {}", state["failed"]))?;
    }
    let mut cursor = None;
    loop {
        let query = cursor.as_deref().map(|cursor| ("cursor", cursor));
        let request = api.request(Method::GET, "/webhooks/failed", query.as_slice());
        let page = api.send(request).await?;
        for failed in page["items"].as_array().into_iter().flatten() {
            print(&if as_json { failed.to_string() } else { line(failed) })?;
        }
        cursor = page["nextCursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// A webhook that was given up, in a line.
fn line(failed: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let [id, at, kind, error] =
        [&failed["id"], &failed["failedAt"], &failed["body"]["type"], &failed["error"]].map(text);
    format!("{id}  {at}  {kind}  {error}")
}

/// What the reader of the output does not take is no concern of the server's.
fn print(line: &str) -> Result<(), String> {
    writeln!(io::stdout(), "{line}").map_err(|error| format!("cannot print: {error}"))
}

async fn retry(api: &Api, which: &Which) -> Result<(), String> {
    let mut count = 0;
    let bodies = if which.all {
        vec![json!({})]
    } else {
        which.ids.chunks(IDS).map(|ids| json!({ "ids": ids })).collect()
    };
    for body in bodies {
        let request = api.request(Method::POST, "/webhooks/failed/retry", &[]).json(&body);
        count += affected(&api.send(request).await?)?;
    }
    tell("retried", count, which)
}

async fn discard(api: &Api, which: &Which) -> Result<(), String> {
    let mut count = 0;
    let queries = if which.all {
        vec![vec![("all", "true")]]
    } else {
        let ids = which.ids.iter().map(|id| ("id", id.as_str())).collect::<Vec<_>>();
        ids.chunks(IDS).map(<[_]>::to_vec).collect()
    };
    for query in queries {
        let request = api.request(Method::DELETE, "/webhooks/failed", &query);
        count += affected(&api.send(request).await?)?;
    }
    tell("discarded", count, which)
}

fn affected(answer: &Value) -> Result<u64, String> {
    answer["webhooks"].as_u64().ok_or_else(|| format!("an answer without a number: {answer}"))
}

fn tell(what: &str, count: u64, which: &Which) -> Result<(), String> {
    print(&format!("{what}: {count}"))?;
    let mut ids = which.ids.iter().collect::<Vec<_>>();
    ids.sort_unstable();
    ids.dedup();
    if !which.all && count < ids.len() as u64 {
        return Err(format!(
            "{} of {} ids are not among the webhooks that were given up: see `roomcast webhooks list`",
            ids.len() as u64 - count,
            ids.len(),
        ));
    }
    Ok(())
}
