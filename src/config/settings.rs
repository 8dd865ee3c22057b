//! The table of every setting: the one source of [`Config`], of what is read, of `.env.example`
//! and of the tables in `docs/configuration.md`.
//!
//! A row is `NAME | ALIAS => field: type = kind, "default";` below its documentation. The default is text,
//! read like any other value; `""` means none.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use tracing::Level;

use super::password_hash::PasswordHash;
use super::{
    kinds, places,
    reader::Reader,
    token_keys,
    types::{
        CorsOrigin, Environment, EventLog, LogFormat, MemoryLimit, Patterns, PresenceScope,
        RoomsDefault, Secret, SigningSecrets, StoreSync, StoreUrl, Transports,
    },
    value,
};
use crate::protocol::permissions::Permissions;

/// A row of the table, as documents and the reader need it.
pub(super) struct Setting {
    /// The heading that it stands under.
    pub group: &'static str,
    /// The variable.
    pub name: &'static str,
    /// Other names for it; the first name wins over them.
    pub aliases: &'static [&'static str],
    /// Its default as text; empty for none.
    pub default: &'static str,
    /// What it means, line by line.
    pub doc: &'static [&'static str],
}

impl Setting {
    /// The documentation as one line.
    pub(super) fn doc(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// The variable and its aliases.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

macro_rules! settings {
    ($($group:literal { $(
        $(#[doc = $doc:literal])+
        $name:ident $(| $alias:ident)? => $field:ident: $type:ty = $kind:expr, $default:literal;
    )+ })+) => {
        /// The whole configuration, checked.
        #[derive(Debug, Clone)]
        pub struct Config {
            $($($(#[doc = $doc])+ pub $field: $type,)+)+
            /// Whether `STORE_URL` was given at all: with Redis it has no effect, which is worth a warning.
            pub store_url_given: bool,
        }

        /// Every setting, in the order of the documents.
        pub(super) static SETTINGS: &[Setting] = &[$($(
            Setting {
                group: $group,
                name: stringify!($name),
                aliases: &[$(stringify!($alias))?],
                default: $default,
                doc: &[$($doc),+],
            },
        )+)+];

        impl Config {
            /// Reads every setting; errors are kept by the reader.
            pub(super) fn read(reader: &mut Reader) -> Self {
                Self {
                    $($($field: reader.read(&[stringify!($name) $(, stringify!($alias))?], $default, &$kind),)+)+
                    store_url_given: reader.source("STORE_URL").is_some(),
                }
            }

            /// The effective configuration, every variable with its value as text: secrets redacted,
            /// and empty where there is none.
            pub fn summary(&self) -> Vec<(&'static str, String)> {
                vec![$($((stringify!($name), ($kind.show)(&self.$field)),)+)+]
            }
        }
    };
}

settings! {
    "Network" {
        /// The TCP port; 0 takes a free one.
        PORT | WS_PORT => port: u16 = value::PORT, "3001";
        /// The address to listen on.
        HOST => host: IpAddr = value::ADDRESS, "0.0.0.0";
        /// The origins whose pages may connect, on HTTP and on the websocket upgrade: `*`, or a list.
        CORS_ORIGIN => cors_origin: CorsOrigin = kinds::ORIGINS, "*";
        /// The host names by which browsers reach the server. When `CORS_ORIGIN` is a list, the playground
        /// works under these names, under `localhost` and under IP addresses.
        PUBLIC_HOSTS => public_hosts: Vec<String> = kinds::HOSTS, "";
        /// Addresses and networks (CIDR) of the proxies whose `X-Forwarded-For` is trusted.
        TRUST_PROXY => trust_proxy: Vec<IpNet> = kinds::NETWORKS, "";
        /// `production`, or `development`: debug logs, open management routes, and an Admin UI that shows
        /// clients and events. Anything else counts as `production`, with a warning.
        NODE_ENV => environment: Environment = kinds::ENVIRONMENT, "production";
        /// How long a stopping server lets its connections finish.
        SHUTDOWN_GRACE => shutdown_grace: Duration = value::DURATION, "10s";
    }
    "Socket.IO" {
        /// The path of Socket.IO. Clients use `/socket.io` unless they are configured otherwise.
        SOCKET_PATH => socket_path: String = places::SOCKET_PATH, "/socket.io";
        /// The namespaces. `/` is always included, because older clients connect to it first. Patterns such as
        /// `/tenant-*` are allowed; each `*` stands for one or more characters.
        WEBSOCKET_NAMESPACE => namespaces: Vec<String> = kinds::NAMESPACES, "/,/chat";
        /// Whether clients may send a `message` or a `custom-event` without a room, to everyone in the
        /// namespace.
        NAMESPACE_MESSAGES => namespace_messages: bool = value::FLAG, "true";
        /// The transports: `websocket`, `polling` or both.
        WEBSOCKET_TRANSPORTS => transports: Transports = kinds::TRANSPORTS, "websocket,polling";
        /// The largest message, on websocket and polling alike.
        MAX_PAYLOAD => max_payload: u64 = value::SIZE, "1MB";
        /// How often a client is pinged.
        PING_INTERVAL => ping_interval: Duration = value::POSITIVE_DURATION, "25s";
        /// How long a client may take to answer a ping before it is disconnected.
        PING_TIMEOUT => ping_timeout: Duration = value::POSITIVE_DURATION, "20s";
        /// How long a new connection may take to connect to its first namespace.
        CONNECT_TIMEOUT => connect_timeout: Duration = value::POSITIVE_DURATION, "45s";
        /// For how long a client that lost its connection can come back with its id, its rooms and everything
        /// that it missed (socket.io-client from 4.6 on), on another node, too; 0 turns that off. If it is on, every
        /// event has one more, last argument.
        CONNECTION_STATE_RECOVERY => connection_state_recovery: Duration = value::DURATION, "0";
        /// The unsent bytes a client may have before it is disconnected. The same amount (or six times
        /// `MAX_PAYLOAD`, if that is more) limits its incoming events that wait to be processed.
        SEND_BUFFER => send_buffer: u64 = value::SIZE, "4MB";
        /// Within this time a client must take all its unsent data, or 16 KB for each second. Otherwise it is
        /// disconnected.
        SEND_TIMEOUT => send_timeout: Duration = value::POSITIVE_DURATION, "10s";
        /// A directory with the browser bundles of the Socket.IO client. The server serves them.
        CLIENT_BUNDLE_DIR => client_bundle_dir: Option<PathBuf> = places::DIRECTORY, "";
    }
    "Authentication" {
        /// The secret that verifies HS256, HS384 and HS512 tokens; or several as a JSON list, while one replaces
        /// the other: `["new", "old"]`, or `[{"kid": "2026", "key": "new"}, "old"]`.
        JWT_SECRET => jwt_secret: Option<Secret> = token_keys::SECRETS, "";
        /// The public key of RS, PS, ES or `EdDSA` tokens: PEM, or the path of a PEM file; or several, in one file
        /// or as a JSON list. May be set together with `JWT_SECRET`.
        JWT_PUBLIC_KEY => jwt_public_key: Option<String> = token_keys::PUBLIC_KEYS, "";
        /// The URL of the issuer's key set (JWKS) that verifies tokens.
        JWT_JWKS_URL => jwt_jwks_url: Option<String> = places::WEB_URL, "";
        /// The `iss` that a token must have.
        JWT_ISSUER => jwt_issuer: Option<String> = value::TEXT, "";
        /// The `aud` that a token must have.
        JWT_AUDIENCE => jwt_audience: Option<String> = value::TEXT, "";
        /// Whether a client needs a token. The default is true once a key is set. If false, clients without a
        /// token are anonymous; an invalid token is still refused.
        AUTH_REQUIRED => auth_required: Option<bool> = value::OPTIONAL_FLAG, "";
        /// The name of a cookie that holds the token, for clients that send it neither by `auth` nor by query
        /// or header. Requires a list of origins in `CORS_ORIGIN`.
        JWT_COOKIE => jwt_cookie: Option<String> = kinds::COOKIE, "";
        /// The permissions of a token without the claim `rooms`: `allow` permits everything, `deny` permits no
        /// room and no message to the whole namespace. Backends can still put the client into rooms.
        ROOMS_DEFAULT => rooms_default: RoomsDefault = kinds::ROOMS_DEFAULT, "allow";
        /// The rooms that clients without a token may use: patterns with `*`, or `none`. If it is unset,
        /// `ROOMS_DEFAULT` applies. With a list, these clients may not send to the whole namespace either.
        ANONYMOUS_ROOMS => anonymous_rooms: Permissions = kinds::ROOM_PATTERNS, "";
        /// The API keys of HTTP callers. Each request must send one of them. Without any, the management routes
        /// are closed.
        API_KEYS => api_keys: Vec<Secret> = kinds::API_KEYS, "";
        /// The user name of the Socket.IO Admin UI. Without it the Admin UI is off.
        ADMIN_USERNAME => admin_username: Option<String> = value::TEXT, "";
        /// The hash of the Admin UI's password (argon2 or bcrypt), as `roomcast hash-password` prints it.
        ADMIN_PASSWORD => admin_password: Option<PasswordHash> = kinds::PASSWORD_HASH, "";
    }
    "Handlers" {
        /// The URL of the application's backend that answers clients' events, `http` or `https`. Without it,
        /// unknown events are refused.
        HANDLER_URL => handler_url: Option<String> = places::BACKEND_URL, "";
        /// The events that the backend answers, as names with `*`. `default` stands for all events that the
        /// server does not know. If an event of the server's own is listed, the backend is asked before it
        /// takes effect.
        HANDLER_EVENTS => handler_events: Patterns = kinds::EVENT_PATTERNS, "default";
        /// Whether the backend decides who a new client is and whether it may connect.
        HANDLER_CONNECT => handler_connect: bool = value::FLAG, "false";
        /// Whether the backend is notified when a client has disconnected.
        HANDLER_DISCONNECT => handler_disconnect: bool = value::FLAG, "false";
        /// How long a request may wait for a free slot, and how long the backend may take to answer it.
        HANDLER_TIMEOUT => handler_timeout: Duration = value::POSITIVE_DURATION, "3s";
        /// The number of concurrent requests to the backend, for each node.
        HANDLER_CONCURRENCY => handler_concurrency: u64 = value::POSITIVE_COUNT, "256";
        /// The handshake headers that are sent to the backend; `*` for all.
        HANDLER_HEADERS => handler_headers: Patterns = kinds::HEADER_NAMES, "";
        /// Whether the handshake is sent to the backend with every event.
        HANDLER_HANDSHAKE => handler_handshake: bool = value::FLAG, "false";
        /// The secret that signs requests to the backend: `whsec_` and base64, as Standard Webhooks specifies.
        /// Two, while it is rotated.
        HANDLER_SECRET => handler_secret: SigningSecrets = kinds::SIGNING_SECRETS, "";
    }
    "Webhooks" {
        /// The URL that webhooks are sent to, `http` or `https`. Without it, none are sent.
        WEBHOOK_URL => webhook_url: Option<String> = places::BACKEND_URL, "";
        /// The secret that signs webhooks: `whsec_` and base64, as Standard Webhooks specifies. Two, while it
        /// is rotated. Required with `WEBHOOK_URL`.
        WEBHOOK_SECRET => webhook_secret: SigningSecrets = kinds::SIGNING_SECRETS, "";
        /// The types of webhooks to send, with `*`. The default is all but `message.created`.
        WEBHOOK_EVENTS => webhook_events: Patterns = kinds::WEBHOOK_TYPES,
            "client.*,user.*,room.*,message.queued,node.*";
        /// The rooms whose `room.*` and `message.created` webhooks are sent, as patterns with `*`.
        WEBHOOK_ROOMS => webhook_rooms: Patterns = kinds::WEBHOOK_ROOMS, "*";
        /// How long the backend may take to answer a webhook.
        WEBHOOK_TIMEOUT => webhook_timeout: Duration = value::POSITIVE_DURATION, "15s";
        /// The number of webhooks that may wait. Above it the oldest are dropped, except those of messages.
        WEBHOOK_QUEUE => webhook_queue: u64 = value::POSITIVE_COUNT, "100000";
    }
    "Storage" {
        /// Where messages are stored: `sqlite:` and a file, or `memory:`. With `REDIS_URL` they are stored in
        /// Redis.
        STORE_URL => store_url: StoreUrl = places::STORE_URL, "sqlite:data/roomcast.db";
        /// What an acknowledged message survives: `normal` a crash of the process, `full` also a crash of the
        /// machine.
        STORE_SYNC => store_sync: StoreSync = kinds::STORE_SYNC, "normal";
        /// The maximum size of the store on disk (or in memory); 0 for no limit. Near the limit, the oldest
        /// messages of the largest rooms are deleted early. When nothing is left to delete, messages are
        /// refused. It does not apply to Redis, which has its own `maxmemory`.
        STORE_MAX_BYTES => store_max_bytes: u64 = value::SIZE_LIMIT, "0";
        /// The Redis (or Valkey) 7 or newer that several nodes share to act as one server. Without it there is
        /// one node. With Sentinels: `redis+sentinel://user:password@host1:26379,host2:26379/mymaster`, where
        /// user and password are those of Redis. Those of the Sentinels are
        /// `?sentinel_username=…&sentinel_password=…` at the end. Several URLs, separated by commas or as a JSON
        /// list, are independent instances that share the rooms: the same list in the same order on all nodes,
        /// changed only while none runs. A Redis Cluster is `redis+cluster://user:password@host1:6379,host2:6379`,
        /// some of its nodes.
        REDIS_URL | WS_REDIS_URL => redis_url: Option<Secret> = places::REDIS_URL, "";
        /// How many of Redis' replicas must have a message before it is acknowledged. With 0, a failover may
        /// lose the last acknowledged messages; all epochs change then.
        REDIS_REPLICAS => redis_replicas: u64 = value::COUNT, "0";
        /// The prefix of the keys and channels in Redis; the same on all nodes of one server.
        REDIS_PREFIX => redis_prefix: String = places::PREFIX, "roomcast";
        /// The key of Socket.IO's Redis emitters, and the stream name of its Redis Streams emitter; the default
        /// of both is `socket.io`. The server carries out what they send. Requires `REDIS_URL`. If it is unset,
        /// emitters have no effect.
        EMITTER_PREFIX => emitter_prefix: Option<String> = places::EMITTER_PREFIX, "";
    }
    "History and offline queue" {
        /// How many messages are kept per room; 0 turns history off.
        HISTORY_SIZE => history_size: u64 = value::COUNT, "1000";
        /// How long messages are kept; 0 for no age limit.
        HISTORY_TTL => history_ttl: Option<Duration> = value::AGE, "24h";
        /// The largest number of missed messages that a join replays, or a recovered connection over all its
        /// rooms; 0 for no limit.
        RECOVERY_LIMIT => recovery_limit: u64 = value::COUNT, "1000";
        /// How many messages are queued per offline user; 0 turns the queue off.
        QUEUE_SIZE => queue_size: u64 = value::COUNT, "1000";
        /// How many queued messages one sender may have across all users. Their total size is limited to 10 KB
        /// times this number. Backends are not counted; 0 for no limit.
        QUEUE_SENDER_LIMIT => queue_sender_limit: u64 = value::COUNT, "1000";
        /// How long messages stay queued; 0 for no age limit.
        QUEUE_TTL => queue_ttl: Option<Duration> = value::AGE, "7d";
        /// How long a client must stay connected before queued messages count as delivered.
        QUEUE_CONFIRM => queue_confirm: Duration = value::DURATION, "2s";
    }
    "Idempotency" {
        /// How long an idempotency key is remembered with the answer to its first use; 0 turns keys off.
        IDEMPOTENCY_WINDOW => idempotency_window: Duration = value::DURATION, "5m";
        /// Whether a string `id` in a client's payload is its idempotency key, if it has no other.
        IDEMPOTENCY_BY_ID => idempotency_by_id: bool = value::FLAG, "false";
    }
    "Presence" {
        /// Who is notified of a user's presence: `all`, `rooms` (clients that share a room with the user) or
        /// `off`.
        PRESENCE_SCOPE => presence_scope: PresenceScope = kinds::PRESENCE_SCOPE, "all";
        /// How long a user stays online after its last connection has closed.
        PRESENCE_GRACE => presence_grace: Duration = value::DURATION, "5s";
        /// Whether connects and disconnects are announced to the namespace.
        ANNOUNCE_CONNECTIONS => announce_connections: bool = value::FLAG, "true";
        /// Announcements pause while a namespace has more clients than this; 0 for no limit.
        ANNOUNCE_MAX => announce_max: u64 = value::COUNT, "1000";
    }
    "Limits" {
        /// Events per second and connection. Connecting to a namespace and leaving it count too; 0 for no
        /// limit.
        RATE_LIMIT_EVENTS => rate_limit_events: u32 = value::RATE, "200";
        /// Events that a connection may send at once; 0 for as many as `RATE_LIMIT_EVENTS`. A connection with
        /// ten times as many refused events within 10 s is disconnected.
        RATE_LIMIT_BURST => rate_limit_burst: u32 = value::RATE, "400";
        /// Failed authentications per minute and address; one client may cause a tenth of them. 0 for no limit.
        RATE_LIMIT_AUTH => rate_limit_auth: u32 = value::RATE, "300";
        /// HTTP requests per second and API key, or per address without a key; 0 for no limit.
        RATE_LIMIT_HTTP => rate_limit_http: u32 = value::RATE, "0";
        /// New Socket.IO connections per second and address; 0 for no limit.
        RATE_LIMIT_CONNECTIONS => rate_limit_connections: u32 = value::RATE, "0";
        /// Rooms that one client may be in; 0 for no limit.
        MAX_ROOMS_PER_CLIENT => max_rooms_per_client: u64 = value::COUNT, "100";
        /// Namespaces that one connection may be in; 0 for no limit.
        MAX_NAMESPACES_PER_CONNECTION => max_namespaces_per_connection: u64 = value::COUNT, "32";
        /// The number of rooms that have members or are stored, on the node or in the cluster; 0 for no limit.
        /// At the limit, a new stored room replaces the least recently used one without members.
        MAX_ROOMS => max_rooms: u64 = value::COUNT, "1000000";
        /// The number of stored rooms that one sender (a user, or the address of clients without one) has
        /// created; 0 for no limit. At the limit, a new room replaces the sender's least recently used one
        /// without members. Backends are not counted.
        MAX_ROOMS_PER_SENDER => max_rooms_per_sender: u64 = value::COUNT, "10000";
        /// Concurrent connections, whatever namespaces they use; 0 for no limit.
        MAX_CONNECTIONS => max_connections: u64 = value::COUNT, "0";
        /// Concurrent connections per address; 0 for no limit.
        MAX_CONNECTIONS_PER_IP => max_connections_per_ip: u64 = value::COUNT, "0";
        /// The memory that the process may use: a size, or a percentage of what its control group or the
        /// machine has; 0 for no limit. From 90 % of it on, new connections are refused, and the connections
        /// that hold the most memory are disconnected.
        MEMORY_LIMIT => memory_limit: MemoryLimit = value::MEMORY, "80%";
    }
    "Logs and pages" {
        /// The lowest level that is logged: `error`, `warn`, `info`, `debug` or `trace`. The default is `debug`
        /// in development.
        LOG_LEVEL => log_level: Level = kinds::LEVEL, "info";
        /// Filter directives for the log, such as `warn,roomcast=trace`; wins over `LOG_LEVEL`.
        RUST_LOG => rust_log: Option<String> = kinds::LOG_FILTER, "";
        /// `pretty` for people, `json` for machines.
        LOG_FORMAT => log_format: LogFormat = kinds::LOG_FORMAT, "pretty";
        /// A file, or `stdout`, for one JSON line about every connection, refusal, failed authentication and
        /// slow consumer. SIGHUP reopens the file.
        EVENT_LOG => event_log: Option<EventLog> = places::EVENT_LOG, "";
        /// Whether `/` serves the playground page.
        PLAYGROUND => playground: bool = value::FLAG, "true";
    }
}
