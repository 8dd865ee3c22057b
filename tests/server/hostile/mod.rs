//! What hostile and broken clients send: after each of them the same process serves a normal client,
//! and nothing is left of them.

mod checks;
mod connects;
mod frames;
mod fuzz;
mod ghosts;
mod http;
mod polling;
mod sessions;
mod slow_pollers;
mod timeouts;

use self::checks::{DEADLINE, assert_deserted, assert_serves};
