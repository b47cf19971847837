//! What a store promises, by the way it could break the promise.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected fails")]

mod concurrency;
mod counters;
mod damage;
mod durability;
mod endings;
mod filters;
mod graph;
mod input;
mod learning;
mod patterns;
mod places;
mod prune;
mod returns;
mod search;
mod settings;
mod shadow;
mod sidecar;
mod world;
mod written;
