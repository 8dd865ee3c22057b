//! The TypeScript declaration of the events, made from the document's schemas.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::schemas;
use crate::commands::{client_events, schema::NOTHING, server_events};

const HEAD: &str = r#"// The events of roomcast, for socket.io-client. Made from its AsyncAPI document: do not edit.
//
//   const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io("http://localhost:3001");

/** Called with the answer to an event: the result, or the refusal. `success` tells them apart. */
export type Acknowledge<T> = (answer: T | Refused) => void;
"#;

/// The text of `types/index.d.ts`.
pub fn declaration() -> String {
    let mut out = HEAD.to_owned();
    for (name, schema) in schemas() {
        if name == NOTHING {
            continue;
        }
        out.push('\n');
        doc(&mut out, "", &schema);
        let text = kind(&schema, 0);
        if is_interface(&schema) {
            let _ = writeln!(out, "export interface {name} {text}");
        } else {
            let _ = writeln!(out, "export type {name} = {text};");
        }
    }
    out.push_str("\n/** What clients receive. Extend it with your own events. */\nexport interface ServerToClientEvents {\n");
    for event in server_events() {
        let _ = writeln!(out, "  /** {} */", event.summary);
        let _ = writeln!(out, "  {}: (payload: {}) => void;", key(event.name), event.payload);
    }
    out.push_str("}\n\n/** What clients send. */\nexport interface ClientToServerEvents {\n");
    for event in client_events() {
        let payload = match event.argument {
            NOTHING => String::new(),
            payload => format!("payload: {payload}, "),
        };
        let _ = writeln!(out, "  /** {} */", event.summary);
        let _ = writeln!(
            out,
            "  {}: ({payload}ack?: Acknowledge<{}>) => void;",
            key(event.name),
            event.ack
        );
    }
    out.push_str("}\n\n/** The acknowledgement of each event, for `emitWithAck`. */\nexport interface Acknowledgements {\n");
    for event in client_events() {
        let _ = writeln!(out, "  {}: {} | Refused;", key(event.name), event.ack);
    }
    out.push_str("}\n");
    out
}

/// Whether the schema is one object with fields, which TypeScript calls an interface.
fn is_interface(schema: &Value) -> bool {
    schema["type"] == "object"
}

fn doc(out: &mut String, indent: &str, schema: &Value) {
    if let Some(text) = schema["description"].as_str() {
        let _ = writeln!(out, "{indent}/** {text} */");
    }
}

/// A field's name, in quotes where it is no identifier.
fn key(name: &str) -> String {
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        name.to_owned()
    } else {
        format!("\"{name}\"")
    }
}

/// The schema as a type; `depth` is how far its lines are indented.
fn kind(schema: &Value, depth: usize) -> String {
    let list = |key: &str, between: &str| {
        let parts = schema[key].as_array()?;
        let parts = parts.iter().map(|part| {
            let text = kind(part, depth);
            // `&` binds tighter than `|`.
            if part["anyOf"].is_array() && between == " & " { format!("({text})") } else { text }
        });
        Some(parts.collect::<Vec<_>>().join(between))
    };
    if let Some(target) = schema["$ref"].as_str() {
        return target.rsplit('/').next().unwrap_or(target).to_owned();
    }
    if let Some(parts) = list("anyOf", " | ").or_else(|| list("allOf", " & ")) {
        return parts;
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    match &schema["type"] {
        Value::String(name) => named(name, schema, depth),
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str);
            names.map(|name| named(name, schema, depth)).collect::<Vec<_>>().join(" | ")
        }
        _ => "unknown".to_owned(),
    }
}

fn named(name: &str, schema: &Value, depth: usize) -> String {
    match name {
        "object" => fields(schema, depth),
        "integer" => "number".to_owned(),
        name => name.to_owned(),
    }
}

fn fields(schema: &Value, depth: usize) -> String {
    let none = Map::new();
    let indent = "  ".repeat(depth + 1);
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    let mut out = "{\n".to_owned();
    for (name, field) in schema["properties"].as_object().unwrap_or(&none) {
        doc(&mut out, &indent, field);
        let mark = if required.iter().any(|required| required == name) { "" } else { "?" };
        let _ = writeln!(out, "{indent}{}{mark}: {};", key(name), kind(field, depth + 1));
    }
    if schema["additionalProperties"] == true {
        let _ = writeln!(out, "{indent}[field: string]: unknown;");
    }
    let _ = write!(out, "{}}}", "  ".repeat(depth));
    out
}
