//! A jail as the daemon knows it: two listeners, and the launcher that hands them over. There is nothing around it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use corral_core::session::About;
use corral_core::{Error, Secret};
use corral_daemon::jails::{Handed, Listeners, hand_over};
use corral_daemon::{Environment, Paths};

use crate::gateway::Client;
use crate::{Daemon, PATIENCE, until};

/// A launcher and its listeners.
#[derive(Debug)]
pub struct Jail {
    gateway: TcpListener,
    management: TcpListener,
    token: Secret,
    handed: Option<Handed>,
}

impl Jail {
    /// For a session with this token.
    pub fn new(token: &str) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { gateway: listen(), management: listen(), token: Secret::new(token), handed: None }
    }

    /// Hands the listeners over to the daemon.
    pub fn try_hand_over(&mut self, daemon: &Daemon) -> Result<(), Error> {
        let env: Environment = [("CORRAL_HOME", daemon.home().path().display().to_string())].into_iter().collect();
        let paths = Paths::resolve(&env).expect("paths");
        let listeners = Listeners { gateway: Some(self.gateway.as_fd()), management: Some(self.management.as_fd()) };
        self.handed = Some(hand_over(&paths, &self.token, &About::label(Some("a jail".to_owned())), listeners)?);
        Ok(())
    }

    /// Hands the listeners over to the daemon, which takes them; returns the session's id.
    #[track_caller]
    pub fn hand_over(&mut self, daemon: &Daemon) -> String {
        self.try_hand_over(daemon).expect("the daemon takes them");
        self.handed.as_ref().expect("handed over").session().to_string()
    }

    /// Waits until the daemon says that it is over.
    #[track_caller]
    pub fn until_over(&mut self) {
        let handed = self.handed.take().expect("handed over");
        let waiting = std::thread::spawn(move || handed.wait());
        until(PATIENCE, "the daemon hangs up", || waiting.is_finished().then_some(()));
    }

    /// Ends as a launcher does that is killed; its listeners are there still.
    pub fn end(&mut self) {
        self.handed = None;
    }

    /// A client in the jail, without a token.
    pub fn client(&self) -> Client {
        Client::open(address(&self.gateway))
    }

    /// A client of the management API in the jail, without a token.
    pub fn management(&self) -> Client {
        Client::open(address(&self.management))
    }
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("an address")
}
