//! The way from a jail's two ports to the daemon.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use corral_core::{Code, Secret};
use corral_daemon::Paths;
use corral_daemon::jails::{Listeners, hand_over};

use crate::output::remark;

/// How often it is tried again while no daemon runs.
const AGAIN: Duration = Duration::from_millis(500);

/// Keeps a jail's listeners with the daemon that runs, over its restarts. Dropping it ends that.
pub(crate) struct Link {
    _alive: Sender<()>,
}

impl Link {
    /// Hands the listeners over. Where no daemon runs, requests wait in them until one does.
    pub(crate) fn new(paths: &Paths, token: &Secret, label: String, listeners: Vec<TcpListener>) -> Self {
        let (alive, ended) = mpsc::channel::<()>();
        let (paths, token) = (paths.clone(), token.clone());
        let mut told = false;
        let mut offer = move || {
            let mut each = listeners.iter();
            let (gateway, management) = (each.next().map(AsFd::as_fd), each.next().map(AsFd::as_fd));
            match hand_over(&paths, &token, Some(&label), Listeners { gateway, management }) {
                Ok(handed) => Some(handed),
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        let waits = matches!(error.code(), Code::DaemonUnavailable | Code::ShuttingDown);
                        let what = if waits {
                            "no Corral daemon runs: requests wait for one".to_owned()
                        } else {
                            error.to_string()
                        };
                        remark(&format!("127.0.0.1:8080 and :8081 do not answer in the jail: {what}"));
                    }
                    None
                }
            }
        };
        // The first time at once, so that the jail's first request is served.
        let mut handed = offer();
        thread::spawn(move || {
            loop {
                match handed.take() {
                    Some(served) => served.wait(),
                    None => match ended.recv_timeout(AGAIN) {
                        Err(RecvTimeoutError::Timeout) => {}
                        Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                    },
                }
                handed = offer();
            }
        });
        Self { _alive: alive }
    }
}
