//! The settings that outrank the profile's, the workspace's and the command line's.

use serde_json::json;

/// The content of the file that is bound, read-only, to [`crate::MANAGED_SETTINGS_INSIDE`].
///
/// These are Claude Code's own limits, for what works without the cloud and for what the user is asked; the jail does
/// not rely on them. `gateway` is the gateway's port in the jail. Source: <https://code.claude.com/docs/en/settings>
pub fn managed_settings(gateway: u16) -> Vec<u8> {
    let settings = json!({
        // A workspace's own settings may name another server, which outranks the environment.
        "env": { "ANTHROPIC_BASE_URL": format!("http://127.0.0.1:{gateway}") },
        "permissions": {
            "disableBypassPermissionsMode": "disable",
            // It asks a classifier in the cloud.
            "disableAutoMode": "disable",
            "deny": ["WebFetch", "WebSearch"],
        },
        "disableDeepLinkRegistration": "disable",
        "disableRemoteControl": true,
        "disableClaudeAiConnectors": true,
        "strictKnownMarketplaces": [],
        // It fails in the jail, whose walls are the stronger ones.
        "sandbox": { "enabled": false },
    });
    format!("{settings:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_these() {
        let settings = String::from_utf8(managed_settings(8080)).unwrap();
        let expected = r#"{
  "env": {
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:8080"
  },
  "permissions": {
    "disableBypassPermissionsMode": "disable",
    "disableAutoMode": "disable",
    "deny": [
      "WebFetch",
      "WebSearch"
    ]
  },
  "disableDeepLinkRegistration": "disable",
  "disableRemoteControl": true,
  "disableClaudeAiConnectors": true,
  "strictKnownMarketplaces": [],
  "sandbox": {
    "enabled": false
  }
}
"#;
        assert_eq!(settings, expected);
    }
}
