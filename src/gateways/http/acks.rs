//! `POST /acks/{id}`.

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    extract::{JsonText, Segment},
    openapi::{BodyErrors, Busy, KeyErrors},
};
use crate::{
    broker::survey::Survey,
    gateways::{app::App, http_error::HttpError},
    hub::packet::Packet,
    protocol::{
        payload::{Object, Payload, tagged::from_tagged},
        refusal::{Code, Refusal},
    },
};

/// The arguments of an acknowledgement.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Acknowledgement, examples(json!({"args": [{"success": true, "order": 7}]})))]
#[allow(dead_code, reason = "the shape as it is documented; what comes in is read field by field")]
pub(super) struct AckDto {
    /// The arguments. A binary value is `{"$binary": "<base64>"}`.
    #[schema(value_type = Vec<Value>)]
    args: Vec<Box<RawValue>>,
}

/// Acknowledge an event
///
/// The acknowledgement of an event that the handler answered with 202: within 30 seconds, and once.
#[utoipa::path(
    post,
    path = "/acks/{id}",
    operation_id = "acknowledge",
    tag = "management",
    params(("id" = String, Path, description = "The id of the request to the handler")),
    request_body = AckDto,
    responses((status = 204, description = "The client is being notified"), (status = 404, description = "No client waits for it: it came too late, it was sent before, or the client has disconnected", body = crate::gateways::http_error::ErrorBody), BodyErrors, KeyErrors, Busy),
)]
pub(super) async fn acknowledge(
    State(app): State<App>,
    Segment(id): Segment,
    body: JsonText,
) -> Result<StatusCode, HttpError> {
    let arguments = read(&body.object()?).map_err(HttpError::faults)?;
    let is_here =
        app.handlers.as_ref().is_some_and(|handlers| handlers.acknowledge(&id, &arguments));
    if is_here {
        return Ok(StatusCode::NO_CONTENT);
    }
    let packet = Packet::with("ack", arguments, true);
    let told = app.broker.survey::<bool>(&Survey::Acknowledge { id }, Some(&packet)).await;
    if told.answers.contains(&true) {
        return Ok(StatusCode::NO_CONTENT);
    }
    let nobody = Refusal::new(Code::NotFound, "No client waits for this acknowledgement");
    Err(told.or_unreachable(nobody).into())
}

/// The array of arguments, or everything that is wrong with the body.
fn read(body: &Object<'_>) -> Result<Payload, Vec<String>> {
    let others = body.fields().filter(|(name, _)| *name != "args");
    let mut faults =
        others.map(|(name, _)| format!("property {name} should not exist")).collect::<Vec<_>>();
    let args = body.get("args").filter(|args| args.get().starts_with('['));
    let read = args.ok_or_else(|| "args must be an array".to_owned());
    match read.and_then(|args| from_tagged(args).map_err(|wrong| format!("args: {wrong}"))) {
        Ok(arguments) if faults.is_empty() => return Ok(arguments),
        Ok(_) => {}
        Err(fault) => faults.push(fault),
    }
    Err(faults)
}
