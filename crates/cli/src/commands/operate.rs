//! `corral start`, `corral stop` and `corral switch`

use std::io::{self, IsTerminal};
use std::time::Duration;

use corral_api::dto::{AutoSwitch, OperationAnswer, PlanAnswer, StartRequest, Status, StopRequest, SwitchRequest};
use corral_core::command::{OperationResult, SwitchPlan};
use corral_core::snapshot::{OperationKind, OperationView};
use corral_daemon::Environment;
use serde::Serialize;

use super::Outcome;
use crate::args::{StartArgs, StopArgs, SwitchArgs, WaitArgs};
use crate::exit;
use crate::output::{Output, Paint, remark};
use crate::progress::Shown;
use crate::table::{Cell, table};
use crate::text;
use corral_client::{Client, Patience};

/// Loads a model where none is.
pub(crate) fn start(args: StartArgs, env: &Environment, out: &mut Output) -> Outcome {
    let asked = args.model.as_ref().map_or_else(|| "start".to_owned(), |model| format!("start {model}"));
    let request = StartRequest { model: args.model, wait: !args.wait.no_wait };
    operate("/start", &request, &asked, &args.wait, env, out)
}

/// Unloads.
pub(crate) fn stop(args: &StopArgs, env: &Environment, out: &mut Output) -> Outcome {
    let request = StopRequest { force: args.force, wait: !args.wait.no_wait };
    operate("/stop", &request, "stop", &args.wait, env, out)
}

/// Replaces the model, or says what that would do.
pub(crate) fn switch(args: SwitchArgs, env: &Environment, out: &mut Output) -> Outcome {
    let asked = format!("switch {}", args.model);
    let request =
        SwitchRequest { model: args.model, wait: !args.wait.no_wait, force: args.force, dry_run: args.dry_run };
    if args.dry_run { plan(&request, env, out) } else { operate("/switch", &request, &asked, &args.wait, env, out) }
}

fn operate(
    path: &str,
    request: &impl Serialize,
    asked: &str,
    wait: &WaitArgs,
    env: &Environment,
    out: &mut Output,
) -> Outcome {
    let client = Client::of_home(env)?;
    let body = if wait.no_wait {
        client.post(path, request, Patience::Short)?
    } else {
        let _shown = Shown::begin(&client, asked, wait.verbose);
        client.post(path, request, Patience::Endless)?
    };
    if out.json {
        out.raw(&body)?;
    } else {
        let OperationAnswer { operation, result } = client.parse(&body)?;
        out.line(&result.as_ref().map_or_else(|| begun(&operation), ended))?;
        // Silent where nobody watches, like progress.
        if let Some(result) = result.filter(|result| result.to.is_none() && io::stderr().is_terminal()) {
            out.flush()?;
            // It is done: what cannot be told now is no failure.
            let status = client.get("/status").and_then(|body| client.parse::<Status>(&body));
            if let Some(note) = status.ok().and_then(|status| again(&result, status.auto_switch)) {
                remark(&note);
            }
        }
    }
    Ok(exit::DONE)
}

/// What loads a model again after a stop.
fn again(result: &OperationResult, policy: AutoSwitch) -> Option<String> {
    let whose = match policy {
        AutoSwitch::Always => "the next request",
        AutoSwitch::Sessions => "the next request of a session",
        AutoSwitch::Never => return None,
    };
    let stopped = result.to.is_none();
    stopped.then(|| format!("{whose} loads a model again; `auto_switch = \"never\"` in models.toml keeps it stopped"))
}

fn plan(request: &SwitchRequest, env: &Environment, out: &mut Output) -> Outcome {
    let client = Client::of_home(env)?;
    let body = client.post("/switch", request, Patience::Short)?;
    let PlanAnswer { plan } = client.parse(&body)?;
    if out.json {
        out.raw(&body)?;
    } else {
        out.text(&plan_text(&plan, out.paint))?;
    }
    Ok(plan.problem.map_or(exit::DONE, |problem| exit::of(problem.code)))
}

fn begun(operation: &OperationView) -> String {
    format!("{} has begun; `corral status` shows how far it is", text::change(operation))
}

fn ended(result: &OperationResult) -> String {
    let took = text::duration(Duration::from_millis(result.took_ms).as_secs_f64());
    match (&result.from, &result.to) {
        (Some(from), Some(to)) if from != to => format!("{to} is ready after {took} (was {from})"),
        (_, Some(to)) => format!("{to} is ready after {took}"),
        (Some(from), None) => format!("{from} stopped after {took}"),
        (None, None) => "nothing was loaded".to_owned(),
    }
}

fn plan_text(plan: &SwitchPlan, paint: Paint) -> String {
    let change = text::change_of(OperationKind::Switch, plan.from.as_ref(), Some(&plan.to));
    if plan.already_loaded {
        return format!("{} is loaded already: nothing would change\n", plan.to);
    }
    let requests = match plan.requests_running {
        0 => "none runs".to_owned(),
        number => {
            let requests = text::count(number as usize, "runs", "run");
            format!("{requests}, and would be let end; --force would cut them")
        }
    };
    let mut rows = vec![("would", change), ("sessions", plan.sessions.to_string()), ("requests", requests)];
    if let Some(fit) = &plan.fit {
        let verdict = fit.brief().unwrap_or_else(|| "fits".to_owned());
        // What is refused says why itself.
        let reason = fit.reason.as_ref().filter(|_| !fit.hopeless);
        rows.push(("fit", reason.map_or(verdict.clone(), |reason| format!("{verdict}: {reason}"))));
    }
    if let Some(problem) = &plan.problem {
        rows.push(("problem", text::brief(problem)));
    }
    let rows: Vec<_> = rows.into_iter().map(|(name, value)| vec![Cell::new(name), Cell::new(value)]).collect();
    table(&rows, paint)
}

#[cfg(test)]
mod tests {
    use corral_core::fit::{FitVerdict, FitView};
    use corral_core::{Code, Error, ModelId};
    use corral_testkit::fakes::fit_view;

    use super::*;

    fn result(from: Option<&str>, to: Option<&str>) -> OperationResult {
        let id = |text: &str| ModelId::new(text).unwrap();
        OperationResult {
            id: serde_json::from_str("\"018f0000-0000-7000-8000-000000000000\"").unwrap(),
            kind: OperationKind::Switch,
            from: from.map(id),
            to: to.map(id),
            started_at: "2026-05-04T12:00:00Z".parse().unwrap(),
            // The clock was set back in between.
            ended_at: "2026-05-04T11:00:00Z".parse().unwrap(),
            took_ms: 1_240,
            url: None,
        }
    }

    #[test]
    fn the_end_is_told_in_one_line() {
        assert_eq!(ended(&result(Some("a"), Some("b"))), "b is ready after 1.2 s (was a)");
        assert_eq!(ended(&result(Some("b"), Some("b"))), "b is ready after 1.2 s");
        assert_eq!(ended(&result(None, Some("b"))), "b is ready after 1.2 s");
        assert_eq!(ended(&result(Some("a"), None)), "a stopped after 1.2 s");
        assert_eq!(ended(&result(None, None)), "nothing was loaded");
    }

    #[test]
    fn what_a_stop_does_not_keep_from_loading_is_said() {
        let stopped = result(Some("a"), None);
        let kept = "; `auto_switch = \"never\"` in models.toml keeps it stopped";
        let note = |policy| again(&stopped, policy);
        assert_eq!(note(AutoSwitch::Always), Some(format!("the next request loads a model again{kept}")));
        assert_eq!(
            note(AutoSwitch::Sessions),
            Some(format!("the next request of a session loads a model again{kept}"))
        );
        assert_eq!(note(AutoSwitch::Never), None);
        assert_eq!(again(&result(Some("a"), Some("b")), AutoSwitch::Always), None);
    }

    #[test]
    fn a_plan_says_whom_it_would_hit() {
        let id = |text: &str| ModelId::new(text).unwrap();
        let mut plan = SwitchPlan {
            from: Some(id("a")),
            to: id("b"),
            already_loaded: false,
            sessions: 0,
            requests_running: 2,
            fit: None,
            problem: Some(Error::new(Code::ModelFileMissing, "there is no file").hint("download it").body()),
        };
        let expected = concat!(
            "would     switch a → b\n",
            "sessions  0\n",
            "requests  2 run, and would be let end; --force would cut them\n",
            "problem   there is no file (download it)\n",
        );
        assert_eq!(plan_text(&plan, Paint(false)), expected);
        plan.problem = None;
        plan.fit = Some(FitView {
            layers_on_cpu: 20,
            reason: Some("20 of 33 layers go to the CPU, which is slow".to_owned()),
            ..fit_view(FitVerdict::Reduced)
        });
        let shown = plan_text(&plan, Paint(false));
        let expected = "fit       20 layers on the CPU: 20 of 33 layers go to the CPU, which is slow\n";
        assert!(shown.ends_with(expected), "{shown}");
        plan.already_loaded = true;
        assert_eq!(plan_text(&plan, Paint(false)), "b is loaded already: nothing would change\n");
    }
}
