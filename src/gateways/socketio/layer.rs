//! socketioxide as roomcast uses it: handshake, transports, namespaces, parsing.

use std::{sync::Arc, time::Duration};

use socketioxide::{ParserConfig, SocketIo, TransportType};

use super::{connection::NamespaceHandler, connects::Shared, polling, upgrade::SocketLayer};
use crate::{
    config::ADMIN_NAMESPACE,
    gateways::app::App,
    hub::{Hooks, Namespace},
    transport::ADDED,
};

/// How much is read at once from a WebSocket, in bytes; an idle connection holds this much.
const READ_BUFFER: usize = 512;

/// How many packets of its own the library may have on their way to a connection's queue, which takes all of
/// them and has bounds of its own.
const MAX_WAITING_PACKETS: usize = 1024;

/// How many binary attachments one event may have.
const MAX_ATTACHMENTS: usize = 10;

/// How long the library waits for a client's acknowledgement: longer than a backend may.
const ACK_TIMEOUT: Duration = Duration::from_mins(1);

/// The longest that an upgrade to a websocket may take.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The Socket.IO layer, and the handle on it. Nothing is served until [`mount`].
pub fn build(app: &App) -> (SocketLayer, SocketIo) {
    let config = &app.config;
    let max_payload = usize::try_from(config.max_payload).unwrap_or(usize::MAX);
    let parser = ParserConfig::common()
        .max_incoming_binaries(MAX_ATTACHMENTS)
        .max_incoming_binary_buf_size(max_payload);
    let builder = SocketIo::builder()
        .req_path(config.socket_path.clone())
        .ping_interval(config.ping_interval)
        .ping_timeout(config.ping_timeout)
        .connect_timeout(config.connect_timeout)
        .max_payload(config.max_payload)
        .ack_timeout(ACK_TIMEOUT)
        .ws_read_buffer_size(READ_BUFFER)
        // The exact limit is held by the stream, which may add a mark.
        .ws_max_message_size(max_payload.saturating_add(ADDED))
        .ws_max_frame_size(max_payload.saturating_add(ADDED))
        .max_buffer_size(MAX_WAITING_PACKETS)
        .with_parser(parser);
    // To the library, clients that poll have websockets, which are ours.
    let (library, io) = builder.transports([TransportType::Websocket]).build_layer();
    let polling = polling::Settings {
        wire: app.wire.clone(),
        max_payload,
        upgrades: config.transports.websocket,
        upgrade_timeout: UPGRADE_TIMEOUT.min(config.ping_timeout),
    };
    let connects = Shared {
        config: config.clone(),
        registry: app.registry.clone(),
        other: config.has_admin_ui().then_some(ADMIN_NAMESPACE),
        metrics: app.metrics.clone(),
        event_log: app.event_log.clone(),
    };
    (SocketLayer::new(library, config.transports, polling, Arc::new(connects)), io)
}

/// Opens every namespace of the configuration.
pub fn mount(io: &SocketIo, app: &App) {
    for namespace in app.registry.namespaces() {
        open(io, app, &namespace);
    }
    if !app.config.namespaces.iter().any(|path| path.contains('*')) {
        return;
    }
    let (opening, closing, app_of_all) = (io.clone(), io.clone(), app.clone());
    app.registry.follow_namespaces(Hooks {
        opens: Box::new(move |namespace| open(&opening, &app_of_all, namespace)),
        closes: Box::new(move |path| closing.delete_ns(path)),
    });
}

fn open(io: &SocketIo, app: &App, namespace: &Arc<Namespace>) {
    let handler = NamespaceHandler { app: app.clone(), namespace: namespace.clone() };
    io.ns(namespace.path.to_string(), handler);
}
