//! What the tray does about what happens: a message in, effects out. It waits for nothing and touches nothing.

use std::path::PathBuf;

use corral_core::live::Speed;
use corral_core::settings::{Notifications, Settings};
use corral_core::snapshot::{Notice, NoticeLevel, Phase, Snapshot};
use corral_core::tray::{Tray, TrayEvent, TrayModel, TrayView, tray};
use corral_core::{Code, Error, ModelId, Result};

use crate::request::Page;

/// How an icon can be had.
const NO_PANEL: &str = "Corral runs, and is used by this window and by the command line. GNOME shows tray icons with its \
extension \"AppIndicator and KStatusNotifierItem Support\".";

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Message {
    /// The daemon told the present truth.
    Snapshot(Box<Snapshot>),
    /// The daemon told something that a person should hear of.
    Notice(Notice),
    /// No daemon answers any more.
    Lost,
    /// None has begun to answer, and none is being started any more.
    Silent,
    /// The models of the catalog.
    Models(Vec<TrayModel>),
    /// How fast the model generates now.
    Speed(Speed),
    /// GPU memory in use and in all, in bytes.
    Memory(Option<(u64, u64)>),
    /// Folders that were worked in, and whether Corral starts at login.
    Desktop {
        /// The folders, the last one first.
        folders: Vec<PathBuf>,
        /// Whether Corral starts at login; none where that is not known.
        at_login: Option<bool>,
    },
    /// `settings.toml` as it is now, or why it cannot be read.
    Settings(Result<Settings>),
    /// The folder that a person chose, if any; or why nobody could be asked.
    Chosen(Result<Option<PathBuf>>),
    /// A person clicked, or a second launch asks for something.
    Asked(TrayEvent),
    /// What was asked for could not be done.
    Failed(Error),
    /// The window says something.
    Window(Said),
    /// No panel shows the icon; one may come yet.
    NoPanel,
    /// A panel shows the icon.
    Panel,
    /// No panel has come.
    NoTray,
}

/// What the window says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// A person is being asked whether what is typed may be lost.
    Asks,
    /// It may not: the window stays.
    Kept,
    /// The window has closed.
    Ends,
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Show this.
    Show(Tray),
    /// Tell this by a notification.
    Tell(Toast),
    /// Ask the daemon for this.
    Load(ModelId),
    /// Ask the daemon to load the model used last, or the first of the catalog.
    Start,
    /// Ask the daemon to load the model used last; nothing where none was.
    Restore,
    /// Ask the daemon to unload the model.
    Stop,
    /// Read the models of the catalog.
    ReadModels,
    /// Read how much GPU memory is in use.
    ReadMemory,
    /// Read folders and settings.
    ReadDesktop,
    /// Serve, in this process.
    Serve,
    /// Open the dashboard at a page, or where it is.
    Open(Option<Page>),
    /// Open a local Claude there.
    OpenClaude(PathBuf),
    /// Ask for a folder.
    ChooseFolder,
    /// Start at login, or not.
    AtLogin(bool),
    /// Say this in the window too.
    NoPanel(String),
    /// End.
    Quit,
}

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toast {
    /// One line.
    pub(crate) summary: String,
    /// What to do about it.
    pub(crate) body: String,
    /// How loud.
    pub(crate) level: NoticeLevel,
    /// Whether it has a button that shows the log.
    pub(crate) logs: bool,
    /// Whether it stays where another one comes: it is about files, and nothing that happens later makes it old.
    pub(crate) stays: bool,
}

/// What the tray knows.
#[derive(Debug)]
pub(crate) struct App {
    view: TrayView,
    shown: Option<Tray>,
    /// As they could be read last.
    settings: Option<Settings>,
    /// Load the model used last as soon as it is known that none is loaded, where the settings say so.
    restore: bool,
    /// A person is being asked for a folder.
    choosing: bool,
    told: Told,
}

/// What is told once.
#[derive(Debug, Default)]
struct Told {
    /// That there is no panel.
    no_tray: bool,
    /// That the settings cannot be read; again, where they could be meanwhile.
    broken_settings: bool,
}

impl App {
    /// At the start; with `restore`, the model that was used last is loaded, where the settings say so.
    pub(crate) fn new(restore: bool) -> Self {
        Self { view: Self::first(), shown: None, settings: None, restore, choosing: false, told: Told::default() }
    }

    /// What is known before anything has happened: that it begins.
    pub(crate) fn first() -> TrayView {
        TrayView { starting: true, ..TrayView::default() }
    }

    /// What to do about what happened.
    pub(crate) fn handle(&mut self, message: Message) -> Vec<Effect> {
        let mut effects = match message {
            Message::Snapshot(snapshot) => self.snapshot(*snapshot),
            Message::Notice(notice) => self.notice(&notice).into_iter().collect(),
            Message::Lost => {
                self.view = TrayView {
                    folders: std::mem::take(&mut self.view.folders),
                    at_login: self.view.at_login,
                    ..TrayView::default()
                };
                Vec::new()
            }
            Message::Silent => {
                self.view.starting = false;
                Vec::new()
            }
            Message::Models(models) => {
                self.view.models = models;
                Vec::new()
            }
            Message::Memory(vram) => {
                self.view.vram = vram;
                Vec::new()
            }
            Message::Speed(speed) => {
                self.view.speed = Some(speed);
                // What a model takes hardly changes: it is read once it is loaded, and after its work.
                if speed.running { Vec::new() } else { vec![Effect::ReadMemory] }
            }
            Message::Desktop { folders, at_login } => {
                self.view.folders = folders;
                self.view.at_login = at_login;
                Vec::new()
            }
            Message::Settings(read) => self.settings(read).into_iter().collect(),
            Message::Chosen(chosen) => {
                self.choosing = false;
                match chosen {
                    Ok(folder) => folder.map(Effect::OpenClaude).into_iter().collect(),
                    Err(error) => vec![Effect::Tell(failed(&error))],
                }
            }
            Message::Asked(event) => self.asked(event),
            Message::Failed(error) => vec![Effect::Tell(failed(&error))],
            Message::NoTray => self.no_tray(),
            Message::Panel => {
                // Where it goes later on, people know what it was.
                self.told.no_tray = true;
                Vec::new()
            }
            Message::NoPanel | Message::Window(_) => Vec::new(),
        };
        let tray = tray(&self.view);
        if self.shown.as_ref() != Some(&tray) {
            self.shown = Some(tray.clone());
            effects.push(Effect::Show(tray));
        }
        effects
    }

    fn snapshot(&mut self, snapshot: Snapshot) -> Vec<Effect> {
        let before = self.view.snapshot.replace(snapshot);
        self.view.starting = false;
        let now = self.view.snapshot.as_ref();
        let mut effects = Vec::new();
        // Names, files and verdicts may be others where the catalog or what is loaded has changed.
        let of = |snapshot: Option<&Snapshot>| {
            snapshot.map(|snapshot| (snapshot.catalog.clone(), snapshot.phase, snapshot.model.clone()))
        };
        if of(before.as_ref()) != of(now) {
            effects.push(Effect::ReadModels);
        }
        let is_ready = |snapshot: Option<&Snapshot>| snapshot.is_some_and(|snapshot| snapshot.phase == Phase::Ready);
        if is_ready(now) && !is_ready(before.as_ref()) {
            effects.push(Effect::ReadMemory);
        }
        let sessions = |snapshot: Option<&Snapshot>| snapshot.map(|snapshot| snapshot.sessions.clone());
        if sessions(before.as_ref()) != sessions(now) {
            effects.push(Effect::ReadDesktop);
        }
        if now.is_some_and(|snapshot| snapshot.phase != Phase::Ready) {
            (self.view.speed, self.view.vram) = (None, None);
        }
        let wanted = self.settings.as_ref().is_some_and(|settings| settings.restore_last);
        if std::mem::take(&mut self.restore)
            && wanted
            && now.is_some_and(|snapshot| snapshot.operation.is_none() && snapshot.phase == Phase::Stopped)
        {
            effects.push(Effect::Restore);
        }
        effects
    }

    /// What could be read last stays in force where the file is broken; that is said once.
    fn settings(&mut self, read: Result<Settings>) -> Option<Effect> {
        match read {
            Ok(settings) => {
                self.settings = Some(settings);
                self.told.broken_settings = false;
                None
            }
            Err(_) if std::mem::replace(&mut self.told.broken_settings, true) => None,
            Err(error) => (self.notifications() != Notifications::None).then(|| Effect::Tell(failed(&error))),
        }
    }

    fn notifications(&self) -> Notifications {
        self.settings.as_ref().map(|settings| settings.notifications).unwrap_or_default()
    }

    fn notice(&self, notice: &Notice) -> Option<Effect> {
        let wanted = match self.notifications() {
            Notifications::All => true,
            Notifications::Problems => notice.level != NoticeLevel::Info,
            Notifications::None => false,
        };
        wanted.then(|| {
            let hint = notice.error.as_ref().and_then(|error| error.hint.clone());
            let (summary, rest) = split(&notice.message);
            let body = rest.into_iter().chain(hint).collect::<Vec<_>>().join("\n");
            // A workspace that is not safe has nothing to do with the server's log.
            let stays = notice.error.as_ref().is_some_and(|error| error.code == Code::WorkspaceInvalid);
            let logs = (notice.level == NoticeLevel::Error || notice.error.is_some()) && !stays;
            Effect::Tell(Toast { summary, body, level: notice.level, logs, stays })
        })
    }

    fn asked(&mut self, event: TrayEvent) -> Vec<Effect> {
        let effect = match event {
            TrayEvent::Switch(model) => Effect::Load(model),
            TrayEvent::Start => Effect::Start,
            TrayEvent::Stop => Effect::Stop,
            TrayEvent::Serve => {
                self.view.starting = self.view.snapshot.is_none();
                Effect::Serve
            }
            TrayEvent::OpenClaude(folder) => match folder.or_else(|| self.view.folders.first().cloned()) {
                Some(folder) => Effect::OpenClaude(folder),
                None => Effect::ChooseFolder,
            },
            TrayEvent::ChooseFolder => Effect::ChooseFolder,
            TrayEvent::Dashboard => Effect::Open(None),
            TrayEvent::Logs => Effect::Open(Some(Page::Logs)),
            TrayEvent::Catalog => Effect::Open(Some(Page::Catalog)),
            TrayEvent::AtLogin(on) => Effect::AtLogin(on),
            TrayEvent::Quit => Effect::Quit,
        };
        // One question at a time.
        if effect == Effect::ChooseFolder && std::mem::replace(&mut self.choosing, true) {
            return Vec::new();
        }
        vec![effect]
    }

    /// Says once how a tray can be had, and opens the window in its place.
    fn no_tray(&mut self) -> Vec<Effect> {
        if std::mem::replace(&mut self.told.no_tray, true) {
            return Vec::new();
        }
        vec![
            Effect::Tell(Toast {
                summary: "This desktop shows no tray icons".to_owned(),
                body: NO_PANEL.to_owned(),
                level: NoticeLevel::Info,
                logs: false,
                stays: false,
            }),
            Effect::NoPanel(format!("This desktop shows no tray icons. {NO_PANEL}")),
            Effect::Open(None),
        ]
    }
}

/// The first sentence that has a cause, and the cause.
fn split(message: &str) -> (String, Option<String>) {
    match message.split_once(": ") {
        Some((what, why)) => (what.to_owned(), Some(why.to_owned())),
        None => (message.to_owned(), None),
    }
}

fn failed(error: &Error) -> Toast {
    let (summary, rest) = split(&error.to_string());
    let body = rest.into_iter().chain(error.body().hint).collect::<Vec<_>>().join("\n");
    Toast { summary, body, level: NoticeLevel::Error, logs: false, stays: false }
}

#[cfg(test)]
mod tests;
