//! Builds the server, and runs it until it is told to stop.

pub mod cli;
mod hash_password;
mod live_figures;
mod stop;
mod webhooks_command;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use socketioxide::SocketIo;
use tokio::{net::TcpListener, sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    live_figures::LiveFigures,
    stop::{Stop, finish},
};
use crate::{
    auth::{self, ApiKeys, Verifier},
    broker::{
        self, Broker,
        cluster::{self, Cluster},
        fanout::Fanout,
        webhooks::Webhooks,
    },
    commands::{
        connection_recovery,
        context::{Context, Shared},
        deliveries::Deliveries,
        departures::Departures,
        emit_with_ack, revocation,
        revoked_tokens::RevokedTokens,
    },
    config::{self, Config},
    gateways::{
        admin_ui::{self, Admin},
        app::{App, Parts},
        cluster_peer,
        emitters::Emitters,
        handlers::Handlers,
        http,
        socketio::{self, SocketLayer},
        webhooks::Deliverer,
    },
    hub::{Registry, observer::Observer},
    limits::Limits,
    memory::{self, Memory},
    protocol::timestamp::Timestamp,
    store::{self, Primary, RedisSettings, Store},
    telemetry::{
        event_log::{Entry, EventLog, Kind},
        metrics::Metrics,
    },
    transport::{self, Wire},
};

/// How long the server goes on serving after it reports that it is not ready, or a tenth of the grace if that
/// is less. Load balancers have this time to notice, and stop sending clients before the listener closes.
const NOTICE: Duration = Duration::from_secs(1);

/// How long the nodes remember when a user was last active.
const USER_REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// The same without authentication, where one client can claim one user after another, each of which leaves
/// an entry.
const CLAIM_REMEMBERED: Duration = Duration::from_mins(1);

/// How long the last answers, and the last lines of the event log, may take when everything else is done.
const LINGER: Duration = Duration::from_millis(500);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A configured key cannot be used.
    #[error(transparent)]
    Key(#[from] crate::auth::KeyError),
    /// `REDIS_URL` cannot be used.
    #[error("REDIS_URL cannot be used: its database number is invalid, or TLS is not available")]
    Redis,
    /// The Sentinels of `REDIS_URL` do not know what it names, or refuse its credentials.
    #[error("REDIS_URL cannot be used: {0}")]
    Sentinels(String),
    /// The instances of `REDIS_URL` belong to another list.
    #[error("REDIS_URL does not fit: {0}")]
    Instances(String),
    /// Webhooks cannot be sent.
    #[error("WEBHOOK_URL cannot be used: {0}")]
    Webhooks(String),
    /// The outbox cannot be read.
    #[error("webhooks that wait cannot be read: {0}")]
    Outbox(#[from] store::StoreError),
    /// The application's backend cannot be asked.
    #[error("HANDLER_URL cannot be used: {0}")]
    Handler(String),
    /// The event log cannot be written.
    #[error("cannot write the event log {path} (EVENT_LOG): {source}")]
    EventLog {
        /// The file; `stdout` for the standard output.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The system cannot start a thread for the memory watch.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The store does not say which tokens are revoked.
    #[error("the revoked tokens cannot be read from the store: {0}")]
    Revocations(std::borrow::Cow<'static, str>),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] store::OpenError),
}

/// A server that listens; [`run`](Self::run) makes it serve.
pub struct Server {
    app: App,
    io: SocketIo,
    layer: SocketLayer,
    deliverer: Option<Deliverer>,
    emitters: Option<Emitters>,
    listener: TcpListener,
    address: SocketAddr,
}

/// Opens what the configuration names and begins to listen.
///
/// # Errors
/// What cannot be opened, and why.
pub async fn bind(config: Arc<Config>) -> Result<Server, StartError> {
    let address = SocketAddr::new(config.host, config.port);
    let verifier =
        config.auth_enabled().then(|| Verifier::new(auth::Settings::of(&config))).transpose()?;
    let registry = Arc::new(Registry::new(&config.namespaces, config.max_rooms));
    let metrics = Arc::new(Metrics::default());
    let event_log = open_event_log(&config)?;
    let memory = Memory::new(memory::Limits::of(&config));
    memory::watch(&memory).map_err(StartError::Thread)?;
    let wire = Wire::new(transport::Limits::of(&config), memory.clone());
    if config.recovers_connections() {
        wire.number_packets();
    }
    let node = uuid::Uuid::new_v4().simple().to_string();
    let here = Fanout::new(registry.clone(), metrics.clone(), wire.clone());
    let redis = open_redis(&config).await?;
    let store = open_store(&config, &here, &registry, &redis, &node).await?;
    let log = store.clone().filter(|_| config.history_size > 0);
    let cluster = (!redis.is_empty()).then(|| {
        let settings = cluster::Settings {
            primaries: redis.clone(),
            prefix: config.redis_prefix.clone(),
            node: node.clone(),
            grace: config.presence_grace,
            remember: if config.users_prove() { USER_REMEMBERED } else { CLAIM_REMEMBERED },
        };
        Cluster::new(settings, store.clone(), log.as_ref(), &registry, &here)
    });
    let limits = Limits::new(&config);
    let started_at = Timestamp::now();
    metrics.collect(Box::new(LiveFigures {
        registry: registry.clone(),
        store: store.clone(),
        connection_limiter: limits.connection_limiter.clone(),
        event_log: event_log.clone(),
        cluster: cluster.clone(),
        memory: memory.clone(),
        has_webhooks: config.webhook_url.is_some(),
        started_at,
        seen: Mutex::default(),
    }));
    let webhooks = open_webhooks(&config, store.as_ref(), &node).await?;
    let webhook_store = store.as_ref().filter(|_| webhooks.is_some());
    let deliverer = Deliverer::start(&config, webhook_store, webhooks.as_ref(), &metrics);
    let deliverer = deliverer.map_err(StartError::Webhooks)?;
    let handlers = Handlers::new(&config, &node, metrics.clone()).map_err(StartError::Handler)?;
    let admin = Admin::start(&config, &registry);
    let context = Context::new(Shared {
        broker: Broker::new(here, log, cluster.clone(), wire.clone()).telling(webhooks),
        cluster,
        store,
        deliveries: Deliveries::default(),
        departures: Departures::default(),
        change_membership: socketio::change_membership,
        revocations: RevokedTokens::default(),
        acknowledgements: Semaphore::new(emit_with_ack::MAX_WAITING),
        verifier,
        observer: admin.clone().map(|admin| Arc::new(admin) as Arc<dyn Observer>),
        registry,
        limits,
        metrics,
        node,
        started_at,
        config: config.clone(),
    });
    if config.recovers_connections() {
        tokio::spawn(connection_recovery::watch(context.clone(), memory.clone()));
    }
    read_revocations(&context).await?;
    let app = App::new(Parts {
        context,
        api_keys: ApiKeys::new(config.api_keys.iter().map(|key| key.expose().to_owned()).collect()),
        memory,
        handlers,
        event_log,
        wire,
        leaving: false.into(),
        draining: false.into(),
        tasks: TaskTracker::new(),
    });
    if let Some(verifier) = app.verifier.clone() {
        tokio::spawn(fetch_keys(verifier));
    }
    if let Some(cluster) = &app.cluster {
        let app = app.clone();
        tokio::spawn(cluster.run(Arc::new(move |event| cluster_peer::deal(&app, event))));
    }
    let (layer, io) = socketio::build(&app);
    socketio::mount(&io, &app);
    if let Some(admin) = admin {
        admin_ui::mount(&io, &app, admin);
    }
    let listen = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let emitters = Emitters::start(&app, redis.first()).await;
    Ok(Server { app, io, layer, deliverer, emitters, listener, address })
}

/// Fetches the issuer's keys early, so that the first client need not wait for them. If this fails, they are
/// fetched with the first token.
async fn fetch_keys(verifier: Verifier) {
    if let Err(error) = verifier.prepare().await {
        tracing::warn!(%error, "the issuer's keys are not available yet");
    }
}

/// The webhooks' outbox, if the configuration asks for one.
async fn open_webhooks(
    config: &Config,
    store: Option<&Store>,
    node: &str,
) -> Result<Option<Webhooks>, StartError> {
    match store {
        Some(store) if config.webhook_url.is_some() => {
            Ok(Some(Webhooks::start(config, store.clone(), node).await?))
        }
        _ => Ok(None),
    }
}

/// Reads the revoked tokens, if tokens are checked; where other nodes revoke, too, again and again.
async fn read_revocations(context: &Context) -> Result<(), StartError> {
    if context.verifier.is_none() {
        return Ok(());
    }
    if context.cluster.is_some() {
        tokio::spawn(revocation::watch(context.clone()));
        return Ok(());
    }
    revocation::refresh(context).await.map_err(|refusal| StartError::Revocations(refusal.message))
}

/// The instances of Redis that the nodes share; none if there is one node.
async fn open_redis(config: &Config) -> Result<Vec<Primary>, StartError> {
    let mut all = Vec::new();
    for url in config.redis_instances() {
        let primaries = Primary::open(url.expose()).map_err(|_| StartError::Redis)?;
        // Of several, all are named by the same nodes.
        primaries[0].check().await.map_err(StartError::Sentinels)?;
        all.extend(primaries);
    }
    Ok(all)
}

fn open_event_log(config: &Config) -> Result<EventLog, StartError> {
    EventLog::open(config.event_log.as_ref()).map_err(|source| {
        let path = match &config.event_log {
            Some(config::EventLog::File(path)) => path.display().to_string(),
            _ => "stdout".to_owned(),
        };
        StartError::EventLog { path, source }
    })
}

/// Opens the store; `None` if nothing is to be kept. Where there are tokens, their revocations are; and
/// idempotency keys.
async fn open_store(
    config: &Config,
    here: &Fanout,
    registry: &Arc<Registry>,
    redis: &[Primary],
    node: &str,
) -> Result<Option<Store>, StartError> {
    let keeps_messages = config.history_size > 0 || config.queue_size > 0;
    let is_kept = keeps_messages || config.webhook_url.is_some() || config.auth_enabled();
    // Several instances tell a node whether it has the same list as the others.
    if !is_kept && config.idempotency_window.is_zero() && redis.len() < 2 {
        return Ok(None);
    }
    let mut settings = store::Settings::of(config);
    if !is_kept {
        // Keys of what is kept nowhere need not outlive the process.
        settings.location = store::Location::Memory;
    }
    if !redis.is_empty() {
        let redis = RedisSettings {
            primaries: redis.to_vec(),
            replicas: config.redis_replicas,
            prefix: config.redis_prefix.clone(),
            node: node.to_owned(),
        };
        let store = Store::redis(&settings, &redis);
        if redis.primaries.len() > 1 {
            store.check().await.map_err(StartError::Instances)?;
        }
        return Ok(Some(store));
    }
    let tail = broker::tail(here.clone());
    let registry = registry.clone();
    let in_use = move |room: &store::RoomKey| {
        let namespace = registry.namespace(&room.namespace);
        namespace.is_some_and(|namespace| namespace.room(room.room.as_str()).is_some())
    };
    // An existing file is examined first, which may take some seconds.
    match tokio::task::spawn_blocking(move || Store::open(settings, tail, in_use)).await {
        Ok(opened) => Ok(Some(opened?)),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

impl Server {
    /// The address that it listens on, with the actual port if the configuration says 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The state that all gateways share.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Serves until `shutdown` is ready, then stops gracefully, all within the configured grace. First the
    /// server reports that it is not ready, and serves on for a moment. Then it accepts no new connections,
    /// finishes and acknowledges what was taken, and closes the clients' transports, so that they reconnect
    /// by themselves.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let Self { app, io, layer, deliverer, emitters, listener, address } = self;
        let service = http::service(&app, layer);
        // Held until the end of this function.
        let _rotation = app.event_log.reopen_on_hangup()?;
        tracing::info!(%address, port = address.port(), "listening");
        let stop = CancellationToken::new();
        let timeouts = transport::Timeouts::of(&app.config);
        let slots = app.limits.slots.clone();
        let serve = transport::serve(listener, service, timeouts, slots, stop.clone());
        let mut serving = tokio::spawn(serve);
        tokio::select! {
            ended = &mut serving => return ended.map_err(io::Error::from),
            () = shutdown => {}
        }
        let grace = app.config.shutdown_grace;
        tracing::info!(clients = app.registry.connections(), ?grace, "stopping");
        app.leaving.store(true, Ordering::Release);
        let stopping = Stop { began: Instant::now(), grace };
        let hand_over = async {
            if let Some(emitters) = emitters {
                stopping.part("emitters", Stop::EMITTERS, emitters.stop()).await;
            }
        };
        tokio::join!(hand_over, tokio::time::sleep(NOTICE.min(grace / 10)));
        app.draining.store(true, Ordering::Release);
        stop.cancel();
        finish(&app, &io, deliverer, &stopping).await;
        // Still open are polling requests of sessions that are in no namespace, which the library cannot
        // close, and connections whose other end does not read.
        if let Ok(served) = tokio::time::timeout(LINGER, &mut serving).await {
            served.map_err(io::Error::from)?;
        }
        // The event log gets this moment even after the grace, to write its last entries.
        let clients = app.registry.all_clients();
        let last = clients.iter().map(|client| {
            let reason = Some("server shutting down".into());
            Entry { reason, ..client.entry(Kind::Disconnect) }
        });
        let _closed = tokio::time::timeout(LINGER, app.event_log.close(last)).await;
        tracing::info!("stopped");
        Ok(())
    }
}
