//! The wire, from the outside: over real TCP, with a client that takes every frame apart.

mod close;
mod connect;
mod delivery;
mod flow;
mod heartbeat;
mod held;
mod slow;
mod typical;
mod upgrade;
