//! From a server into files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use corral_core::launch::LaunchSpec;
use corral_core::ports::KeptContext;
use corral_core::{Code, Error, ModelId, Result};
use jiff::Timestamp;

use super::disk::{self, Plain, Unfinished};
use super::index::Entry;
use super::server::{Failure, Saved, Slots};
use super::store::Store;
use super::{Place, SlotFiles, blocking, place, unwritten};
use crate::{errors, random};

impl SlotFiles {
    /// Saves the used slots of a server that was started at that time.
    pub(super) async fn save_slots(
        &self,
        server: &Slots<'_>,
        started_at: Timestamp,
        spec: &LaunchSpec,
        budget: u64,
    ) -> Result<KeptContext> {
        let Some(slots) = server.ids().await? else {
            tracing::debug!(model = %spec.model, "llama-server does not tell of its slots: nothing is saved");
            return Ok(KeptContext::default());
        };
        let Some(place) = self.room(started_at, spec).await? else { return Ok(KeptContext::default()) };
        let at = Timestamp::now();
        let (mut keys, mut failed) = (Vec::new(), None);
        for slot in slots {
            match self.save_slot(server, &place, &spec.model, slot, at).await {
                Ok(key) => keys.extend(key),
                Err(Failure::Unsupported) => {
                    tracing::debug!(model = %spec.model, "llama-server does not save slots");
                    break;
                }
                Err(Failure::Refused(why)) => failed = Some(unsaved(&place, &spec.model, slot, &why)),
                Err(Failure::Untried(error) | Failure::Broken(error)) => {
                    // Whatever is wrong with it, the other slots would wait for it just as long.
                    failed = Some(error);
                    break;
                }
            }
        }
        let left = self.evict(keys, budget).await?;
        for (key, entry) in &left {
            self.checksums.make(&self.store, key, entry);
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(left.iter().fold(KeptContext::default(), |sum, (_, entry)| KeptContext {
                slots: sum.slots + 1,
                tokens: sum.tokens + entry.tokens,
                bytes: sum.bytes + entry.bytes,
            })),
        }
    }

    /// Tidies up, and looks whether there is room for as much as was saved the last time.
    async fn room(&self, started_at: Timestamp, spec: &LaunchSpec) -> Result<Option<Place>> {
        let (store, spec, reserve) = (Arc::clone(&self.store), spec.clone(), self.reserve);
        blocking(move || {
            let Some(place) = place(&store.root, &spec, started_at)? else { return Ok(None) };
            let known = store.tidy(&place.stem).map_err(unwritten(&store.path()))?;
            let last: u64 = known.iter().map(|(_, entry)| entry.bytes).sum();
            let free = disk::free(&place.dir).map_err(|error| errors::unusable("cannot look at", &place.dir, error))?;
            if free < last.saturating_add(reserve) {
                let text = format!(
                    "the disk of `{}` has {} free: too little to save the conversations of `{}`, which took {} the \
                     last time, and to leave {} to others",
                    place.dir.display(),
                    size(free),
                    spec.model,
                    size(last),
                    size(reserve),
                );
                return Err(full(text));
            }
            Ok(Some(place))
        })
        .await
    }

    /// Saves one slot, and returns what the index calls its file; none where the slot is empty.
    async fn save_slot(
        &self,
        server: &Slots<'_>,
        place: &Place,
        model: &ModelId,
        slot: u32,
        at: Timestamp,
    ) -> Result<Option<String>, Failure> {
        let file = place.stem.file(slot);
        // A name that was never there before: a server that was given up on may still write into an older one.
        let temporary = format!("{file}.{}.tmp", random::hex::<4>().map_err(Failure::Untried)?);
        let unfinished = Unfinished(place.dir.join(&temporary));
        let saved = server.save(slot, &temporary).await?;
        let (store, place, model) = (Arc::clone(&self.store), place.clone(), model.clone());
        let accepted = blocking(move || {
            if saved.n_saved == 0 {
                store.forget(&place.stem, &file).map_err(unwritten(&store.path()))?;
                return Ok(None);
            }
            accept(&store, &place, &model, slot, saved, &unfinished.0, at).map(Some)
        });
        accepted.await.map_err(Failure::Untried)
    }

    /// Keeps to the budget, and returns what is left of the given files.
    async fn evict(&self, keys: Vec<String>, budget: u64) -> Result<Vec<(String, Entry)>> {
        let store = Arc::clone(&self.store);
        blocking(move || {
            store.evict(budget).map_err(unwritten(&store.path()))?;
            let mut files = store.read().files;
            Ok(keys.into_iter().filter_map(|key| files.remove_entry(&key)).collect())
        })
        .await
    }
}

/// Takes a file that was saved in place of the one before.
fn accept(
    store: &Store,
    place: &Place,
    model: &ModelId,
    slot: u32,
    saved: Saved,
    temporary: &Path,
    at: Timestamp,
) -> Result<String> {
    let plain = Plain::open(temporary).map_err(|error| {
        errors::unusable("llama-server says that it saved a slot, but there is no", temporary, error)
    })?;
    if plain.bytes == 0 || saved.n_written.is_some_and(|written| written != plain.bytes) {
        return Err(unsaved(place, model, slot, &format!("the file ends after {} bytes", plain.bytes)));
    }
    plain.close_to_others().map_err(|error| errors::unusable("cannot close to others", temporary, error))?;
    let file = place.stem.file(slot);
    let path = place.dir.join(&file);
    fs::rename(temporary, &path).map_err(|error| errors::unusable("cannot put in place", &path, error))?;
    let key = place.stem.key(&file);
    let changed = store.change(|index| {
        let entry = Entry {
            tokens: saved.n_saved,
            bytes: plain.bytes,
            checksum: None,
            saved_at: at,
            used_at: index.tick(at),
            modified_ns: plain.modified_ns,
            boot: store.boot.clone(),
        };
        index.files.insert(key.clone(), entry);
    });
    changed.map_err(unwritten(&store.path()))?;
    Ok(key)
}

/// What was tried and failed, with what the disk has to do with it.
fn unsaved(place: &Place, model: &ModelId, slot: u32, why: &str) -> Error {
    let free = disk::free(&place.dir).map_or_else(|_| "an unknown amount".to_owned(), size);
    full(format!(
        "llama-server could not save slot {slot} of `{model}` into `{}`: {why}; {free} is free there",
        place.dir.display()
    ))
}

fn full(text: String) -> Error {
    Error::new(Code::Io, text).hint(
        "make room on that disk, or set a smaller `slot_cache`; `corral logs` shows what llama-server says, and \
         `keep_context = false` does without",
    )
}

/// An amount of bytes as people read it.
#[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
