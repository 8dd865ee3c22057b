//! The Admin UI's namespace: its login, and the operators' events.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Instant};

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use socketioxide::{
    SocketIo,
    adapter::LocalAdapter,
    extract::AckSender,
    handler::{ConnectHandler, FromMessage, MessageHandler},
    socket::Socket,
};
use socketioxide_core::Value;

use super::{
    Admin, command,
    login::{Admission, Credentials},
};
use crate::{
    config::ADMIN_NAMESPACE, gateways::app::App, limits::client_address, protocol::payload::Object,
};

/// What the page may do, as Node's server of version 4 announces it.
const FEATURES: [&str; 8] =
    ["EMIT", "JOIN", "LEAVE", "DISCONNECT", "MJOIN", "MLEAVE", "MDISCONNECT", "AGGREGATED_EVENTS"];

/// Opens the namespace.
pub fn mount(io: &SocketIo, app: &App, admin: Admin) {
    io.ns(ADMIN_NAMESPACE, OperatorHandler { app: app.clone(), admin });
}

#[derive(Clone)]
struct OperatorHandler {
    app: App,
    admin: Admin,
}

type Refused = Box<dyn fmt::Display + Send>;

/// Names this module's own handlers among the library's.
enum Operators {}

/// The session that a login opened, on its way to the page.
#[derive(Clone)]
struct Session(String);

impl ConnectHandler<LocalAdapter, Operators> for OperatorHandler {
    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket>,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refused>> + Send + 'a>> {
        Box::pin(async move {
            let parts = socket.req_parts();
            let address = client_address(&parts.headers, &parts.extensions, &self.app.config);
            let admitted =
                self.admin.0.login.admit(credentials(auth.as_ref()), address, Instant::now()).await;
            let address = address.map(tracing::field::display);
            match admitted {
                Ok(Admission::Known) => {}
                Ok(Admission::New(session)) => {
                    tracing::info!(address, "an operator has logged in to the Admin UI");
                    socket.extensions.insert(Session(session));
                }
                Err(denied) => {
                    tracing::warn!(address, reason = %denied, "a login to the Admin UI was refused");
                    return Err(Box::new(denied) as Refused);
                }
            }
            // Registered here, as an early event would be lost later.
            socket.on_fallback(Commands(self.app.clone()));
            Ok(())
        })
    }

    fn call(&self, socket: Arc<Socket>, _auth: Option<Value>) {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            supported_features: Vec<&'static str>,
        }
        // A failed send means that the operator is gone.
        if let Some(Session(session)) = socket.extensions.remove::<Session>() {
            let _gone = socket.emit("session", &session);
        }
        let mut features = FEATURES.to_vec();
        features.extend(self.admin.0.shared.detailed.then_some("ALL_EVENTS"));
        let _gone = socket.emit("config", &Config { supported_features: features });
        let _stopped = self.admin.0.arrivals.send(socket);
    }
}

fn credentials(auth: Option<&Value>) -> Credentials {
    let auth = auth.and_then(Value::as_str).and_then(|text| Object::parse(text.as_str()));
    let field = |key: &str| {
        let value = auth.as_ref()?.get(key)?;
        serde_json::from_str::<String>(value.get()).ok()
    };
    Credentials {
        session: field("sessionId"),
        username: field("username"),
        password: field("password"),
    }
}

/// What an operator asks for.
struct Commands(App);

impl MessageHandler<LocalAdapter, Operators> for Commands {
    fn call(&self, socket: Arc<Socket>, value: Value, ack_id: Option<i64>) {
        let Value::Str(text, attachments) = value.clone() else { return };
        let Ok(ack) = AckSender::from_message(socket, value, ack_id);
        let attachments: Arc<[Bytes]> = attachments.into_iter().flatten().collect();
        // The page asks for no answer; others may.
        let answer = match command::run(&self.0, text.as_str(), attachments) {
            Ok(clients) => json!({"success": true, "clients": clients}),
            Err(refusal) => {
                tracing::warn!(reason = %refusal.message, "a command of the Admin UI was refused");
                json!({"success": false, "message": refusal.message, "code": refusal.code.as_str()})
            }
        };
        let _gone = ack.send(&(answer,));
    }
}
