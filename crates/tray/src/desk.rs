//! Carries out what the tray decides: on the panel, by notifications, at the daemon, in windows.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corral_api::dto::{HistoryList, ModelList, ModelState, ModelView, StartRequest, StopRequest, SwitchRequest};
use corral_client::{Client, Patience, Programs};
use corral_core::tray::{Icon, TrayModel, TrayView, tray};
use corral_core::{Code, Error, Result};
use corral_daemon::{Autostart, Environment, Paths, read_settings, recent_folders};
use ksni::TrayMethods;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use crate::app::{App, Effect, Message, Toast};
use crate::daemon::{Follower, Hosted, follow};
use crate::icons::Icons;
use crate::instance::Instance;
use crate::item::Item;
use crate::request::{Page, Request};
use crate::toast;
use crate::window::Window;

/// How long a panel may take to show the icon, after a login for instance, before it is said that there is none.
const PANEL_WITHIN: Duration = Duration::from_secs(5);

/// How fast the mark moves while something is being done.
const FRAME: Duration = Duration::from_millis(250);

/// The parts that the tray is made of.
pub(crate) struct Desk {
    env: Environment,
    paths: Paths,
    programs: Programs,
    instance: Arc<Instance>,
    happened: UnboundedSender<Message>,
    happens: UnboundedReceiver<Message>,
    toasts: UnboundedSender<Toast>,
    window: Window,
    item: Option<ksni::Handle<Item>>,
    hosted: Option<Hosted>,
    follower: Option<Follower>,
    icon: Icon,
    /// Said in the window where there is no panel to say it on.
    notice: Option<String>,
}

impl Desk {
    /// Nothing is shown yet.
    pub(crate) fn new(env: Environment, paths: Paths, programs: Programs, instance: Instance) -> Self {
        let (happened, happens) = mpsc::unbounded_channel();
        let (toasts, to_show) = mpsc::unbounded_channel();
        tokio::spawn(toast::show(to_show, happened.clone()));
        let window = Window::new(env.clone(), programs.clone(), happened.clone());
        let (item, hosted, follower) = (None, None, None);
        Self {
            env,
            paths,
            programs,
            instance: Arc::new(instance),
            happened,
            happens,
            toasts,
            window,
            item,
            hosted,
            follower,
            icon: Icon::Stopped,
            notice: None,
        }
    }

    /// Shows the tray until it is told to end.
    pub(crate) async fn run(mut self, hidden: bool, request: Request) -> Result<()> {
        let mut signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        self.show_item().await?;
        self.follower = Some(follow(self.env.clone(), self.happened.clone()));
        let settings = read_settings(&self.paths);
        let restore = hidden && settings.as_ref().is_ok_and(|settings| settings.restore_last);
        if let Err(error) = settings {
            self.fail(error);
        }
        let mut app = App::new(restore);
        // Where the last local Claude was is known before one is asked for.
        let _ = self.read_desktop().await;
        let taking = tokio::spawn(take(self.instance.clone(), self.happened.clone()));
        if let Err(error) = self.serve().await {
            self.fail(error);
        }
        if let Some(event) = request.event() {
            self.tell(Message::Asked(event));
        }
        let mut frames = every(FRAME);
        let mut no_panel: Option<Instant> = None;
        loop {
            let message = tokio::select! {
                Some(message) = self.happens.recv() => message,
                () = told(&mut signals) => break,
                ended = ended(&mut self.hosted) => {
                    self.hosted = None;
                    if let Err(error) = ended {
                        self.fail(error);
                    }
                    continue;
                }
                () = until(no_panel) => {
                    no_panel = None;
                    Message::NoTray
                }
                _ = frames.tick(), if self.icon == Icon::Busy => {
                    self.move_mark().await;
                    continue;
                }
            };
            let message = match message {
                Message::NoPanel => {
                    no_panel = Some(Instant::now() + PANEL_WITHIN);
                    continue;
                }
                message => message,
            };
            if matches!(message, Message::Panel) {
                no_panel = None;
            }
            for effect in app.handle(message) {
                if effect == Effect::Quit {
                    return self.end(taking).await;
                }
                if let Err(error) = self.carry_out(effect).await {
                    self.fail(error);
                }
            }
        }
        self.end(taking).await
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<()> {
        match effect {
            Effect::Show(shown) => {
                self.icon = shown.icon;
                if let Some(item) = &self.item {
                    item.update(|item| item.tray = shown).await;
                }
            }
            Effect::Tell(toast) => {
                tracing::info!("{}: {}", toast.summary, toast.body);
                let _ = self.toasts.send(toast);
            }
            Effect::NoPanel(text) => self.notice = Some(text),
            Effect::Load(model) => {
                self.ask(
                    "/switch",
                    SwitchRequest { model: model.to_string(), wait: false, force: false, dry_run: false },
                );
            }
            Effect::Restore => self.restore(),
            Effect::Start => self.ask("/start", StartRequest { model: None, wait: false }),
            Effect::Stop => self.ask("/stop", StopRequest { force: false, wait: false }),
            Effect::ReadModels => self.read_models(),
            Effect::ReadMemory => self.read_memory(),
            Effect::ReadDesktop => drop(self.read_desktop()),
            Effect::Serve => self.serve().await?,
            Effect::Open(page) => self.open(page).await?,
            Effect::OpenClaude(folder) => self.open_claude(folder),
            Effect::ChooseFolder => self.choose_folder(),
            Effect::AtLogin(on) => {
                Autostart::new(&self.paths, self.programs.folder()).set(on)?;
                drop(self.read_desktop());
            }
            Effect::Quit => {}
        }
        Ok(())
    }

    async fn show_item(&mut self) -> Result<()> {
        let item = Item::new(tray(&TrayView::default()), Icons::load()?, self.happened.clone());
        // Where no panel is there yet, one may come: the item waits for it.
        match item.assume_sni_available(true).spawn().await {
            Ok(handle) => self.item = Some(handle),
            Err(error) => {
                tracing::warn!("there is no tray icon: {error}");
                self.tell(Message::NoPanel);
            }
        }
        Ok(())
    }

    /// Serves, unless somebody does already.
    async fn serve(&mut self) -> Result<()> {
        if self.hosted.is_some() {
            return Ok(());
        }
        match Hosted::start(self.env.clone()).await {
            Ok(hosted) => self.hosted = Some(hosted),
            Err(error) if error.code() == Code::DaemonRunning => tracing::info!("a daemon runs already: this shows it"),
            Err(error) => return Err(error),
        }
        if let Some(follower) = &self.follower {
            follower.look();
        }
        Ok(())
    }

    async fn open(&mut self, page: Page) -> Result<()> {
        let notice = self.notice.take();
        self.window.open(page, notice.as_deref()).await
    }

    fn open_claude(&self, folder: PathBuf) {
        let (programs, happened) = (self.programs.clone(), self.happened.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = programs.open_claude(&folder) {
                let _ = happened.send(Message::Failed(error));
            }
        });
    }

    fn choose_folder(&self) {
        let (happened, chosen) = (self.happened.clone(), self.window.choose_folder());
        tokio::spawn(async move {
            let message = match chosen.await {
                Ok(Some(folder)) => Message::Asked(corral_core::tray::TrayEvent::OpenClaude(Some(folder))),
                Ok(None) => return,
                Err(error) => Message::Failed(error),
            };
            let _ = happened.send(message);
        });
    }

    /// Asks the daemon, and says where it refuses. That it has taken the request is told by the next snapshot.
    fn ask<T: serde::Serialize + Send + 'static>(&self, path: &'static str, body: T) {
        self.at_daemon(move |client| client.post(path, &body, Patience::Short).map(|_| None), true);
    }

    fn restore(&self) {
        let start = |client: &Client| {
            let history: HistoryList = client.parse(&client.get("/history?count=50")?)?;
            let mut ended =
                history.operations.into_iter().filter(|past| past.error.is_none() && past.total_ms.is_some());
            if let Some(model) = ended.find_map(|past| past.to) {
                let request = StartRequest { model: Some(model.to_string()), wait: false };
                client.post("/start", &request, Patience::Short)?;
            }
            Ok(None)
        };
        self.at_daemon(start, true);
    }

    fn read_models(&self) {
        let read = |client: &Client| {
            let list: ModelList = client.parse(&client.get("/models")?)?;
            Ok(Some(Message::Models(list.models.into_iter().map(entry).collect())))
        };
        self.at_daemon(read, false);
    }

    fn read_memory(&self) {
        let read = |client: &Client| {
            let gpu: corral_core::gpu::GpuReading = client.parse(&client.get("/gpu")?)?;
            Ok(Some(Message::Memory(gpu.memory())))
        };
        self.at_daemon(read, false);
    }

    /// Does something with the daemon that waits; a failure is told where somebody asked for it.
    fn at_daemon(&self, work: impl FnOnce(&Client) -> Result<Option<Message>> + Send + 'static, asked: bool) {
        let (env, happened) = (self.env.clone(), self.happened.clone());
        tokio::task::spawn_blocking(move || {
            let message = match Client::of_home(&env).and_then(|client| work(&client)) {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(error) if asked => Message::Failed(error),
                Err(error) => {
                    tracing::debug!("{error}");
                    return;
                }
            };
            let _ = happened.send(message);
        });
    }

    fn read_desktop(&self) -> JoinHandle<()> {
        let (paths, happened) = (self.paths.clone(), self.happened.clone());
        let autostart = Autostart::new(&paths, self.programs.folder());
        tokio::task::spawn_blocking(move || {
            let settings = read_settings(&paths).unwrap_or_default();
            let at_login = autostart.state().ok().map(|state| state.enabled);
            let folders = recent_folders(&paths);
            let _ = happened.send(Message::Desktop { folders, at_login, notifications: settings.notifications });
        })
    }

    async fn move_mark(&self) {
        if let Some(item) = &self.item {
            item.update(|item| item.frame = item.frame.wrapping_add(1)).await;
        }
    }

    fn tell(&self, message: Message) {
        // It is received in this very program.
        let _ = self.happened.send(message);
    }

    fn fail(&self, error: Error) {
        self.tell(Message::Failed(error));
    }

    async fn end(mut self, taking: JoinHandle<()>) -> Result<()> {
        self.instance.take_no_more();
        taking.abort();
        self.window.close().await;
        if let Some(hosted) = self.hosted.take() {
            hosted.end().await;
        }
        if let Some(item) = &self.item {
            item.shutdown().await;
        }
        Ok(())
    }
}

/// Takes what later launches ask for, from the start on: serving may take a while to begin.
async fn take(instance: Arc<Instance>, happened: UnboundedSender<Message>) {
    loop {
        if let Some(event) = instance.next().await.event()
            && happened.send(Message::Asked(event)).is_err()
        {
            return;
        }
    }
}

fn entry(model: ModelView) -> TrayModel {
    let usable = !matches!(model.state, ModelState::Missing) && model.problem.is_none();
    let fit = model.fit.and_then(|fit| fit.brief());
    TrayModel { id: model.id, name: model.name, fit, usable }
}

fn every(time: Duration) -> Interval {
    let mut interval = interval(time);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Returns at that time; never, where there is none.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Returns when the daemon in this process has ended by itself; never, where there is none.
async fn ended(hosted: &mut Option<Hosted>) -> Result<()> {
    match hosted {
        Some(hosted) => hosted.ended().await,
        None => std::future::pending().await,
    }
}

/// Returns when a signal told this program to end.
async fn told(signals: &mut [io::Result<Signal>; 3]) {
    let [first, second, third] = signals;
    tokio::select! {
        () = comes(first) => {}
        () = comes(second) => {}
        () = comes(third) => {}
    }
}

/// Returns when the signal comes; never, where it cannot be listened for.
async fn comes(signal: &mut io::Result<Signal>) {
    match signal {
        Ok(signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}
