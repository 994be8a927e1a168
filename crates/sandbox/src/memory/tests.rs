use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::Sender;
use std::time::Instant;

use tempfile::TempDir;
use zbus::fdo;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};

use super::group::bytes_of;
use super::*;

/// For what does not wait.
const LONG: Duration = Duration::from_secs(30);

const MEMINFO: &str = "MemTotal:       16384000 kB\nMemFree:         1 kB\nSwapTotal:       2097148 kB\n";

#[test]
fn three_quarters_of_the_machine_in_whole_mebibytes() {
    let bound = MemoryBound::of(MEMINFO, Vec::new()).unwrap();
    assert_eq!((bound.ram, bound.swap), (12_000 << 20, 1535 << 20));
    let without_swap = MemoryBound::of("MemTotal: 4194304 kB\n", Vec::new()).unwrap();
    assert_eq!((without_swap.ram, without_swap.swap), (3 << 30, 0));
    assert_eq!(MemoryBound::of("MemFree: 1 kB\n", Vec::new()), None);
    assert_eq!(bytes_of("MemTotal: many kB\n", "MemTotal:"), None);
    assert_eq!([gib(12_000 << 20), gib(1 << 30), gib(192 << 20)], ["11.7 GiB", "1.0 GiB", "192 MiB"]);
}

#[test]
fn a_scope_is_asked_for_with_these_properties() {
    let scope = Scope { name: "corral-jail-1.scope".into(), ram: 12 << 30, swap: 1 << 30, tasks: 4096 };
    let old: Vec<(&str, Value<'_>)> = vec![
        ("Description", Value::from("A jail of Corral's")),
        ("PIDs", Value::from(vec![7_u32, 8])),
        ("MemoryMax", Value::U64(12 << 30)),
        ("MemorySwapMax", Value::U64(1 << 30)),
        ("TasksMax", Value::U64(4096)),
        ("CollectMode", Value::from("inactive-or-failed")),
    ];
    assert_eq!(scope.properties(&[7, 8], true), old);
    let new = [old, vec![("OOMPolicy", Value::from("continue"))]].concat();
    assert_eq!(scope.properties(&[7, 8], false), new);
}

#[test]
fn where_systemd_may_answer_is_what_the_environment_says() {
    let folder = TempDir::new().unwrap();
    let bus = folder.path().join("bus");
    let at = |address: Option<&str>, runtime: bool, root: bool| {
        let variable = |name: &str| match name {
            "DBUS_SESSION_BUS_ADDRESS" => address.map(OsString::from),
            "XDG_RUNTIME_DIR" => runtime.then(|| folder.path().into()),
            other => panic!("{other} is nobody's business"),
        };
        let mut found = buses(variable, root);
        // Whether this machine has one of its own is not the question.
        found.retain(|found| *found != Bus::Path("/run/dbus/system_bus_socket".into()));
        found
    };
    assert_eq!(at(None, true, true), [], "nothing is there");
    fs::write(&bus, "").unwrap();
    let path = bus.to_str().unwrap();
    assert_eq!(at(None, true, false), [Bus::Path(bus.clone())]);
    assert_eq!(at(None, false, true), []);
    assert_eq!(at(Some(&format!("unix:path={path},guid=0123")), false, false), [Bus::Path(bus.clone())]);
    assert_eq!(at(Some(&format!("tcp:host=h,port=1;unix:path={path}")), false, false), [Bus::Path(bus.clone())]);
    assert_eq!(at(Some("unix:abstract=/tmp/a%2db"), true, false), [Bus::Abstract(b"/tmp/a-b".to_vec())]);
    // No program is started and no other machine asked.
    assert_eq!(at(Some("unixexec:path=/bin/true"), false, false), []);
    assert_eq!(at(Some("unix:path=/a%zz"), false, false), []);
}

#[test]
fn a_group_is_found_and_read_in_either_version() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("proc/1/cgroup", "0::/user.slice/a.scope\n");
    write("sys/fs/cgroup/user.slice/a.scope/memory.max", "max\n");
    let two = Group::of(folder.path(), 1).unwrap();
    assert_eq!((two.name(), two.limit(), two.killed()), (Some("a.scope".as_ref()), None, None));
    write("sys/fs/cgroup/user.slice/a.scope/memory.max", "1048576\n");
    write("sys/fs/cgroup/user.slice/a.scope/memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 9\n");
    assert_eq!((two.limit(), two.killed()), (Some(1 << 20), Some(3)));

    write("proc/2/cgroup", "5:cpu,cpuacct:/x\n4:memory:/b.scope\n1:name=systemd:/b.scope\n0::/b.scope\n");
    write("sys/fs/cgroup/memory/b.scope/memory.limit_in_bytes", "2097152\n");
    write("sys/fs/cgroup/memory/b.scope/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
    let one = Group::of(folder.path(), 2).unwrap();
    assert_eq!((one.name(), one.limit(), one.killed()), (Some("b.scope".as_ref()), Some(2 << 20), Some(1)));
    assert_eq!(Group::of(folder.path(), 3), None);
}

/// A bus of the test's own: a real dbus-daemon.
struct Daemon(Child, Bus, String, #[allow(dead_code, reason = "its socket lies there")] TempDir);

impl Daemon {
    fn start() -> Self {
        let mut command = Command::new("dbus-daemon");
        let folder = TempDir::new().unwrap();
        command.args(["--session", "--nofork", "--nopidfile", "--print-address=1"]);
        command.arg(format!("--address=unix:path={}", folder.path().join("bus").display()));
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("dbus-daemon is there");
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let bus = Bus::of(address.trim()).unwrap();
        Self(child, bus, address.trim().to_owned(), folder)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a fake of systemd does with a request for a scope. It moves nothing and bounds nothing.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    /// Says that it is done.
    Done,
    /// The same, as one of before version 253.
    DoneAsOld,
    /// Says that the job has failed.
    Fails,
    /// Says nothing of the job's end, but of another's.
    Forgets,
    /// Answers nothing.
    Hangs,
    /// Refuses.
    Denies,
}

/// What it was asked for: a name, a mode, properties.
type Asked = (String, String, Vec<(String, OwnedValue)>);

struct Fake(Does, Sender<Asked>);

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Fake {
    async fn start_transient_unit(
        &self,
        name: String,
        mode: String,
        properties: Vec<(String, OwnedValue)>,
        others: Vec<(String, Vec<(String, OwnedValue)>)>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> fdo::Result<OwnedObjectPath> {
        assert_eq!(others, [], "no other unit is asked for");
        let is_new = properties.iter().any(|(name, _)| name == "OOMPolicy");
        self.1.send((name.clone(), mode, properties)).unwrap();
        let job = OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/7").unwrap();
        let other = OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/6").unwrap();
        Self::job_removed(&emitter, 6, other, "other.service", "done").await?;
        match self.0 {
            Does::Denies => return Err(fdo::Error::AccessDenied("Interactive authentication required.".into())),
            Does::DoneAsOld if is_new => {
                let said = "Cannot set property OOMPolicy, or unknown property.".to_owned();
                return Err(fdo::Error::PropertyReadOnly(said));
            }
            // Before its own answer: it must not be missed.
            Does::Done | Does::DoneAsOld => Self::job_removed(&emitter, 7, job.clone(), &name, "done").await?,
            Does::Fails => Self::job_removed(&emitter, 7, job.clone(), &name, "failed").await?,
            Does::Forgets => {}
            Does::Hangs => std::future::pending().await,
        }
        Ok(job)
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

/// What comes of asking a fake at a bus of its own, and what it was asked for.
fn asked(does: Does) -> (Result<Group, Unbounded>, Vec<Asked>) {
    let daemon = Daemon::start();
    let (tell, told) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = daemon.2.clone();
    let serving = runtime.block_on(async move {
        let builder = zbus::connection::Builder::address(address.as_str()).unwrap();
        let builder = builder.serve_at("/org/freedesktop/systemd1", Fake(does, tell)).unwrap();
        builder.name("org.freedesktop.systemd1").unwrap().build().await.unwrap()
    });
    let buses = vec![Bus::Path("/none".into()), daemon.1.clone()];
    // Who answers has time for it, however busy the machine is.
    let patience = if matches!(does, Does::Forgets | Does::Hangs) { PATIENCE } else { LONG };
    let bound = MemoryBound { ram: 1 << 30, swap: 1 << 20, buses, patience };
    let outcome = Bounding::begin(&bound, 9).unwrap().with(vec![std::process::id()]).finish();
    drop(serving);
    drop(runtime);
    (outcome, told.try_iter().collect())
}

#[test]
fn what_systemd_says_is_not_taken_for_granted() {
    let (outcome, requests) = asked(Does::Done);
    // Nothing was moved by the fake, whatever it says.
    assert_eq!(outcome, Err(Unbounded::NoController));
    let [(name, mode, properties)] = requests.as_slice() else { panic!("{requests:?}") };
    let number = name.strip_prefix("corral-jail-").and_then(|rest| rest.strip_suffix(".scope"));
    assert!(number.is_some_and(|number| number.len() == 16), "{name}");
    assert_eq!(mode, "fail");
    let scope = Scope { name: name.clone(), ram: 1 << 30, swap: 1 << 20, tasks: 9 };
    let wanted = scope.properties(&[std::process::id()], false);
    let wanted: Vec<_> = wanted.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let got: Vec<_> = properties.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
    assert_eq!(got, wanted);
}

#[test]
fn one_that_does_not_know_a_newer_property_is_asked_without_it() {
    let (outcome, requests) = asked(Does::DoneAsOld);
    assert_eq!(outcome, Err(Unbounded::NoController));
    let names = |at: usize| requests[at].2.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
    assert_eq!((requests.len(), names(0).len(), names(1).len()), (2, 7, 6));
    assert!(names(0).contains(&"OOMPolicy") && !names(1).contains(&"OOMPolicy"));
}

#[test]
fn a_refusal_a_failed_job_and_silence_are_told_apart() {
    let refused = |does, part: &str| match asked(does).0 {
        Err(Unbounded::Refused { said }) => assert!(said.contains(part), "{said}"),
        other => panic!("{other:?}"),
    };
    refused(Does::Denies, "Interactive authentication required");
    refused(Does::Fails, "its job ended as `failed`");
    assert_eq!(asked(Does::Forgets).0, Err(Unbounded::NoAnswer));
    assert_eq!(asked(Does::Hangs).0, Err(Unbounded::NoAnswer));
}

#[test]
fn a_bus_without_systemd_and_one_that_says_nothing_are_no_obstacle() {
    let daemon = Daemon::start();
    let at = |bus: Bus, patience: Duration| {
        let bound = MemoryBound { ram: 1 << 30, swap: 0, buses: vec![bus], patience };
        Bounding::begin(&bound, 9).unwrap().with(vec![std::process::id()]).finish()
    };
    let outcome = at(daemon.1.clone(), LONG);
    assert!(matches!(&outcome, Err(Unbounded::Refused { said }) if said.contains("systemd1")), "{outcome:?}");

    // It listens, and nobody accepts.
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("bus");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let began = Instant::now();
    assert_eq!(at(Bus::Path(path), PATIENCE), Err(Unbounded::NoAnswer));
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());

    let none = MemoryBound { ram: 1 << 30, swap: 0, buses: Vec::new(), patience: PATIENCE };
    assert_eq!(Bounding::begin(&none, 9).err(), Some(Unbounded::NoBus));
}
