//! The table of every setting: the one source of [`Config`], of what is read, of `.env.example`
//! and of the table in the README.
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
        /// The host names by which browsers reach the server. If `CORS_ORIGIN` is a list, the playground's
        /// page works under them, under `localhost` and under IP addresses.
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
        /// The path of Socket.IO; clients that are told no other ask for `/socket.io`.
        SOCKET_PATH => socket_path: String = places::SOCKET_PATH, "/socket.io";
        /// The namespaces; `/` is always among them, as older clients connect to it first. In a pattern such as
        /// `/tenant-*` each `*` stands for one or more characters.
        WEBSOCKET_NAMESPACE => namespaces: Vec<String> = kinds::NAMESPACES, "/,/chat";
        /// Whether clients may send a `message` or a `custom-event` without a room, to everyone of the namespace.
        NAMESPACE_MESSAGES => namespace_messages: bool = value::FLAG, "true";
        /// The transports: `websocket`, `polling` or both.
        WEBSOCKET_TRANSPORTS => transports: Transports = kinds::TRANSPORTS, "websocket,polling";
        /// The largest message, on websocket and polling alike.
        MAX_PAYLOAD => max_payload: u64 = value::SIZE, "1MB";
        /// How often a client is pinged.
        PING_INTERVAL => ping_interval: Duration = value::POSITIVE_DURATION, "25s";
        /// How long a client may take to answer a ping before it counts as gone.
        PING_TIMEOUT => ping_timeout: Duration = value::POSITIVE_DURATION, "20s";
        /// How long a connection may take to enter its first namespace.
        CONNECT_TIMEOUT => connect_timeout: Duration = value::POSITIVE_DURATION, "45s";
        /// How many unsent bytes a client may have before it is disconnected; as many (or six times
        /// `MAX_PAYLOAD`, if that is more) may wait to be processed.
        SEND_BUFFER => send_buffer: u64 = value::SIZE, "4MB";
        /// A client is disconnected if within this time it takes neither all that is unsent nor 16 KB for
        /// each second of it.
        SEND_TIMEOUT => send_timeout: Duration = value::POSITIVE_DURATION, "10s";
        /// A directory with the Socket.IO client's browser bundles, to be served.
        CLIENT_BUNDLE_DIR => client_bundle_dir: Option<PathBuf> = places::DIRECTORY, "";
    }
    "Authentication" {
        /// The secret that HS256, HS384 or HS512 tokens are signed with.
        JWT_SECRET => jwt_secret: Option<Secret> = value::SECRET, "";
        /// The public key of RS, PS, ES or `EdDSA` tokens: PEM, or the path of a PEM file.
        JWT_PUBLIC_KEY => jwt_public_key: Option<String> = places::PUBLIC_KEY, "";
        /// The URL of the key set (JWKS) that tokens are checked with.
        JWT_JWKS_URL => jwt_jwks_url: Option<String> = places::WEB_URL, "";
        /// The `iss` that a token must have.
        JWT_ISSUER => jwt_issuer: Option<String> = value::TEXT, "";
        /// The `aud` that a token must have.
        JWT_AUDIENCE => jwt_audience: Option<String> = value::TEXT, "";
        /// Whether a client needs a token; true once a key is set. With false, a bad token is still refused.
        AUTH_REQUIRED => auth_required: Option<bool> = value::OPTIONAL_FLAG, "";
        /// The name of a cookie that may bring the token, where neither `auth`, query nor header does. Needs
        /// a list of origins in `CORS_ORIGIN`.
        JWT_COOKIE => jwt_cookie: Option<String> = kinds::COOKIE, "";
        /// What a token without the claim `rooms` permits: `allow` for everything, or `deny` for no room and
        /// not the whole namespace. Backends can put its client into rooms all the same.
        ROOMS_DEFAULT => rooms_default: RoomsDefault = kinds::ROOMS_DEFAULT, "allow";
        /// The rooms that a client without a token may use, as patterns with `*`, or `none`; unset, what
        /// `ROOMS_DEFAULT` says. With a list, such a client may not send to the whole namespace either.
        ANONYMOUS_ROOMS => anonymous_rooms: Permissions = kinds::ROOM_PATTERNS, "";
        /// The keys of which HTTP callers need one; without any, the management routes are closed.
        API_KEYS => api_keys: Vec<Secret> = kinds::API_KEYS, "";
        /// The user name of the Socket.IO Admin UI; without it the Admin UI is off.
        ADMIN_USERNAME => admin_username: Option<String> = value::TEXT, "";
        /// The hash of the Admin UI's password, argon2 or bcrypt, as `roomcast hash-password` makes it.
        ADMIN_PASSWORD => admin_password: Option<PasswordHash> = kinds::PASSWORD_HASH, "";
    }
    "Handlers" {
        /// The address of the application's backend that answers clients' events, `http` or `https`;
        /// without it, events that the server does not know are refused.
        HANDLER_URL => handler_url: Option<String> = places::BACKEND_URL, "";
        /// The names of the events that the backend answers, with `*`. `default` stands for all events that
        /// the server does not know; it is asked before an event of the server's own that is named here.
        HANDLER_EVENTS => handler_events: Patterns = kinds::EVENT_PATTERNS, "default";
        /// Whether the backend is asked who a new client is, and whether it may come in.
        HANDLER_CONNECT => handler_connect: bool = value::FLAG, "false";
        /// Whether the backend is told that a client has gone.
        HANDLER_DISCONNECT => handler_disconnect: bool = value::FLAG, "false";
        /// How long the backend may take for an answer, and a request may wait for a free place.
        HANDLER_TIMEOUT => handler_timeout: Duration = value::POSITIVE_DURATION, "3s";
        /// How many requests to the backend a node has under way at a time.
        HANDLER_CONCURRENCY => handler_concurrency: u64 = value::POSITIVE_COUNT, "256";
        /// The headers of the handshake that the backend is given; `*` for all.
        HANDLER_HEADERS => handler_headers: Patterns = kinds::HEADER_NAMES, "";
        /// Whether the backend is given the handshake with every event.
        HANDLER_HANDSHAKE => handler_handshake: bool = value::FLAG, "false";
        /// The secret that requests to the backend are signed with, `whsec_` and base64, as Standard Webhooks
        /// has it; two, while one replaces the other.
        HANDLER_SECRET => handler_secret: SigningSecrets = kinds::SIGNING_SECRETS, "";
    }
    "Webhooks" {
        /// The address that is told what happens, `http` or `https`; without it nobody is. Not together with
        /// `REDIS_URL` yet.
        WEBHOOK_URL => webhook_url: Option<String> = places::BACKEND_URL, "";
        /// The secret that webhooks are signed with, `whsec_` and base64, as Standard Webhooks has it; two,
        /// while one replaces the other. Needed with `WEBHOOK_URL`.
        WEBHOOK_SECRET => webhook_secret: SigningSecrets = kinds::SIGNING_SECRETS, "";
        /// The types that are sent, with `*`. By default all but `message.created`.
        WEBHOOK_EVENTS => webhook_events: Patterns = kinds::WEBHOOK_TYPES,
            "client.*,user.*,room.*,message.queued,node.*";
        /// The rooms whose `room.*` and `message.created` are sent, as patterns with `*`.
        WEBHOOK_ROOMS => webhook_rooms: Patterns = kinds::WEBHOOK_ROOMS, "*";
        /// How long the backend may take for the answer to a webhook.
        WEBHOOK_TIMEOUT => webhook_timeout: Duration = value::POSITIVE_DURATION, "15s";
        /// How many webhooks may wait. Beyond that the oldest are dropped, but never those of messages.
        WEBHOOK_QUEUE => webhook_queue: u64 = value::POSITIVE_COUNT, "100000";
    }
    "Storage" {
        /// Where messages are kept: `sqlite:` and a file, or `memory:`. With `REDIS_URL`: in Redis.
        STORE_URL => store_url: StoreUrl = places::STORE_URL, "sqlite:data/roomcast.db";
        /// What an acknowledged message survives: `normal` a crash of the process, `full` of the machine.
        STORE_SYNC => store_sync: StoreSync = kinds::STORE_SYNC, "normal";
        /// The bytes that the store on disk (or in memory) may hold; 0 for no limit. Near it the largest
        /// rooms' oldest messages are deleted early; once nothing is left to delete, messages are refused.
        /// Not for Redis, which has its own `maxmemory`.
        STORE_MAX_BYTES => store_max_bytes: u64 = value::SIZE_LIMIT, "0";
        /// The Redis (or Valkey) 7 or newer that several nodes share; together they act as one server.
        /// Without it there is one node.
        REDIS_URL | WS_REDIS_URL => redis_url: Option<Secret> = places::REDIS_URL, "";
        /// The prefix of the keys and channels in Redis; the same on all nodes of one server.
        REDIS_PREFIX => redis_prefix: String = places::PREFIX, "roomcast";
    }
    "History and offline queue" {
        /// How many messages are kept per room; 0 turns history off.
        HISTORY_SIZE => history_size: u64 = value::COUNT, "1000";
        /// How long messages are kept; 0 for no age limit.
        HISTORY_TTL => history_ttl: Option<Duration> = value::AGE, "24h";
        /// How many missed messages a join replays at most; 0 for no limit.
        RECOVERY_LIMIT => recovery_limit: u64 = value::COUNT, "1000";
        /// How many messages are queued per offline user; 0 turns the queue off.
        QUEUE_SIZE => queue_size: u64 = value::COUNT, "1000";
        /// How many queued messages one sender may have over all users, and how many bytes: 10 KB times
        /// this number. Backends are not counted; 0 for no limit.
        QUEUE_SENDER_LIMIT => queue_sender_limit: u64 = value::COUNT, "1000";
        /// How long messages stay queued; 0 for no age limit.
        QUEUE_TTL => queue_ttl: Option<Duration> = value::AGE, "7d";
        /// How long a client must stay connected before what was queued counts as delivered.
        QUEUE_CONFIRM => queue_confirm: Duration = value::DURATION, "2s";
    }
    "Idempotency" {
        /// How long an idempotency key is remembered with the answer to its first use; 0 turns keys off.
        IDEMPOTENCY_WINDOW => idempotency_window: Duration = value::DURATION, "5m";
        /// Whether a string `id` of a client's payload is its key, where it gives none.
        IDEMPOTENCY_BY_ID => idempotency_by_id: bool = value::FLAG, "false";
    }
    "Presence" {
        /// Who is told about a user's presence: `all`, `rooms` (clients that share a room) or `off`.
        PRESENCE_SCOPE => presence_scope: PresenceScope = kinds::PRESENCE_SCOPE, "all";
        /// How long a user stays online after the last connection.
        PRESENCE_GRACE => presence_grace: Duration = value::DURATION, "5s";
        /// Whether connecting and disconnecting is announced to the namespace.
        ANNOUNCE_CONNECTIONS => announce_connections: bool = value::FLAG, "true";
        /// Above this many clients in a namespace the announcements pause; 0 for never.
        ANNOUNCE_MAX => announce_max: u64 = value::COUNT, "1000";
    }
    "Limits" {
        /// Events per second and connection, including connecting to a namespace and leaving it; 0 for no
        /// limit.
        RATE_LIMIT_EVENTS => rate_limit_events: u32 = value::RATE, "200";
        /// Events that a connection may send at once; 0 for as many as `RATE_LIMIT_EVENTS`. A connection
        /// with ten times as many refused within 10 s is disconnected.
        RATE_LIMIT_BURST => rate_limit_burst: u32 = value::RATE, "400";
        /// Failed authentications per minute and address, at most a tenth of them from one client; 0 for no
        /// limit.
        RATE_LIMIT_AUTH => rate_limit_auth: u32 = value::RATE, "300";
        /// HTTP requests per second and API key, or address without one; 0 for no limit.
        RATE_LIMIT_HTTP => rate_limit_http: u32 = value::RATE, "0";
        /// New Socket.IO connections per second and address; 0 for no limit.
        RATE_LIMIT_CONNECTIONS => rate_limit_connections: u32 = value::RATE, "0";
        /// Rooms that one client may be in; 0 for no limit.
        MAX_ROOMS_PER_CLIENT => max_rooms_per_client: u64 = value::COUNT, "100";
        /// Namespaces that one connection may be in; 0 for no limit.
        MAX_NAMESPACES_PER_CONNECTION => max_namespaces_per_connection: u64 = value::COUNT, "32";
        /// Rooms that have members or are stored, on the node or in the cluster; 0 for no limit. For one
        /// stored room more, the least recently used one without members is forgotten.
        MAX_ROOMS => max_rooms: u64 = value::COUNT, "1000000";
        /// Stored rooms that one sender (a user, or the address of clients without one) has begun; 0 for no
        /// limit. For one more, its own least recently used one without members is forgotten. Backends are
        /// not counted.
        MAX_ROOMS_PER_SENDER => max_rooms_per_sender: u64 = value::COUNT, "10000";
        /// Connections at a time, whatever namespaces they use; 0 for no limit.
        MAX_CONNECTIONS => max_connections: u64 = value::COUNT, "0";
        /// Connections at a time and address; 0 for no limit.
        MAX_CONNECTIONS_PER_IP => max_connections_per_ip: u64 = value::COUNT, "0";
        /// The memory that the process may use, as a size or as a part of what its control group or the
        /// machine has; 0 for no limit. From nine tenths of it on, new connections are refused and the
        /// connections that hold most are disconnected.
        MEMORY_LIMIT => memory_limit: MemoryLimit = value::MEMORY, "80%";
    }
    "Logs and pages" {
        /// The least severe level that is logged: `error`, `warn`, `info`, `debug` or `trace`; `debug` in development.
        LOG_LEVEL => log_level: Level = kinds::LEVEL, "info";
        /// Filter directives for the log, such as `warn,roomcast=trace`; wins over `LOG_LEVEL`.
        RUST_LOG => rust_log: Option<String> = kinds::LOG_FILTER, "";
        /// `pretty` for people, `json` for machines.
        LOG_FORMAT => log_format: LogFormat = kinds::LOG_FORMAT, "pretty";
        /// A file, or `stdout`, for a JSON line about every connection, refusal, failed authentication and
        /// slow consumer; SIGHUP reopens the file.
        EVENT_LOG => event_log: Option<EventLog> = places::EVENT_LOG, "";
        /// Whether `/` serves the playground page.
        PLAYGROUND => playground: bool = value::FLAG, "true";
    }
}
