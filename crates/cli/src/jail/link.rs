//! The way from a jail's two ports to the daemon.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use corral_core::session::About;
use corral_core::{Code, Secret};
use corral_daemon::Paths;
use corral_daemon::jails::{Listeners, Over, hand_over};
use rustix::process::{Signal, getpid, kill_process};

use crate::output::remark;

/// How often it is tried again while no daemon runs.
const AGAIN: Duration = Duration::from_millis(500);

/// How long what runs in the jail may take to end when it is told to, before its terminal is taken away.
const GRACE: Duration = Duration::from_secs(5);

/// Keeps a jail's listeners with the daemon that runs, over its restarts. Dropping it ends that.
pub(crate) struct Link {
    ended: Arc<AtomicBool>,
    _alive: Sender<()>,
}

impl Link {
    /// Hands the listeners over. Where no daemon runs, requests wait in them until one does. Where a person ends the
    /// session, this process is told to end as by a supervisor.
    pub(crate) fn new(paths: &Paths, token: &Secret, about: About, listeners: Vec<TcpListener>) -> Self {
        let (alive, over) = mpsc::channel::<()>();
        let (paths, token) = (paths.clone(), token.clone());
        let mut told = false;
        let mut offer = move || {
            let mut each = listeners.iter();
            let (gateway, management) = (each.next().map(AsFd::as_fd), each.next().map(AsFd::as_fd));
            match hand_over(&paths, &token, &about, Listeners { gateway, management }) {
                Ok(handed) => Some(handed),
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        let waits = matches!(error.code(), Code::DaemonUnavailable | Code::ShuttingDown);
                        let what = if waits {
                            "no Corral daemon runs: requests wait for one".to_owned()
                        } else {
                            let hint = error.body().hint.map_or_else(String::new, |hint| format!("; {hint}"));
                            format!("{error}{hint}")
                        };
                        remark(&format!("127.0.0.1:8080 and :8081 do not answer in the jail: {what}"));
                    }
                    None
                }
            }
        };
        // The first time at once, so that the jail's first request is served.
        let mut handed = offer();
        let ended = Arc::new(AtomicBool::new(false));
        let by_a_person = ended.clone();
        thread::spawn(move || {
            loop {
                match handed.take().map(|served| served.wait()) {
                    Some(Over::SessionEnded) => {
                        by_a_person.store(true, Ordering::Relaxed);
                        return end(&over);
                    }
                    Some(Over::DaemonEnded) => {}
                    None => match over.recv_timeout(AGAIN) {
                        Err(RecvTimeoutError::Timeout) => {}
                        Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                    },
                }
                handed = offer();
            }
        });
        Self { ended, _alive: alive }
    }

    /// Whether a person has ended the session.
    pub(crate) fn was_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Ends what runs in the jail, by the signals that this process passes on. An interactive shell does not end by the first.
fn end(over: &Receiver<()>) {
    for signal in [Signal::TERM, Signal::HUP] {
        // This process is there to take it.
        let _ = kill_process(getpid(), signal);
        if over.recv_timeout(GRACE) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}
