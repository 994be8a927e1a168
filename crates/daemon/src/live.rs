//! What goes on at this moment, read only while somebody looks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use corral_core::command::ControllerHandle;
use corral_core::live::{Live, LiveContext, LiveRequests, LiveSession, LiveSlot, LiveSource, Speed};
use corral_core::ports::Clock;
use corral_core::usage::{Millijoules, RequestRecord, Tokens};
use corral_core::{ModelId, SessionId};
use corral_engine::health::{Probe, Slot};
use corral_gateway::Gate;
use tokio::sync::watch;

/// How often the speed is told while requests run.
const EVERY: Duration = Duration::from_secs(1);

/// A reading that is younger is told again.
const FRESH: Duration = Duration::from_millis(900);

/// Prompts that were read since a look that is older say nothing of the present.
const STALE: Duration = Duration::from_secs(5);

/// Of so many minutes the share of the cache is told.
const MINUTES: i64 = 15;

/// So many sessions are kept that may not be attached any more.
const SESSIONS: usize = 1024;

/// Reads the gateway's counters, `llama-server`'s slots, and the sums of what has ended.
pub(crate) struct LiveReader {
    gate: Gate,
    controller: ControllerHandle,
    clock: Arc<dyn Clock>,
    recent: Arc<Recent>,
    probe: Probe,
    /// One reading at a time.
    state: tokio::sync::Mutex<State>,
    speed: watch::Sender<Option<Speed>>,
}

/// What is known from the readings before.
#[derive(Default)]
struct State {
    last: Option<(Duration, Live)>,
    /// The server whose slots these are.
    server: Option<u64>,
    /// The count of answers that had ended when it was asked.
    ended: u64,
    slots: Option<(Duration, Vec<Slot>)>,
}

impl std::fmt::Debug for LiveReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveReader").finish_non_exhaustive()
    }
}

impl LiveReader {
    pub(crate) fn new(gate: Gate, controller: ControllerHandle, clock: Arc<dyn Clock>, recent: Arc<Recent>) -> Self {
        let (state, speed) = Default::default();
        Self { gate, controller, clock, recent, probe: Probe::new(), state, speed }
    }

    /// Tells the speed while requests run, once a second, and when the last of them has ended. Never returns.
    pub(crate) async fn tell_speed(self: Arc<Self>) {
        loop {
            self.gate.began().await;
            loop {
                // Before the first look, too: however many short requests come, this wakes once a second.
                self.clock.sleep(EVERY).await;
                let running = self.gate.counts().0 > 0;
                let tally = self.gate.tally();
                let rate = if running { Some(tally.tokens_per_second()) } else { tally.last_answer() };
                // A tenth of a token is as close as anybody looks.
                let rounded = |rate: f64| (rate * 10.0).round() / 10.0;
                let speed = rate.map(|rate| Speed { tokens_per_second: rounded(rate), running });
                self.speed.send_if_modified(|told| std::mem::replace(told, speed) != speed);
                if !running {
                    break;
                }
            }
        }
    }

    /// The slots of the server that serves, and how many tokens of prompts it evaluates per second. It is asked only where
    /// they may have changed: asking would keep one awake that sleeps while it is idle.
    async fn slots(&self, state: &mut State, now: Duration, running: usize) -> (Option<LiveContext>, Option<f64>) {
        let Some(server) = self.gate.server() else {
            (state.server, state.slots) = (None, None);
            return (None, None);
        };
        let ended = self.gate.tally().ended();
        let same = state.server == Some(server.load);
        let was_busy = state.slots.iter().any(|(_, slots)| slots.iter().any(|slot| slot.busy));
        if !same {
            state.slots = None;
        }
        let mut rate = same.then_some(0.0);
        if !same || running > 0 || was_busy || ended != state.ended {
            (state.server, state.ended) = (Some(server.load), ended);
            rate = None;
            // One that is too busy to answer is as it was.
            if let Ok(told) = self.probe.slots(&server.url, &server.key).await {
                let before = std::mem::replace(&mut state.slots, told.map(|slots| (now, slots)));
                rate = before.zip(state.slots.as_ref()).and_then(|((then, before), (_, slots))| {
                    per_second(evaluated(&before, slots), now.saturating_sub(then))
                });
            }
        }
        (state.slots.as_ref().map(|(_, slots)| context(slots)), rate)
    }
}

#[async_trait]
impl LiveSource for LiveReader {
    async fn read(&self) -> Live {
        let mut state = self.state.lock().await;
        let now = self.clock.uptime();
        if let Some((at, live)) = &state.last
            && now.saturating_sub(*at) < FRESH
        {
            return live.clone();
        }
        let (running, waiting) = self.gate.counts();
        let tally = self.gate.tally();
        let (context, prompt_tokens_per_second) = self.slots(&mut state, now, running).await;
        let snapshot = self.controller.snapshot();
        let at = self.clock.now();
        let sessions = snapshot.sessions.iter().map(|session| {
            let sums = self.recent.of(&session.id);
            LiveSession {
                id: session.id.clone(),
                label: session.label.clone(),
                workspace: session.workspace.clone(),
                model: tally.model(&session.id).or(sums.model).map(String::from).or_else(|| session.model.clone()),
                started_at: session.started_at,
                running: tally.running(&session.id),
                requests: sums.requests,
                tokens_in: sums.tokens.input,
                tokens_out: sums.tokens.output,
                tokens_cached: sums.tokens.cached,
                energy_joules: sums.energy.map(Millijoules::joules),
                energy_requests: sums.measured,
            }
        });
        let live = Live {
            at,
            requests: LiveRequests { running: running as u64, waiting: waiting as u64 },
            tokens_per_second: tally.tokens_per_second(),
            prompt_tokens_per_second,
            context,
            cached_share: self.recent.cached_share(at.as_second()),
            sessions: sessions.collect(),
        };
        state.last = Some((now, live.clone()));
        live
    }

    fn speed(&self) -> watch::Receiver<Option<Speed>> {
        self.speed.subscribe()
    }
}

/// So many in this time, as a rate; none where the time says nothing of the present.
#[expect(clippy::cast_precision_loss, reason = "nobody generates 2^53 tokens in five seconds")]
fn per_second(count: u64, time: Duration) -> Option<f64> {
    (!time.is_zero() && time <= STALE).then(|| count as f64 / time.as_secs_f64())
}

/// Tokens of prompts that were evaluated between two looks.
fn evaluated(before: &[Slot], now: &[Slot]) -> u64 {
    let of = |slot: &Slot| {
        let same = before.iter().find(|old| old.id == slot.id && old.task == slot.task);
        slot.evaluated.saturating_sub(same.map_or(0, |old| old.evaluated))
    };
    now.iter().map(of).sum()
}

fn context(slots: &[Slot]) -> LiveContext {
    let slots = slots.iter().map(|slot| LiveSlot {
        id: slot.id,
        used_tokens: slot.used,
        total_tokens: slot.total,
        busy: slot.busy,
    });
    let slots: Vec<_> = slots.collect();
    LiveContext {
        used_tokens: slots.iter().map(|slot| slot.used_tokens).sum(),
        total_tokens: slots.iter().map(|slot| slot.total_tokens).sum(),
        slots,
    }
}

/// Sums of the requests that have ended in this life of the daemon, kept such that they cost nothing to read.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<RecentSums>);

#[derive(Debug, Default)]
struct RecentSums {
    sessions: HashMap<SessionId, Sums>,
    /// Minutes since 1970, with the tokens of prompts and those of them out of the cache; the oldest first.
    minutes: VecDeque<(i64, u64, u64)>,
}

#[derive(Debug, Clone, Default)]
struct Sums {
    requests: u64,
    tokens: Tokens,
    /// Of those whose energy was measured.
    energy: Option<Millijoules>,
    measured: u64,
    /// The model that answered last.
    model: Option<ModelId>,
}

impl Recent {
    /// Takes requests that have ended; `attached` says which sessions are worth keeping.
    pub(crate) fn take(&self, records: &[RequestRecord], attached: impl Fn(&SessionId) -> bool) {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let RequestRecord { at, session, tokens, model, energy, .. } = record;
            let minute = at.as_second().div_euclid(60);
            if let Some(session) = session {
                if sums.sessions.len() >= SESSIONS && !sums.sessions.contains_key(session) {
                    sums.sessions.retain(|session, _| attached(session));
                }
                let of = sums.sessions.entry(session.clone()).or_default();
                of.requests += 1;
                if model.is_some() {
                    of.model.clone_from(model);
                }
                of.tokens.input = of.tokens.input.saturating_add(tokens.input);
                of.tokens.output = of.tokens.output.saturating_add(tokens.output);
                of.tokens.cached = of.tokens.cached.saturating_add(tokens.cached);
                if let Some(energy) = energy {
                    let before = of.energy.unwrap_or_default();
                    of.energy = Some(Millijoules(before.0.saturating_add(energy.0)));
                    of.measured += 1;
                }
            }
            match sums.minutes.iter_mut().find(|(there, ..)| *there == minute) {
                Some((_, input, cached)) => {
                    *input = input.saturating_add(tokens.input);
                    *cached = cached.saturating_add(tokens.cached);
                }
                None => sums.minutes.push_back((minute, tokens.input, tokens.cached)),
            }
            let newest = sums.minutes.iter().map(|(minute, ..)| *minute).max().unwrap_or(minute);
            sums.minutes.retain(|(minute, ..)| *minute > newest - MINUTES);
        }
    }

    fn of(&self, session: &SessionId) -> Sums {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sessions.get(session).cloned().unwrap_or_default()
    }

    /// The share of the last minutes, for a moment in seconds since 1970.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
    fn cached_share(&self, now: i64) -> Option<f64> {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = sums.minutes.iter().filter(|(minute, ..)| *minute > now.div_euclid(60) - MINUTES);
        let (input, cached) = recent.fold((0_u64, 0_u64), |(input, cached), minute| {
            (input.saturating_add(minute.1), cached.saturating_add(minute.2))
        });
        (input > 0).then(|| (cached as f64 / input as f64).min(1.0))
    }
}

#[cfg(test)]
mod tests;
