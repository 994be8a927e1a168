//! `corral serve` as a real process, in a home of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use corral_core::snapshot::Snapshot;
use corral_daemon::{Environment, Paths};
use corral_testkit::SandboxHome;
use rustix::process::Signal;

use crate::api::{Api, instance};
use crate::docker::Docker;
use crate::parts::{corral_binary, variable};
use crate::user::Ordinary;
use crate::{PATIENCE, process, until};

/// How long a daemon may take to end when it is told to.
pub const END_BOUND: Duration = Duration::from_secs(10);

/// A daemon that is ended, with all that it started, when this is dropped, also in a panic.
#[derive(Debug)]
pub struct Daemon {
    child: Option<Child>,
    api: Option<Api>,
    env: Vec<(String, String)>,
    /// The program that serves, and its arguments.
    program: (&'static str, Vec<String>),
    docker: Docker,
    /// Whose it is, where it is not the tests' own user's.
    user: Option<Ordinary>,
    // Dropped last: the folder outlives what is in it.
    home: SandboxHome,
}

/// How a daemon ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// From the signal to the end.
    pub took: Duration,
}

/// The `corral` command in a home, with a clean environment.
pub fn corral(home: &SandboxHome, args: &[&str]) -> Command {
    of(home, "corral", args)
}

/// One of Corral's programs in a home, with a clean environment.
pub fn of(home: &SandboxHome, program: &str, args: &[&str]) -> Command {
    dressed(Command::new(corral_binary().with_file_name(program)), home, args)
}

fn dressed(mut command: Command, home: &SandboxHome, args: &[&str]) -> Command {
    command.args(args).env_clear().env("CORRAL_HOME", home.path()).env("RUST_BACKTRACE", "1");
    command.env("HOME", crate::parts::home()).current_dir("/").stdin(Stdio::null());
    // What finding the programs and the engine takes.
    for name in ["PATH", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "LLVM_PROFILE_FILE"] {
        command.envs(variable(name).map(|value| (name, value)));
    }
    command
}

impl Daemon {
    /// Starts a daemon in a home that has a catalog, and waits until it answers.
    #[track_caller]
    pub fn start(home: SandboxHome) -> Self {
        Self::start_with(home, &[])
    }

    /// The same with more variables in its environment; `DOCKER_HOST` also says where its containers are looked for.
    #[track_caller]
    pub fn start_with(home: SandboxHome, env: &[(&str, &str)]) -> Self {
        Self::start_as(None, home, env)
    }

    /// A tray that serves, in place of `corral serve`.
    #[track_caller]
    pub fn start_tray(home: SandboxHome, args: &[&str], env: &[(&str, &str)]) -> Self {
        let args = args.iter().map(|&word| word.to_owned()).collect();
        Self::start_program(("corral-tray", args), None, home, env)
    }

    /// The same as another user, whose home this becomes.
    #[track_caller]
    pub fn start_as(user: Option<Ordinary>, home: SandboxHome, env: &[(&str, &str)]) -> Self {
        Self::start_program(("corral", vec!["serve".to_owned()]), user, home, env)
    }

    #[track_caller]
    fn start_program(
        program: (&'static str, Vec<String>),
        user: Option<Ordinary>,
        home: SandboxHome,
        env: &[(&str, &str)],
    ) -> Self {
        if let Some(user) = &user {
            user.give(home.path());
        }
        let docker = env.iter().find(|(name, _)| *name == "DOCKER_HOST");
        let docker = docker.map_or_else(Docker::new, |(_, host)| Docker::at(host));
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut daemon = Self { child: None, api: None, env, program, docker, user, home };
        daemon.spawn();
        daemon
    }

    #[track_caller]
    fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.log()).expect("a log file");
        // What a daemon that was killed left behind says nothing of the next one.
        let _ = fs::remove_file(self.home.run().join("daemon.json"));
        let args: Vec<&str> = self.program.1.iter().map(String::as_str).collect();
        let mut command = self.of(self.program.0, &args);
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        self.child = Some(command.spawn().expect("corral can be started"));
        let api = until(PATIENCE, "the daemon answers", || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("a child can be waited for"));
            assert!(ended.is_none(), "corral serve ended: {ended:?}\n{}", self.output());
            let api = Api::of(&self.home.run())?;
            api.try_get("/healthz").is_ok_and(|answer| answer.status == 200).then_some(api)
        });
        self.api = Some(api);
    }

    /// The management API.
    #[track_caller]
    pub fn api(&self) -> &Api {
        self.api.as_ref().expect("the daemon runs")
    }

    /// The home.
    pub fn home(&self) -> &SandboxHome {
        &self.home
    }

    /// The engine that its containers are in.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// The value of the label of its containers.
    pub fn home_id(&self) -> String {
        let env: Environment = [("CORRAL_HOME", self.home.path().display().to_string())].into_iter().collect();
        Paths::resolve(&env).expect("paths").home_id()
    }

    /// The ids of its containers that run.
    pub fn running(&self) -> Vec<String> {
        self.docker.running(&self.home_id())
    }

    /// Runs the `corral` command against this home.
    pub fn corral(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("corral can be started")
    }

    fn command(&self, args: &[&str]) -> Command {
        self.of("corral", args)
    }

    /// One of Corral's programs in this home, with the daemon's environment.
    pub fn of(&self, program: &str, args: &[&str]) -> Command {
        let mut command = match &self.user {
            Some(user) => dressed(user.command(program), &self.home, args),
            None => of(&self.home, program, args),
        };
        command.envs(self.env.iter().cloned());
        command
    }

    /// Whose it is, where it is not the tests' own user's.
    pub fn user(&self) -> Option<&Ordinary> {
        self.user.as_ref()
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("serve.log")
    }

    /// What the daemon has printed, in all its lives.
    pub fn output(&self) -> String {
        fs::read(self.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Ends the daemon as a power cut would: it can do nothing about it.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
        self.api = None;
    }

    /// Tells the daemon to end, and waits until it has.
    #[track_caller]
    pub fn terminate(&mut self) -> Ended {
        process::signal(self.pid(), Signal::TERM);
        let began = Instant::now();
        self.ended(began)
    }

    /// Waits for the end that somebody else asked for.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> Ended {
        self.ended(Instant::now())
    }

    #[track_caller]
    fn ended(&mut self, began: Instant) -> Ended {
        let child = self.child.as_mut().expect("the daemon runs");
        let status = until(2 * END_BOUND, "the daemon ends", || child.try_wait().expect("a child can be waited for"));
        self.child = None;
        self.api = None;
        Ended { status, took: began.elapsed() }
    }

    /// Starts the next daemon in the same home; the last one has ended.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the last daemon has ended");
        self.spawn();
    }

    /// Waits until these containers run and there are no others, not even stopped ones.
    #[track_caller]
    pub fn until_owns_only(&self, wanted: &[String]) {
        let home_id = self.home_id();
        until(PATIENCE, &format!("it has the containers {wanted:?} and no others"), || {
            let owned = self.docker.owned(&home_id);
            let all_run = owned.iter().all(|one| one.state == "running");
            (all_run && owned.into_iter().map(|one| one.id).eq(wanted.iter().cloned())).then_some(())
        });
    }

    /// When the server began, or which process it is: what Docker or the kernel says, not Corral.
    #[track_caller]
    pub fn began(&self, status: &Snapshot) -> String {
        let model = status.model.as_ref().expect("a model");
        match self.docker.inspect(&instance(status)) {
            Some(seen) => seen["State"]["StartedAt"].to_string(),
            None => format!("{:?}", process::with_argument(&self.home.models().join(format!("{model}.gguf")))),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what corral serve printed ---\n{}---", self.output());
        }
        if let Some(mut child) = self.child.take() {
            process::signal(child.id(), Signal::TERM);
            let deadline = Instant::now() + END_BOUND;
            while child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
                std::thread::park_timeout(crate::wait::INTERVAL);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        self.docker.clear(&self.home_id());
        end_processes(self.home.path());
    }
}

/// Ends the `llama-server`s of a home that outlived its daemon.
fn end_processes(home: &Path) {
    for pid in process::with_argument(home) {
        let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let _ = number.map(|number| rustix::process::kill_process(number, Signal::KILL));
    }
}

/// Runs `corral serve` in a home where it cannot serve, and returns its exit code and what it printed.
#[track_caller]
pub fn serve_fails(home: &SandboxHome) -> (Option<i32>, String) {
    let mut child = corral(home, &["serve"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a child");
    let began = Instant::now();
    while child.try_wait().expect("a child can be waited for").is_none() {
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
        }
        std::thread::park_timeout(crate::wait::INTERVAL);
    }
    let output = child.wait_with_output().expect("its output");
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code(), told)
}
