//! Every setting: its default, where it comes from, and what is checked.
//!
//! The environment wins over a `.env` file, which wins over a TOML file, which wins over the defaults. If a
//! setting has two names (`PORT` and `WS_PORT`), the first wins wherever it is given, even in a lower
//! source: `WS_PORT` counts only if `PORT` is given nowhere. An empty value counts as unset. Only the value
//! that wins is checked.
//!
//! [`Config::load`] reports every error at once, so that one start is enough to see them all. The settings
//! stand in one table, in `settings.rs`, from which `.env.example` and the tables of `docs/configuration.md` are generated
//! too.

mod documents;
mod fault;
mod kinds;
mod password_hash;
mod places;
mod reader;
mod redis_url;
mod settings;
mod sources;
mod token_keys;
mod types;
mod value;

use std::net::IpAddr;

use ipnet::IpNet;
use tracing::Level;

use self::reader::Reader;
pub use self::{
    documents::{env_example, markdown_tables},
    fault::{ConfigError, ConfigErrors},
    password_hash::{MakeError, PasswordHash},
    redis_url::{ClusterUrl, SentinelUrl},
    settings::Config,
    sources::Sources,
    token_keys::TokenKey,
    types::{
        CorsOrigin, Environment, EventLog, LogFormat, MemoryLimit, Patterns, PresenceScope,
        RoomsDefault, Secret, SigningSecrets, StoreSync, StoreUrl, Transports,
    },
};
use crate::protocol::permissions::Permissions;

/// The Admin UI's namespace, which the application must not use.
pub const ADMIN_NAMESPACE: &str = "/admin";

/// A shorter secret can be guessed from one token: HS256 asks for as many bytes as its hash has.
const SOUND_SECRET_BYTES: usize = 32;

/// A shorter API key can be guessed.
const SOUND_API_KEY_BYTES: usize = 16;

/// The settings that turn authentication on.
const KEYS: [&str; 3] = ["JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS_URL"];

impl Config {
    /// Loads the configuration, or returns every error in it.
    pub fn load(sources: Sources) -> Result<Self, ConfigErrors> {
        let (values, faults) = sources.merge();
        let mut reader = Reader::new(values, faults);
        let mut config = Self::read(&mut reader);
        config.settle(&reader);
        check_together(&config, &mut reader);
        if reader.faults.is_empty() { Ok(config) } else { Err(ConfigErrors(reader.faults)) }
    }

    /// Sets the values that follow from other settings.
    fn settle(&mut self, reader: &Reader) {
        if self.environment == Environment::Development && reader.source("LOG_LEVEL").is_none() {
            self.log_level = Level::DEBUG;
        }
        if self.rate_limit_burst == 0 {
            self.rate_limit_burst = self.rate_limit_events;
        }
    }

    /// Whether tokens are checked: a key is set.
    pub fn auth_enabled(&self) -> bool {
        self.jwt_secret.is_some() || self.jwt_public_key.is_some() || self.jwt_jwks_url.is_some()
    }

    /// The secrets that verify tokens.
    pub fn token_secrets(&self) -> Vec<TokenKey> {
        self.jwt_secret.as_ref().map_or_else(Vec::new, |text| token_keys::secrets(text.expose()))
    }

    /// The public keys that verify tokens.
    pub fn token_public_keys(&self) -> Vec<TokenKey> {
        self.jwt_public_key.as_deref().map_or_else(Vec::new, token_keys::public_keys)
    }

    /// The instances of Redis, in their order; none if there is one node.
    pub fn redis_instances(&self) -> Vec<Secret> {
        let text = self.redis_url.as_ref().map_or("", Secret::expose);
        let urls = redis_url::instances(text).into_iter();
        urls.filter(|url| !url.is_empty()).map(Secret::new).collect()
    }

    /// Whether the backend says who a client is.
    pub fn asks_backend_to_connect(&self) -> bool {
        self.handler_url.is_some() && self.handler_connect
    }

    /// Whether authentication is on: a user's name is proved, by a token or by the backend's word.
    pub fn users_prove(&self) -> bool {
        self.auth_enabled() || self.asks_backend_to_connect()
    }

    /// Whether clients may come back to their sessions after a lost connection.
    pub fn recovers_connections(&self) -> bool {
        !self.connection_state_recovery.is_zero()
    }

    /// The rooms of a client without a token.
    pub fn anonymous_permissions(&self) -> Permissions {
        if self.anonymous_rooms.restricted() {
            return self.anonymous_rooms.clone();
        }
        self.rooms_default.permissions()
    }

    /// Whether the Admin UI is served.
    pub fn has_admin_ui(&self) -> bool {
        self.admin_username.is_some() && self.admin_password.is_some()
    }

    /// Whether a client without a token is refused.
    pub fn auth_required(&self) -> bool {
        self.auth_enabled() && self.auth_required.unwrap_or(true)
    }

    /// Whether `X-Forwarded-For` from `peer` is trusted.
    pub fn trusts_proxy(&self, peer: IpAddr) -> bool {
        // A socket that listens on :: sees IPv4 peers as ::ffff:a.b.c.d.
        let peer = IpNet::from(peer.to_canonical());
        self.trust_proxy.iter().any(|network| network.contains(&peer))
    }

    /// What is allowed but worth a warning, a sentence each; to be logged at start.
    pub fn warnings(&self) -> Vec<&'static str> {
        let is_development = self.environment == Environment::Development;
        let is_plain = |url: &Option<String>| {
            url.as_ref().is_some_and(|url| !url.to_ascii_lowercase().starts_with("https:"))
        };
        let all = [
            (
                !self.users_prove(),
                "authentication is off: the server accepts any user that a client claims to be; \
             set JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS_URL to check tokens",
            ),
            (
                self.handler_url.is_some() && self.handler_secret.is_empty(),
                "HANDLER_SECRET is not set: the backend at HANDLER_URL cannot verify that requests come from this server",
            ),
            (
                self.auth_enabled()
                    && !self.auth_required()
                    && !self.anonymous_permissions().restricted(),
                "AUTH_REQUIRED is false and ANONYMOUS_ROOMS is not set: a client that sends no token may use every \
             room, whatever its token would permit; set ANONYMOUS_ROOMS to the rooms of clients without a token",
            ),
            (
                self.auth_required() && self.anonymous_rooms.restricted(),
                "ANONYMOUS_ROOMS has no effect: every client needs a token unless AUTH_REQUIRED is false",
            ),
            (
                self.jwt_cookie.is_some() && !self.auth_enabled(),
                "JWT_COOKIE has no effect: without JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS_URL no token is checked",
            ),
            (
                self.token_secrets().iter().any(|key| key.text.expose().len() < SOUND_SECRET_BYTES),
                "JWT_SECRET is shorter than 32 bytes: whoever sees one token can guess it; use a longer, random one",
            ),
            (
                self.token_secrets().iter().any(|key| begins_like_list(key.text.expose())),
                "JWT_SECRET begins like a list but is no JSON: it counts as one secret",
            ),
            (
                self.api_keys.iter().any(|key| key.expose().len() < SOUND_API_KEY_BYTES),
                "a key of API_KEYS is shorter than 16 characters and can be guessed; use longer, random ones \
             (openssl rand -hex 16)",
            ),
            (
                is_plain(&self.jwt_jwks_url),
                "JWT_JWKS_URL is not https: whoever can change what it answers can sign tokens",
            ),
            (
                is_development && self.api_keys.is_empty(),
                "NODE_ENV is development and API_KEYS is not set: the management routes are open to everyone",
            ),
            (
                is_development && self.admin_username.is_some(),
                "NODE_ENV is development: the Admin UI shows every client and what it sends and gets",
            ),
            (
                matches!(self.environment, Environment::Other(_)),
                "NODE_ENV is neither production nor development: it counts as production",
            ),
            (
                self.webhook_url.is_some()
                    && self.store_url == StoreUrl::Memory
                    && self.redis_url.is_none(),
                "STORE_URL is memory: webhooks that wait are lost when the server stops",
            ),
            (
                is_plain(&self.webhook_url),
                "WEBHOOK_URL is not https: others on the network can read the webhooks; the signature only proves who sent them",
            ),
            (
                self.redis_url.is_some() && self.store_url_given,
                "STORE_URL has no effect: with REDIS_URL, messages are stored in Redis",
            ),
            (
                self.send_buffer < self.max_payload,
                "SEND_BUFFER is smaller than MAX_PAYLOAD: a message of that size disconnects its receivers",
            ),
        ];
        all.into_iter().filter(|(holds, _)| *holds).map(|(_, text)| text).collect()
    }
}

impl Default for Config {
    /// The defaults of every setting.
    fn default() -> Self {
        Self::read(&mut Reader::new(figment::Figment::new(), Vec::new()))
    }
}

/// Whether a text was probably meant as a list of keys.
fn begins_like_list(text: &str) -> bool {
    let mut inner = text.trim_start().strip_prefix('[').unwrap_or_default().trim_start().chars();
    matches!(inner.next(), Some('"' | '{'))
}

/// Checks the settings against one another.
fn check_together(config: &Config, reader: &mut Reader) {
    // Counts what was given, not what could be read: a key with an error of its own counts too.
    let keys: Vec<_> = KEYS.into_iter().filter(|name| reader.source(name).is_some()).collect();
    if keys.len() > 1 && keys.contains(&"JWT_JWKS_URL") {
        reader.conflict(&keys, "JWT_JWKS_URL stands alone: the issuer's keys verify all tokens");
    }
    if keys.is_empty() && config.auth_required == Some(true) {
        reader.conflict(
            &["AUTH_REQUIRED"],
            "true needs a key to check tokens with; set JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS_URL",
        );
    }
    if reader.source("HANDLER_URL").is_none() {
        let on = [
            ("HANDLER_CONNECT", config.handler_connect),
            ("HANDLER_DISCONNECT", config.handler_disconnect),
            ("HANDLER_HANDSHAKE", config.handler_handshake),
        ];
        let on = on.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect::<Vec<_>>();
        if !on.is_empty() {
            reader.conflict(&on, "needs HANDLER_URL, the URL of the backend");
        }
    }
    if config.jwt_cookie.is_some() && config.cors_origin == CorsOrigin::Any {
        reader.conflict(
            &["JWT_COOKIE", "CORS_ORIGIN"],
            "a cookie comes with requests of any page: list the origins of your own pages in CORS_ORIGIN \
             (* is every origin, and the default)",
        );
    }
    match (reader.source("WEBHOOK_URL"), reader.source("WEBHOOK_SECRET")) {
        (Some(_), None) => reader.conflict(
            &["WEBHOOK_URL"],
            "needs WEBHOOK_SECRET as well, so that the backend can verify webhooks",
        ),
        (None, Some(_)) => {
            reader.conflict(&["WEBHOOK_SECRET"], "needs WEBHOOK_URL as well; set both or neither");
        }
        _ => {}
    }
    let has_redis = reader.source("REDIS_URL").or_else(|| reader.source("WS_REDIS_URL")).is_some();
    if reader.source("EMITTER_PREFIX").is_some() && !has_redis {
        reader
            .conflict(&["EMITTER_PREFIX"], "needs REDIS_URL, the Redis by which the emitters send");
    }
    let redis = config.redis_url.as_ref().map_or("", Secret::expose);
    if reader.source("EMITTER_PREFIX").is_some() && ClusterUrl::parse(redis).is_some() {
        let why = "needs a REDIS_URL that is no Redis Cluster: the emitters' stream has a slot of its own";
        reader.conflict(&["EMITTER_PREFIX"], why);
    }
    if config.redis_replicas > 0 && !has_redis {
        reader.conflict(&["REDIS_REPLICAS"], "needs REDIS_URL, the Redis that has the replicas");
    }
    match (reader.source("ADMIN_USERNAME"), reader.source("ADMIN_PASSWORD")) {
        (Some(_), None) => reader
            .conflict(&["ADMIN_USERNAME"], "needs ADMIN_PASSWORD as well; set both or neither"),
        (None, Some(_)) => reader
            .conflict(&["ADMIN_PASSWORD"], "needs ADMIN_USERNAME as well; set both or neither"),
        (Some(_), Some(_)) if config.namespaces.iter().any(|path| path == ADMIN_NAMESPACE) => {
            reader.conflict(
                &["WEBSOCKET_NAMESPACE"],
                "has /admin in it, which is the Admin UI's own namespace; give yours another name, \
                 or unset ADMIN_USERNAME and ADMIN_PASSWORD",
            );
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
