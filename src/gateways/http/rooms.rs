//! `/rooms`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    extract::{InNamespace, Paging, Query, Segment, integer, page_limit},
    openapi::{Busy, KeyErrors, NotFound, QueryErrors},
};
use crate::{
    commands::{
        history::{self, HistoryPage},
        queries::{self, Page, Room, RoomDetail},
    },
    gateways::{app::App, http_error::HttpError},
};

/// The greatest offset: the greatest integer that JavaScript can hold exactly.
const MAX_OFFSET: u64 = (1 << 53) - 1;

/// List the rooms
///
/// The rooms of one namespace that have a member.
#[utoipa::path(
    get,
    path = "/rooms",
    operation_id = "listRooms",
    tag = "management",
    params(InNamespace, Paging),
    responses((status = 200, description = "A page of them, in the order of their names", body = Page<Room>), QueryErrors, KeyErrors),
)]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<InNamespace>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Room>>, HttpError> {
    Ok(Json(queries::rooms(&app, &*query.find(&app)?, &paging.read()?).await))
}

/// Get one room
///
/// Its members, offset and epoch.
#[utoipa::path(
    get,
    path = "/rooms/{room}",
    operation_id = "getRoom",
    tag = "management",
    params(("room" = String, Path, description = "The room's name", min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"), InNamespace),
    responses((status = 200, description = "The room", body = RoomDetail), NotFound, QueryErrors, KeyErrors, Busy),
)]
pub(super) async fn one(
    State(app): State<App>,
    path: Segment,
    Query(query): Query<InNamespace>,
) -> Result<Json<RoomDetail>, HttpError> {
    let room = path.room()?;
    Ok(Json(queries::room(&app, &*query.find(&app)?, &room).await?))
}

/// Which part of a room's history is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct After {
    /// The page begins after this offset.
    #[param(value_type = Option<u64>, minimum = 0, maximum = 9_007_199_254_740_991_u64, default = 0)]
    after: Option<String>,
    /// The maximum number of messages.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<String>,
}

/// Read a room's history
///
/// Also when nobody is in it. A page may hold fewer messages than asked for, as it is bounded in
/// bytes, too: `complete` tells whether there are more.
#[utoipa::path(
    get,
    path = "/rooms/{room}/messages",
    operation_id = "listRoomMessages",
    tag = "management",
    params(("room" = String, Path, description = "The room's name", min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"), InNamespace, After),
    responses((status = 200, description = "The messages, oldest first", body = HistoryPage), QueryErrors, KeyErrors, Busy),
)]
pub(super) async fn messages(
    State(app): State<App>,
    path: Segment,
    Query(query): Query<InNamespace>,
    Query(part): Query<After>,
) -> Result<Json<HistoryPage>, HttpError> {
    let room = path.room()?;
    let namespace = query.find(&app)?;
    let mut faults = Vec::new();
    let after = integer("after", part.after.as_deref(), 0..=MAX_OFFSET, 0, &mut faults);
    let limit = page_limit(part.limit.as_deref(), &mut faults);
    if !faults.is_empty() {
        return Err(HttpError::faults(faults));
    }
    Ok(Json(history::page(&app, &namespace, &room, after, limit).await?))
}
