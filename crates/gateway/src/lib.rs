//! The inference port that outlives every switch: it routes requests, holds them while models change, streams the
//! answers and counts their tokens.

mod traffic;

pub use self::traffic::Gate;
