//! Where settings come from: the environment over a `.env` file over a TOML file.

use std::{
    cell::Cell,
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Toml},
    value::{Dict, Map},
};

use super::{fault::ConfigError, settings::SETTINGS};

/// Where a configuration is loaded from. By default there is no source, only the defaults.
#[derive(Clone, Default)]
pub struct Sources {
    /// The environment. Variables that are no settings are ignored, but for those whose names are nearly those
    /// of settings.
    pub env: Vec<(OsString, OsString)>,
    /// A `.env` file, below the environment; it need not exist.
    pub dotenv: Option<PathBuf>,
    /// A TOML file, below both; it must exist.
    pub toml: Option<PathBuf>,
}

impl Sources {
    /// This process' environment, the `.env` file of the working directory, and `toml`.
    pub fn of_process(toml: Option<PathBuf>) -> Self {
        Self { env: std::env::vars_os().collect(), dotenv: Some(".env".into()), toml }
    }

    /// The merged sources, and the errors of whole sources.
    pub(super) fn merge(self) -> (Figment, Vec<ConfigError>) {
        let mut faults = Vec::new();
        let mut values = Figment::new();
        if let Some(path) = self.toml {
            values = values.merge(toml(&path, &mut faults));
        }
        if let Some(path) = self.dotenv {
            values = values.merge(dotenv(&path, &mut faults));
        }
        values = values.merge(environment(self.env, &mut faults));
        (values, faults)
    }
}

/// One source: its name, and its values by the variables' names in lower case.
struct Layer {
    name: String,
    values: Dict,
}

impl Layer {
    /// A layer of those `variables` that are settings. An empty one counts as unset. Misspelt ones are faults.
    fn of_variables(
        name: &str,
        variables: BTreeMap<String, String>,
        faults: &mut Vec<ConfigError>,
    ) -> Self {
        let mut values = Dict::new();
        for (variable, value) in variables.into_iter().filter(|(_, value)| !value.is_empty()) {
            if is_setting(&variable) {
                values.insert(variable.to_ascii_lowercase(), value.into());
            } else if let Some(meant) = misspelt(&variable) {
                let allowed = format!("there is no such setting; did you mean {meant}?");
                let source = name.to_owned();
                faults.push(ConfigError { variable, given: None, allowed, source });
            }
        }
        Self { name: name.to_owned(), values }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn is_setting(variable: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.names().any(|name| name == variable))
}

fn environment(variables: Vec<(OsString, OsString)>, faults: &mut Vec<ConfigError>) -> Layer {
    const NAME: &str = "the environment";
    let mut readable = BTreeMap::new();
    for (variable, value) in variables {
        // A name that is not Unicode is not a setting.
        let Ok(variable) = variable.into_string() else { continue };
        match value.into_string() {
            Ok(value) => {
                readable.insert(variable, value);
            }
            Err(_) if is_setting(&variable) => faults.push(ConfigError {
                variable,
                given: Some("a value that is not UTF-8".to_owned()),
                allowed: "UTF-8 text".to_owned(),
                source: NAME.to_owned(),
            }),
            Err(_) => {}
        }
    }
    Layer::of_variables(NAME, readable, faults)
}

/// Reads the `.env` file. If it names a variable twice, the last one counts.
fn dotenv(path: &Path, faults: &mut Vec<ConfigError>) -> Layer {
    let mut variables = BTreeMap::new();
    let name = path.display().to_string();
    let mut refuse = |allowed: String| {
        faults.push(ConfigError {
            variable: name.clone(),
            given: None,
            allowed,
            source: name.clone(),
        });
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            refuse(format!("the file cannot be read: {error}"));
            String::new()
        }
    };
    // A byte order mark would become part of the first name. Without a last line end, the parser takes
    // trailing blanks for an unfinished value.
    let text = format!("{}\n", text.trim_start_matches('\u{feff}'));
    let taken = Cell::new(0);
    let mut entries = dotenvy::from_read_iter(Lines { rest: text.as_bytes(), taken: &taken });
    loop {
        let before = taken.get();
        match entries.next() {
            None => break,
            Some(Ok((variable, value))) => {
                variables.insert(variable, value);
            }
            // The error repeats its input, which may be a secret, so only the line is named.
            Some(Err(dotenvy::Error::LineParse(..))) => {
                let line = first_entry(&text, before);
                refuse(format!(
                    "line {line} is not NAME=value; quote a value that has blanks or quotes in it"
                ));
            }
            Some(Err(error)) => refuse(format!("the file cannot be read: {error}")),
        }
    }
    Layer::of_variables(&name, variables, faults)
}

/// Yields a text line by line, and counts the lines that the reader has taken.
struct Lines<'a> {
    rest: &'a [u8],
    /// How many lines the reader has taken.
    taken: &'a Cell<usize>,
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end =
            self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |at| at + 1);
        let length = end.min(buffer.len());
        let (line, rest) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(line);
        self.taken.set(self.taken.get() + usize::from(line.ends_with(b"\n")));
        self.rest = rest;
        Ok(length)
    }
}

/// The number of the first line after `before` lines that is neither blank nor a comment.
fn first_entry(text: &str, before: usize) -> usize {
    let is_entry = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    before + 1 + text.lines().skip(before).position(is_entry).unwrap_or_default()
}

fn toml(path: &Path, faults: &mut Vec<ConfigError>) -> Layer {
    let name = path.display().to_string();
    let mut values = Dict::new();
    let mut refuse = |variable: String, allowed: String| {
        faults.push(ConfigError { variable, given: None, allowed, source: name.clone() });
    };
    match fs::read_to_string(path) {
        Err(error) => {
            refuse(name.clone(), format!("the configuration file cannot be read: {error}"));
        }
        Ok(text) => match Toml::from_str::<Dict>(&text) {
            // Displayed, the error repeats the line, which may hold a secret.
            Err(error) => {
                let before =
                    error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                let why = error.message().replace('\n', "; ");
                refuse(name.clone(), format!("line {line} is not TOML: {why}"));
            }
            Ok(given) => {
                for (key, value) in given {
                    if key == key.to_ascii_lowercase() && is_setting(&key.to_ascii_uppercase()) {
                        // As in the environment, empty means unset.
                        if value.as_str() != Some("") {
                            values.insert(key, value);
                        }
                    } else {
                        let hint = nearest(&key).map_or_else(
                            || "see the list of settings".to_owned(),
                            |near| format!("did you mean {near:?}?"),
                        );
                        refuse(key, format!("there is no such setting; {hint}"));
                    }
                }
            }
        },
    }
    Layer { name, values }
}

/// The setting that a variable was certainly meant to be: the two differ by case, or by a letter or two.
///
/// The environment holds the variables of other programs, too. Short names, and those of one word, may be theirs.
fn misspelt(variable: &str) -> Option<&'static str> {
    let upper = variable.to_ascii_uppercase();
    let allowed = match upper.len() {
        0..8 => return None,
        8..12 => 1,
        _ => 2,
    };
    SETTINGS
        .iter()
        .flat_map(super::settings::Setting::names)
        .filter(|name| name.contains('_'))
        .map(|name| (strsim::damerau_levenshtein(&upper, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The setting that `key` was probably meant to be.
fn nearest(key: &str) -> Option<String> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SETTINGS
        .iter()
        .flat_map(super::settings::Setting::names)
        .map(str::to_ascii_lowercase)
        .map(|name| (strsim::normalized_damerau_levenshtein(&key, &name), name))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named_only_when_it_is_near() {
        assert_eq!(nearest("prot").as_deref(), Some("port"));
        assert_eq!(nearest("PORT").as_deref(), Some("port"));
        assert_eq!(nearest("max-payloads").as_deref(), Some("max_payload"));
        assert_eq!(nearest("colour"), None);
    }

    #[test]
    fn a_variable_of_another_program_is_not_taken_for_a_misspelt_setting() {
        assert_eq!(misspelt("JWT_SECRT"), Some("JWT_SECRET"));
        assert_eq!(misspelt("jwt_secret"), Some("JWT_SECRET"));
        assert_eq!(misspelt("CORS_ORIGINS"), Some("CORS_ORIGIN"));
        assert_eq!(misspelt("RATE_LIMTI_EVENT"), Some("RATE_LIMIT_EVENTS"));
        let others = [
            "HOME",
            "PROT",
            "HOSTS",
            "LOGNAME",
            "REDIS_HOST",
            "REDIS_PORT",
            "HTTP_PROXY",
            "LOG_FILE",
            "ROOMCAST_PORT",
            "ROOMCAST_SERVICE_HOST",
            "RUST_BACKTRACE",
            "STORE_DIR",
            "API_KEY_ID",
        ];
        for other in others {
            assert_eq!(misspelt(other), None, "{other}");
        }
    }
}
