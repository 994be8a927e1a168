//! When models are switched, loaded and unloaded for the sake of requests.
//!
//! [`decide`] is pure: what is, in; what to do, out. [`schedule`] carries it out and sleeps until something happens.

mod run;

use std::collections::HashMap;
use std::time::Duration;

use corral_core::catalog::{AutoSwitch, Catalog};
use corral_core::lifecycle::restart;
use corral_core::{Code, Error, ModelId};

pub(crate) use self::run::schedule;
use crate::traffic::{Ask, Look};

/// How long a model that failed to load is left alone by requests.
const COOL_OFF: Duration = Duration::from_secs(30);

/// How long one that kept ending and was given up is: so long its ends count.
const GIVEN_UP: Duration = restart::WINDOW;

/// What is decided from.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// The time, by [`corral_core::ports::Clock::uptime`].
    now: Duration,
    /// The requests, and where they go.
    gate: Look,
    /// An operation is in progress.
    busy: bool,
    /// What it may leave loaded: its model, and while it rolls back also the one before.
    coming: Vec<ModelId>,
    /// The way is closed to a model that is loaded by the newest snapshot: the next one tells why.
    unsettled: bool,
    /// When a person last replaced a switch that was made for a request.
    overruled: Duration,
    /// Nothing is asked of the controller before this.
    not_before: Duration,
    /// What was unloaded, or is being, because nobody used it: whoever asks for it again needs no right to switch.
    unloaded: Option<ModelId>,
    /// The catalog in force.
    catalog: &'a Catalog,
    /// What failed to load.
    failures: &'a Failures,
}

/// What to do for requests.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Switch to this model, or load it where none is.
    Switch(ModelId),
    /// Load the usual model.
    Start,
    /// Unload this model, which nobody has used for a while.
    Unload(ModelId),
    /// Answer these requests with errors.
    Refuse(Vec<(u64, Error)>),
    /// Nothing; look again when something has happened, or after this time.
    Wait(Option<Duration>),
}

/// What failed to load lately, and until when it is left alone. The key is none for the usual model, whichever that is.
#[derive(Debug, Default)]
pub(crate) struct Failures(HashMap<Option<ModelId>, (Duration, Error)>);

impl Failures {
    fn note(&mut self, model: Option<ModelId>, until: Duration, error: Error) {
        // What was given up is not tried sooner because a person has tried it in vain.
        let before = self.0.get(&model).map_or(Duration::ZERO, |(before, _)| *before);
        self.0.insert(model, (until.max(before), error));
    }

    fn recent(&self, model: Option<&ModelId>, now: Duration) -> Option<&Error> {
        // Nearly always nothing has failed, and then no key need be made.
        if self.0.is_empty() {
            return None;
        }
        let (until, error) = self.0.get(&model.cloned())?;
        (now < *until).then_some(error)
    }

    /// This model is loaded: whatever was wrong is over.
    fn forget(&mut self, model: &ModelId) {
        if !self.0.is_empty() {
            self.0.retain(|failed, _| failed.as_ref().is_some_and(|failed| failed != model));
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// Decides what to do now.
pub(crate) fn decide(view: &View<'_>) -> Decision {
    if view.unsettled {
        return Decision::Wait(None);
    }
    let refused = view.gate.waiting.iter().filter_map(|waiting| Some((waiting.ticket, view.refusal(&waiting.ask)?)));
    let refused: Vec<_> = refused.collect();
    if !refused.is_empty() {
        return Decision::Refuse(refused);
    }
    let next = if view.busy { None } else { view.next() };
    let Some((due, decision)) = next else { return Decision::Wait(None) };
    let after = due.max(view.not_before).saturating_sub(view.now);
    if after.is_zero() { decision } else { Decision::Wait(Some(after)) }
}

impl View<'_> {
    /// What is to be done next, and when.
    fn next(&self) -> Option<(Duration, Decision)> {
        let oldest = self.gate.waiting.first();
        match (&self.gate.open, oldest) {
            (Some((_, since)), Some(oldest)) => {
                // Only those that ask for another model wait while the gate is open.
                let model = oldest.ask.model.clone()?;
                let due = (*since).max(self.overruled) + self.catalog.gateway.min_stay;
                Some((due, Decision::Switch(model)))
            }
            (None, Some(oldest)) => {
                let decision = self.wanted(&oldest.ask).cloned().map_or(Decision::Start, Decision::Switch);
                Some((Duration::ZERO, decision))
            }
            (Some((open, _)), None) => {
                let idle = self.catalog.models.get(open)?.idle_unload?;
                // While requests run nobody tells of the last one's end: it is looked for when it could first matter.
                let since = if self.gate.under_way == 0 { self.gate.quiet_since } else { self.now };
                Some((since + idle, Decision::Unload(open.clone())))
            }
            (None, None) => None,
        }
    }

    /// The model that this request would load; none means the usual one.
    fn wanted<'b>(&'b self, ask: &'b Ask) -> Option<&'b ModelId> {
        ask.model.as_ref().or(self.unloaded.as_ref())
    }

    /// Why this request is not to wait any longer.
    fn refusal(&self, ask: &Ask) -> Option<Error> {
        let comes = match &ask.model {
            Some(model) => self.open() == Some(model) || self.coming.contains(model),
            None => self.open().is_some() || !self.coming.is_empty(),
        };
        if comes {
            return None;
        }
        let known = |model: &&ModelId| self.catalog.models.contains_key(*model);
        if let Some(gone) = ask.model.as_ref().filter(|model| !known(model)) {
            let error = Error::new(Code::UnknownModel, format!("`{gone}` is not in the catalog any more"));
            return Some(error.hint("`corral list` shows all models"));
        }
        let wanted = self.wanted(ask);
        if let Some(error) = self.failures.recent(wanted, self.now) {
            return Some(error.clone());
        }
        if wanted.is_some() && wanted == self.unloaded.as_ref() {
            return None;
        }
        let allowed = match self.catalog.gateway.auto_switch {
            AutoSwitch::Always => true,
            AutoSwitch::Sessions => ask.session,
            AutoSwitch::Never => false,
        };
        (!allowed).then(|| self.not_allowed(ask.model.as_ref()))
    }

    fn open(&self) -> Option<&ModelId> {
        self.gate.open.as_ref().map(|(model, _)| model)
    }

    fn not_allowed(&self, model: Option<&ModelId>) -> Error {
        let who = match self.catalog.gateway.auto_switch {
            AutoSwitch::Sessions => "only requests of a session load a model",
            _ => "requests load no model",
        };
        let setting = "`auto_switch` in models.toml decides who may";
        let Some(model) = model else {
            return Error::new(Code::SwitchNotAllowed, format!("no model is loaded, and {who}"))
                .hint(format!("`corral start` loads one; {setting}"));
        };
        let error = Error::new(Code::SwitchNotAllowed, format!("`{model}` is not loaded, and {who}"));
        match (self.open(), self.coming.first()) {
            (Some(loaded), _) => {
                error.hint(format!("ask for `{loaded}`, which is loaded, or `corral switch {model}`; {setting}"))
            }
            (None, Some(coming)) => {
                error.hint(format!("ask for `{coming}`, which is being loaded, or `corral switch {model}`; {setting}"))
            }
            (None, None) => error.hint(format!("no model is loaded: `corral switch {model}`; {setting}")),
        }
    }
}

#[cfg(test)]
mod tests;
