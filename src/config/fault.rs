//! Configuration errors, worded so that they can be corrected.

use std::fmt;

use super::types::REDACTED;

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable, the key of the TOML file, or the file itself.
    pub variable: String,
    /// What was given, as it may be shown (never a secret); `None` if the error is not in a value.
    pub given: Option<String>,
    /// What is allowed; without `given`, a sentence that also says what is wrong.
    pub allowed: String,
    /// Where the value came from: `the environment`, or a file.
    pub source: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.variable)?;
        if let Some(given) = &self.given {
            write!(f, "{given} is not allowed; expected ")?;
        }
        write!(f, "{} (from {})", self.allowed, self.source)
    }
}

/// Everything that is wrong with the configuration; never empty. Displayed one error a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The most characters of a value that an error repeats.
const SHOWN_CHARS: usize = 100;

/// A value as an error may show it: quoted, on one line, shortened, and without what could be a secret in
/// the wrong place (a key's text, the password of a URL).
pub(super) fn shown(value: &str, secret: bool) -> String {
    if secret || value.contains("-----BEGIN") {
        return REDACTED.to_owned();
    }
    let value = without_userinfo(value);
    if value.chars().count() <= SHOWN_CHARS {
        return format!("{value:?}");
    }
    let start: String = value.chars().take(SHOWN_CHARS).collect();
    format!("{start:?}…")
}

/// `value` with everything between the first `://` and the last `@` hidden.
fn without_userinfo(value: &str) -> String {
    match (value.find("://"), value.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}{REDACTED}{}", &value[..scheme + 3], &value[at..])
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_value_holds_no_secret() {
        assert_eq!(shown("hunter2", true), "[redacted]");
        assert_eq!(shown("-----BEGIN PRIVATE KEY-----\nabc", false), "[redacted]");
        assert_eq!(shown("redis://u:p@ss@host:1/0", false), r#""redis://[redacted]@host:1/0""#);
        assert_eq!(shown("a@b://c", false), r#""a@b://c""#);
    }

    #[test]
    fn a_shown_value_is_one_short_line() {
        assert_eq!(shown("a\nb", false), r#""a\nb""#);
        assert_eq!(shown(&"é".repeat(101), false), format!("\"{}\"…", "é".repeat(100)));
    }
}
