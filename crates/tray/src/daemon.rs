//! The daemon that the tray shows: one that runs already, or the same in this process.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use corral_client::{Client, Event, events};
use corral_core::{Code, Error, Result};
use corral_daemon::{Environment, Paths, ServeOptions, read_settings};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::Message;

/// How often it is looked whether a daemon runs, while none does.
const LOOK: Duration = Duration::from_secs(2);

/// How long one that has not begun to serve may take to end.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(1);

/// The daemon in this process.
pub(crate) struct Hosted {
    end: CancellationToken,
    /// Tells that it serves; none where it has.
    begins: Option<oneshot::Receiver<()>>,
    task: JoinHandle<Result<()>>,
}

/// What became of the daemon in this process.
pub(crate) enum News {
    /// It serves.
    Serves,
    /// It has ended by itself; with [`Code::DaemonRunning`] another process serves.
    Ended(Result<()>),
}

impl Hosted {
    /// Begins to serve in this process.
    pub(crate) fn start(env: Environment) -> Self {
        let (ready, begins) = oneshot::channel();
        let end = CancellationToken::new();
        let on_ready = move |_: &corral_daemon::Serving| {
            let _ = ready.send(());
        };
        let options = ServeOptions { on_ready: Box::new(on_ready), end: end.clone() };
        Self { end, begins: Some(begins), task: tokio::spawn(corral_daemon::run(env, options)) }
    }

    /// What comes next of it; after its end there is nothing more.
    pub(crate) async fn news(&mut self) -> News {
        if let Some(begins) = &mut self.begins {
            let serves = begins.await.is_ok();
            self.begins = None;
            if serves {
                return News::Serves;
            }
        }
        News::Ended(self.ended().await)
    }

    async fn ended(&mut self) -> Result<()> {
        let badly =
            |error| Error::new(Code::Internal, "the daemon ended badly").because(error).hint("start Corral again");
        (&mut self.task).await.unwrap_or_else(|error| Err(badly(error)))
    }

    /// Ends it in order. What has not begun to serve has nothing that needs order, and whatever it waits for is not
    /// waited for.
    pub(crate) async fn end(mut self) {
        self.end.cancel();
        let serves = self.begins.as_mut().is_none_or(|begins| begins.try_recv().is_ok());
        let bound = if serves { Duration::MAX } else { GIVEN_UP_WITHIN };
        match tokio::time::timeout(bound, self.ended()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("{error}"),
            Err(_) => self.task.abort(),
        }
    }
}

/// Follows whatever daemon runs, in a thread of its own: a stream that is read takes no time while it is silent.
/// Dropping what it returns ends that with the next event.
pub(crate) fn follow(env: Environment, paths: Paths, happened: UnboundedSender<Message>) -> Follower {
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
                            Event::Notice(notice) => {
                                // Whether it is told is for the settings of this moment to say.
                                let _ = happened.send(Message::Settings(read_settings(&paths)));
                                Message::Notice(notice)
                            }
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
