//! The Lua scripts. Redis runs each as one atomic step. They are called by hash and loaded with every
//! connection.

use std::sync::LazyLock;

use redis::{Cmd, Script as Hashed, cmd};

use super::names::slot_key;

/// A script and its hash.
pub(super) struct Script {
    code: &'static str,
    hash: LazyLock<String>,
}

macro_rules! scripts {
    ($($name:ident = $($part:literal),+;)*) => {
        $(pub(super) static $name: Script = {
            const CODE: &str = concat!(include_str!("scripts/common.lua"), $(include_str!(concat!("scripts/", $part))),+);
            Script { code: CODE, hash: LazyLock::new(|| Hashed::new(CODE).get_hash().to_owned()) }
        };)*

        /// All scripts.
        pub(super) static ALL: &[&Script] = &[$(&$name),*];
    };
}

scripts! {
    APPEND = "trim.lua", "forget.lua", "once.lua", "webhooks.lua", "append.lua";
    READ = "room.lua", "read.lua";
    FIND = "room.lua", "find.lua";
    RECEIPT = "room.lua", "receipt.lua";
    ENQUEUE = "queue.lua", "once.lua", "webhooks.lua", "enqueue.lua";
    QUEUED = "queue.lua", "queued.lua";
    CONFIRM = "queue.lua", "confirm.lua";
    CLAIM = "claim.lua";
    CLAIM_ONCE = "once.lua", "claim_once.lua";
    BIND_ONCE = "once.lua", "bind_once.lua";
    SETTLE_ONCE = "once.lua", "settle_once.lua";
    RELEASE_ONCE = "release_once.lua";
    ANNOUNCE = "webhooks.lua", "announce.lua";
    ROOM_LEFT = "room_left.lua";
    TELL = "webhooks.lua", "tell.lua";
    WEBHOOK_PAGE = "webhook_page.lua";
    SETTLE_WEBHOOKS = "webhooks.lua", "settle_webhooks.lua";
    WEBHOOK_NEWS = "webhooks.lua", "webhook_news.lua";
    WEBHOOK_STATE = "webhook_state.lua";
    SWEEP_WEBHOOKS = "webhooks.lua", "sweep_webhooks.lua";
    FAILED_WEBHOOKS = "webhooks.lua", "failed_webhooks.lua";
    DECIDE_WEBHOOKS = "webhooks.lua", "decide_webhooks.lua";
    TOLD_NODES = "told_nodes.lua";
    TOLD = "told.lua";
    REVOKE = "revoke.lua";
    REINSTATE = "reinstate.lua";
    REVOCATIONS = "revocations.lua";
    LAYOUT = "layout.lua";
    MOVED = "forget.lua", "moved.lua";
    CHECK_IN = "check_in.lua";
    SETTLE = "settle.lua";
    LEAVE = "leave.lua";
    SWEEP = "trim.lua", "forget.lua", "queue.lua", "sweep.lua";
}

impl Script {
    /// A call of the script; its arguments follow, the prefix first.
    pub(super) fn call(&self, prefix: &str) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(self.hash.as_str()).arg(1).arg(slot_key(prefix)).arg(prefix);
        call
    }

    /// The command that loads the script.
    pub(super) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.code);
        load
    }
}
