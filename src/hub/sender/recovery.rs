//! What connection state recovery asks of a client's sender.

use std::sync::{Arc, Weak};

use super::{ClientSender, journal::Journal};
use crate::{
    memory::Account,
    protocol::client_id::ClientId,
    sync::Runtime,
    transport::{Ask, TransportSwitch, Wire},
};

impl ClientSender {
    /// The sender to a client that was lost on another node: what is sent goes to its journal. Must be called inside
    /// the runtime.
    pub fn to_lost(
        id: ClientId,
        namespace: Arc<str>,
        wire: Wire,
        account: Arc<Account>,
        journal: Arc<Journal>,
    ) -> Self {
        let switch = TransportSwitch::new(wire.clone(), id.clone(), account.clone());
        switch.close();
        let number = journal.count_connection();
        Self {
            socket: Weak::new(),
            id,
            namespace,
            v3: false,
            account,
            switch,
            connection: None,
            wire,
            observer: None,
            journal: Some((journal, number)),
            runtime: Runtime::current(),
        }
    }

    /// Ends the connection as if it were lost: the client may recover.
    pub fn lose(&self) {
        self.switch.close();
        if let Some(connection) = &self.connection {
            connection.break_off();
        }
    }

    /// The client cannot recover any more.
    pub(super) fn spoil(&self) {
        if let Some((journal, _)) = &self.journal {
            journal.spoil();
        }
    }

    /// Asks the client to prove that it has everything up to this entry of the journal.
    pub(super) fn prove(&self, journal: Arc<Journal>, number: u64, end: u64) {
        let switch = self.switch.clone();
        self.runtime.spawn(async move {
            let has_it = switch.confirm_delivery(Ask::EngineIo).await;
            journal.prove(number, end, has_it);
        });
    }

    /// Remembers what is sent, where connections may be recovered.
    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref().map(|(journal, _)| journal)
    }

    /// The number of this connection among those of the session.
    pub fn connection_number(&self) -> u64 {
        self.journal.as_ref().map_or(0, |(_, number)| *number)
    }

    /// Whether the client has lost its connection and may recover.
    pub(in crate::hub) fn may_come_back(&self) -> bool {
        self.journal.as_ref().is_some_and(|(journal, number)| journal.is_leaving(*number))
    }

    /// The path of its namespace.
    pub(super) fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// The wire.
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Gives up the connection, which is over.
    pub fn release(&self) {
        self.switch.release();
    }
}
