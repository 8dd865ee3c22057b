//! Reads the fields of what a backend sends one by one, and collects everything that is wrong with them.

use std::{borrow::Cow, sync::Arc};

use serde_json::value::RawValue;

use crate::{
    hub::{Namespace, Registry},
    protocol::{
        audience::Except,
        client_id::ClientId,
        names::{NameError, RoomName, UserId},
        payload::{Object, text_or_number},
        timestamp::Timestamp,
    },
};

/// The namespace at `path`, with or without its leading slash, or the error.
pub(super) fn namespace(registry: &Registry, path: &str) -> Result<Arc<Namespace>, String> {
    let path = if path.starts_with('/') { path.into() } else { Cow::from(format!("/{path}")) };
    registry.address(&path).ok_or_else(|| {
        let paths = registry.labels().map(|label| &**label).collect::<Vec<_>>();
        format!("namespace must be one of the following values: {}", paths.join(", "))
    })
}

/// A client's id; `None` for a text that can be no id, and so reaches nobody.
#[allow(clippy::unnecessary_wraps, reason = "as the other names are parsed")]
fn client(text: &str) -> Result<Option<ClientId>, NameError> {
    Ok(text.parse().ok())
}

/// Reads fields, and collects their errors.
pub(super) struct Fields<'o, 'a> {
    object: &'o Object<'a>,
    /// The prefix of a field's name in an error.
    prefix: &'static str,
    /// Everything that is wrong so far.
    pub faults: Vec<String>,
}

impl<'o, 'a> Fields<'o, 'a> {
    /// The fields of a body.
    pub(super) fn of(object: &'o Object<'a>) -> Self {
        Self { object, prefix: "", faults: Vec::new() }
    }

    /// Notes an error.
    pub(super) fn fault(&mut self, text: impl std::fmt::Display) {
        self.faults.push(format!("{}{text}", self.prefix));
    }

    /// The value of a field, if it is given.
    pub(super) fn get(&self, field: &str) -> Option<&'a RawValue> {
        self.object.get(field)
    }

    /// A string.
    pub(super) fn text(&mut self, field: &str) -> Option<String> {
        let text = serde_json::from_str(self.object.get(field)?.get()).ok();
        if text.is_none() {
            self.fault(format_args!("{field} must be a string"));
        }
        text
    }

    /// A moment, in RFC 3339.
    pub(super) fn time(&mut self, field: &str) -> Option<Timestamp> {
        let text = serde_json::from_str::<String>(self.object.get(field)?.get()).ok();
        let time = text.and_then(|text| Timestamp::parse(&text));
        if time.is_none() {
            self.fault(format_args!("{field} must be a valid ISO 8601 date string"));
        }
        time
    }

    /// A name: a string or a number.
    pub(super) fn name<T>(
        &mut self,
        field: &str,
        parse: impl Fn(&str) -> Result<T, NameError>,
    ) -> Option<T> {
        match text_or_number(self.object.get(field)?.get()).as_deref().map(parse) {
            Some(Ok(name)) => return Some(name),
            Some(Err(error)) => self.fault(format_args!("{field} {error}")),
            None => self.fault(format_args!("{field} must be a string")),
        }
        None
    }

    /// A boolean; false if it is not given.
    pub(super) fn flag(&mut self, field: &str) -> bool {
        match self.object.get(field).map(RawValue::get) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                self.fault(format_args!("{field} must be a boolean value"));
                false
            }
        }
    }

    /// A list that must not be empty or null if it is given: that must never mean everyone.
    pub(super) fn targets<T>(
        &mut self,
        field: &str,
        parse: impl Fn(&str) -> Result<T, NameError>,
    ) -> Option<Vec<T>> {
        if self.object.fields().any(|(name, value)| name == field && value.get() == "null") {
            self.fault(format_args!("{field} should not be empty"));
            return Some(Vec::new());
        }
        let faults = self.faults.len();
        let object = self.object;
        let mut given = object.fields();
        let names = match self.names(field, parse) {
            // `null` must not mean everyone either.
            None if given.any(|(name, _)| name == field) => Vec::new(),
            names => names?,
        };
        if names.is_empty() && self.faults.len() == faults {
            self.fault(format_args!("{field} should not be empty"));
        }
        Some(names)
    }

    /// A list of names, each a string or a number.
    pub(super) fn names<T>(
        &mut self,
        field: &str,
        parse: impl Fn(&str) -> Result<T, NameError>,
    ) -> Option<Vec<T>> {
        let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(self.object.get(field)?.get())
        else {
            self.fault(format_args!("{field} must be an array"));
            return Some(Vec::new());
        };
        let mut names = Vec::with_capacity(values.len());
        for value in values {
            match text_or_number(value.get()).as_deref().map(&parse) {
                Some(Ok(name)) => names.push(name),
                Some(Err(error)) => self.once(format_args!("each value in {field} {error}")),
                None => self.once(format_args!("each value in {field} must be a string")),
            }
        }
        Some(names)
    }

    fn once(&mut self, fault: impl std::fmt::Display) {
        let fault = format!("{}{fault}", self.prefix);
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// The excluded clients; the rooms are those of the namespace at `path`.
    pub(super) fn except(&mut self, path: Arc<str>) -> Except {
        let Some(value) = self.object.get("except") else { return Except::nobody() };
        let Some(object) = Object::parse(value.get()) else {
            self.fault("except must be an object");
            return Except::nobody();
        };
        let mut fields = Fields { object: &object, prefix: "except.", faults: Vec::new() };
        let rooms = fields.names("rooms", RoomName::parse).unwrap_or_default();
        let except = Except {
            rooms,
            namespace: Some(path),
            users: fields.names("users", UserId::parse).unwrap_or_default(),
            clients: fields.names("clients", client).into_iter().flatten().flatten().collect(),
        };
        fields.nothing_but(&["rooms", "users", "clients"]);
        self.faults.append(&mut fields.faults);
        except
    }

    /// Rejects unknown fields: a misspelt one would widen the audience unnoticed.
    pub(super) fn nothing_but(&mut self, known: &[&str]) {
        let object = self.object;
        for (name, _) in object.fields().filter(|(name, _)| !known.contains(name)) {
            self.fault(format_args!("property {name} should not exist"));
        }
    }
}
