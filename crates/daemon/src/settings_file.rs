//! Reading `settings.toml`.

use std::io;

use corral_core::settings::Settings;
use corral_core::{Code, Error, Result};

use crate::paths::Paths;

/// The settings; the defaults where there is no file.
pub fn read_settings(paths: &Paths) -> Result<Settings> {
    let path = paths.settings.display();
    let text = match std::fs::read_to_string(&paths.settings) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
        Err(error) => return Err(Error::new(Code::Io, format!("cannot read {path}")).because(error)),
    };
    toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Error::new(Code::CatalogInvalid, format!("{path}:{line}: {}", error.message()))
            .hint("mend the line, or remove the file to have the defaults")
    })
}

#[cfg(test)]
mod tests {
    use corral_core::settings::{OnQuit, TerminalSetting};

    use super::*;

    #[test]
    fn settings_are_read_and_mistakes_name_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display().to_string();
        let paths = Paths::resolve(&[("CORRAL_HOME", home)].into_iter().collect()).unwrap();
        std::fs::create_dir_all(&paths.config_dir).unwrap();
        assert_eq!(read_settings(&paths).unwrap(), Settings::default());
        std::fs::write(&paths.settings, "on_quit = \"keep\"\n").unwrap();
        assert_eq!(read_settings(&paths).unwrap().on_quit, OnQuit::Keep);
        std::fs::write(&paths.settings, "terminal = \"kitty\"\n").unwrap();
        assert_eq!(read_settings(&paths).unwrap().terminal, Some(TerminalSetting::Name("kitty".to_owned())));
        std::fs::write(&paths.settings, "terminal = [\"xterm\", \"-e\"]\n").unwrap();
        let words = vec!["xterm".to_owned(), "-e".to_owned()];
        assert_eq!(read_settings(&paths).unwrap().terminal, Some(TerminalSetting::Command(words)));
        let mistakes = [
            ("# a\non_quit = \"never\"\n", "never"),
            ("# a\non_qiut = \"keep\"\n", "on_qiut"),
            ("# a\nterminal = 1\n", "a terminal is a name, a path, or a list of a program and its options"),
        ];
        for (text, said) in mistakes {
            std::fs::write(&paths.settings, text).unwrap();
            let error = read_settings(&paths).unwrap_err();
            assert_eq!(error.code(), Code::CatalogInvalid);
            assert!(error.to_string().contains("settings.toml:2: ") && error.to_string().contains(said), "{error}");
        }
    }
}
