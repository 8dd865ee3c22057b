//! The Lua scripts: each is one step that Redis does atomically. They are known to it by their hash
//! and loaded with every connection.

use std::sync::LazyLock;

use redis::{Cmd, Script as Hashed, cmd};

/// A script and its hash.
pub struct Script {
    code: &'static str,
    hash: LazyLock<String>,
}

macro_rules! scripts {
    ($($name:ident = $($part:literal),+;)*) => {
        $(pub static $name: Script = {
            const CODE: &str = concat!(include_str!("scripts/common.lua"), $(include_str!(concat!("scripts/", $part))),+);
            Script { code: CODE, hash: LazyLock::new(|| Hashed::new(CODE).get_hash().to_owned()) }
        };)*

        /// All of them.
        pub static ALL: &[&Script] = &[$(&$name),*];
    };
}

scripts! {
    APPEND = "trim.lua", "forget.lua", "append.lua";
    READ = "room.lua", "read.lua";
    FIND = "room.lua", "find.lua";
    RECEIPT = "room.lua", "receipt.lua";
    ENQUEUE = "queue.lua", "enqueue.lua";
    QUEUED = "queue.lua", "queued.lua";
    CONFIRM = "queue.lua", "confirm.lua";
    CLAIM = "claim.lua";
    CHECK_IN = "check_in.lua";
    SWEEP = "trim.lua", "forget.lua", "queue.lua", "sweep.lua";
}

impl Script {
    /// A call of the script; its arguments follow, the prefix first.
    pub fn call(&self, prefix: &str) -> Cmd {
        let mut call = cmd("EVALSHA");
        // No keys are declared: that would matter to a Redis Cluster only.
        call.arg(self.hash.as_str()).arg(0).arg(prefix);
        call
    }

    /// The command that makes it known.
    pub fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.code);
        load
    }
}
