//! Carries out what the tray decides: on the panel, by notifications, at the daemon, in windows.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corral_client::Programs;
use corral_core::tray::{Icon, TrayEvent, tray};
use corral_core::{Code, Error, Result};
use corral_daemon::{Autostart, Environment, Paths};
use ksni::TrayMethods;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use crate::app::{App, Effect, Message, Said, Toast};
use crate::ask::Ask;
use crate::daemon::{Follower, Hosted, News, follow};
use crate::icons::Icons;
use crate::instance::Instance;
use crate::item::Item;
use crate::request::{Page, Request};
use crate::toast;
use crate::window::{CLOSES_WITHIN, Window};

/// How long a panel may take to show the icon before it is said that there is none.
const PANEL_WITHIN: Duration = Duration::from_secs(5);

/// The same at a login, where the panel itself may still be starting.
const PANEL_AT_LOGIN: Duration = Duration::from_secs(20);

/// How long a daemon in another process may take to answer before it is said that none does.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// How fast the mark moves while something is being done.
const FRAME: Duration = Duration::from_millis(250);

/// The parts that the tray is made of.
pub(crate) struct Desk {
    env: Environment,
    paths: Paths,
    programs: Programs,
    autostart: Autostart,
    instance: Arc<Instance>,
    ask: Ask,
    happened: UnboundedSender<Message>,
    happens: UnboundedReceiver<Message>,
    toasts: UnboundedSender<Toast>,
    window: Window,
    item: Option<ksni::Handle<Item>>,
    hosted: Option<Hosted>,
    follower: Option<Follower>,
    icon: Icon,
    /// When it is said that there is no panel.
    no_panel: Option<Instant>,
    /// When it is said that no daemon answers.
    silent: Option<Instant>,
    /// What is to be done with the end of the window.
    quits: Quits,
    /// Said in the window where there is no panel to say it on.
    notice: Option<String>,
}

/// Whether the tray ends with its window.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Quits {
    /// It does not.
    No,
    /// It does, or at this time.
    By(Instant),
    /// It does, once a person has said that the window may close.
    Asked,
}

impl Desk {
    /// Nothing is shown yet.
    pub(crate) fn new(env: Environment, paths: Paths, programs: Programs, instance: Instance) -> Self {
        let (happened, happens) = mpsc::unbounded_channel();
        let (toasts, to_show) = mpsc::unbounded_channel();
        tokio::spawn(toast::show(to_show, happened.clone()));
        let window = Window::new(env.clone(), programs.clone(), happened.clone());
        let (item, hosted, follower) = (None, None, None);
        let autostart = Autostart::new(&paths, programs.folder());
        let ask = Ask::new(env.clone(), paths.clone(), autostart.clone(), happened.clone());
        Self {
            env,
            paths,
            programs,
            autostart,
            instance: Arc::new(instance),
            ask,
            happened,
            happens,
            toasts,
            window,
            item,
            hosted,
            follower,
            icon: Icon::Busy,
            no_panel: None,
            silent: None,
            quits: Quits::No,
            notice: None,
        }
    }

    /// Shows the tray until it is told to end.
    pub(crate) async fn run(mut self, hidden: bool, request: Request) -> Result<()> {
        let mut signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        tokio::select! {
            shown = self.show_item() => shown?,
            () = told(&mut signals) => return Ok(()),
        }
        let mut app = App::new(hidden);
        let taking = tokio::spawn(self.begin(request));
        let mut frames = every(FRAME);
        loop {
            let message = tokio::select! {
                Some(message) = self.happens.recv() => message,
                () = told(&mut signals) => break,
                news = news(&mut self.hosted) => match self.daemon_tells(news) {
                    Some(message) => message,
                    None => continue,
                },
                () = until(self.no_panel) => {
                    self.no_panel = None;
                    Message::NoTray
                }
                () = until(self.quits.by()) => break,
                () = until(self.silent) => {
                    self.silent = None;
                    Message::Silent
                }
                _ = frames.tick(), if self.icon == Icon::Busy => {
                    self.move_mark().await;
                    continue;
                }
            };
            match message {
                Message::NoPanel => {
                    let patience = if hidden { PANEL_AT_LOGIN } else { PANEL_WITHIN };
                    self.no_panel = Some(Instant::now() + patience);
                    continue;
                }
                Message::Panel => self.no_panel = None,
                Message::Window(Said::Ends) if self.quits != Quits::No => break,
                Message::Window(Said::Asks) if self.quits != Quits::No => self.quits = Quits::Asked,
                Message::Window(Said::Kept) => self.quits = Quits::No,
                _ => {}
            }
            for effect in app.handle(message) {
                if effect == Effect::Quit {
                    if !self.window.ask_to_close().await {
                        return self.end(taking).await;
                    }
                    self.quits = Quits::By(Instant::now() + CLOSES_WITHIN);
                    continue;
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
            Effect::Load(model) => self.ask.load(&model),
            Effect::Restore => self.ask.restore(),
            Effect::Start => self.ask.start(),
            Effect::Stop => self.ask.stop(),
            Effect::ReadModels => self.ask.models(),
            Effect::ReadMemory => self.ask.memory(),
            Effect::ReadDesktop => drop(self.ask.desktop()),
            Effect::Serve => self.serve(),
            Effect::Open(page) => self.open(page).await?,
            Effect::OpenClaude(folder) => self.open_claude(folder),
            Effect::ChooseFolder => self.choose_folder(),
            Effect::AtLogin(on) => {
                self.autostart.set(on)?;
                drop(self.ask.desktop());
            }
            Effect::Quit => {}
        }
        Ok(())
    }

    async fn show_item(&mut self) -> Result<()> {
        let item = Item::new(tray(&App::first()), Icons::load()?, self.happened.clone());
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

    /// Begins: reads what is there, serves, does what the launch asked for, and takes what later ones ask for.
    fn begin(&self, request: Request) -> impl Future<Output = ()> + Send + use<> {
        let (ask, instance, happened) = (self.ask.clone(), self.instance.clone(), self.happened.clone());
        async move {
            // Where the last local Claude was is known before one is asked for, and what is wanted before a daemon tells.
            let _ = ask.desktop().await;
            tokio::spawn(ask.watch_desktop());
            let _ = happened.send(Message::Asked(TrayEvent::Serve));
            let mut request = request;
            loop {
                if let Some(event) = request.event()
                    && happened.send(Message::Asked(event)).is_err()
                {
                    return;
                }
                request = instance.next().await;
            }
        }
    }

    /// Serves, unless somebody does already, and follows whoever does.
    fn serve(&mut self) {
        if self.follower.is_none() {
            self.follower = Some(follow(self.env.clone(), self.paths.clone(), self.happened.clone()));
        }
        if self.hosted.is_none() {
            self.hosted = Some(Hosted::start(self.env.clone()));
        }
    }

    /// What to do about what became of the daemon in this process.
    fn daemon_tells(&mut self, news: News) -> Option<Message> {
        let ended = match news {
            News::Serves => {
                self.look();
                return None;
            }
            News::Ended(ended) => ended,
        };
        self.hosted = None;
        match ended {
            Err(error) if error.code() == Code::DaemonRunning => {
                tracing::info!("a daemon runs already: this shows it");
                self.silent = Some(Instant::now() + ANSWERS_WITHIN);
                self.look();
                return None;
            }
            Err(error) => self.fail(error),
            Ok(()) => {}
        }
        Some(Message::Silent)
    }

    /// A daemon may answer now.
    fn look(&self) {
        if let Some(follower) = &self.follower {
            follower.look();
        }
    }

    async fn open(&mut self, page: Option<Page>) -> Result<()> {
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
            let _ = happened.send(Message::Chosen(chosen.await));
        });
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

impl Quits {
    fn by(self) -> Option<Instant> {
        match self {
            Self::By(time) => Some(time),
            Self::No | Self::Asked => None,
        }
    }
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

/// Returns when the daemon in this process has something to tell; never, where there is none.
async fn news(hosted: &mut Option<Hosted>) -> News {
    match hosted {
        Some(hosted) => hosted.news().await,
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
