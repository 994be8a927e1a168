//! What loads have taught about the memory that models take.

use std::collections::HashMap;

use corral_core::ModelId;
use corral_core::fit::Lesson;

use crate::Store;

/// The keys of lessons begin so, and go on with the model's id.
const PREFIX: &str = "fit.";

impl Store {
    /// All that was learned, by model. What cannot be read is as if it had not been learned.
    pub fn lessons(&self) -> HashMap<ModelId, Lesson> {
        let read = || {
            let connection = self.connection();
            let mut statement = connection.prepare("SELECT key, value FROM state WHERE key LIKE ?1 || '%'")?;
            let rows = statement.query_map([PREFIX], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(String, String)>>>()
        };
        let rows = read().unwrap_or_else(|error| {
            tracing::warn!(%error, "could not recall what loads have taught");
            Vec::new()
        });
        let lesson = |(key, value): (String, String)| {
            Some((ModelId::new(key.strip_prefix(PREFIX)?).ok()?, serde_json::from_str(&value).ok()?))
        };
        rows.into_iter().filter_map(lesson).collect()
    }

    /// Keeps what a load has taught, in place of what was learned of the model before.
    pub fn keep_lesson(&self, model: &ModelId, lesson: &Lesson) {
        // Plain numbers always serialise.
        let value = serde_json::to_string(lesson).unwrap_or_default();
        self.write("what a load has taught", |connection| {
            let key = format!("{PREFIX}{model}");
            connection.execute("INSERT OR REPLACE INTO state (key, value) VALUES (?1, ?2)", [&key, &value])?;
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use corral_core::fit::Correction;
    use corral_core::ports::Journal;

    use super::*;

    #[test]
    fn what_was_learned_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corral.sqlite3");
        let model = ModelId::new("a").unwrap();
        let correction = Correction { kv: 1.25, overhead: Some(300), ..Correction::default() };
        let (build, devices) = (Some("sha256:1".to_owned()), vec!["-dev=none".to_owned()]);
        let lesson = Lesson { model_bytes: 7, build, correction, on_cpu: true, devices };
        let store = Store::open(&path).unwrap();
        store.keep_lesson(&model, &Lesson::default());
        store.keep_lesson(&model, &lesson);
        store.want(Some(&model));
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.lessons(), HashMap::from([(model.clone(), lesson)]));
        assert_eq!(store.wanted(), Some(model), "nothing else was touched");
    }

    #[test]
    fn what_was_learned_before_builds_were_told_apart_holds_for_none() {
        let store = Store::open(&tempfile::tempdir().unwrap().path().join("corral.sqlite3")).unwrap();
        let old = r#"{"model_bytes":7,"correction":{"kv":1.25},"on_cpu":true}"#;
        store.write("a lesson of before", |connection| {
            connection.execute("INSERT INTO state (key, value) VALUES ('fit.a', ?1)", [old])?;
            Ok(())
        });
        let lesson = store.lessons().remove(&ModelId::new("a").unwrap()).unwrap();
        assert_eq!((lesson.build.as_deref(), lesson.on_cpu), (None, true));
        assert!(!lesson.holds_for(7, Some("sha256:1")) && lesson.holds_for(7, None) && !lesson.holds_for(8, None));
    }
}
