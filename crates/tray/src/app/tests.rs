use corral_core::snapshot::{CatalogView, Snapshot};
use corral_core::tray::{Entry, Icon};
use corral_core::{Code, Error};
use jiff::Timestamp;

use super::*;

fn snapshot(phase: Phase) -> Message {
    let catalog = CatalogView { path: "/c/models.toml".to_owned(), revision: 1, models: 1, problems: Vec::new() };
    Message::Snapshot(Box::new(Snapshot {
        version: "1".to_owned(),
        phase,
        model: (phase == Phase::Ready).then(|| ModelId::new("a").unwrap()),
        operation: None,
        engine: None,
        error: None,
        gateway: None,
        sessions: Vec::new(),
        catalog,
    }))
}

fn notice(level: NoticeLevel, message: &str, error: Option<Error>) -> Message {
    let error = error.map(|error| error.body());
    Message::Notice(Notice { at: Timestamp::UNIX_EPOCH, level, message: message.to_owned(), error })
}

fn desktop(folders: &[&str]) -> Message {
    Message::Desktop { folders: folders.iter().map(PathBuf::from).collect(), at_login: Some(false) }
}

fn settings(notifications: Notifications) -> Message {
    Message::Settings(Ok(Settings { notifications, ..Settings::default() }))
}

fn broken() -> Message {
    Message::Settings(Err(Error::new(Code::CatalogInvalid, "settings.toml:2: what is this").hint("mend the line")))
}

/// What is done besides showing.
fn done(app: &mut App, message: Message) -> Vec<Effect> {
    app.handle(message).into_iter().filter(|effect| !matches!(effect, Effect::Show(_))).collect()
}

fn shown(effects: &[Effect]) -> Option<&Tray> {
    effects.iter().find_map(|effect| match effect {
        Effect::Show(tray) => Some(tray),
        _ => None,
    })
}

#[test]
fn only_what_has_changed_is_shown() {
    let mut app = App::new(false);
    let first = app.handle(snapshot(Phase::Ready));
    assert_eq!(shown(&first).unwrap().icon, Icon::Ready);
    assert!(app.handle(snapshot(Phase::Ready)).is_empty(), "nothing is new");
    assert!(shown(&app.handle(desktop(&["/w"]))).is_some());
    assert!(app.handle(desktop(&["/w"])).is_empty());
    assert_eq!(shown(&app.handle(Message::Lost)).unwrap().icon, Icon::Stopped);
}

#[test]
fn memory_is_told_while_a_model_is_loaded() {
    let mut app = App::new(false);
    assert!(app.handle(snapshot(Phase::Ready)).contains(&Effect::ReadMemory));
    let figures = || Message::Memory(Some((18 << 30, 24 << 30)));
    let told = app.handle(figures());
    assert!(shown(&told).unwrap().tooltip.1.contains("18.0 of 24.0 GiB"), "{told:?}");
    assert!(app.handle(figures()).is_empty(), "nothing is new");
    let speed = |running| Message::Speed(Speed { tokens_per_second: 40.0, running });
    assert!(!app.handle(speed(true)).contains(&Effect::ReadMemory));
    assert!(app.handle(speed(false)).contains(&Effect::ReadMemory), "after its work it is read again");
    let told = app.handle(snapshot(Phase::Stopped));
    assert!(!shown(&told).unwrap().tooltip.1.contains("GiB"), "{told:?}");
}

#[test]
fn models_are_read_when_they_may_have_changed_and_no_more() {
    let mut app = App::new(false);
    assert_eq!(done(&mut app, snapshot(Phase::Stopped)), [Effect::ReadModels, Effect::ReadDesktop]);
    assert_eq!(done(&mut app, snapshot(Phase::Stopped)), []);
    assert_eq!(done(&mut app, snapshot(Phase::Ready)), [Effect::ReadModels, Effect::ReadMemory]);
}

#[test]
fn the_last_model_is_loaded_once_and_only_where_that_is_wanted() {
    let starts = |app: &mut App, phase| done(app, snapshot(phase)).contains(&Effect::Restore);
    let new = |restore, restore_last| {
        let mut app = App::new(restore);
        app.handle(Message::Settings(Ok(Settings { restore_last, ..Settings::default() })));
        app
    };
    assert!(!starts(&mut new(false, true), Phase::Stopped) && !starts(&mut new(true, false), Phase::Stopped));
    let mut unread = App::new(true);
    unread.handle(broken());
    assert!(!starts(&mut unread, Phase::Stopped), "nobody knows whether that is wanted");
    let mut app = new(true, true);
    assert!(starts(&mut app, Phase::Stopped));
    assert!(!starts(&mut app, Phase::Ready) && !starts(&mut app, Phase::Stopped), "somebody stopped it since");
    let mut adopted = new(true, true);
    assert!(!starts(&mut adopted, Phase::Ready) && !starts(&mut adopted, Phase::Stopped));
}

#[test]
fn notices_are_told_as_the_settings_say() {
    let told = |notifications, level| {
        let mut app = App::new(false);
        app.handle(settings(notifications));
        !done(&mut app, notice(level, "x", None)).is_empty()
    };
    let levels = [NoticeLevel::Info, NoticeLevel::Warning, NoticeLevel::Error];
    let each = |notifications| levels.map(|level| told(notifications, level));
    assert_eq!(each(Notifications::All), [true, true, true]);
    assert_eq!(each(Notifications::Problems), [false, true, true]);
    assert_eq!(each(Notifications::None), [false, false, false]);
}

#[test]
fn settings_that_break_leave_the_last_good_ones_in_force_and_that_is_said_once() {
    let mut app = App::new(false);
    app.handle(settings(Notifications::Problems));
    let said = done(&mut app, broken());
    assert!(matches!(&said[..], [Effect::Tell(toast)] if toast.summary.contains("settings.toml:2")), "{said:?}");
    assert_eq!(done(&mut app, broken()), []);
    assert_eq!(done(&mut app, notice(NoticeLevel::Info, "x", None)), [], "not all is told all of a sudden");
    app.handle(settings(Notifications::All));
    assert_eq!(done(&mut app, notice(NoticeLevel::Info, "x", None)).len(), 1);
    assert_eq!(done(&mut app, broken()).len(), 1, "they were good meanwhile");
    app.handle(settings(Notifications::None));
    assert_eq!(done(&mut app, broken()), [], "who wants to be told nothing is told nothing");
}

#[test]
fn it_starts_until_a_daemon_answers_or_none_does() {
    let line = |effects: &[Effect]| match &shown(effects).unwrap().menu[0] {
        Entry::Line(line) => line.clone(),
        entry => panic!("{entry:?}"),
    };
    let mut app = App::new(false);
    let first = app.handle(desktop(&[]));
    assert_eq!((shown(&first).unwrap().icon, line(&first).as_str()), (Icon::Busy, "Corral is starting"));
    assert_eq!(line(&app.handle(Message::Silent)), "Corral's daemon does not answer");
    assert_eq!(line(&app.handle(Message::Asked(TrayEvent::Serve))), "Corral is starting");
    assert_eq!(line(&app.handle(snapshot(Phase::Stopped))), "No model is loaded");
    assert!(app.handle(Message::Silent).is_empty(), "one answers");
    assert_eq!(line(&app.handle(Message::Lost)), "Corral's daemon does not answer");
}

#[test]
fn a_person_is_asked_for_one_folder_at_a_time() {
    let mut app = App::new(false);
    let asked = |app: &mut App| done(app, Message::Asked(TrayEvent::ChooseFolder));
    assert_eq!(asked(&mut app), [Effect::ChooseFolder]);
    assert_eq!(asked(&mut app), []);
    assert_eq!(done(&mut app, Message::Asked(TrayEvent::OpenClaude(None))), [], "there was none before");
    assert_eq!(done(&mut app, Message::Chosen(Ok(Some("/w".into())))), [Effect::OpenClaude("/w".into())]);
    assert_eq!(asked(&mut app), [Effect::ChooseFolder]);
    assert_eq!(done(&mut app, Message::Chosen(Ok(None))), [], "nobody chose one");
    assert_eq!(asked(&mut app), [Effect::ChooseFolder]);
    let failed = done(&mut app, Message::Chosen(Err(Error::new(Code::Io, "no display"))));
    assert!(matches!(&failed[..], [Effect::Tell(_)]), "{failed:?}");
    assert_eq!(asked(&mut app), [Effect::ChooseFolder]);
}

#[test]
fn a_failure_tells_its_cause_what_to_do_and_where_the_log_is() {
    let error = Error::new(Code::OutOfMemory, "x").hint("use a smaller context");
    let effects =
        done(&mut App::new(false), notice(NoticeLevel::Error, "B was not loaded: no memory: 3 GiB", Some(error)));
    let expected = Toast {
        summary: "B was not loaded".to_owned(),
        body: "no memory: 3 GiB\nuse a smaller context".to_owned(),
        level: NoticeLevel::Error,
        logs: true,
        stays: false,
    };
    assert_eq!(effects, [Effect::Tell(expected)]);
}

#[test]
fn what_a_session_has_left_stays_and_leads_to_no_log() {
    let error = Error::new(Code::WorkspaceInvalid, "x").hint("look at each");
    for level in [NoticeLevel::Warning, NoticeLevel::Error] {
        let left = "Claude's session ended with files in quarantine: 1 file was moved";
        let effects = done(&mut App::new(false), notice(level, left, Some(error.clone())));
        let (summary, body) = left.split_once(": ").unwrap();
        let (summary, body) = (summary.to_owned(), format!("{body}\nlook at each"));
        assert_eq!(effects, [Effect::Tell(Toast { summary, body, level, logs: false, stays: true })]);
    }
}

#[test]
fn clicks_do_what_they_say() {
    let mut app = App::new(false);
    let a = ModelId::new("a").unwrap();
    let asked = |app: &mut App, event| done(app, Message::Asked(event));
    assert_eq!(asked(&mut app, TrayEvent::Switch(a.clone())), [Effect::Load(a)]);
    assert_eq!(asked(&mut app, TrayEvent::Start), [Effect::Start]);
    assert_eq!(asked(&mut app, TrayEvent::Stop), [Effect::Stop]);
    assert_eq!(asked(&mut app, TrayEvent::Serve), [Effect::Serve]);
    assert_eq!(asked(&mut app, TrayEvent::Dashboard), [Effect::Open(None)]);
    assert_eq!(asked(&mut app, TrayEvent::Logs), [Effect::Open(Some(Page::Logs))]);
    assert_eq!(asked(&mut app, TrayEvent::AtLogin(true)), [Effect::AtLogin(true)]);
    assert_eq!(asked(&mut app, TrayEvent::Quit), [Effect::Quit]);
    assert_eq!(asked(&mut app, TrayEvent::OpenClaude(None)), [Effect::ChooseFolder], "there was none before");
    app.handle(desktop(&["/last", "/before"]));
    assert_eq!(asked(&mut app, TrayEvent::OpenClaude(None)), [Effect::OpenClaude("/last".into())]);
    assert_eq!(asked(&mut app, TrayEvent::OpenClaude(Some("/x".into()))), [Effect::OpenClaude("/x".into())]);
}

#[test]
fn without_a_panel_the_window_opens_once_and_says_how_to_get_one() {
    let mut app = App::new(false);
    let effects = done(&mut app, Message::NoTray);
    assert!(
        matches!(&effects[..], [Effect::Tell(_), Effect::NoPanel(text), Effect::Open(None)]
        if text.contains("AppIndicator")),
        "{effects:?}"
    );
    assert_eq!(done(&mut app, Message::NoTray), []);
    let mut had_one = App::new(false);
    had_one.handle(Message::Panel);
    assert_eq!(done(&mut had_one, Message::NoTray), [], "a panel that is restarted opens no window");
}

#[test]
fn while_no_daemon_answers_what_is_remembered_stays() {
    let mut app = App::new(false);
    app.handle(desktop(&["/w"]));
    app.handle(snapshot(Phase::Ready));
    app.handle(Message::Models(vec![]));
    let effects = app.handle(Message::Lost);
    let menu = &shown(&effects).unwrap().menu;
    assert_eq!(menu[0], Entry::Line("Corral's daemon does not answer".to_owned()));
    let folders = menu.iter().any(|entry| {
        matches!(entry, Entry::Submenu { entries, .. } if matches!(&entries[0], Entry::Action { label, .. } if label == "w"))
    });
    assert!(folders, "{menu:?}");
}
