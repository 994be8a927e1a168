//! The daemon's side: takes listeners, serves them, and detaches their sessions when their launchers are gone.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corral_core::command::ControllerHandle;
use corral_core::listen::{Handed, Handover, Via, handover};
use corral_core::session::{About, MAX_LABEL, is_token};
use corral_core::{Code, Error, Result, Secret, SessionId};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::receive::{Message, Received, receive};
use super::{Answer, END, Hello, with_address};
use crate::paths::Paths;
use crate::runtime_files::remove;

/// How long a launcher may take to say what it wants, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// So many jails at once; more wait.
const JAILS: usize = 64;

/// What jails need of the rest of Corral.
#[derive(Debug, Clone)]
pub(crate) struct JailsPorts {
    /// Where sessions are attached and detached.
    pub(crate) controller: ControllerHandle,
    /// Where connections to the gateway go.
    pub(crate) gateway: Handover,
    /// Where connections to the management API go.
    pub(crate) management: Handover,
}

/// The other sides of [`JailsPorts`]: what comes by the listeners of jails.
pub(crate) struct FromJails {
    /// For the gateway.
    pub(crate) gateway: Handed,
    /// For the management API.
    pub(crate) management: Handed,
}

impl JailsPorts {
    /// Both sides.
    pub(crate) fn new(controller: ControllerHandle) -> (Self, FromJails) {
        let ((gateway, from_gateway), (management, from_management)) = (handover(), handover());
        let from = FromJails { gateway: from_gateway, management: from_management };
        (Self { controller, gateway, management }, from)
    }
}

/// The socket that launchers hand listeners over by.
#[derive(Debug)]
pub(crate) struct Jails {
    listener: UnixListener,
    paths: Paths,
}

impl Jails {
    /// Makes the socket. Whoever calls this holds the home's lock: what is there is of a daemon that has ended.
    pub(crate) fn bind(paths: &Paths) -> Result<Self> {
        remove(&paths.jails);
        let bind = || -> io::Result<UnixListener> {
            let listener = with_address(&paths.jails, |path| UnixListener::bind(path))?;
            // Its folder is this user's alone already.
            std::fs::set_permissions(&paths.jails, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        let listener = bind().map_err(|error| {
            Error::new(Code::Io, format!("cannot make the socket {}", paths.jails.display())).because(error)
        })?;
        Ok(Self { listener, paths: paths.clone() })
    }

    /// Serves until `shutdown`. Connections that came by listeners of jails end with the ports then, as all others.
    pub(crate) async fn serve(self, ports: JailsPorts, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(JAILS));
        let served = Arc::<Served>::default();
        let jails = TaskTracker::new();
        loop {
            let accepted = async {
                let place = places.clone().acquire_owned().await;
                (self.listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let jail = jail(stream, ports.clone(), served.clone(), shutdown.clone());
                    jails.spawn(async move {
                        jail.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a launcher's connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(self.listener);
        remove(&self.paths.jails);
        jails.close();
        jails.wait().await;
    }
}

/// The sessions whose listeners are served.
#[derive(Debug, Default)]
struct Served(Mutex<HashSet<SessionId>>);

/// One of them, as long as this lives.
struct Hold {
    served: Arc<Served>,
    session: SessionId,
}

impl Hold {
    fn take(served: &Arc<Served>, session: &SessionId) -> Result<Self> {
        let is_new = served.0.lock().unwrap_or_else(PoisonError::into_inner).insert(session.clone());
        if !is_new {
            return Err(Error::new(
                Code::InvalidRequest,
                format!("the session `{session}` has handed its listeners over"),
            )
            .hint("begin a new session for each jail"));
        }
        Ok(Self { served: served.clone(), session: session.clone() })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.served.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.session);
    }
}

/// One launcher's connection, from its message to its end.
async fn jail(mut stream: UnixStream, ports: JailsPorts, served: Arc<Served>, shutdown: CancellationToken) {
    let received = tokio::select! {
        () = shutdown.cancelled() => return,
        received = timeout(PATIENCE, message(&stream)) => received.unwrap_or_else(|_| {
            Err(Error::new(Code::RequestTimeout, format!("no message came within {} s", PATIENCE.as_secs())))
        }),
    };
    let admitted = match received {
        Ok(Message::Ended(ended)) => {
            let (level, error) = ended.notice();
            // A controller that has ended has nobody to tell.
            let _ = ports.controller.tell(level, error.to_string(), Some(error)).await;
            return;
        }
        Ok(Message::Listeners(received)) => {
            attach(&ports.controller, &served, &received).await.map(|hold| (hold, received))
        }
        Err(error) => Err(error),
    };
    let (hold, received) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            tracing::warn!(%error, "the listeners of a jail were not taken");
            say(&mut stream, &Answer::Refused { error: error.body() }).await;
            return;
        }
    };
    let session = hold.session.clone();
    // However this ends, so do the jail's connections; at the daemon's end they have as long as all others.
    let end = CancellationToken::new();
    let over = end.clone().drop_guard();
    let via = |listener: TcpListener| {
        let port = listener.local_addr().map(|address| address.port()).unwrap_or_default();
        (listener, Arc::new(Via { session: session.clone(), port, end: end.clone() }))
    };
    let (gateway, management) = (received.gateway.map(via), received.management.map(via));
    tracing::info!(%session, "a jail has handed its listeners over");
    let why = if say(&mut stream, &Answer::Taken { ok: true, session: session.clone() }).await {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {
                over.disarm();
                return;
            }
            () = hung_up(&stream) => "its launcher is gone",
            () = detached(&ports.controller, &session) => {
                let _ = timeout(PATIENCE, stream.write_all(END)).await;
                "it was detached"
            }
            () = serve(&ports.gateway, gateway) => "the gateway has ended",
            () = serve(&ports.management, management) => "the API has ended",
        }
    } else {
        "its launcher was gone at once"
    };
    drop(over);
    tracing::info!(%session, "a jail's session ends: {why}");
    // It may have been detached, or the daemon may be ending.
    let _ = ports.controller.close_session(session).await;
}

/// What the launcher, which has to be of this user, says.
async fn message(stream: &UnixStream) -> Result<Message> {
    let forbidden =
        |what: &str| Error::new(Code::Forbidden, what).hint("run `corral` as the user whose daemon this is");
    let peer = stream.peer_cred().map_err(|error| forbidden("nobody knows who asks").because(error))?;
    if peer.uid() != rustix::process::geteuid().as_raw() {
        return Err(forbidden("another user cannot hand listeners over"));
    }
    receive(stream).await
}

/// The session, attached from here on, and nobody else's to hand listeners over for.
async fn attach(controller: &ControllerHandle, served: &Arc<Served>, received: &Received) -> Result<Hold> {
    let token = &received.hello.token;
    if let Some(session) = controller.session_of(token) {
        return Hold::take(served, &session);
    }
    let invalid = |what: &str, hint: &str| Err(Error::new(Code::InvalidRequest, what).hint(hint));
    if !is_token(token) {
        let hint = "take one from `POST /sessions`, or 64 random hexadecimal digits";
        return invalid("the token is that of no session", hint);
    }
    let Hello { label, workspace, model, .. } = &received.hello;
    let about = About { label: label.clone(), workspace: workspace.clone(), model: model.clone() };
    if about.label.as_ref().is_some_and(|label| label.chars().nth(MAX_LABEL).is_some()) {
        return invalid(&format!("the label is longer than {MAX_LABEL} characters"), "shorten it");
    }
    let opened = controller.resume_session(about, Secret::new(token.clone())).await?;
    Hold::take(served, &opened.session.id)
}

/// Serves a listener until its port has ended; for ever where there is none.
async fn serve(port: &Handover, listener: Option<(TcpListener, Arc<Via>)>) {
    match listener {
        Some((listener, via)) => port.serve(listener, via).await,
        None => std::future::pending().await,
    }
}

/// Returns once the launcher is gone. It has nothing more to say: if it does, it is done with.
async fn hung_up(stream: &UnixStream) {
    loop {
        let _ = stream.readable().await;
        match stream.try_read(&mut [0; 1]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

/// Returns once the session is no longer attached.
async fn detached(controller: &ControllerHandle, session: &SessionId) {
    let is_gone = |sessions: &[corral_core::snapshot::SessionView]| sessions.iter().all(|one| one.id != *session);
    if controller.watch_snapshot().wait_for(|snapshot| is_gone(&snapshot.sessions)).await.is_err() {
        // Without a controller, the daemon is about to end.
        std::future::pending::<()>().await;
    }
}

/// Whether the launcher was told.
async fn say(stream: &mut UnixStream, answer: &Answer) -> bool {
    matches!(timeout(PATIENCE, stream.write_all(&answer.line())).await, Ok(Ok(())))
}
