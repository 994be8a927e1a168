//! The tray as plain data: what its icon, its tooltip and its menu say, worked out of the snapshot.

use std::path::{Path, PathBuf};

use crate::id::ModelId;
use crate::live::Speed;
use crate::snapshot::{OperationKind, OperationView, Phase, Snapshot, Step};

/// Most models that the menu lists; with more, the others are in the dashboard.
const MODELS: usize = 30;

/// Most folders that the menu lists.
const FOLDERS: usize = 8;

/// Most mistakes in the catalog that the menu tells one by one.
const MISTAKES: usize = 3;

/// Most characters of a line that tells of an error.
const LINE: usize = 80;

/// All that the tray depends on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrayView {
    /// The present truth; none while no daemon answers.
    pub snapshot: Option<Snapshot>,
    /// Whether one is being started, while none answers.
    pub starting: bool,
    /// The models of the catalog, in its order.
    pub models: Vec<TrayModel>,
    /// Folders in which a local Claude was opened, the last one first.
    pub folders: Vec<PathBuf>,
    /// Whether Corral starts at login; none where that is not known.
    pub at_login: Option<bool>,
    /// How fast the model generates, or did last.
    pub speed: Option<Speed>,
    /// GPU memory in use and in all, in bytes, over all devices.
    pub vram: Option<(u64, u64)>,
}

/// A model, as the menu shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrayModel {
    /// Its key in the catalog.
    pub id: ModelId,
    /// The name people see.
    pub name: String,
    /// A few words on whether it fits, where that is known and worth a word.
    pub fit: Option<String>,
    /// Whether it can be loaded as far as its file tells.
    pub usable: bool,
}

/// What the tray shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Tray {
    /// The icon.
    pub icon: Icon,
    /// What stands beside the pointer: a heading and lines below it.
    pub tooltip: (String, String),
    /// The menu.
    pub menu: Vec<Entry>,
}

/// One icon per state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Icon {
    /// No model is loaded, or no daemon answers.
    Stopped,
    /// Something is being done that takes a while.
    Busy,
    /// A model answers.
    Ready,
    /// No model is loaded, because something went wrong.
    Failed,
}

/// An entry of the menu.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A line that only says something.
    Line(String),
    /// Something to click.
    Action {
        /// What it says.
        label: String,
        /// What a click asks for; none where it can not be clicked now.
        event: Option<TrayEvent>,
    },
    /// Something that is on or off.
    Check {
        /// What it says.
        label: String,
        /// Whether it is on.
        checked: bool,
        /// What a click asks for; none where it can not be clicked now.
        event: Option<TrayEvent>,
    },
    /// A menu of its own.
    Submenu {
        /// What it says.
        label: String,
        /// Its entries; where there are none it can not be opened.
        entries: Vec<Entry>,
    },
    /// A line between.
    Separator,
}

/// What a click asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TrayEvent {
    /// Load this model, in place of the one that is loaded.
    Switch(ModelId),
    /// Load the model that was used last.
    Start,
    /// Unload the model.
    Stop,
    /// Serve again, where no daemon answers.
    Serve,
    /// Open a local Claude: in this folder, or where the last one was.
    OpenClaude(Option<PathBuf>),
    /// Ask for a folder, and open a local Claude there.
    ChooseFolder,
    /// Open the dashboard.
    Dashboard,
    /// Open the dashboard's log.
    Logs,
    /// Open the catalog's text in the dashboard, with its mistakes.
    Catalog,
    /// Start at login from now on, or no longer.
    AtLogin(bool),
    /// End Corral.
    Quit,
}

/// Works the tray out.
pub fn tray(view: &TrayView) -> Tray {
    Tray { icon: icon(view), tooltip: tooltip(view), menu: menu(view) }
}

fn icon(view: &TrayView) -> Icon {
    let Some(snapshot) = &view.snapshot else { return if view.starting { Icon::Busy } else { Icon::Stopped } };
    match snapshot.phase {
        // A switch is prepared while the old model still answers.
        _ if snapshot.operation.is_some() => Icon::Busy,
        Phase::Stopped => Icon::Stopped,
        Phase::Ready => Icon::Ready,
        Phase::Failed => Icon::Failed,
        Phase::Pulling | Phase::Starting | Phase::Loading | Phase::Draining | Phase::Stopping => Icon::Busy,
    }
}

fn tooltip(view: &TrayView) -> (String, String) {
    let heading = view.snapshot.as_ref().filter(|snapshot| snapshot.phase == Phase::Ready);
    let heading = heading.and_then(|snapshot| snapshot.model.as_ref()).map(|model| name_of(model, &view.models));
    let mut lines = vec![status(view)];
    if let Some(mistake) = view.snapshot.as_ref().and_then(|snapshot| mistakes(snapshot).into_iter().next()) {
        lines.push(mistake);
    }
    lines.extend(view.speed.and_then(speed));
    if let Some((used, total)) = view.vram {
        let gib = |bytes: u64| Gib(bytes).to_string();
        lines.push(format!("{} of {} GiB of GPU memory", gib(used), gib(total)));
    }
    (heading.unwrap_or_else(|| "Corral".to_owned()), lines.join("\n"))
}

/// A line on the speed; none while a prompt is read, as nothing is generated then.
fn speed(Speed { tokens_per_second: rate, running }: Speed) -> Option<String> {
    let digits = usize::from(rate < 10.0);
    let when = if running { "" } else { " in the last answer" };
    (rate > 0.0).then(|| format!("{rate:.digits$} tokens/s{when}"))
}

/// Bytes in GiB, with one digit after the point.
struct Gib(u64);

impl std::fmt::Display for Gib {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tenths = (u128::from(self.0) * 10 + (1 << 29)) >> 30;
        write!(f, "{}.{}", tenths / 10, tenths % 10)
    }
}

/// One line on what is going on.
fn status(view: &TrayView) -> String {
    let Some(snapshot) = &view.snapshot else {
        return if view.starting { "Corral is starting" } else { "Corral's daemon does not answer" }.to_owned();
    };
    if let Some(operation) = &snapshot.operation {
        return doing(operation, &view.models);
    }
    let model = snapshot.model.as_ref().map(|model| name_of(model, &view.models));
    match (snapshot.phase, model) {
        (Phase::Ready, Some(model)) => format!("{model} is ready"),
        (Phase::Failed, _) => match &snapshot.error {
            Some(error) => shortened(&format!("Failed: {}", error.message)),
            None => "Failed".to_owned(),
        },
        (Phase::Stopped, _) if snapshot.catalog.models == 0 => "models.toml names no usable model".to_owned(),
        (Phase::Stopped, _) => "No model is loaded".to_owned(),
        (_, Some(model)) => format!("{model} is being loaded"),
        (_, None) => "Busy".to_owned(),
    }
}

fn doing(operation: &OperationView, models: &[TrayModel]) -> String {
    let name = |model: &Option<ModelId>| model.as_ref().map_or_else(String::new, |model| name_of(model, models));
    let (from, to) = (name(&operation.from), name(&operation.to));
    let what = match operation.kind {
        OperationKind::Start => format!("Starting {to}"),
        OperationKind::Switch => format!("Switching to {to}"),
        OperationKind::Restore => format!("Bringing {to} back"),
        OperationKind::Restart => format!("Starting {to} again"),
        OperationKind::Stop | OperationKind::Unload => return format!("Stopping {from}").trim_end().to_owned(),
    };
    let step = match operation.step {
        Step::Pull => "pulling the image",
        Step::Prepare => "preparing",
        Step::Drain => "waiting for running requests",
        Step::Save => "saving conversations",
        Step::Stop => "stopping the old model",
        Step::Free => "waiting for the GPU's memory",
        Step::Start => "starting the server",
        Step::Load => "loading",
        Step::Restore => "bringing conversations back",
        Step::Pause => "waiting before the next try",
        Step::Rollback => "going back to the old model",
    };
    format!("{what}: {step}")
}

fn name_of(model: &ModelId, models: &[TrayModel]) -> String {
    models.iter().find(|known| known.id == *model).map_or_else(|| model.to_string(), |known| known.name.clone())
}

fn shortened(line: &str) -> String {
    let line = line.lines().next().unwrap_or_default();
    if line.chars().count() <= LINE { line.to_owned() } else { line.chars().take(LINE - 1).chain(['…']).collect() }
}

/// What is wrong in the catalog and where: a line each, without the folder, which is always the same.
fn mistakes(snapshot: &Snapshot) -> Vec<String> {
    let folder = Path::new(&snapshot.catalog.path).parent().map(|folder| format!("{}/", folder.display()));
    let without =
        |message: &str| shortened(&folder.iter().fold(message.to_owned(), |said, folder| said.replace(folder, "")));
    snapshot.catalog.problems.iter().map(|problem| without(&problem.message)).collect()
}

fn menu(view: &TrayView) -> Vec<Entry> {
    let action = |label: &str, event: Option<TrayEvent>| Entry::Action { label: label.to_owned(), event };
    let mut menu = vec![Entry::Line(status(view))];
    let serves = view.snapshot.is_some();
    if let Some(snapshot) = &view.snapshot {
        let mistakes = mistakes(snapshot);
        for mistake in mistakes.iter().take(MISTAKES) {
            menu.push(action(mistake, Some(TrayEvent::Catalog)));
        }
        if mistakes.len() > MISTAKES {
            menu.push(action(&format!("All {} mistakes…", mistakes.len()), Some(TrayEvent::Catalog)));
        }
        menu.push(Entry::Separator);
        menu.push(Entry::Submenu { label: "Models".to_owned(), entries: models(view, snapshot) });
        menu.push(start_or_stop(snapshot));
    } else {
        menu.push(Entry::Separator);
        menu.push(action("Start Corral", (!view.starting).then_some(TrayEvent::Serve)));
    }
    menu.push(Entry::Separator);
    menu.push(action("Open local Claude", serves.then_some(TrayEvent::OpenClaude(None))));
    menu.push(Entry::Submenu { label: "Open local Claude in".to_owned(), entries: folders(view, serves) });
    menu.push(Entry::Separator);
    menu.push(action("Dashboard", serves.then_some(TrayEvent::Dashboard)));
    menu.push(action("Logs", serves.then_some(TrayEvent::Logs)));
    menu.push(Entry::Separator);
    if let Some(at_login) = view.at_login {
        let event = Some(TrayEvent::AtLogin(!at_login));
        menu.push(Entry::Check { label: "Launch at login".to_owned(), checked: at_login, event });
    }
    menu.push(action("Quit", Some(TrayEvent::Quit)));
    menu
}

fn models(view: &TrayView, snapshot: &Snapshot) -> Vec<Entry> {
    // While a switch goes on, the mark is at the model that will be loaded: it is what was clicked.
    let target = snapshot.operation.as_ref().and_then(|operation| operation.to.as_ref());
    let loaded = snapshot.model.as_ref().filter(|_| !matches!(snapshot.phase, Phase::Stopped | Phase::Failed));
    let marked = target.or(loaded);
    let shown = |position: usize, model: &TrayModel| position < MODELS || Some(&model.id) == marked;
    let listed = view.models.iter().enumerate().filter(|(position, model)| shown(*position, model));
    let mut entries: Vec<Entry> = listed
        .map(|(_, model)| Entry::Check {
            label: model.fit.as_ref().map_or_else(|| model.name.clone(), |fit| format!("{}  ({fit})", model.name)),
            checked: Some(&model.id) == marked,
            event: model.usable.then(|| TrayEvent::Switch(model.id.clone())),
        })
        .collect();
    if view.models.len() > entries.len() {
        let label = format!("All {} models…", view.models.len());
        entries.extend([Entry::Separator, Entry::Action { label, event: Some(TrayEvent::Dashboard) }]);
    }
    entries
}

fn start_or_stop(snapshot: &Snapshot) -> Entry {
    let stops = matches!(
        snapshot.operation.as_ref().map(|operation| operation.kind),
        Some(OperationKind::Stop | OperationKind::Unload)
    );
    let idle = snapshot.operation.is_none() && matches!(snapshot.phase, Phase::Stopped | Phase::Failed);
    if idle || stops {
        let event = (snapshot.catalog.models > 0 && !stops).then_some(TrayEvent::Start);
        Entry::Action { label: "Start".to_owned(), event }
    } else {
        Entry::Action { label: "Stop".to_owned(), event: Some(TrayEvent::Stop) }
    }
}

fn folders(view: &TrayView, serves: bool) -> Vec<Entry> {
    let names = |folder: &Path| folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
    let listed: Vec<&PathBuf> = view.folders.iter().take(FOLDERS).collect();
    let mut entries = Vec::new();
    for folder in &listed {
        let name = names(folder);
        // Two folders of one name are told apart by what they are in.
        let twice = listed.iter().filter(|other| names(other) == name).count() > 1;
        let label = if twice { folder.display().to_string() } else { name };
        let event = serves.then(|| TrayEvent::OpenClaude(Some((*folder).clone())));
        entries.push(Entry::Action { label, event });
    }
    if !entries.is_empty() {
        entries.push(Entry::Separator);
    }
    let event = serves.then_some(TrayEvent::ChooseFolder);
    entries.push(Entry::Action { label: "Choose folder…".to_owned(), event });
    entries
}

#[cfg(test)]
mod tests;
