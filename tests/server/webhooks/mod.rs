//! Section 15 of the contract: webhooks, to a real endpoint.

mod crash;
mod failed;
mod failures;
mod nodes;
pub(crate) mod receiver;
mod slow;
mod types;
