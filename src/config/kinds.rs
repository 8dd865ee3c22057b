//! The kinds of values that belong to one setting, or to a few.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ipnet::IpNet;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::password_hash::PasswordHash;
use super::{
    types::{
        CorsOrigin, Environment, LogFormat, Patterns, PresenceScope, REDACTED, RoomsDefault,
        Secret, SigningSecrets, StoreSync, Transports,
    },
    value::{Kind, ParseError, items},
};
use crate::protocol::{pattern::Pattern, permissions::Permissions, webhook::WebhookType};

/// A kind with a few fixed words, case-insensitive.
macro_rules! words {
    ($(#[$doc:meta])* $kind:ident: $type:ty, $expects:literal, $($word:literal => $value:expr),+) => {
        $(#[$doc])*
        pub(super) const $kind: Kind<$type> = Kind::new(
            $expects,
            |text| match text.to_ascii_lowercase().as_str() {
                $($word => Ok($value),)+
                _ => Err(ParseError::Other),
            },
            |value| {
                $(if *value == $value {
                    return $word.to_owned();
                })+
                unreachable!("every value has a word")
            },
        );
    };
}

/// What the server is run for.
pub(super) const ENVIRONMENT: Kind<Environment> = Kind::new(
    "production or development; anything else counts as production",
    |text| match text.to_ascii_lowercase().as_str() {
        "production" => Ok(Environment::Production),
        "development" => Ok(Environment::Development),
        _ if text.chars().any(char::is_control) => Err(ParseError::Other),
        _ => Ok(Environment::Other(text.to_owned())),
    },
    |environment| match environment {
        Environment::Production => "production".to_owned(),
        Environment::Development => "development".to_owned(),
        Environment::Other(text) => text.clone(),
    },
);
words! {
    /// The least severe level that is logged.
    LEVEL: Level, "error, warn, info, debug or trace",
    "error" => Level::ERROR, "warn" => Level::WARN, "info" => Level::INFO, "debug" => Level::DEBUG,
    "trace" => Level::TRACE
}
words! {
    /// How the log is written.
    LOG_FORMAT: LogFormat, "pretty or json",
    "pretty" => LogFormat::Pretty, "json" => LogFormat::Json
}
words! {
    /// What an acknowledged message survives.
    STORE_SYNC: StoreSync, "normal or full",
    "normal" => StoreSync::Normal, "full" => StoreSync::Full
}
words! {
    /// What a token without the claim `rooms` permits.
    ROOMS_DEFAULT: RoomsDefault, "allow or deny",
    "allow" => RoomsDefault::Allow, "deny" => RoomsDefault::Deny
}
words! {
    /// Who is told about a user's presence.
    PRESENCE_SCOPE: PresenceScope, "all, rooms or off",
    "all" => PresenceScope::All, "rooms" => PresenceScope::Rooms, "off" => PresenceScope::Off
}

/// Filter directives of the `tracing` family.
pub(super) const LOG_FILTER: Kind<Option<String>> = Kind::new(
    "filter directives such as debug or warn,roomcast=trace",
    |text| {
        if text.is_empty() {
            return Ok(None);
        }
        EnvFilter::builder().parse(text).map_err(|_| ParseError::Other)?;
        Ok(Some(text.to_owned()))
    },
    |filter| filter.clone().unwrap_or_default(),
);

/// Any origin, or a list of them.
pub(super) const ORIGINS: Kind<CorsOrigin> = Kind::new(
    "* or a list of origins such as https://example.com,http://localhost:4200",
    |text| {
        let mut origins = Vec::new();
        for item in items(text) {
            match item {
                "*" if items(text).count() == 1 => return Ok(CorsOrigin::Any),
                "*" => {
                    return Err(ParseError::Because(
                        "* stands alone: it already means every origin".into(),
                    ));
                }
                _ => origins.push(origin(item)?),
            }
        }
        if origins.is_empty() { Err(ParseError::Other) } else { Ok(CorsOrigin::List(origins)) }
    },
    |origins| match origins {
        CorsOrigin::Any => "*".to_owned(),
        CorsOrigin::List(origins) => origins.join(","),
    },
)
.list();

/// `text` as a browser writes that origin in its `Origin` header.
fn origin(text: &str) -> Result<String, ParseError> {
    let not_one = |why: &str| ParseError::Because(format!("{text:?} {why}"));
    let url =
        Url::parse(text).map_err(|_| not_one("is not an origin: it needs a scheme and a host"))?;
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return Err(not_one("has no host"));
    };
    if host.contains('*') {
        return Err(not_one("has a wildcard: name each origin"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(not_one("has a path: an origin ends with its host or port"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ParseError::Because("an origin has no user or password".into()));
    }
    if url.origin().is_tuple() {
        return Ok(url.origin().ascii_serialization());
    }
    // The schemes of packaged applications (capacitor://localhost) have no origin by the URL
    // standard, but their web views send this.
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    Ok(format!("{}://{}{port}", url.scheme(), host.to_ascii_lowercase()))
}

/// One pattern or more.
fn some_patterns(text: &str) -> Result<Patterns, ParseError> {
    let patterns = items(text).collect::<Patterns>();
    if patterns.is_empty() { Err(ParseError::Other) } else { Ok(patterns) }
}

/// Patterns of events.
pub(super) const EVENT_PATTERNS: Kind<Patterns> = Kind::new(
    "a list of events such as default,message,order:*",
    some_patterns,
    ToString::to_string,
)
.list();

/// Patterns of webhooks' types; each must match one.
pub(super) const WEBHOOK_TYPES: Kind<Patterns> = Kind::new(
    "a list of client.connected, client.disconnected, user.online, user.offline, room.occupied, \
     room.vacated, room.joined, room.left, message.created, message.queued, node.started and node.lost, \
     or patterns of them such as room.*",
    |text| {
        for item in items(text) {
            let pattern = Pattern::new(item);
            if !WebhookType::ALL.iter().any(|kind| pattern.matches(kind.as_str())) {
                return Err(ParseError::Because(format!("{item:?} is none of them")));
            }
        }
        some_patterns(text)
    },
    ToString::to_string,
)
.list();

/// Patterns of rooms.
pub(super) const WEBHOOK_ROOMS: Kind<Patterns> =
    Kind::new("a list of rooms such as lobby,public-*", some_patterns, ToString::to_string).list();

/// Names of headers, in lower case.
pub(super) const HEADER_NAMES: Kind<Patterns> = Kind::new(
    "a list of headers such as cookie,authorization,x-*, or * for all",
    |text| {
        let header = |item: &str| {
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte);
            if item.bytes().all(is_token) {
                Ok(item.to_ascii_lowercase())
            } else {
                Err(ParseError::Because(format!("{item:?} is no header's name")))
            }
        };
        let headers = items(text).map(header).collect::<Result<Vec<_>, _>>()?;
        Ok(headers.iter().map(String::as_str).collect())
    },
    ToString::to_string,
)
.list();

/// Keys that requests are signed with; secrets.
pub(super) const SIGNING_SECRETS: Kind<SigningSecrets> = Kind::new(
    "whsec_ and a key in base64, as `echo whsec_$(openssl rand -base64 32)` makes one; or two of them, \
     while one replaces the other",
    |text| {
        const BASE64: GeneralPurpose = GeneralPurpose::new(
            &STANDARD,
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
        );
        let key = |item: &str| {
            let encoded = item.strip_prefix("whsec_").ok_or(ParseError::Other)?;
            let key = BASE64.decode(encoded).map_err(|_| ParseError::Other)?;
            if key.is_empty() { Err(ParseError::Other) } else { Ok(key) }
        };
        let keys = items(text).map(key).collect::<Result<Vec<_>, _>>()?;
        if keys.len() > 2 || (keys.is_empty() && !text.is_empty()) {
            return Err(ParseError::Other);
        }
        Ok(SigningSecrets(keys))
    },
    |keys| keys.0.iter().map(|_| REDACTED).collect::<Vec<_>>().join(","),
)
.list()
.secret();

/// The name of a cookie: a token of RFC 6265.
pub(super) const COOKIE: Kind<Option<String>> = Kind::new(
    "the name of a cookie, such as token: letters, digits and !#$%&'*+-.^_`|~",
    |text| {
        let is_named =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match text {
            "" => Ok(None),
            name if name.bytes().all(is_named) => Ok(Some(name.to_owned())),
            _ => Err(ParseError::Other),
        }
    },
    |name| name.clone().unwrap_or_default(),
);

/// Names of hosts, in lower case.
pub(super) const HOSTS: Kind<Vec<String>> = Kind::new(
    "a list of host names such as rooms.example.com, without scheme and port",
    |text| {
        let host = |item: &str| match url::Host::parse(item) {
            Ok(url::Host::Domain(name)) if !name.contains('*') => Ok(name),
            _ => Err(ParseError::Because(format!("{item:?} is no host name"))),
        };
        items(text).map(host).collect()
    },
    |hosts: &Vec<String>| hosts.join(","),
)
.list();

/// Patterns of rooms. Empty means all rooms; the word `none` means none of them.
pub(super) const ROOM_PATTERNS: Kind<Permissions> = Kind::new(
    "a list of rooms such as lobby,public-*, or none",
    |text| {
        let patterns = items(text).collect::<Vec<_>>();
        match patterns[..] {
            [] if text.is_empty() => Ok(Permissions::everything()),
            [] => Err(ParseError::Other),
            [word] if word.eq_ignore_ascii_case("none") => Ok(Permissions::nothing()),
            _ => Permissions::patterns(patterns)
                .map_err(|error| ParseError::Because(error.to_string())),
        }
    },
    |permissions| match permissions.shown() {
        None => String::new(),
        Some(patterns) if patterns.is_empty() => "none".to_owned(),
        Some(patterns) => patterns.join(","),
    },
)
.list();

/// Namespaces and patterns of them; each gets its leading `/`, and the first is always `/`.
pub(super) const NAMESPACES: Kind<Vec<String>> = Kind::new(
    "a list of namespaces such as /,/chat or patterns such as /tenant-*, without control characters and ?",
    |text| {
        let mut namespaces = vec!["/".to_owned()];
        for item in items(text) {
            if item.contains(|character: char| character.is_control() || character == '?') {
                return Err(ParseError::Other);
            }
            let namespace =
                if item.starts_with('/') { item.to_owned() } else { format!("/{item}") };
            if !namespaces.contains(&namespace) {
                namespaces.push(namespace);
            }
        }
        Ok(namespaces)
    },
    |namespaces| namespaces.join(","),
)
.list();

/// Websocket, polling, or both.
pub(super) const TRANSPORTS: Kind<Transports> = Kind::new(
    "websocket, polling, or both with a comma between them",
    |text| {
        let mut transports = Transports { websocket: false, polling: false };
        for item in items(text) {
            match item.to_ascii_lowercase().as_str() {
                "websocket" => transports.websocket = true,
                "polling" => transports.polling = true,
                _ => return Err(ParseError::Other),
            }
        }
        if transports.websocket || transports.polling {
            Ok(transports)
        } else {
            Err(ParseError::Other)
        }
    },
    |transports| match (transports.websocket, transports.polling) {
        (true, true) => "websocket,polling".to_owned(),
        (false, true) => "polling".to_owned(),
        _ => "websocket".to_owned(),
    },
)
.list();

/// API keys; secrets.
pub(super) const API_KEYS: Kind<Vec<Secret>> = Kind::new(
    "a list of keys of visible ASCII characters, since they travel in a header",
    |text| {
        let keys: Vec<_> = items(text).map(Secret::new).collect();
        let sendable = |key: &Secret| key.expose().bytes().all(|byte| byte.is_ascii_graphic());
        // A list of commas alone names no key, but its author did not mean "no keys".
        let meant = text.is_empty() || !keys.is_empty();
        if meant && keys.iter().all(sendable) { Ok(keys) } else { Err(ParseError::Other) }
    },
    |keys| keys.iter().map(|_| REDACTED).collect::<Vec<_>>().join(","),
)
.list()
.secret();

/// The hash of a password, or none. Unlike every other kind, it does not read what it shows: the text shown
/// in place of a hash is not a hash.
pub(super) const PASSWORD_HASH: Kind<Option<PasswordHash>> = Kind::new(
    "an argon2 or bcrypt hash of the password, not the password itself: `roomcast hash-password` makes one \
     (in a .env file it stands between single quotes; in compose files each $ is written $$)",
    |text| match text {
        "" => Ok(None),
        _ => PasswordHash::parse(text.trim()).map(Some).map_err(|_| ParseError::Other),
    },
    |hash| hash.as_ref().map_or_else(String::new, |_| REDACTED.to_owned()),
)
.secret();

/// Addresses, and networks in CIDR notation.
pub(super) const NETWORKS: Kind<Vec<IpNet>> = Kind::new(
    "a list of IP addresses or networks such as 10.0.0.0/8,127.0.0.1,::1",
    |text| {
        let network = |item: &str| -> Result<IpNet, ParseError> {
            if let Ok(network) = item.parse::<IpNet>() {
                return Ok(network.trunc());
            }
            let wrong = |_| ParseError::Because(format!("{item:?} is neither"));
            item.parse()
                .map(|address: std::net::IpAddr| address.to_canonical().into())
                .map_err(wrong)
        };
        items(text).map(network).collect()
    },
    |networks: &Vec<IpNet>| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
)
.list();

#[cfg(test)]
mod tests;
