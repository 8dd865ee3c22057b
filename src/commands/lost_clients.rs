//! Clients that have lost their connection and may come back: the end of their sessions.

use std::sync::Arc;

use super::{context::Context, room};
use crate::hub::{
    Client,
    sender::journal::{Journal, Place},
};

/// Ends a session that is there: nobody comes back to it.
pub(super) fn end(context: &Context, journal: &Journal, place: Place) {
    let Some(client) = context.registry.journals.end(journal, place) else { return };
    forget(context, &client);
}

/// Forgets a client that was lost.
pub(super) fn forget(context: &Context, client: &Arc<Client>) {
    for name in client.rooms() {
        room::forget_lost(client, &name);
    }
    client.namespace.forget(client);
    if let Some(user) = client.user() {
        context.registry.users.forget(&user, client);
    }
}

/// Ends the sessions of those that are away and match.
pub(super) fn end_those(context: &Context, is_one: impl Fn(&Client) -> bool) {
    if !context.broker.here.recovers() {
        return;
    }
    for journal in context.registry.journals.all() {
        if journal.away().is_some_and(|client| is_one(&client)) {
            end(context, &journal, Place::Away);
        }
    }
}
