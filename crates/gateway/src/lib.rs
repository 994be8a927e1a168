//! The inference port that outlives every switch: it routes requests, holds them while models change, streams the
//! answers and counts their tokens.

mod schedule;
mod traffic;

pub use self::schedule::schedule;
pub use self::traffic::Gate;
