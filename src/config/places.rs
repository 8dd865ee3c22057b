//! The kinds of values that say where something is: a store, a key, a file.

use std::path::PathBuf;

use url::Url;

use super::{
    redis_url,
    types::{EventLog, Secret, StoreUrl},
    value::{Kind, List, ParseError, SECRET},
};

/// An SQLite file, or memory.
pub(super) const STORE_URL: Kind<StoreUrl> = Kind::new(
    "sqlite: and the path of a file (sqlite:data/roomcast.db), or memory:",
    |text| {
        if text == "memory:" {
            return Ok(StoreUrl::Memory);
        }
        let path = text.strip_prefix("sqlite:").ok_or(ParseError::Other)?;
        // sqlite:///var/x.db and sqlite://data/x.db are how other tools write it.
        let path = path.strip_prefix("//").unwrap_or(path);
        if path == ":memory:" {
            return Err(ParseError::Because("use memory: to store nothing on disk".into()));
        }
        if path.is_empty() || path.contains('\0') || path.ends_with('/') {
            return Err(ParseError::Other);
        }
        Ok(StoreUrl::Sqlite(path.into()))
    },
    |store| match store {
        StoreUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        StoreUrl::Memory => "memory:".to_owned(),
    },
);

/// The instances of Redis; a secret, because their URLs may hold passwords.
pub(super) const REDIS_URL: Kind<Option<Secret>> = Kind {
    expects: "a URL such as redis://localhost:6379/0, or rediss:// for TLS; with Sentinels \
              redis+sentinel://host1:26379,host2:26379/mymaster; several instances as a list, \
              separated by commas or in JSON; a Redis Cluster as redis+cluster://host1:6379,host2:6379",
    parse: |text| {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        match redis_url::check(text) {
            Ok(()) => Ok(Some(Secret::new(text))),
            Err(Some(why)) => Err(ParseError::Because(why.into_owned())),
            Err(None) => Err(ParseError::Other),
        }
    },
    show: |url| url.as_ref().map_or_else(String::new, |url| redis_url::shown(url.expose())),
    list: List::Json,
    ..SECRET
};

/// The first parts of the paths that the HTTP API has.
const TAKEN: [&str; 12] = [
    "api",
    "api-json",
    "api-yaml",
    "asyncapi.json",
    "connections",
    "events",
    "health",
    "messages",
    "metrics",
    "rooms",
    "stats",
    "users",
];

/// The path of Socket.IO, without a slash at its end.
pub(super) const SOCKET_PATH: Kind<String> = Kind::new(
    "a path such as /socket.io or /realtime/socket.io, of letters, digits and . _ ~ - between the slashes",
    |text| {
        let path = text.trim_end_matches('/');
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        let mut parts = path.strip_prefix('/').ok_or(ParseError::Other)?.split('/');
        let first = parts.clone().next().unwrap_or_default();
        if TAKEN.contains(&first) {
            return Err(ParseError::Because(format!("the HTTP API has routes below /{first}")));
        }
        let is_path = parts.all(|part| {
            !part.is_empty() && part.bytes().all(allowed) && !matches!(part, "." | "..")
        });
        if is_path { Ok(path.to_owned()) } else { Err(ParseError::Other) }
    },
    String::clone,
);

/// The prefix of the keys in Redis.
pub(super) const PREFIX: Kind<String> = Kind::new(
    "1 to 64 characters, none of them a blank or one of { } * ? [ ] \\",
    |text| {
        let length = text.chars().count();
        // Braces would choose a cluster's slot; the others are wildcards of Redis' patterns.
        let strange = |character: char| {
            character.is_whitespace() || character.is_control() || "{}*?[]\\".contains(character)
        };
        if (1..=64).contains(&length) && !text.contains(strange) {
            Ok(text.to_owned())
        } else {
            Err(ParseError::Other)
        }
    },
    String::clone,
);

/// What the channels of Socket.IO's emitters begin with, or none.
pub(super) const EMITTER_PREFIX: Kind<Option<String>> = Kind::new(
    PREFIX.expects,
    |text| match text {
        "" => Ok(None),
        _ => (PREFIX.parse)(text).map(Some),
    },
    |prefix| prefix.clone().unwrap_or_default(),
);

/// An `http` or `https` URL, or none.
pub(super) const WEB_URL: Kind<Option<String>> = Kind::new(
    "an http or https URL such as https://login.example.com/.well-known/jwks.json",
    |text| web_url(text, "a key set is public: no user or password in its URL"),
    |url| url.clone().unwrap_or_default(),
);

/// The address of the application's backend, or none.
pub(super) const BACKEND_URL: Kind<Option<String>> = Kind::new(
    "an absolute http or https URL such as https://api.example.com/roomcast",
    |text| {
        web_url(text, "no user or password in it: requests are signed with a secret of their own")
    },
    |url| url.clone().unwrap_or_default(),
);

/// An `http` or `https` URL, or none; `bare` says why there may be no user and password in it.
fn web_url(text: &str, bare: &'static str) -> Result<Option<String>, ParseError> {
    if text.is_empty() {
        return Ok(None);
    }
    let url = Url::parse(text).map_err(|_| ParseError::Other)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ParseError::Other);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ParseError::Because(bare.into()));
    }
    Ok(Some(text.to_owned()))
}

/// A file, the standard output, or neither.
pub(super) const EVENT_LOG: Kind<Option<EventLog>> = Kind::new(
    "the path of a file, or stdout",
    |text| match text {
        "" => Ok(None),
        "stdout" => Ok(Some(EventLog::Stdout)),
        _ if text.contains('\0') || text.ends_with('/') => Err(ParseError::Other),
        _ => Ok(Some(EventLog::File(text.into()))),
    },
    |log| match log {
        None => String::new(),
        Some(EventLog::Stdout) => "stdout".to_owned(),
        Some(EventLog::File(path)) => path.display().to_string(),
    },
);

/// A directory that exists, or none.
pub(super) const DIRECTORY: Kind<Option<PathBuf>> = Kind::new(
    "the path of a directory",
    |text| match text {
        "" => Ok(None),
        _ if PathBuf::from(text).is_dir() => Ok(Some(text.into())),
        _ => Err(ParseError::Because("there is no such directory".into())),
    },
    |path| path.as_ref().map_or_else(String::new, |path| path.display().to_string()),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_io_has_a_path_of_its_own() {
        for (text, path) in [
            ("/socket.io", "/socket.io"),
            ("/socket.io/", "/socket.io"),
            ("/realtime/v1.2/ws_a", "/realtime/v1.2/ws_a"),
        ] {
            assert_eq!((SOCKET_PATH.parse)(text).as_deref(), Ok(path));
        }
        for text in [
            "/",
            "",
            "socket.io",
            "//a",
            "/a//b",
            "/a b",
            "/a?b",
            "/../a",
            "/é",
            "/rooms",
            "/events/x",
        ] {
            assert!((SOCKET_PATH.parse)(text).is_err(), "{text}");
        }
    }

    #[test]
    fn stores_are_files_or_memory() {
        for (text, path) in [
            ("sqlite:data/x.db", "data/x.db"),
            ("sqlite:/var/x.db", "/var/x.db"),
            ("sqlite:///var/x.db", "/var/x.db"),
            ("sqlite://x.db", "x.db"),
        ] {
            assert_eq!((STORE_URL.parse)(text), Ok(StoreUrl::Sqlite(path.into())), "{text}");
        }
        assert_eq!((STORE_URL.parse)("memory:"), Ok(StoreUrl::Memory));
        for text in ["sqlite:", "sqlite::memory:", "data/x.db", "postgres://h/d", "sqlite:data/"] {
            assert!((STORE_URL.parse)(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_redis_url_shows_no_password() {
        let url = (REDIS_URL.parse)(" rediss://me:hunter2@redis.internal:6380/3 ").unwrap();
        assert_eq!((REDIS_URL.show)(&url), "rediss://redis.internal:6380");
        assert_eq!(url.unwrap().expose(), "rediss://me:hunter2@redis.internal:6380/3");
        for text in ["localhost:6379", "http://localhost", "redis://"] {
            assert!((REDIS_URL.parse)(text).is_err(), "{text}");
        }
        let url =
            (REDIS_URL.parse)("redis+sentinel://me:hunter2@a,b:1/m?sentinel_password=hunter3");
        assert_eq!((REDIS_URL.show)(&url.unwrap()), "redis+sentinel://a:26379,b:1/m");
        let error = (REDIS_URL.parse)("redis+sentinel://a,b").unwrap_err();
        assert!(matches!(&error, ParseError::Because(why) if why.contains("service")));
        let url = (REDIS_URL.parse)(r#"["redis://:hunter2@a", "redis://:hunter3@b"]"#).unwrap();
        assert_eq!((REDIS_URL.show)(&url), "redis://a,redis://b");
        let error = (REDIS_URL.parse)("redis://a,redis://a:6379/0").unwrap_err();
        assert!(matches!(&error, ParseError::Because(why) if why.contains("the same")));
    }
}
