//! The fields of a schema as a table in Markdown.

use std::fmt::Write;

use serde_json::{Map, Value};

/// The schema that has a table of its own on the page.
const CODE: &str = "Code";

/// A field of an object.
#[derive(Clone)]
struct Field {
    /// Its names: one, or several of which one must be there.
    names: Vec<String>,
    kind: String,
    is_required: bool,
    description: String,
}

/// The forms that an argument may have.
#[derive(Default)]
struct Shape {
    fields: Vec<Field>,
    /// What it may be in the place of an object.
    others: Vec<String>,
}

/// The table of the schema's fields, and what it may be in the place of an object.
pub(super) fn fields(schema: &Value, schemas: &Map<String, Value>) -> String {
    let shape = shape(schema, schemas);
    let mut out = String::new();
    if !shape.fields.is_empty() {
        out.push_str("\n| field | type | required | meaning |\n| --- | --- | --- | --- |\n");
    }
    for field in &shape.fields {
        let names = field.names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let names = listed(&names);
        let required = if field.is_required { "yes" } else { "no" };
        let _ = writeln!(out, "| {names} | {} | {required} | {} |", field.kind, field.description);
    }
    if !shape.others.is_empty() {
        let object = if shape.fields.is_empty() { "" } else { "Instead of an object: " };
        let _ = write!(out, "\n{object}{}.\n", shape.others.join(" or "));
    }
    out
}

/// Names with commas, and an "or" before the last one.
fn listed(names: &[String]) -> String {
    match names {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        names => names.concat(),
    }
}

/// Whether the schema is a simple type, which the tables name and do not show.
pub(super) fn is_type(name: &str, schema: &Value) -> bool {
    let is_scalar = schema["enum"].is_array()
        || schema["type"].is_array()
        || schema["type"].as_str().is_some_and(|kind| kind != "object" && kind != "null");
    is_scalar && name != CODE
}

/// A value's type in a few words.
pub(super) fn kind(schema: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.rsplit('/').next().unwrap_or(target);
        let anchor = if name == CODE { "error-codes" } else { "types" };
        return format!("[`{name}`](#{anchor})");
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    match &schema["type"] {
        Value::String(name) => match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
            (Some(min), Some(max)) => format!("{name}, {min} to {max}"),
            (Some(min), None) => format!("{name}, at least {min}"),
            _ => name.clone(),
        },
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
        }
        _ => "any".to_owned(),
    }
}

fn shape(schema: &Value, schemas: &Map<String, Value>) -> Shape {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.rsplit('/').next().unwrap_or(target);
        return match schemas.get(name) {
            Some(found) if !is_type(name, found) => shape(found, schemas),
            _ => Shape { others: vec![kind(schema)], ..Shape::default() },
        };
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let parts = parts.iter().map(|part| shape(part, schemas));
        return parts.fold(Shape::default(), |mut all, part| {
            all.fields.extend(part.fields);
            all.others.extend(part.others);
            all
        });
    }
    if let Some(parts) = schema["anyOf"].as_array() {
        return either(parts.iter().map(|part| shape(part, schemas)).collect());
    }
    if schema["type"] != "object" {
        return Shape { others: vec![kind(schema)], ..Shape::default() };
    }
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    let mut fields = Vec::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        fields.push(Field {
            names: vec![name.clone()],
            kind: kind(field),
            is_required: required.iter().any(|required| required == name),
            description: description(field, schemas),
        });
        let inner = shape(field, schemas).fields.into_iter().map(|inner| Field {
            names: inner.names.iter().map(|inner| format!("{name}.{inner}")).collect(),
            ..inner
        });
        fields.extend(inner);
    }
    Shape { fields, others: Vec::new() }
}

/// The field's own description, or that of the type that it refers to.
fn description(field: &Value, schemas: &Map<String, Value>) -> String {
    let own = field["description"].as_str();
    let referred = || {
        let name = field["$ref"].as_str()?.rsplit('/').next()?;
        schemas.get(name)?["description"].as_str()
    };
    own.or_else(referred).unwrap_or_default().to_owned()
}

/// One of several shapes.
fn either(parts: Vec<Shape>) -> Shape {
    let mut all = Shape::default();
    let objects = parts.iter().filter(|part| !part.fields.is_empty()).count();
    // Objects of one field each: one of these fields must be there.
    let is_choice = objects > 1
        && parts
            .iter()
            .all(|part| matches!(part.fields.as_slice(), [] | [Field { is_required: true, .. }]));
    for part in parts {
        all.others.extend(
            part.others.into_iter().filter(|other| !all.others.contains(other)).collect::<Vec<_>>(),
        );
        for field in part.fields {
            match all.fields.first_mut() {
                Some(first) if is_choice => {
                    first.names.extend(field.names);
                    if !first.description.contains(&field.description) {
                        first.description = format!("{} {}", first.description, field.description);
                    }
                }
                _ if is_choice => all.fields.push(field),
                _ => merge(&mut all.fields, field, objects),
            }
        }
    }
    all
}

/// Adds a field of one of several objects: it is required only if the others have it, too.
fn merge(fields: &mut Vec<Field>, field: Field, objects: usize) {
    if fields.iter().any(|known| known.names == field.names) {
        return;
    }
    fields.push(Field { is_required: field.is_required && objects < 2, ..field });
}
