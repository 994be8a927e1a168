//! The real Claude Code, in a home of its own.

use std::process::{Command, Stdio};

use corral_core::usage::Tokens;
use serde_json::Value;
use tempfile::TempDir;

use crate::{PATIENCE, parts, until};

/// One installation of it, which asks one gateway.
#[derive(Debug)]
pub struct Claude {
    home: TempDir,
    gateway: String,
    /// Whether it writes, as it does unless told otherwise, its attribution in front of the system prompt.
    attributes: bool,
}

/// What `claude -p` printed.
#[derive(Debug, Clone)]
pub struct Said(Value);

impl Claude {
    /// One that asks here.
    pub fn of(gateway: &str) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(home.path().join(".claude")).expect("a folder");
        Self { home, gateway: gateway.to_owned(), attributes: false }
    }

    /// With its attribution.
    #[must_use]
    pub fn attributing(self) -> Self {
        Self { attributes: true, ..self }
    }

    /// Runs `claude -p` with this token, on this model.
    #[track_caller]
    pub fn ask(&self, token: &str, model: &str, question: &str) -> Said {
        let mut child = self.command(token, model, question).spawn().expect("Claude Code can be started");
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(2 * PATIENCE, "Claude Code ends", || child.try_wait().expect("a child can be waited for"));
        }));
        let _ = child.kill();
        let output = child.wait_with_output().expect("its output");
        assert!(ended.is_ok(), "Claude Code does not end: {output:?}");
        Said(serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}")))
    }

    fn command(&self, token: &str, model: &str, question: &str) -> Command {
        let mut command = Command::new(parts::claude());
        command.args(["-p", question, "--output-format", "json", "--model", model]).env_clear();
        command.current_dir(self.home.path()).env("HOME", self.home.path());
        command.env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
        command.env("ANTHROPIC_BASE_URL", &self.gateway);
        command.env("ANTHROPIC_AUTH_TOKEN", token).env("ANTHROPIC_API_KEY", "");
        for kind in ["OPUS", "SONNET", "HAIKU", "FABLE"] {
            command.env(format!("ANTHROPIC_DEFAULT_{kind}_MODEL"), model);
        }
        for name in ["ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL"] {
            command.env(name, model);
        }
        let settings = [
            ("CLAUDE_CODE_MAX_CONTEXT_TOKENS", "131072"),
            ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "8192"),
            ("ENABLE_TOOL_SEARCH", "false"),
            ("API_TIMEOUT_MS", "3600000"),
            ("CLAUDE_STREAM_IDLE_TIMEOUT_MS", "1800000"),
        ];
        command.envs(settings).envs((!self.attributes).then_some(("CLAUDE_CODE_ATTRIBUTION_HEADER", "0")));
        let disabled =
            ["EXPERIMENTAL_BETAS", "NONESSENTIAL_TRAFFIC", "OFFICIAL_MARKETPLACE_AUTOINSTALL", "BUNDLED_SKILLS"];
        for what in disabled.into_iter().chain(["AUTO_MEMORY", "WORKFLOWS", "CRON"]) {
            command.env(format!("CLAUDE_CODE_DISABLE_{what}"), "1");
        }
        for name in ["DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING"] {
            command.env(name, "1");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Said {
    /// Which session it was, as the ledger names it.
    #[track_caller]
    pub fn session(&self) -> String {
        format!("claude:{}", self.0["session_id"].as_str().expect("a session"))
    }

    /// Checks that it went well, and returns the tokens that Claude Code counts itself.
    #[track_caller]
    pub fn counted(&self) -> Tokens {
        let Self(said) = self;
        assert_eq!((&said["type"], &said["is_error"]), (&"result".into(), &false.into()), "{said:#}");
        let number = |key: &str| said["usage"][key].as_u64().unwrap_or_else(|| panic!("{key} in {said:#}"));
        let cached = number("cache_read_input_tokens");
        Tokens { input: number("input_tokens") + cached, cached, output: number("output_tokens") }
    }

    /// Checks that it failed with this HTTP status, and returns what it says of that.
    #[track_caller]
    pub fn refused(&self, status: u16) -> String {
        let Self(said) = self;
        assert_eq!((&said["is_error"], &said["api_error_status"]), (&true.into(), &status.into()), "{said:#}");
        said["result"].as_str().expect("a message").to_owned()
    }
}
