//! The daemon that the tray shows: one that runs already, or the same in this process.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use corral_client::{Client, Event, events};
use corral_core::{Code, Result};
use corral_daemon::{Environment, ServeOptions};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::Message;

/// How often it is looked whether a daemon runs, while none does.
const LOOK: Duration = Duration::from_secs(2);

/// The daemon in this process.
pub(crate) struct Hosted {
    end: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Hosted {
    /// Serves in this process. [`Code::DaemonRunning`] where another process does already.
    pub(crate) async fn start(env: Environment) -> Result<Self> {
        let (ready, is_ready) = oneshot::channel();
        let end = CancellationToken::new();
        let on_ready = move |_: &corral_daemon::Serving| {
            let _ = ready.send(());
        };
        let options = ServeOptions { on_ready: Box::new(on_ready), end: end.clone() };
        let mut task = tokio::spawn(corral_daemon::run(env, options));
        tokio::select! {
            Ok(()) = is_ready => Ok(Self { end, task }),
            ended = &mut task => Err(why(ended)),
        }
    }

    /// Returns when it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        match (&mut self.task).await {
            Ok(ended) => ended,
            Err(error) => Err(why(Err(error))),
        }
    }

    /// Ends it in order.
    pub(crate) async fn end(mut self) {
        self.end.cancel();
        if let Err(error) = self.ended().await {
            tracing::error!("{error}");
        }
    }
}

fn why(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> corral_core::Error {
    use corral_core::Error;
    match ended {
        Ok(Ok(())) => Error::new(Code::Internal, "the daemon ended at once").hint("start Corral again"),
        Ok(Err(error)) => error,
        Err(error) => Error::new(Code::Internal, "the daemon ended badly").because(error).hint("start Corral again"),
    }
}

/// Follows whatever daemon runs, in a thread of its own: a stream that is read takes no time while it is silent.
/// Dropping what it returns ends that with the next event.
pub(crate) fn follow(env: Environment, happened: UnboundedSender<Message>) -> Follower {
    let (look, looks) = mpsc::channel();
    std::thread::Builder::new()
        .name("corral-events".to_owned())
        .spawn(move || {
            loop {
                if let Ok(client) = Client::of_home(&env)
                    && let Ok(stream) = client.stream("/events")
                {
                    for event in events(stream) {
                        let message = match event {
                            Event::Snapshot(snapshot) => Message::Snapshot(snapshot),
                            Event::Notice(notice) => Message::Notice(notice),
                            Event::Speed(speed) => Message::Speed(speed),
                        };
                        if happened.send(message).is_err() {
                            return;
                        }
                    }
                    if happened.send(Message::Lost).is_err() {
                        return;
                    }
                }
                if !again(&looks) {
                    return;
                }
            }
        })
        .map_or_else(
            |error| {
                tracing::error!("the daemon's events cannot be followed: {error}");
                Follower { look: None }
            },
            |_| Follower { look: Some(look) },
        )
}

/// Waits for the time to look again; whether there is one.
fn again(looks: &Receiver<()>) -> bool {
    !matches!(looks.recv_timeout(LOOK), Err(RecvTimeoutError::Disconnected))
}

/// Follows the daemon.
pub(crate) struct Follower {
    look: Option<Sender<()>>,
}

impl Follower {
    /// Says that a daemon runs now.
    pub(crate) fn look(&self) {
        if let Some(look) = &self.look {
            // At the program's end nobody looks any more.
            let _ = look.send(());
        }
    }
}
