//! The ports that note, publish and tell: in memory, to be looked at afterwards.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use corral_core::launch::LaunchSpec;
use corral_core::ports::{
    Contexts, Ended, Endpoint, EndpointFile, FirstAnswer, Instance, Journal, KeptContext, Notifier, Route, Traffic,
};
use corral_core::snapshot::{Notice, OperationKind, OperationView, SessionView};
use corral_core::{Error, ModelId, OperationId, Result, Secret};
use jiff::Timestamp;

/// A journal, a notifier and an endpoint file in memory.
#[derive(Debug, Default)]
pub struct Memory {
    wanted: Mutex<Option<ModelId>>,
    last_served: Mutex<Option<ModelId>>,
    began: Mutex<Vec<OperationId>>,
    ended: Mutex<Vec<OperationId>>,
    notices: Mutex<Vec<Notice>>,
    key: Mutex<Option<String>>,
    contexts: Mutex<HashMap<ModelId, KeptContext>>,
    traffic: Mutex<Vec<String>>,
    finished: Mutex<Vec<Ended>>,
    first_answers: Mutex<Vec<OperationId>>,
}

impl Memory {
    /// What was asked of the traffic, in order.
    pub fn traffic(&self) -> Vec<String> {
        self.traffic.lock().expect("not poisoned").clone()
    }

    /// How the operations ended.
    pub fn finished(&self) -> Vec<Ended> {
        self.finished.lock().expect("not poisoned").clone()
    }

    /// The operations whose model has given its first answer.
    pub fn first_answers(&self) -> Vec<OperationId> {
        self.first_answers.lock().expect("not poisoned").clone()
    }

    /// Every notice so far.
    pub fn notices(&self) -> Vec<String> {
        self.notices.lock().expect("not poisoned").iter().map(|notice| notice.message.clone()).collect()
    }

    /// The key that is published.
    pub fn key(&self) -> Option<String> {
        self.key.lock().expect("not poisoned").clone()
    }

    /// The operations that began, and those that ended.
    pub fn operations(&self) -> (Vec<OperationId>, Vec<OperationId>) {
        (self.began.lock().expect("not poisoned").clone(), self.ended.lock().expect("not poisoned").clone())
    }
}

#[async_trait]
impl Contexts for Memory {
    async fn save(&self, instance: &Instance, _: &Endpoint, _: &LaunchSpec, _: u64) -> Result<KeptContext> {
        let kept = KeptContext { slots: 1, tokens: 100, bytes: 1000 };
        self.contexts.lock().expect("not poisoned").insert(instance.model.clone(), kept);
        Ok(kept)
    }

    async fn restore(&self, instance: &Instance, _: &Endpoint, _: &LaunchSpec) -> Result<KeptContext> {
        Ok(self.contexts.lock().expect("not poisoned").get(&instance.model).copied().unwrap_or_default())
    }
}

#[async_trait]
impl Traffic for Memory {
    fn open(&self, route: Route) {
        self.traffic.lock().expect("not poisoned").push(format!("open {}", route.instance.model));
    }

    fn close(&self) {
        self.traffic.lock().expect("not poisoned").push("close".to_owned());
    }

    async fn drained(&self) {
        self.traffic.lock().expect("not poisoned").push("drain".to_owned());
    }

    fn cut(&self, _: &Error) {
        self.traffic.lock().expect("not poisoned").push("cut".to_owned());
    }
}

impl Journal for Memory {
    fn began(&self, operation: &OperationView) {
        self.began.lock().expect("not poisoned").push(operation.id);
    }

    fn ended(&self, ended: &Ended) {
        self.ended.lock().expect("not poisoned").push(ended.operation.id);
        self.finished.lock().expect("not poisoned").push(ended.clone());
        if ended.error.is_none() && ended.operation.to.is_some() {
            self.last_served.lock().expect("not poisoned").clone_from(&ended.operation.to);
        }
    }

    fn want(&self, model: Option<&ModelId>) {
        *self.wanted.lock().expect("not poisoned") = model.cloned();
    }

    fn wanted(&self) -> Option<ModelId> {
        self.wanted.lock().expect("not poisoned").clone()
    }

    fn last_served(&self) -> Option<ModelId> {
        self.last_served.lock().expect("not poisoned").clone()
    }

    fn first_answer(&self, operation: OperationId, _: &FirstAnswer) {
        self.first_answers.lock().expect("not poisoned").push(operation);
    }

    fn expected(&self, _: OperationKind, _: &ModelId) -> Option<Duration> {
        None
    }

    fn session(&self, _: &SessionView, _: Option<Timestamp>) {}
}

impl Notifier for Memory {
    fn notify(&self, notice: &Notice) {
        self.notices.lock().expect("not poisoned").push(notice.clone());
    }
}

impl EndpointFile for Memory {
    fn publish(&self, key: Option<&Secret>) -> Option<String> {
        let key = key.map(|key| key.expose().to_owned());
        self.key.lock().expect("not poisoned").clone_from(&key);
        key.map(|_| "/run/corral/api-key".to_owned())
    }
}
