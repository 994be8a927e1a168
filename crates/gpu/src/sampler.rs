//! When the GPUs are read: each second while somebody looks or a model is being switched, now and then while one is
//! loaded, and else not at all. A GPU that sleeps when nobody uses it is let go of in between, so that it can.

mod parts;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use corral_core::gpu::{GpuHistory, GpuReading, GpuSample, GpuState, GpuWatch, Look, RecentReadings};
use corral_core::ports::{Clock, GpuProbe};
use corral_core::snapshot::Snapshot;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::owners::{Owners, Servers};
use crate::roots::Roots;
use parts::{Done, Parts};

/// How often they are read while somebody looks.
const LOOKED_AT: Duration = Duration::from_secs(1);

/// How often they are read while a model is loaded, or scraped.
const IN_USE: Duration = Duration::from_secs(15);

/// A reading that is younger is told again.
const FRESH: Duration = Duration::from_millis(900);

/// To a program that asks for ever one is told that is younger than this, where a GPU would rather sleep.
const FRESH_ENOUGH: Duration = Duration::from_mins(1);

/// How long the drivers are kept after the last reading, for whoever comes back at once.
const LINGER: Duration = Duration::from_secs(5);

/// How long a driver is waited for.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// So many servers are remembered: those before the present one may still be ending.
const SERVERS: usize = 8;

type Readings = watch::Sender<Option<Arc<GpuReading>>>;

/// The reading before the next, however old.
type Latest = Arc<Mutex<Option<Arc<GpuReading>>>>;

/// Reads the GPUs as often as it matters, until it is dropped. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sampler {
    asks: mpsc::Sender<Ask>,
    readings: Readings,
    someone_came: Arc<Notify>,
    latest: Latest,
}

#[derive(Debug)]
enum Ask {
    Reading { who: Look, reply: oneshot::Sender<Arc<GpuReading>> },
    History { reply: oneshot::Sender<GpuHistory> },
}

impl Sampler {
    /// Begins; to be called in a runtime. `snapshots` tells what is loaded and whether it is being switched; below
    /// `roots` processes are looked at.
    pub fn start(
        probe: Box<dyn GpuProbe>,
        roots: Roots,
        clock: Arc<dyn Clock>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Self {
        let (asks, asked) = mpsc::channel(64);
        let (someone_came, latest) = Default::default();
        let sampler = Self { asks, readings: watch::Sender::new(None), someone_came, latest };
        let parts = Parts { probe, owners: Owners::default(), roots };
        let run = Run {
            asked,
            readings: sampler.readings.clone(),
            someone_came: sampler.someone_came.clone(),
            latest: sampler.latest.clone(),
            clock,
            snapshots,
            servers: Servers::new(),
            switching: false,
            settled_at: None,
            parts: Some(parts),
            reading: None,
            begun_at: Instant::now(),
            give_up_at: None,
            silent: false,
            waiting: Vec::new(),
            next: Vec::new(),
            last: None,
            recent: RecentReadings::default(),
            holds: false,
        };
        tokio::spawn(run.run());
        sampler
    }

    /// The last reading, however old it is; none is begun for that.
    pub fn latest(&self) -> Option<Arc<GpuReading>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl GpuWatch for Sampler {
    async fn read(&self, who: Look) -> Arc<GpuReading> {
        let (reply, told) = oneshot::channel();
        if self.asks.send(Ask::Reading { who, reply }).await.is_ok()
            && let Ok(reading) = told.await
        {
            return reading;
        }
        // Only while the program ends.
        Arc::new(reading(GpuSample::default(), jiff::Timestamp::UNIX_EPOCH))
    }

    fn listen(&self) -> watch::Receiver<Option<Arc<GpuReading>>> {
        let receiver = self.readings.subscribe();
        self.someone_came.notify_one();
        receiver
    }

    async fn history(&self) -> GpuHistory {
        let (reply, told) = oneshot::channel();
        if self.asks.send(Ask::History { reply }).await.is_ok()
            && let Ok(history) = told.await
        {
            return history;
        }
        // Only while the program ends.
        GpuHistory::default()
    }
}

/// How often is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    LookedAt,
    InUse,
    Never,
}

struct Run {
    asked: mpsc::Receiver<Ask>,
    readings: Readings,
    someone_came: Arc<Notify>,
    latest: Latest,
    clock: Arc<dyn Clock>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    servers: Servers,
    switching: bool,
    /// When the last switch had ended: a reading from before it may not know what the model is on.
    settled_at: Option<Instant>,
    /// None while they read.
    parts: Option<Parts>,
    reading: Option<JoinHandle<Done>>,
    begun_at: Instant,
    give_up_at: Option<Instant>,
    /// The driver was given up on and has not come back yet.
    silent: bool,
    waiting: Vec<oneshot::Sender<Arc<GpuReading>>>,
    /// Those for whom the reading that is under way was begun too early.
    next: Vec<oneshot::Sender<Arc<GpuReading>>>,
    last: Option<Last>,
    recent: RecentReadings,
    /// Drivers may be held.
    holds: bool,
}

struct Last {
    /// When it was begun.
    at: Instant,
    reading: Arc<GpuReading>,
    may_sleep: bool,
}

impl Run {
    async fn run(mut self) {
        self.learn();
        loop {
            let pace = self.pace();
            let idle = self.parts.is_some();
            let due = self.due(pace).filter(|_| idle);
            let release = self.release_at(pace).filter(|_| idle);
            let looked_at = self.readings.receiver_count() > 0;
            tokio::select! {
                biased;
                ask = self.asked.recv() => match ask {
                    Some(Ask::Reading { who, reply }) => self.answer(who, reply, pace),
                    Some(Ask::History { reply }) => {
                        // Who has gone away needs no answer.
                        let _ = reply.send(self.recent.history(self.clock.now()));
                    }
                    None => return,
                },
                done = done(&mut self.reading) => self.take(done),
                () = at(self.give_up_at) => self.give_up(),
                () = self.someone_came.notified() => self.tell_the_last(),
                changed = self.snapshots.changed() => match changed {
                    Ok(()) => self.learn(),
                    // Nobody says any more what is loaded: the program ends.
                    Err(_) => return,
                },
                () = self.readings.closed(), if looked_at => {}
                () = at(due) => self.begin(),
                () = at(release) => self.release(),
            }
        }
    }

    fn pace(&self) -> Pace {
        let snapshot = self.snapshots.borrow();
        let idle = |last: &Last| last.reading.devices.iter().all(|device| device.state == GpuState::Asleep);
        if self.readings.receiver_count() > 0 || snapshot.operation.is_some() {
            Pace::LookedAt
        } else if snapshot.engine.is_some() && !self.last.as_ref().is_some_and(idle) {
            Pace::InUse
        } else {
            Pace::Never
        }
    }

    fn due(&self, pace: Pace) -> Option<Instant> {
        let every = match pace {
            Pace::LookedAt => LOOKED_AT,
            Pace::InUse => IN_USE,
            Pace::Never => return None,
        };
        let last = self.last.as_ref().filter(|last| self.settled_at.is_none_or(|settled_at| settled_at <= last.at));
        Some(last.map_or_else(Instant::now, |last| last.at + every))
    }

    fn release_at(&self, pace: Pace) -> Option<Instant> {
        let last = self.last.as_ref().filter(|_| self.holds)?;
        match pace {
            Pace::LookedAt => None,
            Pace::InUse => (last.may_sleep && !last.reading.has_model()).then_some(last.at),
            Pace::Never => Some(last.at + LINGER),
        }
    }

    /// Notes which server serves which model, and when a switch to it has ended.
    fn learn(&mut self) {
        let snapshot = self.snapshots.borrow_and_update().clone();
        let switching = snapshot.operation.is_some();
        if std::mem::replace(&mut self.switching, switching) && !switching {
            self.settled_at = Some(Instant::now());
        }
        if let Some((engine, model)) = snapshot.engine.as_ref().zip(snapshot.model.as_ref())
            && self.servers.first().is_none_or(|(id, _)| *id != engine.container_id)
        {
            self.servers.retain(|(id, _)| *id != engine.container_id);
            self.servers.insert(0, (engine.container_id.clone(), model.clone()));
            self.servers.truncate(SERVERS);
        }
    }

    fn answer(&mut self, who: Look, reply: oneshot::Sender<Arc<GpuReading>>, pace: Pace) {
        let fresh = |last: &&Last| {
            if who == Look::Now {
                return false;
            }
            let spare = pace == Pace::Never && last.may_sleep;
            let enough = match who {
                Look::Program | Look::Scrape if spare => FRESH_ENOUGH,
                Look::Scrape => IN_USE,
                Look::Person | Look::Program | Look::Now => FRESH,
            };
            last.at.elapsed() < enough
        };
        let known = self.last.as_ref().filter(|last| self.silent || fresh(last));
        if let Some(last) = known {
            // Who has gone away needs no answer.
            let _ = reply.send(last.reading.clone());
            return;
        }
        let under_way = self.parts.is_none();
        if who == Look::Now && under_way { &mut self.next } else { &mut self.waiting }.push(reply);
        self.begin();
    }

    /// Begins to read, unless it is being read.
    fn begin(&mut self) {
        if let Some(parts) = self.parts.take() {
            let (now, servers) = (self.clock.uptime(), self.servers.clone());
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let (parts, sample) = parts.read(now, &servers);
                (parts, Some(sample))
            }));
            self.begun_at = Instant::now();
            self.give_up_at = Some(self.begun_at + PATIENCE);
        }
    }

    fn take(&mut self, done: Option<Done>) {
        self.reading = None;
        self.give_up_at = None;
        self.silent = false;
        // Only where the runtime ends do they not come back.
        let Some((parts, sample)) = done else { return };
        self.parts = Some(parts);
        if let Some(sample) = sample {
            self.holds = true;
            let may_sleep = sample.may_sleep;
            self.publish(reading(sample, self.clock.now()), may_sleep);
        }
        self.waiting.append(&mut self.next);
        if !self.waiting.is_empty() {
            self.begin();
        }
    }

    fn publish(&mut self, reading: GpuReading, may_sleep: bool) {
        self.recent.take(&reading);
        let reading = Arc::new(reading);
        self.last = Some(Last { at: self.begun_at, reading: reading.clone(), may_sleep });
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading.clone());
        for reply in self.waiting.drain(..) {
            let _ = reply.send(reading.clone());
        }
        if self.readings.receiver_count() > 0 {
            self.readings.send_replace(Some(reading));
        }
    }

    /// Says that a driver does not answer; whatever it answers later is taken.
    fn give_up(&mut self) {
        self.give_up_at = None;
        self.silent = true;
        let why = format!("the driver has not answered for {} seconds", PATIENCE.as_secs());
        tracing::warn!("GPUs: {why}");
        let last = self.last.take();
        let may_sleep = last.as_ref().is_some_and(|last| last.may_sleep);
        let known = last.iter().flat_map(|last| &last.reading.devices);
        let devices = known.map(|device| device.unread(GpuState::Silent, why.clone())).collect();
        let source = last.as_ref().map(|last| last.reading.source).unwrap_or_default();
        let sample = GpuSample { source, reason: Some(why), devices, may_sleep };
        self.waiting.append(&mut self.next);
        self.publish(reading(sample, self.clock.now()), may_sleep);
    }

    /// Whoever comes begins with what is known, where that is of now.
    fn tell_the_last(&mut self) {
        if let Some(last) = self.last.as_ref().filter(|last| self.silent || last.at.elapsed() < FRESH) {
            self.readings.send_replace(Some(last.reading.clone()));
        }
    }

    fn release(&mut self) {
        self.holds = false;
        if let Some(parts) = self.parts.take() {
            // That may wait for a driver as well.
            self.reading = Some(tokio::task::spawn_blocking(move || (parts.released(), None)));
            self.give_up_at = Some(Instant::now() + PATIENCE);
        }
    }
}

fn reading(sample: GpuSample, at: jiff::Timestamp) -> GpuReading {
    let GpuSample { source, reason, devices, may_sleep: _ } = sample;
    GpuReading { at, source, reason, devices }
}

/// What was read; never where nothing is being read.
async fn done(reading: &mut Option<JoinHandle<Done>>) -> Option<Done> {
    match reading {
        Some(reading) => reading.await.ok(),
        None => std::future::pending().await,
    }
}

/// Then; never where there is no such moment.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
