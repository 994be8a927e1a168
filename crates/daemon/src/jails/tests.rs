//! Over the real socket, with real descriptors; what comes in is looked at instead of served.

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use corral_core::catalog::Catalog;
use corral_core::command::ControllerHandle;
use corral_core::controller::{Controller, ControllerConfig};
use corral_core::listen::{Accepted, Entrance};
use corral_core::{Code, Error, ErrorBody, Result, Secret};
use corral_testkit::fakes::{FakeEngine, Memory, ports};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Answer, Ended, Handed, Jails, JailsPorts, Listeners, Over, PROTOCOL, hand_over};
use crate::paths::Paths;
use crate::runtime_files::private_dir;
use corral_core::session::About;

const PATIENCE: Duration = Duration::from_secs(10);

async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it does not hang")
}

fn home(below: &str) -> (TempDir, Paths) {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join(below).display().to_string();
    let paths = Paths::resolve(&[("CORRAL_HOME", home)].into_iter().collect()).unwrap();
    private_dir(&paths.run_dir).unwrap();
    (folder, paths)
}

/// What a daemon has for jails.
struct Bed {
    paths: Paths,
    controller: ControllerHandle,
    gateway: Entrance,
    management: Entrance,
    end: CancellationToken,
    serving: JoinHandle<()>,
}

impl Bed {
    async fn new(paths: &Paths) -> Self {
        let (engine, memory) = (Arc::new(FakeEngine::default()), Arc::new(Memory::default()));
        let surroundings = corral_core::catalog::Surroundings {
            path: "models.toml".into(),
            home: "/home/u".into(),
            models_dir: "/models".into(),
        };
        let config = ControllerConfig { version: "1".into(), catalog_path: "models.toml".into(), gateway: None };
        let reading = Catalog::read("schema = 1\n", &surroundings);
        let (controller, actor) = Controller::new(config, ports(&engine, &memory), reading, Catalog::default());
        tokio::spawn(actor.run());
        let (ports, from) = JailsPorts::new(controller.clone());
        let end = CancellationToken::new();
        let jails = Jails::bind(paths).unwrap();
        let serving = tokio::spawn(jails.serve(ports, end.clone()));
        let entrance = async |handed| {
            Entrance::new("a port", tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), 1, handed)
        };
        let (gateway, management) = (entrance(from.gateway).await, entrance(from.management).await);
        Self { paths: paths.clone(), controller, gateway, management, end, serving }
    }

    /// Hands a jail's listeners over, as a launcher does.
    async fn take(&self, jail: &Arc<Jail>, token: &Secret, label: Option<&str>) -> Result<Handed> {
        let (paths, jail, token) = (self.paths.clone(), jail.clone(), token.clone());
        let about = About { workspace: Some("/w".to_owned()), ..About::label(label.map(str::to_owned)) };
        let handing = spawn_blocking(move || hand_over(&paths, &token, &about, jail.listeners()));
        in_time(handing).await.unwrap()
    }

    /// What the daemon answers to these bytes and descriptors.
    async fn refuses(&self, line: &[u8], descriptors: &[BorrowedFd<'_>]) -> Error {
        let mut stream = UnixStream::connect(&self.paths.jails).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || beside.push(SendAncillaryMessage::ScmRights(descriptors)));
        sendmsg(&stream, &[IoSlice::new(line)], &mut beside, SendFlags::NOSIGNAL).unwrap();
        let said = spawn_blocking(move || {
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            said
        });
        let said = in_time(said).await.unwrap();
        match serde_json::from_slice(&said).unwrap() {
            Answer::Refused { error } => ErrorBody::into(error),
            answer @ Answer::Taken { .. } => panic!("{answer:?}"),
        }
    }

    async fn until_sessions(&self, count: usize) {
        let mut snapshots = self.controller.watch_snapshot();
        in_time(snapshots.wait_for(|snapshot| snapshot.sessions.len() == count)).await.unwrap();
    }
}

/// A launcher's listeners.
struct Jail {
    gateway: TcpListener,
    management: TcpListener,
}

impl Jail {
    fn new() -> Arc<Self> {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        Arc::new(Self { gateway: listen(), management: listen() })
    }

    fn listeners(&self) -> Listeners<'_> {
        Listeners { gateway: Some(self.gateway.as_fd()), management: Some(self.management.as_fd()) }
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [self.gateway.local_addr().unwrap(), self.management.local_addr().unwrap()]
    }
}

fn token() -> Secret {
    Secret::new("0a".repeat(32))
}

fn hello(token: &str) -> Vec<u8> {
    format!("{{\"token\":\"{token}\"}}\n").into_bytes()
}

#[tokio::test]
async fn listeners_are_served_for_their_session_until_the_launcher_is_gone() {
    let (_folder, paths) = home("d");
    let mut bed = Bed::new(&paths).await;
    assert_eq!(fs::metadata(&paths.jails).unwrap().permissions().mode() & 0o777, 0o600);
    let jail = Jail::new();
    let opened = bed.controller.open_session(Some("mine".to_owned())).await.unwrap();
    let handed = bed.take(&jail, &opened.token, None).await.unwrap();
    assert_eq!(handed.session(), &opened.session.id);
    let [gateway, management] = jail.addresses();
    let _clients = [gateway, management].map(|address| TcpStream::connect(address).unwrap());
    let Accepted { via, .. } = in_time(bed.gateway.accept()).await;
    let via = via.unwrap();
    assert_eq!((&via.session, via.port), (&opened.session.id, gateway.port()));
    let managed = in_time(bed.management.accept()).await.via.unwrap();
    assert_eq!((&managed.session, managed.port), (&opened.session.id, management.port()));

    // A session has one jail.
    let second = bed.take(&Jail::new(), &opened.token, None).await.unwrap_err();
    assert_eq!(second.code(), Code::InvalidRequest);
    assert!(!via.end.is_cancelled() && bed.controller.session_of(opened.token.expose()).is_some());

    drop(handed);
    in_time(via.end.cancelled()).await;
    in_time(managed.end.cancelled()).await;
    bed.until_sessions(0).await;
    let again = bed.take(&jail, &opened.token, None).await.unwrap_err();
    assert_eq!(again.code(), Code::InvalidRequest, "a token that has ended is none: {again}");
}

#[tokio::test]
async fn a_jail_goes_on_after_a_restart_with_its_token_and_label() {
    let (_folder, paths) = home("d");
    let jail = Jail::new();
    let mut bed = Bed::new(&paths).await;
    let handed = bed.take(&jail, &token(), Some("mine")).await.unwrap();
    let _client = TcpStream::connect(jail.addresses()[0]).unwrap();
    let via = in_time(bed.gateway.accept()).await.via.unwrap();
    bed.end.cancel();
    in_time(bed.serving).await.unwrap();
    assert_eq!(in_time(spawn_blocking(move || handed.wait())).await.unwrap(), Over::DaemonEnded);
    assert!(!via.end.is_cancelled(), "what is under way ends with its port");
    let away = Handed::of(&paths, &jail).await.unwrap_err();
    assert_eq!((away.code(), paths.jails.exists()), (Code::DaemonUnavailable, false));

    // Who asks meanwhile waits; a socket that a killed daemon has left is no hindrance.
    let _waiting = TcpStream::connect(jail.addresses()[0]).unwrap();
    drop(UnixListener::bind(&paths.jails).unwrap());
    assert_eq!(Handed::of(&paths, &jail).await.unwrap_err().code(), Code::DaemonUnavailable);
    let mut bed = Bed::new(&paths).await;
    let handed = bed.take(&jail, &token(), Some("mine")).await.unwrap();
    let sessions = bed.controller.snapshot().sessions.clone();
    assert_eq!(sessions.len(), 1);
    assert_eq!((&sessions[0].id, sessions[0].label.as_deref()), (handed.session(), Some("mine")));
    assert_eq!((sessions[0].workspace.as_deref(), sessions[0].model.as_deref()), (Some("/w"), None));
    assert_eq!(bed.controller.session_of(token().expose()).as_ref(), Some(handed.session()));
    let via = in_time(bed.gateway.accept()).await.via.unwrap();
    assert_eq!(&via.session, handed.session());

    // Who detaches the session ends the jail's connections.
    bed.controller.close_session(handed.session().clone()).await.unwrap();
    in_time(via.end.cancelled()).await;
    assert_eq!(in_time(spawn_blocking(move || handed.wait())).await.unwrap(), Over::SessionEnded);
}

impl Handed {
    async fn of(paths: &Paths, jail: &Arc<Jail>) -> Result<Self> {
        let (paths, jail) = (paths.clone(), jail.clone());
        spawn_blocking(move || hand_over(&paths, &token(), &About::default(), jail.listeners())).await.unwrap()
    }
}

#[tokio::test]
async fn only_tcp_sockets_that_listen_on_a_loopback_are_taken() {
    let (folder, paths) = home("d");
    let bed = Bed::new(&paths).await;
    let good = Jail::new();
    let (mut read, write) = std::io::pipe().unwrap();
    let connected = TcpStream::connect(good.addresses()[0]).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(folder.path().join("s")).unwrap();
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let file = fs::File::open(folder.path()).unwrap();
    let bad = [write.as_fd(), connected.as_fd(), udp.as_fd(), unix.as_fd(), open.as_fd(), file.as_fd()];
    for bad in bad {
        for both in [[bad, good.gateway.as_fd()], [good.gateway.as_fd(), bad]] {
            let error = bed.refuses(&hello(token().expose()), &both).await;
            assert_eq!(error.code(), Code::InvalidRequest, "{error}");
            assert!(error.to_string().contains("TCP socket that listens"), "{error}");
        }
    }
    drop(write);
    let rest = spawn_blocking(move || read.read(&mut [0; 1]));
    assert_eq!(in_time(rest).await.unwrap().unwrap(), 0, "what was refused is closed");
    assert!(bed.controller.snapshot().sessions.is_empty());
    let one = spawn_blocking(move || {
        hand_over(
            &paths,
            &token(),
            &About::default(),
            Listeners { gateway: Some(good.gateway.as_fd()), management: None },
        )
    });
    assert!(in_time(one).await.unwrap().is_ok(), "one listener is enough");
}

#[tokio::test]
async fn messages_are_as_they_should_be_or_refused() {
    let (_folder, paths) = home("d");
    let bed = Bed::new(&paths).await;
    let jail = Jail::new();
    let both = [jail.gateway.as_fd(), jail.management.as_fd()];
    let right = token();
    let right = right.expose();
    let many = vec![jail.gateway.as_fd(); 12];
    let long = format!("{{\"token\":\"{right}\",\"label\":\"{}\"}}\n", "x".repeat(201));
    let endless = format!("{{\"token\":\"{right}\",\"label\":\"{}", "x".repeat(20_000));
    let twice = format!("{{\"token\":\"{right}\",\"listeners\":[\"gateway\",\"gateway\"]}}\n");
    let other = format!("{{\"token\":\"{right}\",\"listeners\":[\"gateway\",\"other\"]}}\n");
    let newer = format!("{{\"protocol\":{},\"token\":\"{right}\"}}\n", PROTOCOL + 1);
    let strange = format!("{{\"protocol\":{},\"words\":[]}}\n", PROTOCOL + 1);
    let table: [(&[u8], &[BorrowedFd<'_>], &str); 15] = [
        (&hello("0a"), &both, "the token is that of no session"),
        (&hello(&"0A".repeat(32)), &both, "the token is that of no session"),
        (&hello(&"zz".repeat(32)), &both, "the token is that of no session"),
        (&hello(""), &both, "the token is that of no session"),
        (b"{}\n", &both, "missing field `token`"),
        (b"\n", &both, "EOF"),
        (newer.as_bytes(), &both, "`corral` is newer than the daemon"),
        (strange.as_bytes(), &[], "`corral` is newer than the daemon"),
        (&hello(right), &[], "0 descriptors"),
        (&hello(right), &both[..1], "1 descriptors"),
        (&hello(right), &many, "more descriptors"),
        (&[hello(right), b"x".to_vec()].concat(), &both, "something follows"),
        (long.as_bytes(), &both, "longer than 200 characters"),
        (twice.as_bytes(), &both, "twice"),
        (other.as_bytes(), &both, "unknown variant `other`"),
    ];
    for (line, descriptors, said) in table {
        let error = bed.refuses(line, descriptors).await;
        assert_eq!(error.code(), Code::InvalidRequest, "{error}");
        assert!(error.to_string().contains(said), "{said}: {error}");
        assert!(!error.to_string().contains(right), "a token is not told: {error}");
    }
    let error = bed.refuses(endless.as_bytes(), &both).await;
    assert!(error.to_string().contains("longer than 16384 bytes"), "{error}");
    assert!(bed.controller.snapshot().sessions.is_empty());
    drop(bed.take(&jail, &token(), None).await.unwrap());
}

#[tokio::test]
async fn a_launcher_of_another_version_is_taken_and_what_is_new_in_it_passed_over() {
    let (_folder, paths) = home("d");
    let bed = Bed::new(&paths).await;
    let jail = Jail::new();
    let line = format!("{{\"protocol\":1,\"token\":\"{}\",\"more\":{{\"of\":1}}}}\n", token().expose());
    let stream = UnixStream::connect(&paths.jails).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let both = [jail.gateway.as_fd(), jail.management.as_fd()];
    assert!(beside.push(SendAncillaryMessage::ScmRights(&both)));
    sendmsg(&stream, &[IoSlice::new(line.as_bytes())], &mut beside, SendFlags::NOSIGNAL).unwrap();
    bed.until_sessions(1).await;
    drop(stream);
    bed.until_sessions(0).await;
}

#[tokio::test]
async fn what_a_jail_has_left_is_told_and_is_no_session() {
    let (_folder, paths) = home("d");
    let bed = Bed::new(&paths).await;
    let mut notices = bed.controller.notices();
    let ended = Ended { claude: true, workspace: "/w".to_owned(), moved: 2, ..Ended::default() };
    ended.tell(&paths);
    let notice = in_time(notices.recv()).await.unwrap();
    assert!(notice.message.starts_with("Claude's session ended with files in quarantine: "), "{notice:?}");
    assert!(notice.message.ends_with("2 files were moved out of /w"), "{notice:?}");
    assert!(notice.error.unwrap().hint.is_some());
    // Of a launcher that is newer, and tells more.
    let mut newer = UnixStream::connect(&paths.jails).unwrap();
    newer.write_all(b"{\"ended\":{\"workspace\":\"/v\",\"left\":1,\"more\":[1]}}\n").unwrap();
    let notice = in_time(notices.recv()).await.unwrap();
    assert!(notice.message.starts_with("A jail ended with files that are not safe"), "{notice:?}");
    assert!(bed.controller.snapshot().sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_launcher_that_says_nothing_is_not_waited_for() {
    let (_folder, paths) = home("d");
    let _bed = Bed::new(&paths).await;
    let mut silent = tokio::net::UnixStream::connect(&paths.jails).await.unwrap();
    let mut said = String::new();
    silent.read_to_string(&mut said).await.unwrap();
    assert!(said.contains("request_timeout"), "{said}");
}

#[tokio::test]
async fn a_home_may_have_a_long_path() {
    let (_folder, paths) = home(&"long".repeat(40));
    let mut bed = Bed::new(&paths).await;
    let jail = Jail::new();
    let handed = bed.take(&jail, &token(), None).await.unwrap();
    let _client = TcpStream::connect(jail.addresses()[1]).unwrap();
    assert_eq!(&in_time(bed.management.accept()).await.via.unwrap().session, handed.session());
    assert!(paths.jails.exists());
}
