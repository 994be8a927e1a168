//! The inference port that outlives every switch: it routes requests, holds them while models change, streams the
//! answers and counts their tokens.

#[cfg_attr(not(test), expect(dead_code, reason = "the proxy is about to use it"))]
mod answer;
#[cfg_attr(not(test), expect(dead_code, reason = "the proxy is about to use it"))]
mod failure;
#[cfg_attr(not(test), expect(dead_code, reason = "the proxy is about to use it"))]
mod peek;
#[cfg_attr(not(test), expect(dead_code, reason = "the proxy is about to use it"))]
mod prompt;
mod schedule;
mod traffic;

pub use self::schedule::schedule;
pub use self::traffic::Gate;
