//! `corral jail`

use corral_claude::environment::bare;
use corral_daemon::{Environment, Paths};

use super::Outcome;
use crate::args::JailArgs;
use crate::exit;
use crate::jail::{Plan, new_token, variable};
use crate::output::{Output, remark};

/// Runs a command in the jail.
pub(crate) fn jail(args: JailArgs, env: &Environment, out: &mut Output) -> Outcome {
    let plan = Plan::new(&args.jail, Paths::resolve(env)?, env)?;
    if args.jail.explain {
        out.text(&plan.explain())?;
        return Ok(exit::DONE);
    }
    plan.remarks().for_each(|text| remark(&text));
    let token = new_token()?;
    let environment = bare(token.expose(), &variable(env));
    Ok(plan.run(args.command, environment, &token)?.exit_code())
}
