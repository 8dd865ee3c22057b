//! The reference page of all events and error codes, made from the same source as the `AsyncAPI` document.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::{schemas, tables};
use crate::{
    commands::{
        client_events,
        event::{ANY_EVENT, ClientEvent, ServerEvent},
        schema::NOTHING,
        server_events,
    },
    gateways::http_error::status_of,
    protocol::refusal::Code,
};

const HEAD: &str = "\
# Reference: events and error codes

This page is generated from the source code, as the AsyncAPI document at `/asyncapi.json` of a running server is.
[Rooms and messages](messages.md) explains how the events work together; `/api` describes the HTTP API.

- An event carries one argument, in both directions.
- Every event of a client is acknowledged, if the client asks for it. The acknowledgement is an object with `success`.
- More fields may be added to the objects that the server makes. None is taken away.
";

/// The text of `docs/reference.md`.
pub fn reference() -> String {
    let schemas = schemas();
    let mut out = HEAD.to_owned();
    index(&mut out);
    codes(&mut out);
    out.push_str("\n## Events that clients send\n");
    for event in client_events() {
        sent(&mut out, event, &schemas);
    }
    acknowledgements(&mut out, &schemas);
    out.push_str("\n## Events that the server sends\n");
    for event in server_events() {
        received(&mut out, event, &schemas);
    }
    types(&mut out, &schemas);
    out
}

fn index(out: &mut String) {
    let sent = client_events().map(|event| link("Send", event.name)).collect::<Vec<_>>();
    let received = server_events().map(|event| link("Receive", event.name)).collect::<Vec<_>>();
    let _ = write!(
        out,
        "\n| | |\n| --- | --- |\n| clients send | {} |\n| clients receive | {} |\n| refusals | [error codes](#error-codes) |\n",
        sent.join(", "),
        received.join(", ")
    );
}

/// A link to an event's section.
fn link(verb: &str, name: &str) -> String {
    format!("[`{name}`](#{}-{})", verb.to_lowercase(), name.to_lowercase())
}

fn codes(out: &mut String) {
    out.push_str(
        "\n## Error codes\n\n\
        A refused event changes nothing. The acknowledgement is `{success: false, message, code}`, and the client gets the event \
        [`error`](#receive-error). A refused connection is a `connect_error` with `data.code`. HTTP requests are answered with the status.\n\n\
        | code | HTTP status | meaning |\n| --- | --- | --- |\n",
    );
    for code in Code::ALL {
        let status = status_of(code).as_u16();
        let _ = writeln!(out, "| `{}` | {status} | {} |", code.as_str(), code.meaning());
    }
    let any = ANY_EVENT.map(|code| format!("`{}`", code.as_str())).join(", ");
    let _ = write!(
        out,
        "\nEvery event may be refused with {any}; where a [backend answers it](handlers.md), also with `rejected` or a code of \
        the backend. The sections below name the other codes. An event that does not exist is refused with `unknown_event`.\n"
    );
}

fn sent(out: &mut String, event: &ClientEvent, schemas: &Map<String, Value>) {
    let _ = write!(out, "\n### Send `{}`\n\n{}\n", event.name, event.summary);
    if event.argument != NOTHING {
        argument(out, event.argument, event.example, schemas);
    }
    let _ = write!(out, "\n- Acknowledgement: [`{}`](#{})\n", event.ack, event.ack.to_lowercase());
    let own = event.refusals.iter().map(|code| format!("`{}`", code.as_str()));
    let own = own.collect::<Vec<_>>().join(", ");
    let own = if own.is_empty() { "only those of every event".to_owned() } else { own };
    let _ = writeln!(out, "- [Codes](#error-codes): {own}");
}

fn received(out: &mut String, event: &ServerEvent, schemas: &Map<String, Value>) {
    let _ = write!(out, "\n### Receive `{}`\n\n{}\n", event.name, event.summary);
    argument(out, event.payload, event.example, schemas);
    let _ =
        write!(out, "\n- Received by: {}\n", lower_first(event.receivers).trim_end_matches('.'));
}

/// The description of an event's argument, its fields, and an example.
fn argument(out: &mut String, name: &str, example: &str, schemas: &Map<String, Value>) {
    let schema = &schemas[name];
    if let Some(description) = schema["description"].as_str() {
        let _ = write!(out, "\n{description}\n");
    }
    out.push_str(&tables::fields(schema, schemas));
    let _ = write!(
        out,
        "\n<!-- not run: an example that the test of the AsyncAPI document checks -->\n```json\n{example}\n```\n"
    );
}

/// Every acknowledgement, once.
fn acknowledgements(out: &mut String, schemas: &Map<String, Value>) {
    out.push_str("\n## Acknowledgements\n");
    let mut names = client_events().map(|event| event.ack).collect::<Vec<_>>();
    names.push("Refused");
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let of = client_events().filter(|event| event.ack == name);
        let of = of.map(|event| link("Send", event.name)).collect::<Vec<_>>();
        let of = if of.is_empty() { "every event".to_owned() } else { of.join(", ") };
        let schema = &schemas[name];
        let description = schema["description"].as_str().unwrap_or_default();
        let _ = write!(out, "\n### `{name}`\n\n{description} For {of}.\n");
        out.push_str(&tables::fields(schema, schemas));
    }
}

fn types(out: &mut String, schemas: &Map<String, Value>) {
    out.push_str("\n## Types\n\n| type | values | meaning |\n| --- | --- | --- |\n");
    for (name, schema) in schemas.iter().filter(|(name, schema)| tables::is_type(name, schema)) {
        let description = schema["description"].as_str().unwrap_or_default();
        let values = tables::kind(schema);
        let _ = writeln!(out, "| `{name}` | {values} | {description} |");
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}
