//! Who a client is that connects, and whether it comes back to a session.

use socketioxide::{ProtocolVersion, socket::Socket};
use socketioxide_core::Value;

use super::{
    super::handshake::{Handshake, client_name, describe},
    NamespaceHandler, Prepared,
};
use crate::{
    broker::survey::Owner,
    commands::{
        connection_recovery::{self, Claim},
        session,
    },
    gateways::handlers::{Admission, First, Newcomer},
    hub::Session,
    limits::Who,
    memory::Account,
    protocol::{
        client_id::ClientId,
        not_recovered::NotRecovered,
        refusal::{Code, Refusal},
    },
    transport::Handle,
};

impl NamespaceHandler {
    /// Finds out who a client is, and whether it comes back to a session; with what the application's backend wants
    /// to be done first.
    pub(super) async fn prepare(
        &self,
        id: ClientId,
        mut handshake: Handshake,
        socket: &Socket,
        auth: Option<&Value>,
    ) -> Result<(Prepared, Option<First>, Option<Claim>), Refusal> {
        let (address, given_name) = (handshake.address, handshake.client_name.clone());
        let back = handshake.back.take().filter(|_| socket.protocol() != ProtocolVersion::V4);
        let (session, token_name) = self.authenticate(handshake).await?;
        let name = client_name(token_name, given_name);
        let namespace = &self.namespace;
        let before = back.as_ref().and_then(|back| back.newest().ok().flatten());
        let prepared = |id| {
            let (namespace, name, session) = (namespace.clone(), name.clone(), session.clone());
            Prepared { id, namespace, name, address, session, before, handshake: None }
        };
        if let Some(back) = back.filter(|_| self.app.broker.here.recovers()) {
            // Where the backend says who a client is, that is known only later.
            let asks = self.app.config.asks_backend_to_connect();
            let owner = if asks { Owner::Unknown } else { Owner::User(session.user.clone()) };
            let account = Account::of(&socket.req_parts().extensions, &self.app.memory);
            let context = &self.app.context;
            if let Some(claim) =
                connection_recovery::claim(context, namespace, &back, &owner, &account).await
            {
                let id = claim.id().clone();
                let (mut prepared, first) = self.ask_backend(prepared(id), socket, auth).await?;
                if claim.is_of(&prepared.session) {
                    prepared.session = claim.renew(prepared.session);
                    return Ok((prepared, first, Some(claim)));
                }
                connection_recovery::not_recovered(context, NotRecovered::Foreign);
            }
        }
        let (prepared, first) = self.ask_backend(prepared(id), socket, auth).await?;
        Ok((prepared, first, None))
    }

    /// Asks the application's backend who a client is, where it says that.
    async fn ask_backend(
        &self,
        mut prepared: Prepared,
        socket: &Socket,
        auth: Option<&Value>,
    ) -> Result<(Prepared, Option<First>), Refusal> {
        let address = prepared.address;
        let handlers = self.app.handlers.as_ref().filter(|handlers| handlers.reads_handshakes());
        let Some(handlers) = handlers else { return Ok((prepared, None)) };
        let parts = socket.req_parts();
        let shown = describe(parts, auth, |header| handlers.gets_header(header))?;
        prepared.handshake = handlers.kept_handshake(&shown)?;
        if !handlers.connects() {
            return Ok((prepared, None));
        }
        let account = Account::of(&parts.extensions, &self.app.memory);
        let _held = account.charge_incoming(shown.get().len());
        let is_polled = parts.extensions.get::<Handle>().is_some_and(Handle::is_polled);
        let newcomer = Newcomer {
            id: &prepared.id,
            namespace: &self.namespace,
            name: &prepared.name,
            address,
            transport: if is_polled { "polling" } else { "websocket" },
            session: prepared.session.clone(),
            handshake: &shown,
        };
        let Admission { session, name, first } =
            handlers.connect(&self.app.registry, &self.app.tasks, newcomer).await?;
        prepared.session = session;
        if let Some(name) = name {
            prepared.name = client_name(Some(name), Some(prepared.name.to_string()));
        }
        Ok((prepared, Some(first)))
    }

    /// The session of the client's token, and the name in it.
    async fn authenticate(
        &self,
        handshake: Handshake,
    ) -> Result<(Session, Option<String>), Refusal> {
        match (&self.app.verifier, &handshake.token) {
            (Some(verifier), Some(token)) => {
                let who = Who::of(handshake.address, None);
                let mut identity = session::identify(&self.app, verifier, token, who).await?;
                let name = identity.client_name.take();
                Ok((session::of_token(&self.app, identity), name))
            }
            (Some(_), None) if self.app.config.auth_required() => Err(Refusal::new(
                Code::Unauthorized,
                "authentication required: give a token by auth.token, the query parameter token or an Authorization header",
            )),
            _ => Ok((Session::anonymous(&self.app.config), None)),
        }
    }
}
