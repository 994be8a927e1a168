//! The program around the window.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use corral_client::Programs;
use corral_core::snapshot::{Notice, NoticeLevel};
use corral_daemon::{Environment, Paths};
use jiff::Timestamp;
use tauri::{App, Builder, Context, Wry};
use tauri_plugin_dialog::DialogExt;
use tauri_plugin_window_state::StateFlags;

use crate::args::Args;
use crate::assets::Dashboard;
use crate::streams::Streams;
use crate::{attached, commands, window};

/// What commands work with.
pub(crate) struct Desk {
    /// Where the daemon is looked for, anew with each request: it may have been started again.
    pub(crate) env: Environment,
    /// Corral's files.
    pub(crate) paths: Paths,
    /// Corral's other programs.
    pub(crate) programs: Programs,
    /// Whether somebody waits to hear that the window can be used.
    pub(crate) attached: bool,
    /// Said once, with the first events.
    pub(crate) notice: Mutex<Option<Notice>>,
    /// Whether the page that is shown can be used.
    pub(crate) usable: AtomicBool,
    /// Whether a person is being asked whether the window may be closed.
    pub(crate) asks: AtomicBool,
    /// Whether a person is being asked for a folder.
    pub(crate) chooses: AtomicBool,
    /// Why the window is given up.
    pub(crate) given_up: Mutex<Option<String>>,
}

impl Desk {
    /// What is to be said once; none where it has been.
    pub(crate) fn take_notice(&self) -> Option<Notice> {
        self.notice.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Says this with the next events.
    pub(crate) fn tell(&self, message: String) {
        self.tell_next(notice(NoticeLevel::Error, message));
    }

    /// The same for what is no error.
    pub(crate) fn tell_next(&self, notice: Notice) {
        *self.notice.lock().unwrap_or_else(PoisonError::into_inner) = Some(notice);
    }

    /// The page has ended; whether it could be used.
    pub(crate) fn page_ends(&self) -> bool {
        self.usable.swap(false, Ordering::Relaxed)
    }

    /// Says a word to whoever has started this window, and waits to hear of it.
    pub(crate) fn says(&self, word: &str) {
        if self.attached {
            // Nobody may be reading any more.
            let _ = writeln!(std::io::stdout().lock(), "{word}");
        }
    }

    /// Says at the end why the window is given up.
    pub(crate) fn give_up(&self, why: &str) {
        *self.given_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }
}

/// What keeps the window from being shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The toolkit or the web view.
    #[error("{0}")]
    Tauri(#[from] tauri::Error),
    /// Corral.
    #[error("{0}")]
    Corral(#[from] corral_core::Error),
    /// What windows are shown on.
    #[error("there is no display: {0}")]
    NoDisplay(String),
    /// The web view, in the end.
    #[error("{0}")]
    GivenUp(String),
}

/// Shows the window until it is closed, or asks for a folder.
pub(crate) fn run(args: Args, env: Environment) -> Result<ExitCode, Failure> {
    let paths = Paths::resolve(&env)?;
    gtk::init().map_err(|_| Failure::NoDisplay(display_of(&env)))?;
    #[allow(clippy::disallowed_methods, reason = "what Tauri writes here can only end a program that is miscompiled")]
    let mut context: Context<Wry> = tauri::generate_context!();
    drop(context.set_assets(Box::new(Dashboard)));
    let builder = Builder::default().plugin(tauri_plugin_dialog::init());
    let desk = Arc::new(Desk {
        env,
        paths: paths.clone(),
        programs: Programs::beside_this()?,
        attached: args.attached,
        notice: Mutex::new(args.notice.map(|message| notice(NoticeLevel::Warning, message))),
        usable: AtomicBool::new(false),
        asks: AtomicBool::new(false),
        chooses: AtomicBool::new(false),
        given_up: Mutex::new(None),
    });
    let app = if args.choose_folder {
        builder.setup(|app| {
            choose_folder(app);
            Ok(())
        })
    } else {
        let flags = StateFlags::SIZE | StateFlags::POSITION | StateFlags::MAXIMIZED;
        let state = tauri_plugin_window_state::Builder::new().with_state_flags(flags);
        // Where this home's files are, which need not be where the plugin would put it.
        let state = match paths.state_dir.join("window.json").to_str() {
            Some(file) => state.with_filename(file),
            None => state,
        };
        builder
            .plugin(state.build())
            .manage(desk.clone())
            .manage(Streams::default())
            .invoke_handler(tauri::generate_handler![
                commands::api,
                commands::choose_folder,
                commands::events,
                commands::logs,
                commands::open_claude,
                commands::save_file,
                commands::stop_stream,
                commands::window_ready,
            ])
            .setup(move |app| {
                let window = window::open(app, args.page, &paths)?;
                if args.attached {
                    attached::obey(app.handle().clone(), window);
                }
                Ok(())
            })
    };
    let code = app.build(context)?.run_return(|_, _| {});
    if let Some(why) = desk.given_up.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(Failure::GivenUp(why));
    }
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// What is said now.
pub(crate) fn notice(level: NoticeLevel, message: String) -> Notice {
    Notice { at: Timestamp::now(), level, message, error: None }
}

/// Why no display can be had.
fn display_of(env: &Environment) -> String {
    match env.get("WAYLAND_DISPLAY").or_else(|| env.get("DISPLAY")) {
        Some(display) => format!("{display} does not answer"),
        None => "neither WAYLAND_DISPLAY nor DISPLAY is set".to_owned(),
    }
}

/// Asks for a folder and prints it; nothing where nobody chose one.
fn choose_folder(app: &App) {
    let handle = app.handle().clone();
    app.dialog().file().set_title("Open local Claude in").pick_folder(move |chosen| {
        use std::os::unix::ffi::OsStrExt;
        let chosen = chosen.and_then(|chosen| chosen.into_path().ok()).unwrap_or_default();
        let mut out = std::io::stdout().lock();
        let told = out.write_all(chosen.as_os_str().as_bytes()).and_then(|()| out.flush());
        handle.exit(i32::from(told.is_err()));
    });
}
