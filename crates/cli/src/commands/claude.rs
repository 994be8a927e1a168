//! `corral claude`

use std::ffi::OsString;
use std::io::{self, BufRead};
use std::path::Path;

use corral_api::dto::{OperationAnswer, StartRequest, Status, SwitchRequest};
use corral_claude::environment::{Live, environment};
use corral_claude::managed::managed_settings;
use corral_claude::preflight;
use corral_claude::profile::Profile;
use corral_claude::program::{Kind, Program, Search};
use corral_claude::{GATEWAY_PORT, MANAGED_SETTINGS_INSIDE};
use corral_core::snapshot::Phase;
use corral_core::{Code, Error, Result};
use corral_daemon::{Environment, Paths, remember_folder};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Outcome, window};
use crate::args::{ClaudeArgs, Network};
use crate::exit;
use crate::jail::{Ide, Plan, new_token, open_workspace, variable};
use crate::output::{Failed, Output, complain, remark};
use crate::progress::Shown;
use corral_client::{Client, Patience};

/// Where a Claude Code that runs by itself is inside.
const NATIVE_INSIDE: &str = "/run/corral/claude";

/// The name that a session asks for which was started without one: no model's, so that its requests go to the model that
/// is loaded, whatever is switched to. A session with a model of its own would switch back with its next request.
const LOADED: &str = "local";

/// Opens Claude Code in the jail.
pub(crate) fn claude(args: ClaudeArgs, env: &Environment, out: &mut Output) -> Outcome {
    if args.terminal {
        window::open(&args, env)?;
        return Ok(exit::DONE);
    }
    let holds = args.hold_on_failure;
    match open(args, env, out) {
        Err(Failed::Told(error)) if holds => {
            complain(&error);
            remark("press Enter to close this window");
            // Whatever comes, or nothing any more, is an answer.
            let _ = io::stdin().lock().read_line(&mut String::new());
            Ok(exit::of(error.code()))
        }
        outcome => outcome,
    }
}

fn open(args: ClaudeArgs, env: &Environment, out: &mut Output) -> Outcome {
    let paths = Paths::resolve(env)?;
    if args.jail.network == Network::None {
        let error = Error::new(Code::InvalidRequest, "Claude Code needs its model, which `--network none` takes away");
        return Err(error.hint("leave it out, or use `corral jail --network none`").into());
    }
    // What costs nothing is looked at before a model is loaded.
    let program = Search::new(&variable(env), &paths.home).program(&std::env::temp_dir())?;
    let workspace = open_workspace(&args.jail, &paths)?;
    if workspace.path().to_str().is_none() {
        // Claude Code would say that the folder is not there.
        let message = format!("the path {} is no text, which Claude Code needs", workspace.path().display());
        return Err(Error::new(Code::WorkspaceInvalid, message).hint("rename what is not UTF-8 in it").into());
    }
    let profile = Profile::new(&paths.profile);
    let notices = profile.prepare(workspace.path(), Timestamp::now())?.notices;
    let ide = if args.ide { Ide::find(&paths, &profile, workspace.path())? } else { None };
    if args.ide && ide.is_none() {
        remark("no editor that runs has this folder open with Claude Code's extension: it goes on without");
    }
    if !args.jail.explain
        && let Err(error) = remember_folder(&paths, workspace.path())
    {
        remark(&error.to_string());
    }
    drop(workspace);
    let mut plan = Plan::new(&args.jail, paths, env)?;
    if let Some(ide) = ide {
        plan.reach(ide);
    }
    let mut command = show(&program, &mut plan)?;
    plan.file(MANAGED_SETTINGS_INSIDE, managed_settings(GATEWAY_PORT));
    if args.jail.explain {
        out.text(&plan.explain())?;
        return Ok(exit::DONE);
    }
    notices.into_iter().chain(plan.remarks()).for_each(|text| remark(&text));
    let client = Client::of_home(env)?;
    let model = ready(&client, args.model)?;
    let context = context(&client)?;
    plan.model.clone_from(&model);
    plan.claude = true;
    let model = model.unwrap_or_else(|| LOADED.to_owned());
    preflight::check(&program, Some(context))?.iter().for_each(|text| remark(text));
    let token = new_token()?;
    let live = Live { ide: plan.ide_port(), ..Live::new(model, context, token.expose()) };
    let environment = environment(&live, &variable(env));
    command.extend(args.arguments);
    Ok(plan.run(command, environment, &token)?.exit_code())
}

/// Shows the program in the jail, and says how it is called there.
fn show(program: &Program, plan: &mut Plan) -> Result<Vec<OsString>> {
    if program.kind == Kind::Native {
        // Its own path would show where the user keeps it.
        plan.show(&program.file, Path::new(NATIVE_INSIDE))?;
        return Ok(vec![NATIVE_INSIDE.into()]);
    }
    for path in &program.read_only {
        plan.show(path, path)?;
    }
    Ok(program.argv().into_iter().map(Into::into).collect())
}

/// Sees that a model is loaded: the one that was asked for, else the one that is loaded or on its way, else the last one.
/// The id of the one that was asked for.
fn ready(client: &Client, wanted: Option<String>) -> Result<Option<String>> {
    if let Some(model) = wanted {
        let asked = format!("switch {model}");
        let request = SwitchRequest { model, wait: true, force: false, dry_run: false };
        let _shown = Shown::begin(client, &asked, false);
        let answer: OperationAnswer = client.parse(&client.post("/switch", &request, Patience::Endless)?)?;
        return Ok(answer.result.and_then(|result| result.to).map(|model| model.to_string()));
    }
    if status(client)?.snapshot.phase != Phase::Ready {
        let request = StartRequest { model: None, wait: true };
        let _shown = Shown::begin(client, "start", false);
        client.post("/start", &request, Patience::Endless)?;
    }
    Ok(None)
}

fn status(client: &Client) -> Result<Status> {
    client.parse(&client.get("/status")?)
}

/// What `llama-server` says of itself.
#[derive(Deserialize)]
struct Props {
    default_generation_settings: Slot,
}

#[derive(Deserialize)]
struct Slot {
    n_ctx: u32,
}

/// The tokens of context that one conversation has, as the server that is loaded says.
fn context(client: &Client) -> Result<u32> {
    let unknown = |why: &str| {
        Error::new(Code::EngineUnavailable, format!("how much context the model has is not known: {why}"))
            .hint("`corral status` says whether it is loaded; try again")
    };
    let gateway = status(client)?.snapshot.gateway.clone().ok_or_else(|| unknown("no gateway serves"))?;
    let answer = client.fetch(&format!("{gateway}/props"))?;
    let props: Props = serde_json::from_slice(&answer).map_err(|error| unknown(&error.to_string()))?;
    Ok(props.default_generation_settings.n_ctx)
}
