//! The kinds of simple values: how each is read from a text, and written as one.
//!
//! A kind reads every text that it writes, so that a summary can be given back as a configuration.

use std::{net::IpAddr, time::Duration};

use super::types::{MemoryLimit, REDACTED, Secret};

/// Why a text is not a value of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ParseError {
    /// It is not what the kind expects.
    Other,
    /// It is nearly such a value; this says what is wrong.
    Because(String),
}

/// How several values stand in one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// There is one value.
    None,
    /// Commas separate them.
    Commas,
    /// They are texts or objects of a JSON list.
    Json,
}

/// How a value of one kind is read and written.
pub(super) struct Kind<T> {
    /// What an error says is allowed, after the word "expected".
    pub expects: &'static str,
    /// Reads a text. Only a default can be empty, which means that there is no value.
    pub parse: fn(&str) -> Result<T, ParseError>,
    /// Writes a value as it may be shown, in a syntax that `parse` reads.
    pub show: fn(&T) -> String,
    /// Whether a list of the TOML file may stand for it, and how that is written as a text.
    pub list: List,
    /// Whether it must never be shown. A secret is read as it stands, blanks included.
    pub secret: bool,
}

impl<T> Kind<T> {
    /// A kind of single values that may be shown.
    pub(super) const fn new(
        expects: &'static str,
        parse: fn(&str) -> Result<T, ParseError>,
        show: fn(&T) -> String,
    ) -> Self {
        Self { expects, parse, show, list: List::None, secret: false }
    }

    /// The same kind, of several values.
    pub(super) const fn list(mut self) -> Self {
        self.list = List::Commas;
        self
    }

    /// The same kind, of one value or of several in JSON.
    pub(super) const fn json_list(mut self) -> Self {
        self.list = List::Json;
        self
    }

    /// The same kind, never to be shown.
    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// The greatest number that every store and every JSON reader holds exactly: 2^53 - 1.
const GREATEST: u64 = 9_007_199_254_740_991;
/// Ten years. Far beyond it, adding a duration to a point in time could overflow.
const LONGEST: Duration = Duration::from_hours(3650 * 24);

/// A TCP port, 0 for a free one.
pub(super) const PORT: Kind<u16> =
    Kind::new("a port from 1 to 65535, or 0 for a free one", digits, ToString::to_string);

/// An address of this machine to listen on.
pub(super) const ADDRESS: Kind<IpAddr> = Kind::new(
    "an IP address to listen on, such as 0.0.0.0, 127.0.0.1 or ::",
    |text| text.parse().map_err(|_| ParseError::Other),
    ToString::to_string,
);

/// A number whose 0 has a meaning of its own.
pub(super) const COUNT: Kind<u64> = Kind::new(
    "a whole number, 0 or greater",
    |text| {
        digits(text)
            .and_then(|number| if number <= GREATEST { Ok(number) } else { Err(ParseError::Other) })
    },
    ToString::to_string,
);

/// A number of at least one.
pub(super) const POSITIVE_COUNT: Kind<u64> = Kind::new(
    "a whole number greater than 0, up to 1000000",
    |text| {
        digits(text).and_then(|number| {
            if (1..=1_000_000).contains(&number) { Ok(number) } else { Err(ParseError::Other) }
        })
    },
    ToString::to_string,
);

/// A number of things a second, 0 for no limit.
pub(super) const RATE: Kind<u32> =
    Kind::new("a whole number from 0 to 4294967295", digits, ToString::to_string);

/// A number of bytes, at least one.
pub(super) const SIZE: Kind<u64> = Kind::new(
    "a size greater than 0, such as 65536 (bytes), 64KB, 1MB or 1GB",
    |text| size(text).filter(|bytes| (1..=GREATEST).contains(bytes)).ok_or(ParseError::Other),
    |bytes| show_size(*bytes),
);

/// An amount of memory.
pub(super) const MEMORY: Kind<MemoryLimit> = Kind::new(
    "a size such as 512MB or 2GB, a part of the memory from 1% to 100%, or 0 for no limit",
    |text| {
        let percent = text.strip_suffix('%').map(str::trim_end);
        match percent {
            Some("") => Err(ParseError::Other),
            Some(percent) => match digits(percent)? {
                percent @ 1..=100 => Ok(MemoryLimit::Percent(percent)),
                _ => Err(ParseError::Other),
            },
            None => size(text).map(MemoryLimit::Bytes).ok_or(ParseError::Other),
        }
    },
    |limit| match limit {
        MemoryLimit::Bytes(bytes) => show_size(*bytes),
        MemoryLimit::Percent(percent) => format!("{percent}%"),
    },
);

/// A number of bytes that is a limit, 0 for none.
pub(super) const SIZE_LIMIT: Kind<u64> = Kind::new(
    "a size of at least 1MB, such as 500MB or 10GB, or 0 for no limit",
    |text| {
        let bytes = size(text).filter(|bytes| *bytes <= GREATEST).ok_or(ParseError::Other)?;
        if (1..1_000_000).contains(&bytes) { Err(ParseError::Other) } else { Ok(bytes) }
    },
    |bytes| show_size(*bytes),
);

/// A duration that may be zero.
pub(super) const DURATION: Kind<Duration> = Kind::new(
    "a duration up to 3650d, such as 500ms, 5s, 10m, 24h, 7d or 30 (seconds)",
    |text| duration(text).ok_or(ParseError::Other),
    |duration| show_duration(*duration),
);

/// A duration of at least a millisecond.
pub(super) const POSITIVE_DURATION: Kind<Duration> = Kind::new(
    "a duration greater than 0 and up to 3650d, such as 500ms, 5s, 10m, 24h, 7d or 30 (seconds)",
    |text| duration(text).filter(|duration| !duration.is_zero()).ok_or(ParseError::Other),
    |duration| show_duration(*duration),
);

/// A maximum age; 0 for none.
pub(super) const AGE: Kind<Option<Duration>> = Kind::new(
    "a duration up to 3650d, such as 10m, 24h or 7d, or 0 for no age limit",
    |text| {
        let age = duration(text).ok_or(ParseError::Other)?;
        Ok((!age.is_zero()).then_some(age))
    },
    |age| show_duration(age.unwrap_or_default()),
);

/// Yes or no.
pub(super) const FLAG: Kind<bool> =
    Kind::new("true or false (also 1, 0, yes, no, on, off)", flag, ToString::to_string);

/// Yes, no, or unset.
pub(super) const OPTIONAL_FLAG: Kind<Option<bool>> = Kind::new(
    "true or false (also 1, 0, yes, no, on, off)",
    |text| if text.is_empty() { Ok(None) } else { flag(text).map(Some) },
    |flag| flag.map_or_else(String::new, |flag| flag.to_string()),
);

/// A line of text, or none.
pub(super) const TEXT: Kind<Option<String>> = Kind::new(
    "one line of text",
    |text| match text {
        "" => Ok(None),
        _ if text.chars().any(char::is_control) => Err(ParseError::Other),
        _ => Ok(Some(text.to_owned())),
    },
    |text| text.clone().unwrap_or_default(),
);

/// A secret, or none.
pub(super) const SECRET: Kind<Option<Secret>> = Kind::new(
    "a text that is not blank",
    |text| Ok((!text.is_empty()).then(|| Secret::new(text))),
    |secret| secret.as_ref().map_or_else(String::new, |_| REDACTED.to_owned()),
)
.secret();

/// The parts of a list that are not blank, trimmed.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// A number in plain digits; Rust's own parsers would take a sign as well.
fn digits<T: std::str::FromStr>(text: &str) -> Result<T, ParseError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ParseError::Other);
    }
    text.parse().map_err(|_| ParseError::Other)
}

fn flag(text: &str) -> Result<bool, ParseError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(ParseError::Other),
    }
}

/// A number and the unit behind it, in lower case.
fn measure(text: &str) -> Option<(u64, String)> {
    let unit_at = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    Some((number.parse().ok()?, unit.trim_start().to_ascii_lowercase()))
}

const SIZES: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000)];

fn size(text: &str) -> Option<u64> {
    let (number, unit) = measure(text)?;
    let bytes = match unit.as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(bytes)
}

fn show_size(bytes: u64) -> String {
    SIZES
        .iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit))
        .map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = measure(text)?;
    let milliseconds = match unit.as_str() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .filter(|duration| *duration <= LONGEST)
}

fn show_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds == 0 {
        return "0".to_owned();
    }
    // Hours before days: 24h is what people write.
    let unit = match milliseconds {
        day if day.is_multiple_of(86_400_000) && day > 86_400_000 => ("d", 86_400_000),
        hour if hour.is_multiple_of(3_600_000) => ("h", 3_600_000),
        minute if minute.is_multiple_of(60_000) => ("m", 60_000),
        second if second.is_multiple_of(1_000) => ("s", 1_000),
        _ => ("ms", 1),
    };
    format!("{}{}", milliseconds / unit.1, unit.0)
}

#[cfg(test)]
mod tests;
