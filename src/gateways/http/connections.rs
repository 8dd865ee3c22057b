//! `/connections`.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    extract::{Paging, Query, Segment},
    openapi::{Busy, KeyErrors, NotFound, QueryErrors},
};
use crate::{
    broker::survey::ConnectionFilter,
    commands::queries::{self, Connection, Page},
    gateways::{app::App, fields::namespace, http_error::HttpError},
    protocol::names::{NameError, RoomName, UserId},
};

/// The filter: connections that match everything that is given.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    /// Only clients in this namespace; the default is any.
    #[param(example = "/chat")]
    namespace: Option<String>,
    /// Only clients of this user.
    #[param(min_length = 1)]
    user_id: Option<String>,
    /// Only clients in this room; the default namespace is `/`.
    #[param(min_length = 1, max_length = 200)]
    room: Option<String>,
}

impl Filter {
    fn read(&self, app: &App) -> Result<ConnectionFilter, HttpError> {
        fn named<T>(
            field: &str,
            given: Option<&str>,
            parse: impl FnOnce(&str) -> Result<T, NameError>,
            faults: &mut Vec<String>,
        ) -> Option<T> {
            parse(given?).map_err(|error| faults.push(format!("{field} {error}"))).ok()
        }
        let mut faults = Vec::new();
        let user = named("userId", self.user_id.as_deref(), UserId::parse, &mut faults);
        let room = named("room", self.room.as_deref(), RoomName::parse, &mut faults);
        let path = self.namespace.as_deref().or_else(|| room.as_ref().map(|_| "/"));
        let namespace = path.and_then(|path| {
            namespace(&app.registry, path).map_err(|fault| faults.push(fault)).ok()
        });
        if faults.is_empty() {
            let namespace = namespace.map(|namespace| namespace.path.clone());
            Ok(ConnectionFilter { namespace, user, room })
        } else {
            Err(HttpError::faults(faults))
        }
    }
}

/// List the connections
#[utoipa::path(
    get,
    path = "/connections",
    operation_id = "listConnections",
    tag = "management",
    params(Filter, Paging),
    responses((status = 200, description = "A page of them, in the order of their ids", body = Page<Connection>), QueryErrors, KeyErrors),
)]
pub(super) async fn list(
    State(app): State<App>,
    Query(filter): Query<Filter>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Connection>>, HttpError> {
    let wanted = filter.read(&app)?;
    Ok(Json(queries::connections(&app, &wanted, &paging.read()?).await))
}

/// The namespace in which a client is looked up.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Where {
    /// The namespace. A client of Socket.IO 1 has one id in all its namespaces: where none is given, the
    /// first of them is shown.
    #[param(example = "/chat")]
    namespace: Option<String>,
}

/// Get one connection
#[utoipa::path(
    get,
    path = "/connections/{clientId}",
    operation_id = "getConnection",
    tag = "management",
    params(("clientId" = String, Path, description = "The client's socket id, percent-encoded: in Socket.IO 2 it may be `/chat#…`"), Where),
    responses((status = 200, description = "The connection", body = Connection), NotFound, QueryErrors, KeyErrors, Busy),
)]
pub(super) async fn one(
    State(app): State<App>,
    Segment(id): Segment,
    Query(query): Query<Where>,
) -> Result<Json<Connection>, HttpError> {
    let namespace = query.namespace.map(|path| namespace(&app.registry, &path)).transpose();
    let namespace = namespace.map_err(|fault| HttpError::faults(vec![fault]))?;
    let path = namespace.as_ref().map(|namespace| &*namespace.path);
    Ok(Json(queries::connection(&app, &id, path).await?))
}

/// Disconnect a client
///
/// Disconnects the client from the namespace that this id belongs to. Its connection stays in other namespaces.
#[utoipa::path(
    delete,
    path = "/connections/{clientId}",
    operation_id = "disconnectClient",
    tag = "management",
    params(("clientId" = String, Path, description = "The client's socket id, percent-encoded: in Socket.IO 2 it may be `/chat#…`")),
    responses((status = 204, description = "It is being disconnected"), NotFound, KeyErrors, Busy),
)]
pub(super) async fn disconnect(
    State(app): State<App>,
    Segment(id): Segment,
) -> Result<StatusCode, HttpError> {
    queries::disconnect(&app, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
