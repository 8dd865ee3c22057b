//! The rules between sources and between settings, and the table itself.

use std::{collections::BTreeSet, path::PathBuf};

use super::{settings::SETTINGS, *};

/// The bcrypt hash of "changeit".
const HASH: &str = "$2b$10$heqvAkYMez.Va6Et2uXInOnkCT6/uQj1brkrbyG3LpopDklcq7ZOS";

/// Sources in a directory of their own.
#[derive(Default)]
struct Given {
    env: Vec<(&'static str, String)>,
    dotenv: Option<String>,
    toml: Option<String>,
}

impl Given {
    fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    fn dotenv(mut self, text: &str) -> Self {
        self.dotenv = Some(text.to_owned());
        self
    }

    fn toml(mut self, text: &str) -> Self {
        self.toml = Some(text.to_owned());
        self
    }

    fn load(self) -> Result<Config, ConfigErrors> {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: Option<String>| -> Option<PathBuf> {
            let path = directory.path().join(name);
            text.map(|text| {
                std::fs::write(&path, text).unwrap();
                path
            })
        };
        Config::load(Sources {
            env: self.env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            dotenv: file(".env", self.dotenv),
            toml: file("roomcast.toml", self.toml),
        })
    }

    fn faults(self) -> Vec<ConfigError> {
        self.load().unwrap_err().0
    }

    /// The only error, as a line without its source.
    fn fault(self) -> String {
        let faults = self.faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        let line = faults[0].to_string();
        line.rsplit_once(" (from ").unwrap().0.to_owned()
    }
}

fn env(name: &'static str, value: &str) -> Given {
    Given::default().env(name, value)
}

#[test]
fn the_defaults_are_the_contracts() {
    let config = Config::default();
    let summary: Vec<_> =
        config.summary().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    insta::assert_snapshot!(summary.join("\n"));
    assert!(!config.auth_enabled() && !config.auth_required() && !config.store_url_given);
}

#[test]
fn names_are_unique_and_documented() {
    let names: Vec<_> = SETTINGS.iter().flat_map(settings::Setting::names).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    for setting in SETTINGS {
        assert!(setting.doc().ends_with('.') && !setting.doc().contains('|'), "{}", setting.name);
    }
}

#[test]
fn the_example_with_every_line_uncommented_is_the_default() {
    let example = env_example();
    let uncommented: Vec<_> = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        })
        .collect();
    let config = Given::default().dotenv(&uncommented.join("\n")).load().unwrap();
    assert_eq!(config.summary(), Config::default().summary());
    assert_eq!(
        example
            .lines()
            .filter(|line| line.starts_with('#') && line.contains('=') && !line.starts_with("# "))
            .count(),
        SETTINGS.len()
    );
}

#[test]
fn a_summary_can_be_given_back() {
    let mut given = Given::default();
    for (name, value) in [
        ("PORT", "0"),
        ("HOST", "::1"),
        ("CORS_ORIGIN", "https://a.example,http://localhost:4200"),
        ("TRUST_PROXY", "10.0.0.0/8,::1"),
        ("NODE_ENV", "development"),
        ("WEBSOCKET_NAMESPACE", "news"),
        ("WEBSOCKET_TRANSPORTS", "polling"),
        ("SEND_BUFFER", "1500KB"),
        ("HISTORY_TTL", "90s"),
        ("QUEUE_TTL", "0"),
        ("EVENT_LOG", "stdout"),
        ("STORE_URL", "memory:"),
        ("PRESENCE_SCOPE", "rooms"),
        ("RUST_LOG", "warn,roomcast=trace"),
        ("HANDLER_URL", "https://api.example.com/roomcast"),
        ("HANDLER_EVENTS", "default,message"),
        ("HANDLER_HEADERS", "*"),
    ] {
        given = given.env(name, value);
    }
    let summary = given.load().unwrap().summary();
    let mut again = Given::default();
    for (name, value) in &summary {
        again = again.env(name, value);
    }
    assert_eq!(again.load().unwrap().summary(), summary);
}

#[test]
fn the_environment_wins_over_dotenv_over_toml_over_defaults() {
    let toml = "history_size = 1\nqueue_size = 1\nmax_rooms = 1";
    let dotenv = "HISTORY_SIZE=2\nQUEUE_SIZE=2";
    let config = env("HISTORY_SIZE", "3").dotenv(dotenv).toml(toml).load().unwrap();
    assert_eq!((config.history_size, config.queue_size, config.max_rooms), (3, 2, 1));
    assert_eq!(config.recovery_limit, 1000);
}

#[test]
fn empty_is_unset_and_blank_is_a_fault() {
    let config = env("HISTORY_SIZE", "")
        .dotenv("HISTORY_SIZE=2\nREDIS_PREFIX=")
        .toml("jwt_issuer = ''")
        .load()
        .unwrap();
    assert_eq!(
        (config.history_size, config.redis_prefix.as_str(), config.jwt_issuer),
        (2, "roomcast", None)
    );
    assert!(env("JWT_SECRET", "  ").fault().starts_with("JWT_SECRET: [redacted] is not allowed"));
    assert!(env("JWT_ISSUER", " ").fault().ends_with("the value is blank"));
}

#[test]
fn the_first_name_wins_wherever_it_is_given() {
    assert_eq!(env("WS_PORT", "4000").load().unwrap().port, 4000);
    assert_eq!(env("WS_PORT", "4000").env("PORT", "4001").load().unwrap().port, 4001);
    assert_eq!(env("WS_PORT", "4000").dotenv("PORT=4001").load().unwrap().port, 4001);
    assert_eq!(env("WS_PORT", "4000").toml("port = 4001").load().unwrap().port, 4001);
    assert_eq!(env("WS_PORT", "4000").env("PORT", "").load().unwrap().port, 4000);
    let config = env("WS_REDIS_URL", "redis://a").env("REDIS_URL", "redis://b").load().unwrap();
    assert_eq!(config.redis_url.unwrap().expose(), "redis://b");
    assert!(env("WS_PORT", "x").fault().starts_with("WS_PORT: "));
}

#[test]
fn toml_has_its_own_types() {
    let config = Given::default()
        .toml("port = 4000\nplayground = false\nwebsocket_namespace = ['/a', 'b']\nhistory_ttl = 60\nhost = '::'\nws_port = 1")
        .load()
        .unwrap();
    assert_eq!((config.port, config.playground), (4000, false));
    assert_eq!(config.namespaces, ["/", "/a", "/b"]);
    assert_eq!(config.history_ttl, Some(std::time::Duration::from_mins(1)));
}

#[test]
fn toml_values_of_the_wrong_type_are_faults() {
    let faults = Given::default()
        .toml("port = 3.5\nhost = ['::']\nhistory_ttl = -1\n[max_rooms]\na = 1")
        .faults();
    let lines: Vec<_> = faults
        .iter()
        .map(|fault| (fault.variable.as_str(), fault.given.as_deref().unwrap()))
        .collect();
    assert_eq!(
        lines,
        [
            ("PORT", "\"3.5\""),
            ("HOST", "a list"),
            ("HISTORY_TTL", "\"-1\""),
            ("MAX_ROOMS", "a table or a date"),
        ]
    );
    let fault =
        Given::default().toml("cors_origin = ['https://a.example,https://b.example']").fault();
    assert!(
        fault.starts_with("CORS_ORIGIN: a list with a comma in one of its items is not allowed"),
        "{fault}"
    );
}

#[test]
fn unknown_toml_keys_are_faults() {
    let faults = Given::default().toml("prot = 1\nPORT = 2\n[jwt]\nsecret = 'hunter2'").faults();
    let lines: Vec<_> =
        faults.iter().map(|fault| format!("{}: {}", fault.variable, fault.allowed)).collect();
    assert_eq!(
        lines,
        [
            "PORT: there is no such setting; did you mean \"port\"?",
            "jwt: there is no such setting; see the list of settings",
            "prot: there is no such setting; did you mean \"port\"?",
        ]
    );
}

#[test]
fn malformed_files_are_named_with_their_line_and_nothing_of_it() {
    let faults = Given::default()
        .toml("port = 1\njwt_secret = 'hunter2\n")
        .dotenv("PORT=1\n\nJWT_SECRET=hunter 2\nno equal sign\nHOST=::\n# why\nX=\"hunter2\n\n")
        .faults();
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[0].contains("roomcast.toml: line 2 is not TOML"), "{lines:#?}");
    for (line, number) in lines[1..].iter().zip([3, 4, 7]) {
        assert!(line.contains(&format!(".env: line {number} is not NAME=value")), "{lines:#?}");
    }
    assert!(!lines.concat().contains("hunter"), "{lines:#?}");
}

#[test]
fn a_configuration_file_must_exist_and_a_dotenv_need_not() {
    let nowhere = PathBuf::from("/nowhere/roomcast.toml");
    let sources = Sources { dotenv: Some("/nowhere/.env".into()), ..Sources::default() };
    assert!(Config::load(sources).is_ok());
    let faults = Config::load(Sources { toml: Some(nowhere), ..Sources::default() }).unwrap_err();
    assert!(
        faults
            .to_string()
            .starts_with("/nowhere/roomcast.toml: the configuration file cannot be read")
    );
}

#[test]
fn dotenv_takes_the_spellings_that_people_use() {
    let config = Given::default()
        .dotenv("\u{feff}PORT=1\nexport HOST='::1'\nREDIS_PREFIX=\"a\" # why\nPORT=2\nMAX_ROOMS=3 ")
        .load()
        .unwrap();
    assert_eq!((config.port, config.host.to_string().as_str()), (2, "::1"));
    assert_eq!((config.redis_prefix.as_str(), config.max_rooms), ("a", 3));
}

#[cfg(unix)]
#[test]
fn a_setting_that_is_not_unicode_is_a_fault() {
    use std::os::unix::ffi::OsStringExt;
    let broken = || std::ffi::OsString::from_vec(vec![b'a', 0xFF]);
    let sources = |name: &str| Sources { env: vec![(name.into(), broken())], ..Sources::default() };
    assert_eq!(Config::load(sources("JWT_SECRET")).unwrap_err().0.len(), 1);
    assert!(Config::load(sources("SOMETHING_ELSE")).is_ok());
}

#[test]
fn one_key_fixes_how_tokens_are_checked() {
    let fault =
        env("JWT_SECRET", "hunter2").toml("jwt_jwks_url = 'https://a.example/jwks'").faults();
    assert_eq!(fault[0].variable, "JWT_SECRET, JWT_JWKS_URL");
    assert!(fault[0].source.starts_with("the environment and /"), "{}", fault[0].source);
    assert!(env("AUTH_REQUIRED", "true").fault().starts_with("AUTH_REQUIRED: true needs a key"));
    assert!(
        env("JWT_JWKS_URL", "ftp://a")
            .fault()
            .starts_with("JWT_JWKS_URL: \"ftp://a\" is not allowed")
    );
}

#[test]
fn several_keys_verify_tokens_together() {
    let pem = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----";
    let config = env("JWT_SECRET", r#"["new", {"kid": "2025", "key": "old, still good"}]"#)
        .env("JWT_PUBLIC_KEY", pem)
        .load()
        .unwrap();
    let secrets = config.token_secrets();
    let ids = secrets.iter().map(|key| key.id.as_deref()).collect::<Vec<_>>();
    assert_eq!((ids, config.token_public_keys().len()), (vec![None, Some("2025")], 1));
    let toml = "jwt_secret = ['new', { kid = '2025', key = 'old, still good' }]";
    let listed = Given::default().toml(toml).load().unwrap();
    assert_eq!(listed.token_secrets()[1].text.expose(), "old, still good");
    assert_eq!(env("JWT_SECRET", "with, a comma").load().unwrap().token_secrets().len(), 1);
    let fault = Given::default().toml("jwt_secret = ['new', 5]").fault();
    assert!(fault.starts_with("JWT_SECRET: a list of something else is not allowed"), "{fault}");
    let fault = env("JWT_SECRET", r#"["hunter2", ""]"#).fault();
    assert!(fault.contains("each key of a list") && !fault.contains("hunter2"), "{fault}");
}

#[test]
fn a_key_requires_tokens_unless_told_otherwise() {
    let config = env("JWT_SECRET", "hunter2").load().unwrap();
    assert!(config.auth_enabled() && config.auth_required());
    let config = env("JWT_SECRET", "hunter2").env("AUTH_REQUIRED", "false").load().unwrap();
    assert!(config.auth_enabled() && !config.auth_required());
    assert!(!env("AUTH_REQUIRED", "false").load().unwrap().auth_required());
}

#[test]
fn a_faulty_key_is_still_meant() {
    let fault = env("JWT_PUBLIC_KEY", "/nowhere/key.pem").env("AUTH_REQUIRED", "true").fault();
    assert!(fault.starts_with("JWT_PUBLIC_KEY: \"/nowhere/key.pem\" is not allowed"), "{fault}");
}

#[test]
fn the_admin_has_a_name_and_a_password() {
    assert!(env("ADMIN_USERNAME", "admin").fault().contains("ADMIN_PASSWORD"));
    assert!(env("ADMIN_PASSWORD", HASH).fault().contains("ADMIN_USERNAME"));
    let config = env("ADMIN_PASSWORD", HASH).env("ADMIN_USERNAME", "admin").load().unwrap();
    assert!(config.admin_password.unwrap().verify("changeit"));
}

#[test]
fn the_admin_s_password_is_a_hash() {
    let fault = env("ADMIN_PASSWORD", "hunter2").env("ADMIN_USERNAME", "admin").fault();
    assert!(fault.contains("roomcast hash-password"), "{fault}");
    assert!(!fault.contains("hunter2"), "{fault}");
}

#[test]
fn the_admin_s_namespace_is_nobody_else_s() {
    let taken = || env("WEBSOCKET_NAMESPACE", "/,admin");
    let on = taken().env("ADMIN_PASSWORD", HASH).env("ADMIN_USERNAME", "admin");
    assert!(on.fault().starts_with("WEBSOCKET_NAMESPACE: has /admin in it"));
    assert!(taken().load().is_ok());
}

#[test]
fn what_must_be_positive_is() {
    for name in ["SEND_BUFFER", "SEND_TIMEOUT", "MAX_PAYLOAD", "PING_INTERVAL", "PING_TIMEOUT"] {
        assert!(env(name, "0").fault().contains("greater than 0"), "{name}");
    }
}

#[test]
fn settings_follow_from_one_another() {
    assert_eq!(env("NODE_ENV", "development").load().unwrap().log_level, Level::DEBUG);
    assert_eq!(
        env("NODE_ENV", "development").env("LOG_LEVEL", "info").load().unwrap().log_level,
        Level::INFO
    );
    let config = env("RATE_LIMIT_EVENTS", "7").env("RATE_LIMIT_BURST", "0").load().unwrap();
    assert_eq!(config.rate_limit_burst, 7);
}

#[test]
fn warnings_are_given_where_they_apply() {
    let said = |given: Given, word: &str| {
        given.load().unwrap().warnings().iter().any(|text| text.contains(word))
    };
    assert!(said(Given::default(), "authentication is off"));
    assert!(said(env("JWT_SECRET", &"x".repeat(31)), "32 bytes"));
    assert!(said(env("JWT_SECRET", &format!(r#"["{}", "short"]"#, "x".repeat(32))), "32 bytes"));
    assert!(said(env("JWT_SECRET", &format!(r#"["{}", "b""#, "x".repeat(32))), "no JSON"));
    assert!(said(env("API_KEYS", &format!("{},short", "x".repeat(16))), "16 characters"));
    assert!(!said(env("API_KEYS", &"x".repeat(16)), "16 characters"));
    assert!(env("JWT_SECRET", &"x".repeat(32)).load().unwrap().warnings().is_empty());
    assert!(said(env("JWT_JWKS_URL", "http://a.example"), "not https"));
    assert!(said(env("NODE_ENV", "development"), "API_KEYS"));
    assert!(said(env("NODE_ENV", "staging"), "counts as production"));
    assert!(!said(env("NODE_ENV", "Production"), "counts as production"));
    let admin = || env("ADMIN_PASSWORD", HASH).env("ADMIN_USERNAME", "admin");
    assert!(said(admin().env("NODE_ENV", "development"), "Admin UI"));
    assert!(!said(admin(), "Admin UI"));
    assert!(said(env("REDIS_URL", "redis://a").env("STORE_URL", "memory:"), "STORE_URL"));
    assert!(said(env("SEND_BUFFER", "1KB"), "SEND_BUFFER"));
}

#[test]
fn a_backend_is_asked_only_where_there_is_one() {
    let url = "http://127.0.0.1:9/handler";
    let config = env("HANDLER_URL", url).env("HANDLER_CONNECT", "true").load().unwrap();
    assert!(config.users_prove() && !config.auth_enabled() && !config.auth_required());
    assert!(!env("HANDLER_URL", url).load().unwrap().users_prove());
    for name in ["HANDLER_CONNECT", "HANDLER_DISCONNECT", "HANDLER_HANDSHAKE"] {
        let fault = env(name, "true").fault();
        assert!(fault.contains(name) && fault.contains("HANDLER_URL"), "{fault}");
    }
    for wrong in ["/handler", "ftp://a.example", "http://me:secret@a.example"] {
        let fault = env("HANDLER_URL", wrong).fault();
        assert!(fault.contains("HANDLER_URL"), "{fault}");
    }
}

#[test]
fn webhooks_need_an_address_and_a_secret() {
    let url = "http://127.0.0.1:9/webhooks";
    let config =
        env("WEBHOOK_URL", url).env("WEBHOOK_SECRET", "whsec_YQ==,whsec_YQ").load().unwrap();
    assert!(config.webhook_events.matches("node.lost"));
    assert!(!config.webhook_events.matches("message.created"));
    assert!(config.webhook_rooms.matches("any room"));
    let shown = format!("{config:?} {:?}", config.summary());
    assert!(!shown.contains("YQ") && shown.contains(url), "{shown}");
    let fault = env("WEBHOOK_URL", url).fault();
    assert!(fault.contains("WEBHOOK_SECRET"), "{fault}");
    let fault = env("WEBHOOK_SECRET", "whsec_YQ").fault();
    assert!(fault.contains("WEBHOOK_URL"), "{fault}");
    let shared = env("WEBHOOK_URL", url)
        .env("WEBHOOK_SECRET", "whsec_YQ")
        .env("REDIS_URL", "redis://127.0.0.1");
    assert!(shared.load().unwrap().webhook_url.is_some());
    for wrong in ["ftp://a.example", "http://me:secret@a.example"] {
        let fault = env("WEBHOOK_URL", wrong).env("WEBHOOK_SECRET", "whsec_YQ").fault();
        assert!(fault.contains("WEBHOOK_URL"), "{fault}");
    }
}

#[test]
fn connections_are_recovered_if_that_is_turned_on() {
    assert!(!Given::default().load().unwrap().recovers_connections());
    let given = || env("CONNECTION_STATE_RECOVERY", "2m");
    assert!(given().load().unwrap().recovers_connections());
    assert!(given().env("REDIS_URL", "redis://127.0.0.1").load().unwrap().recovers_connections());
    let off = env("CONNECTION_STATE_RECOVERY", "0").env("REDIS_URL", "redis://127.0.0.1");
    assert!(!off.load().unwrap().recovers_connections());
}

#[test]
fn emitters_need_redis() {
    let fault = env("EMITTER_PREFIX", "socket.io").fault();
    assert!(fault.contains("EMITTER_PREFIX") && fault.contains("REDIS_URL"), "{fault}");
    for redis in ["REDIS_URL", "WS_REDIS_URL"] {
        let given = env("EMITTER_PREFIX", "socket.io").env(redis, "redis://127.0.0.1");
        assert_eq!(given.load().unwrap().emitter_prefix.as_deref(), Some("socket.io"));
    }
    let given = env("EMITTER_PREFIX", "socket*").env("REDIS_URL", "redis://127.0.0.1");
    assert!(given.fault().contains("EMITTER_PREFIX"));
    let given = env("EMITTER_PREFIX", "socket.io").env("REDIS_URL", "redis+cluster://127.0.0.1");
    assert!(given.fault().contains("Redis Cluster"));
}

#[test]
fn replicas_need_redis() {
    let fault = env("REDIS_REPLICAS", "1").fault();
    assert!(fault.contains("REDIS_REPLICAS") && fault.contains("REDIS_URL"), "{fault}");
    let given = env("REDIS_REPLICAS", "1").env("REDIS_URL", "redis+sentinel://127.0.0.1/m");
    assert_eq!(given.load().unwrap().redis_replicas, 1);
}

#[test]
fn proxies_are_trusted_by_address_and_network() {
    let config = env("TRUST_PROXY", "10.0.0.0/8,::1").load().unwrap();
    let trusts = |peer: &str| config.trusts_proxy(peer.parse().unwrap());
    assert!(trusts("10.9.9.9") && trusts("::ffff:10.9.9.9") && trusts("::1"));
    assert!(!trusts("11.0.0.1") && !trusts("::2"));
}

#[test]
fn secrets_are_seen_nowhere() {
    let config = env("JWT_SECRET", "hunter2")
        .env("API_KEYS", "hunter2,hunter3")
        .env("REDIS_URL", "redis://:hunter2@redis:6379")
        .env("ADMIN_USERNAME", "admin")
        .env("ADMIN_PASSWORD", HASH)
        .env("HANDLER_SECRET", "whsec_aHVudGVyMg==")
        .load()
        .unwrap();
    let seen = format!("{config:?} {:#?} {:?} {:?}", config, config.summary(), config.warnings());
    assert!(!seen.contains("hunter") && !seen.contains(HASH), "{seen}");
    assert!(!seen.contains("aHVudGVyMg"), "{seen}");
    assert!(config.summary().contains(&("REDIS_URL", "redis://redis:6379".to_owned())));
}
