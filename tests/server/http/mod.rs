//! The HTTP door, from the outside.

mod door;
mod events;
mod keys;
mod management;
mod messages;
mod origins;
mod pages;
