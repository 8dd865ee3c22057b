//! The two routes of the applications that roomcast replaces.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    extract::{InNamespace, JsonText, Query, Segment},
    idempotency::{self, AT_ONCE, OptionalKey, RequestKey, replayed},
    message_dto::{Message, MessageDto},
    openapi::{BodyErrors, Busy, KeyErrors},
};
use crate::{
    commands::backend_message::{self, Broadcast, Published},
    gateways::{app::App, event_fields::event_fault, fields::namespace, http_error::HttpError},
    hub::packet::{KeptFor, Packet},
    protocol::payload::Payload,
};

/// Send a message to a room
///
/// The body goes to every member of the room as `message-reply`, unchanged. Unless
/// `replyToSender` is true, the client named by `clientId` gets no copy.
#[utoipa::path(
    post,
    path = "/messages/broadcast",
    operation_id = "broadcastMessage",
    tag = "messages",
    params(InNamespace),
    request_body = MessageDto,
    responses(
        (status = 201, description = "The body; with history also its `offset` in the room", body = Object),
        BodyErrors, KeyErrors, Busy,
    ),
)]
pub(super) async fn broadcast(
    State(app): State<App>,
    Query(query): Query<InNamespace>,
    OptionalKey(key): OptionalKey,
    body: JsonText,
) -> Result<Response, HttpError> {
    let namespace = query.find(&app)?;
    let message = Message::read(&body.object()?).map_err(HttpError::faults)?;
    let payload = Payload::from_raw(body.0);
    let broadcast = Broadcast {
        namespace,
        room: message.room,
        payload: payload.clone(),
        id: message.id,
        except: message.client_id.parse().ok().filter(|_| !message.to_sender),
    };
    match key {
        // Without history, there is nothing to store the key with.
        Some(key) if app.broker.log().is_none() => {
            let work = {
                let app = app.clone();
                async move { send(&app, broadcast, payload, None).await.into_response() }
            };
            Ok(idempotency::once(&app, key, AT_ONCE, work).await)
        }
        key => send(&app, broadcast, payload, key).await,
    }
}

async fn send(
    app: &App,
    broadcast: Broadcast,
    payload: Payload,
    key: Option<RequestKey>,
) -> Result<Response, HttpError> {
    let keyed = key.map(|key| key.keyed);
    let Published { offset, before } = backend_message::broadcast(app, broadcast, keyed).await?;
    let answer = match offset {
        Some(offset) => payload.to_be_numbered().numbered(offset),
        None => payload,
    };
    let answer = created(&answer);
    Ok(if before.is_some() { replayed(answer) } else { answer })
}

/// How a message goes to one client.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToClient {
    /// The event as which it goes out: none of Socket.IO's own, and none by which the server tells a
    /// client its state.
    #[param(default = "message-reply")]
    event_name: Option<String>,
    /// The namespace. By default the client is found in any.
    #[param(example = "/chat")]
    namespace: Option<String>,
}

/// Send a message to one client
///
/// The body goes to that client, unchanged.
#[utoipa::path(
    post,
    path = "/messages/{clientId}",
    operation_id = "sendMessageToClient",
    tag = "messages",
    params(("clientId" = String, Path, description = "The client's socket id, percent-encoded: in Socket.IO 2 it may be `/chat#…`"), ToClient),
    request_body = MessageDto,
    responses(
        (status = 201, description = "The body", body = Object),
        (status = 404, description = "The client is not connected", body = crate::gateways::http_error::ErrorBody,
            example = json!({"statusCode": 404, "message": "Client x is not connected", "error": "Not Found"})),
        BodyErrors, KeyErrors, Busy,
    ),
)]
pub(super) async fn to_client(
    State(app): State<App>,
    Segment(client): Segment,
    Query(query): Query<ToClient>,
    body: JsonText,
) -> Result<Response, HttpError> {
    let mut faults = Message::read(&body.object()?).err().unwrap_or_default();
    let event = query.event_name.unwrap_or_else(|| "message-reply".to_owned());
    faults.extend(event_fault("eventName", &event));
    let namespace = query
        .namespace
        .map(|path| namespace(&app.registry, &path))
        .transpose()
        .map_err(|fault| faults.push(fault));
    let Ok(namespace) = namespace else { return Err(HttpError::faults(faults)) };
    if !faults.is_empty() {
        return Err(HttpError::faults(faults));
    }
    let path = namespace.as_ref().map(|namespace| &*namespace.path);
    let payload = Payload::from_raw(body.0);
    let packet = Packet::new(event, payload.clone()).kept_for(KeptFor::Direct);
    backend_message::to_client(&app, path, &client, &packet).await?;
    Ok(created(&payload))
}

fn created(body: &Payload) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (StatusCode::CREATED, headers, body.json().into_owned()).into_response()
}
