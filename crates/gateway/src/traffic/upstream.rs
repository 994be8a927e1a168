//! Where requests go.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use corral_core::ports::{Endpoint, Instance, Route};
use corral_core::{InstanceId, ModelId, Secret};
use http::HeaderValue;
use http::uri::Authority;
use jiff::Timestamp;

use super::Ask;

/// A server that requests go to, for as long as the way to it stays open without a break.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Its model.
    pub(crate) model: ModelId,
    /// Which server.
    pub(crate) instance: InstanceId,
    /// Where it answers, for instance `127.0.0.1:41234`.
    pub(crate) authority: Authority,
    /// The same as a header.
    pub(crate) host: HeaderValue,
    /// `Bearer` and its key; marked sensitive.
    pub(crate) authorization: HeaderValue,
    /// That key by itself.
    pub(crate) key: Secret,
    /// Conversations were brought back into it, whose first answer is yet to come.
    pub(crate) restored: bool,
    /// Which opening of the gate this is, counted from 1.
    pub(crate) generation: u64,
    /// The first opening to this run of the server: differs whenever a model was loaded anew.
    pub(crate) load: u64,
    /// Its first answer since it was loaded has been reported; shared by all openings to the same run of the server.
    pub(crate) first: Arc<AtomicBool>,
    /// So has the first one that continued a conversation of before; shared likewise.
    pub(crate) continued: Arc<AtomicBool>,
    started_at: Timestamp,
    /// By [`Clock::uptime`](corral_core::ports::Clock::uptime).
    pub(super) opened_at: Duration,
}

impl Upstream {
    pub(super) fn of(route: Route, generation: u64, opened_at: Duration, last: Option<&Self>) -> Self {
        let Route { instance, endpoint, restored } = route;
        let Instance { id, model, api_key, .. } = instance;
        let Endpoint { url, started_at } = endpoint;
        let same = last.filter(|last| last.instance == id && last.started_at == started_at);
        let (first, continued) = same.map(|last| (last.first.clone(), last.continued.clone())).unwrap_or_default();
        let load = same.map_or(generation, |last| last.load);
        let authority = Authority::try_from(url.strip_prefix("http://").unwrap_or(&url).trim_end_matches('/'));
        let authority = authority.unwrap_or_else(|_| {
            tracing::error!(instance = %id, url, "the server's address is none");
            Authority::from_static("127.0.0.1:9")
        });
        let host = HeaderValue::from_str(authority.as_str()).unwrap_or_else(|_| HeaderValue::from_static("127.0.0.1"));
        let bearer = HeaderValue::try_from(format!("Bearer {}", api_key.expose()));
        let mut authorization = bearer.unwrap_or_else(|_| {
            tracing::error!(instance = %id, "the server's key does not fit into a header");
            HeaderValue::from_static("Bearer")
        });
        authorization.set_sensitive(true);
        Self {
            model,
            instance: id,
            authority,
            host,
            authorization,
            key: api_key,
            restored,
            generation,
            load,
            first,
            continued,
            started_at,
            opened_at,
        }
    }

    pub(super) fn serves(&self, ask: &Ask) -> bool {
        ask.model.as_ref().is_none_or(|model| *model == self.model)
    }
}
