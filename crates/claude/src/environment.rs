//! The environment of Claude Code in the jail: what makes a local model work, and a few words of the user's own.

use std::ffi::OsString;

use crate::{GATEWAY_PORT, HOME_INSIDE, Variables};

/// Where programs are looked for in the jail.
pub const PATH_INSIDE: &str = "/usr/local/bin:/usr/bin:/bin:/home/user/.local/bin";

/// No answer has more tokens than this, unless asked for otherwise.
const MOST_OUTPUT: u32 = 8192;

/// What a session runs on.
#[derive(Clone, PartialEq, Eq)]
pub struct Live {
    /// The model that is asked for: an id of the catalog, or a name that stands for the loaded one.
    pub model: String,
    /// Tokens of context that one conversation has: the server's context by its slots.
    pub context: u32,
    /// The session's token.
    pub token: String,
    /// The gateway's port in the jail, [`GATEWAY_PORT`] as a rule.
    pub gateway: u16,
    /// The most tokens of an answer; never more than a quarter of the context.
    pub max_output: Option<u32>,
    /// The port of the editor to connect to.
    pub ide: Option<u16>,
}

impl std::fmt::Debug for Live {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { model, context, token: _, gateway, max_output, ide } = self;
        let mut shown = f.debug_struct("Live");
        shown.field("model", model).field("context", context).field("gateway", gateway);
        shown.field("max_output", max_output).field("ide", ide).finish_non_exhaustive()
    }
}

impl Live {
    /// A session on this model, on the usual port.
    pub fn new(model: impl Into<String>, context: u32, token: impl Into<String>) -> Self {
        let (model, token) = (model.into(), token.into());
        Self { model, context, token, gateway: GATEWAY_PORT, max_output: None, ide: None }
    }
}

/// What is on or off for every session.
const FIXED: &[(&str, &str)] = &[
    // There is no other login than the token.
    ("ANTHROPIC_API_KEY", ""),
    // Messages of the role `system` inside a conversation: many templates refuse them.
    ("CLAUDE_CODE_MODEL_CAPABILITIES", "-mid_conv_system,-mid_conv_tool_change"),
    // A line in front of the prompt that differs in each session, so that no prompt's beginning would be in the cache.
    ("CLAUDE_CODE_ATTRIBUTION_HEADER", "0"),
    ("ENABLE_TOOL_SEARCH", "false"),
    ("CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS", "1"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("DISABLE_TELEMETRY", "1"),
    ("DISABLE_ERROR_REPORTING", "1"),
    // Each of these makes the prompt shorter.
    ("CLAUDE_CODE_DISABLE_BUNDLED_SKILLS", "1"),
    ("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "1"),
    ("CLAUDE_CODE_DISABLE_WORKFLOWS", "1"),
    ("CLAUDE_CODE_DISABLE_CRON", "1"),
    // A long prompt takes a local model many minutes to read.
    ("API_TIMEOUT_MS", "3600000"),
    ("CLAUDE_STREAM_IDLE_TIMEOUT_MS", "1800000"),
];

/// Who a program is in the jail.
const IDENTITY: &[(&str, &str)] =
    &[("HOME", HOME_INSIDE), ("PATH", PATH_INSIDE), ("SHELL", "/bin/bash"), ("USER", "user"), ("LOGNAME", "user")];

/// The variables that name a model.
const MODELS: &[&str] = &[
    "ANTHROPIC_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_DEFAULT_FABLE_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "CORRAL_MODEL",
];

/// The words of the user's own environment that are taken along, and the characters that they may have besides letters
/// and digits.
const PASSED: &[(&str, &str)] = &[
    ("TERM", "-+._"),
    ("COLORTERM", "-+._"),
    ("LANG", "-._@"),
    ("LC_ALL", "-._@"),
    ("LC_ADDRESS", "-._@"),
    ("LC_COLLATE", "-._@"),
    ("LC_CTYPE", "-._@"),
    ("LC_IDENTIFICATION", "-._@"),
    ("LC_MEASUREMENT", "-._@"),
    ("LC_MESSAGES", "-._@"),
    ("LC_MONETARY", "-._@"),
    ("LC_NAME", "-._@"),
    ("LC_NUMERIC", "-._@"),
    ("LC_PAPER", "-._@"),
    ("LC_TELEPHONE", "-._@"),
    ("LC_TIME", "-._@"),
    ("TZ", "-+_/:,.<>"),
];

/// The whole environment of a session: nothing else of the host's gets in.
pub fn environment(live: &Live, variables: &Variables<'_>) -> Vec<(OsString, OsString)> {
    let mut all = vec![
        ("ANTHROPIC_BASE_URL".to_owned(), format!("http://127.0.0.1:{}", live.gateway)),
        ("ANTHROPIC_AUTH_TOKEN".to_owned(), live.token.clone()),
        ("CORRAL_TOKEN".to_owned(), live.token.clone()),
        ("CLAUDE_CODE_MAX_CONTEXT_TOKENS".to_owned(), live.context.to_string()),
        ("CLAUDE_CODE_MAX_OUTPUT_TOKENS".to_owned(), most_output(live).to_string()),
    ];
    all.extend(MODELS.iter().map(|&name| (name.to_owned(), live.model.clone())));
    all.extend(FIXED.iter().chain(IDENTITY).map(|&(name, value)| (name.to_owned(), value.to_owned())));
    if let Some(port) = live.ide {
        all.push(("CLAUDE_CODE_SSE_PORT".to_owned(), port.to_string()));
        all.push(("ENABLE_IDE_INTEGRATION".to_owned(), "true".to_owned()));
    }
    finished(all, variables)
}

/// The environment of any other program in the jail: who it is there, the session's token, where the model answers in
/// `OpenAI`'s way, and the same words of the user's.
pub fn bare(token: &str, variables: &Variables<'_>) -> Vec<(OsString, OsString)> {
    let all = [
        ("CORRAL_TOKEN", token.to_owned()),
        ("OPENAI_BASE_URL", format!("http://127.0.0.1:{GATEWAY_PORT}/v1")),
        ("OPENAI_API_KEY", token.to_owned()),
        ("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{GATEWAY_PORT}")),
        ("ANTHROPIC_AUTH_TOKEN", token.to_owned()),
    ];
    let identity = IDENTITY.iter().map(|&(name, value)| (name, value.to_owned()));
    let all = all.into_iter().chain(identity).map(|(name, value)| (name.to_owned(), value));
    finished(all.collect(), variables)
}

fn finished(mut all: Vec<(String, String)>, variables: &Variables<'_>) -> Vec<(OsString, OsString)> {
    let passed = |&(name, marks): &(&str, &str)| {
        let value = variables(name)?.into_string().ok().filter(|value| is_plain(value, marks))?;
        Some((name.to_owned(), value))
    };
    all.extend(PASSED.iter().filter_map(passed));
    // Whatever it says, it means one thing: <https://no-color.org>
    if variables("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        all.push(("NO_COLOR".to_owned(), "1".to_owned()));
    }
    all.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn most_output(live: &Live) -> u32 {
    live.max_output.unwrap_or(MOST_OUTPUT).min(live.context / 4).max(1)
}

/// Whether a value is what it claims to be, rather than a path, a command or a secret in disguise.
fn is_plain(value: &str, marks: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
    (1..=64).contains(&value.len()) && value.chars().all(fits) && !value.starts_with('/') && !value.contains("..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(all: Vec<(OsString, OsString)>) -> Vec<String> {
        let text = |(name, value): (OsString, OsString)| format!("{}={}", name.display(), value.display());
        all.into_iter().map(text).collect()
    }

    #[test]
    fn it_is_this_and_nothing_else() {
        let of_the_user = |name: &str| match name {
            "TERM" => Some("xterm-256color".into()),
            "COLORTERM" => Some("truecolor".into()),
            "LANG" => Some("de_DE.UTF-8".into()),
            "LC_TIME" => Some("en_DK.UTF-8".into()),
            "TZ" => Some(":Europe/Berlin".into()),
            "NO_COLOR" => Some("yes".into()),
            "LC_NAME" => Some("$(id)".into()),
            "LC_ALL" | "LC_PAPER" => None,
            _ => Some("the host's".into()),
        };
        let live = Live { ide: Some(40_001), ..Live::new("glm-flash", 131_072, "s3cret") };
        let expected = [
            "ANTHROPIC_BASE_URL=http://127.0.0.1:8080",
            "ANTHROPIC_AUTH_TOKEN=s3cret",
            "CORRAL_TOKEN=s3cret",
            "CLAUDE_CODE_MAX_CONTEXT_TOKENS=131072",
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS=8192",
            "ANTHROPIC_MODEL=glm-flash",
            "ANTHROPIC_DEFAULT_OPUS_MODEL=glm-flash",
            "ANTHROPIC_DEFAULT_SONNET_MODEL=glm-flash",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL=glm-flash",
            "ANTHROPIC_DEFAULT_FABLE_MODEL=glm-flash",
            "ANTHROPIC_SMALL_FAST_MODEL=glm-flash",
            "CORRAL_MODEL=glm-flash",
            "ANTHROPIC_API_KEY=",
            "CLAUDE_CODE_MODEL_CAPABILITIES=-mid_conv_system,-mid_conv_tool_change",
            "CLAUDE_CODE_ATTRIBUTION_HEADER=0",
            "ENABLE_TOOL_SEARCH=false",
            "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS=1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
            "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL=1",
            "DISABLE_AUTOUPDATER=1",
            "DISABLE_TELEMETRY=1",
            "DISABLE_ERROR_REPORTING=1",
            "CLAUDE_CODE_DISABLE_BUNDLED_SKILLS=1",
            "CLAUDE_CODE_DISABLE_AUTO_MEMORY=1",
            "CLAUDE_CODE_DISABLE_WORKFLOWS=1",
            "CLAUDE_CODE_DISABLE_CRON=1",
            "API_TIMEOUT_MS=3600000",
            "CLAUDE_STREAM_IDLE_TIMEOUT_MS=1800000",
            "HOME=/home/user",
            "PATH=/usr/local/bin:/usr/bin:/bin:/home/user/.local/bin",
            "SHELL=/bin/bash",
            "USER=user",
            "LOGNAME=user",
            "CLAUDE_CODE_SSE_PORT=40001",
            "ENABLE_IDE_INTEGRATION=true",
            "TERM=xterm-256color",
            "COLORTERM=truecolor",
            "LANG=de_DE.UTF-8",
            "LC_TIME=en_DK.UTF-8",
            "TZ=:Europe/Berlin",
            "NO_COLOR=1",
        ];
        assert_eq!(texts(environment(&live, &of_the_user)), expected);
        assert!(!format!("{live:?}").contains("s3cret"));
    }

    #[test]
    fn an_answer_has_a_quarter_of_the_context_at_most() {
        let most = |context, max_output| most_output(&Live { max_output, ..Live::new("m", context, "t") });
        assert_eq!([most(131_072, None), most(16_384, None), most(0, None)], [8192, 4096, 1]);
        assert_eq!(
            [most(131_072, Some(16_384)), most(131_072, Some(100)), most(8192, Some(4096))],
            [16_384, 100, 2048]
        );
    }

    #[test]
    fn values_that_are_something_else_stay_outside() {
        for (name, value) in [("TZ", "/etc/shadow"), ("TZ", "a/../../b"), ("LANG", "C.UTF-8\nX=1"), ("TERM", "")] {
            let lookup = |asked: &str| (asked == name).then(|| value.into());
            let all = environment(&Live::new("m", 1, "t"), &lookup);
            assert!(!all.iter().any(|(passed, _)| passed == name), "{name}={value}");
        }
        assert!(!is_plain(&"a".repeat(65), ""));
    }

    proptest! {
        #[test]
        fn no_name_comes_twice_and_none_is_made_up(value in ".*") {
            let names = |lookup: &Variables<'_>| {
                let all = environment(&Live::new("m", 1, "t"), lookup);
                all.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
            };
            let mut all = names(&|_| Some(value.clone().into()));
            let known = |name: &OsString| names(&|_| Some("x".into())).contains(name);
            prop_assert!(all.iter().all(known));
            let count = all.len();
            all.sort();
            all.dedup();
            prop_assert_eq!(all.len(), count);
        }
    }
}
