use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::error::{Code, Error, ErrorBody};
use crate::id::OperationId;
use crate::snapshot::CatalogView;

fn id(name: &str) -> ModelId {
    ModelId::new(name).unwrap()
}

fn model(name: &str) -> TrayModel {
    TrayModel { id: id(name), name: name.to_uppercase(), fit: None, usable: true }
}

fn view(phase: Phase, loaded: Option<&str>) -> TrayView {
    let catalog = CatalogView { path: "/c/models.toml".to_owned(), revision: 1, models: 2, problems: Vec::new() };
    let snapshot = Snapshot {
        version: "1".to_owned(),
        phase,
        model: loaded.map(id),
        operation: None,
        engine: None,
        error: None,
        gateway: None,
        sessions: Vec::new(),
        catalog,
    };
    TrayView {
        snapshot: Some(snapshot),
        models: vec![model("a"), model("b")],
        at_login: Some(false),
        ..TrayView::default()
    }
}

fn snapshot(view: &mut TrayView) -> &mut Snapshot {
    view.snapshot.as_mut().unwrap()
}

fn operation(kind: OperationKind, from: Option<&str>, to: Option<&str>, step: Step) -> OperationView {
    OperationView {
        id: OperationId(Uuid::nil()),
        kind,
        from: from.map(id),
        to: to.map(id),
        step,
        progress: None,
        started_at: Timestamp::UNIX_EPOCH,
        expected_ms: None,
    }
}

fn error(message: &str) -> ErrorBody {
    Error::new(Code::LoadFailed, message).body()
}

fn action(label: &str, event: Option<TrayEvent>) -> Entry {
    Entry::Action { label: label.to_owned(), event }
}

fn check(label: &str, checked: bool, event: Option<TrayEvent>) -> Entry {
    Entry::Check { label: label.to_owned(), checked, event }
}

fn submenu(label: &str, entries: Vec<Entry>) -> Entry {
    Entry::Submenu { label: label.to_owned(), entries }
}

fn models_of(tray: &Tray) -> &[Entry] {
    let found = tray.menu.iter().find_map(|entry| match entry {
        Entry::Submenu { label, entries } if label == "Models" => Some(entries),
        _ => None,
    });
    found.unwrap()
}

fn line(tray: &Tray) -> &str {
    match &tray.menu[0] {
        Entry::Line(line) => line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_speed_says_of_when_it_is() {
    let said = |tokens_per_second, running| {
        let mut view = view(Phase::Ready, Some("a"));
        view.speed = Some(Speed { tokens_per_second, running });
        tray(&view).tooltip.1.lines().nth(1).map(str::to_owned)
    };
    assert_eq!(said(41.6, true).as_deref(), Some("42 tokens/s"));
    assert_eq!(said(2.44, true).as_deref(), Some("2.4 tokens/s"));
    assert_eq!(said(41.6, false).as_deref(), Some("42 tokens/s in the last answer"));
    assert_eq!(said(0.0, true), None, "the prompt is read");
}

#[test]
fn a_ready_model_whole() {
    let mut view = view(Phase::Ready, Some("a"));
    view.folders = vec![PathBuf::from("/home/u/one")];
    view.speed = Some(Speed { tokens_per_second: 41.6, running: true });
    view.vram = Some((19_541_440_102, 25_769_803_776));
    let tray = tray(&view);
    assert_eq!(tray.icon, Icon::Ready);
    let text = "A is ready\n42 tokens/s\n18.2 of 24.0 GiB of GPU memory";
    assert_eq!(tray.tooltip, ("A".to_owned(), text.to_owned()));
    let folder = TrayEvent::OpenClaude(Some(PathBuf::from("/home/u/one")));
    let expected = vec![
        Entry::Line("A is ready".to_owned()),
        Entry::Separator,
        submenu(
            "Models",
            vec![
                check("A", true, Some(TrayEvent::Switch(id("a")))),
                check("B", false, Some(TrayEvent::Switch(id("b")))),
            ],
        ),
        action("Stop", Some(TrayEvent::Stop)),
        Entry::Separator,
        action("Open local Claude", Some(TrayEvent::OpenClaude(None))),
        submenu(
            "Open local Claude in",
            vec![
                action("one", Some(folder)),
                Entry::Separator,
                action("Choose folder…", Some(TrayEvent::ChooseFolder)),
            ],
        ),
        Entry::Separator,
        action("Dashboard", Some(TrayEvent::Dashboard)),
        action("Logs", Some(TrayEvent::Logs)),
        Entry::Separator,
        check("Launch at login", false, Some(TrayEvent::AtLogin(true))),
        action("Quit", Some(TrayEvent::Quit)),
    ];
    assert_eq!(tray.menu, expected);
}

#[test]
fn without_a_daemon_only_what_can_be_done_can_be_clicked() {
    let silent = TrayView { folders: vec![PathBuf::from("/w")], ..TrayView::default() };
    let starting = TrayView { starting: true, ..silent.clone() };
    let (silent, starting) = (tray(&silent), tray(&starting));
    assert_eq!((silent.icon, line(&silent)), (Icon::Stopped, "Corral's daemon does not answer"));
    assert_eq!(clickable(&silent), [TrayEvent::Serve, TrayEvent::Quit]);
    assert_eq!((starting.icon, line(&starting)), (Icon::Busy, "Corral is starting"));
    assert_eq!(clickable(&starting), [TrayEvent::Quit]);
}

/// What a click can ask for.
fn clickable(tray: &Tray) -> Vec<TrayEvent> {
    let mut events = Vec::new();
    let mut entries: Vec<&Entry> = tray.menu.iter().collect();
    while let Some(entry) = entries.pop() {
        match entry {
            Entry::Action { event, .. } | Entry::Check { event, .. } => events.extend(event.clone()),
            Entry::Submenu { entries: inner, .. } => entries.extend(inner),
            Entry::Line(_) | Entry::Separator => {}
        }
    }
    events.reverse();
    events
}

#[test]
fn the_mark_is_at_what_was_clicked_from_the_first_moment() {
    let mut view = view(Phase::Ready, Some("a"));
    snapshot(&mut view).operation = Some(operation(OperationKind::Switch, Some("a"), Some("b"), Step::Prepare));
    let busy = tray(&view);
    assert_eq!((busy.icon, line(&busy)), (Icon::Busy, "Switching to B: preparing"));
    let marked = |tray: &Tray| {
        let marks = models_of(tray).iter().map(|entry| matches!(entry, Entry::Check { checked: true, .. }));
        marks.collect::<Vec<_>>()
    };
    assert_eq!(marked(&busy), [false, true]);
    snapshot(&mut view).operation = None;
    assert_eq!(marked(&tray(&view)), [true, false], "it was superseded, or rolled back");
    snapshot(&mut view).phase = Phase::Failed;
    assert_eq!(marked(&tray(&view)), [false, false], "nothing is loaded");
}

#[test]
fn start_and_stop_take_turns() {
    let entry = |view: &TrayView| tray(view).menu[3].clone();
    let mut stopped = view(Phase::Stopped, None);
    assert_eq!(entry(&stopped), action("Start", Some(TrayEvent::Start)));
    assert_eq!(entry(&view(Phase::Failed, None)), action("Start", Some(TrayEvent::Start)));
    assert_eq!(entry(&view(Phase::Loading, Some("a"))), action("Stop", Some(TrayEvent::Stop)));
    snapshot(&mut stopped).catalog.models = 0;
    assert_eq!(entry(&stopped), action("Start", None), "there is nothing to start");
    let mut stopping = view(Phase::Stopping, Some("a"));
    snapshot(&mut stopping).operation = Some(operation(OperationKind::Stop, Some("a"), None, Step::Stop));
    assert_eq!(entry(&stopping), action("Start", None));
    assert_eq!(line(&tray(&stopping)), "Stopping A");
    assert_eq!(tray(&stopping).icon, Icon::Busy);
}

#[test]
fn a_failure_is_one_short_line() {
    let mut view = view(Phase::Failed, None);
    snapshot(&mut view).error = Some(error(&format!("{}\nmore", "long ".repeat(50))));
    let tray = tray(&view);
    assert_eq!(tray.icon, Icon::Failed);
    assert!(line(&tray).starts_with("Failed: long long") && line(&tray).ends_with('…'), "{}", line(&tray));
    assert_eq!(line(&tray).chars().count(), 80);
}

#[test]
fn mistakes_of_the_catalog_are_told_with_their_places_and_lead_to_its_text() {
    let mut view = view(Phase::Stopped, None);
    snapshot(&mut view).catalog.problems = vec![error("/c/models.toml:7:3: a key")];
    let shown = tray(&view);
    assert_eq!(shown.menu[1], action("models.toml:7:3: a key", Some(TrayEvent::Catalog)));
    assert_eq!(shown.menu[2], Entry::Separator);
    assert!(shown.tooltip.1.ends_with("\nmodels.toml:7:3: a key"), "{:?}", shown.tooltip);
    snapshot(&mut view).catalog.problems.extend([error("x"), error("y"), error("z")]);
    let shown = tray(&view);
    assert_eq!(shown.menu[3], action("y", Some(TrayEvent::Catalog)));
    assert_eq!(shown.menu[4], action("All 4 mistakes…", Some(TrayEvent::Catalog)));
}

#[test]
fn a_thousand_models_stay_a_menu_and_the_loaded_one_is_in_it() {
    let mut view = view(Phase::Ready, Some("m999"));
    view.models = (0..1000).map(|number| model(&format!("m{number}"))).collect();
    let tray = tray(&view);
    let entries = models_of(&tray);
    assert_eq!(entries.len(), MODELS + 3);
    assert_eq!(entries[MODELS], check("M999", true, Some(TrayEvent::Switch(id("m999")))));
    assert_eq!(entries[MODELS + 2], action("All 1000 models…", Some(TrayEvent::Dashboard)));
}

#[test]
fn what_cannot_be_loaded_cannot_be_clicked_and_a_verdict_is_said() {
    let mut view = view(Phase::Stopped, None);
    view.models[0].usable = false;
    view.models[1].fit = Some("8192 tokens".to_owned());
    let expected = [check("A", false, None), check("B  (8192 tokens)", false, Some(TrayEvent::Switch(id("b"))))];
    assert_eq!(models_of(&tray(&view)), expected);
}

#[test]
fn folders_of_one_name_are_told_apart() {
    let mut view = view(Phase::Stopped, None);
    view.folders = ["/x/app", "/y/app", "/z/web"].map(PathBuf::from).to_vec();
    let labels: Vec<String> = folders(&view, true)
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Action { label, .. } => Some(label),
            _ => None,
        })
        .collect();
    assert_eq!(labels, ["/x/app", "/y/app", "web", "Choose folder…"]);
}
