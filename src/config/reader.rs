//! Reads values from the merged sources and collects the errors.

use figment::{Figment, value::Value};

use super::{
    fault::{ConfigError, shown},
    value::{Kind, List, ParseError},
};

/// The merged sources, and the errors found so far.
pub(super) struct Reader {
    values: Figment,
    /// Everything that is wrong so far.
    pub(super) faults: Vec<ConfigError>,
}

impl Reader {
    /// A reader of `values`, whose keys are variables' names in lower case.
    pub(super) fn new(values: Figment, faults: Vec<ConfigError>) -> Self {
        Self { values, faults }
    }

    /// Where the variable was given: `None` if it was not.
    pub(super) fn source(&self, name: &str) -> Option<String> {
        self.find(name).map(|(_, source)| source)
    }

    /// The value of the first of `names` that was given, else the default. A wrong value becomes an error,
    /// and the default stands in for it so that the rest can be checked.
    pub(super) fn read<T>(&mut self, names: &[&'static str], default: &str, kind: &Kind<T>) -> T {
        let given = names
            .iter()
            .find_map(|name| self.find(name).map(|(value, source)| (*name, value, source)));
        if let Some((name, value, source)) = given {
            match read(&value, kind) {
                Ok(value) => return value,
                Err((given, allowed)) => {
                    self.faults.push(ConfigError {
                        variable: name.to_owned(),
                        given: Some(given),
                        allowed,
                        source,
                    });
                }
            }
        }
        // Cannot fail: a test of this module's parent checks that every default is a value of its kind.
        (kind.parse)(default)
            .unwrap_or_else(|_| unreachable!("{names:?} has a default that it cannot have"))
    }

    /// Reports an error of `names` together, attributed to wherever they were given.
    pub(super) fn conflict(&mut self, names: &[&str], allowed: impl Into<String>) {
        let mut sources: Vec<_> = names.iter().filter_map(|name| self.source(name)).collect();
        sources.dedup();
        self.faults.push(ConfigError {
            variable: names.join(", "),
            given: None,
            allowed: allowed.into(),
            source: sources.join(" and "),
        });
    }

    fn find(&self, name: &str) -> Option<(Value, String)> {
        let value = self.values.find_value(&name.to_ascii_lowercase()).ok()?;
        let source =
            self.values.get_metadata(value.tag()).map(|metadata| metadata.name.to_string());
        Some((value, source.unwrap_or_default()))
    }
}

/// Reads one value. The error is what was given and what is allowed.
fn read<T>(value: &Value, kind: &Kind<T>) -> Result<T, (String, String)> {
    let text =
        as_text(value, kind.list).map_err(|what| (what.to_owned(), kind.expects.to_owned()))?;
    let refused = |why: Option<String>| {
        let allowed = match why {
            Some(why) => format!("{}; {why}", kind.expects),
            None => kind.expects.to_owned(),
        };
        (shown(&text, kind.secret), allowed)
    };
    // The kind reads an empty text as "none"; a blank one must not pass as that.
    if text.trim().is_empty() {
        return Err(refused(Some("the value is blank".to_owned())));
    }
    let parsed = (kind.parse)(if kind.secret { &text } else { text.trim() });
    parsed.map_err(|error| match error {
        ParseError::Other => refused(None),
        ParseError::Because(why) => refused(Some(why)),
    })
}

/// A value of the TOML file, or any other, in the form of an environment variable.
fn as_text(value: &Value, list: List) -> Result<String, &'static str> {
    match value {
        Value::String(_, text) => Ok(text.clone()),
        Value::Char(_, character) => Ok(character.to_string()),
        Value::Bool(_, flag) => Ok(flag.to_string()),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(number), ..) => Ok(number.to_string()),
            (_, Some(number), _) => Ok(number.to_string()),
            (.., Some(number)) => Ok(number.to_string()),
            _ => Err("a number out of range"),
        },
        Value::Array(_, items) if list == List::Json => {
            let is_key = |item: &Value| matches!(item, Value::String(..) | Value::Dict(..));
            if items.is_empty() || !items.iter().all(is_key) {
                return Err("a list of something else");
            }
            serde_json::to_string(items).map_err(|_| "a list that has no form in JSON")
        }
        Value::Array(_, items) if list == List::Commas => {
            let items = items
                .iter()
                .map(|item| as_text(item, List::None))
                .collect::<Result<Vec<_>, _>>()?;
            if items.iter().any(|item| item.contains(',')) {
                return Err("a list with a comma in one of its items");
            }
            Ok(items.join(","))
        }
        Value::Array(..) => Err("a list"),
        Value::Dict(..) => Err("a table or a date"),
        Value::Empty(..) => Err("nothing"),
    }
}
