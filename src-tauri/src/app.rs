//! The program around the window.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use corral_client::Programs;
use corral_daemon::{Environment, Paths};
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
    pub(crate) notice: std::sync::Mutex<Option<String>>,
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
}

/// Shows the window until it is closed, or asks for a folder.
pub(crate) fn run(args: Args, env: Environment) -> Result<ExitCode, Failure> {
    let paths = Paths::resolve(&env)?;
    #[allow(clippy::disallowed_methods, reason = "what Tauri writes here can only end a program that is miscompiled")]
    let mut context: Context<Wry> = tauri::generate_context!();
    drop(context.set_assets(Box::new(Dashboard)));
    let builder = Builder::default().plugin(tauri_plugin_dialog::init());
    let app = if args.choose_folder {
        builder.setup(|app| {
            choose_folder(app);
            Ok(())
        })
    } else {
        let flags = StateFlags::SIZE | StateFlags::POSITION | StateFlags::MAXIMIZED;
        let state = tauri_plugin_window_state::Builder::new().with_state_flags(flags).build();
        let desk = Desk {
            env,
            paths: paths.clone(),
            programs: Programs::beside_this()?,
            attached: args.attached,
            notice: std::sync::Mutex::new(args.notice),
        };
        builder
            .plugin(state)
            .manage(Arc::new(desk))
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
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
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
