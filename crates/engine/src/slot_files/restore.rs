//! From files into a server.

use std::sync::Arc;

use corral_core::Result;
use corral_core::launch::LaunchSpec;
use corral_core::ports::KeptContext;
use jiff::Timestamp;

use super::disk::{Plain, Trying};
use super::index::Entry;
use super::name::TRYING;
use super::server::{Failure, Slots};
use super::store::Store;
use super::{Place, SlotFiles, blocking, place, unwritten};

/// How the try with one file ended.
enum Tried {
    /// The server says that it has this many tokens.
    Restored(u64),
    /// The file is of no use, and gone.
    Useless,
    /// This server cannot do that.
    Unsupported,
}

impl SlotFiles {
    /// Brings what was saved back into a server that was started at that time.
    pub(super) async fn restore_slots(
        &self,
        server: &Slots<'_>,
        started_at: Timestamp,
        spec: &LaunchSpec,
    ) -> Result<KeptContext> {
        let mut sum = KeptContext::default();
        let (store, launch) = (Arc::clone(&self.store), spec.clone());
        let known = blocking(move || {
            let Some(place) = place(&store.root, &launch, started_at)? else { return Ok(None) };
            let known = store.tidy(&place.stem).map_err(unwritten(&store.path()))?;
            Ok(Some((place, known)))
        });
        let Some((place, known)) = known.await?.filter(|(_, known)| !known.is_empty()) else { return Ok(sum) };
        let Some(slots) = server.ids().await? else {
            tracing::debug!(model = %spec.model, "llama-server does not tell of its slots: nothing is brought back");
            return Ok(sum);
        };
        for (slot, entry) in known {
            if !slots.contains(&slot) {
                // The server would take the number of another slot for it.
                self.forget(&place, slot).await?;
                continue;
            }
            match self.restore_slot(server, &place, slot).await? {
                Tried::Restored(tokens) => {
                    sum = KeptContext {
                        slots: sum.slots + 1,
                        tokens: sum.tokens + tokens,
                        bytes: sum.bytes + entry.bytes,
                    }
                }
                Tried::Useless => {}
                Tried::Unsupported => {
                    tracing::debug!(model = %spec.model, "llama-server does not restore slots");
                    break;
                }
            }
        }
        Ok(sum)
    }

    async fn restore_slot(&self, server: &Slots<'_>, place: &Place, slot: u32) -> Result<Tried> {
        let file = place.stem.file(slot);
        let key = place.stem.key(&file);
        self.checksums.made(&key).await;
        let name = format!("{file}{TRYING}");
        let (store, own, trying) = (Arc::clone(&self.store), place.dir.join(&file), place.dir.join(&name));
        let checked = key.clone();
        let whole = blocking(move || {
            // Renamed in here, so that whoever gives up in between still gets the name back.
            Ok(content(&store, &checked).and_then(|checksum| Some((checksum, Trying::new(own, trying).ok()?))))
        });
        let Some((checksum, trying)) = whole.await? else {
            tracing::warn!(file = key, "saved conversations are damaged, and removed");
            self.forget(place, slot).await?;
            return Ok(Tried::Useless);
        };
        match server.restore(slot, &name).await {
            Ok(0) => tracing::warn!(file = key, "llama-server read no token of it: it is removed"),
            Ok(tokens) => {
                let store = Arc::clone(&self.store);
                let used = move || {
                    drop(trying);
                    used(&store, &key, checksum)
                };
                blocking(used).await?;
                return Ok(Tried::Restored(tokens));
            }
            Err(Failure::Unsupported) => return Ok(Tried::Unsupported),
            Err(Failure::Untried(error)) => return Err(error),
            Err(Failure::Refused(why)) => tracing::warn!(file = key, why, "llama-server refuses it: it is removed"),
            Err(Failure::Broken(error)) => {
                trying.remove();
                self.forget(place, slot).await?;
                return Err(error.and("what it was to read is removed"));
            }
        }
        trying.remove();
        self.forget(place, slot).await?;
        Ok(Tried::Useless)
    }

    async fn forget(&self, place: &Place, slot: u32) -> Result<()> {
        let (store, stem) = (Arc::clone(&self.store), place.stem.clone());
        blocking(move || store.forget(&stem, &stem.file(slot)).map_err(unwritten(&store.path()))).await
    }
}

fn used(store: &Store, key: &str, checksum: u64) -> Result<()> {
    let changed = store.change(|index| {
        let now = index.tick(Timestamp::now());
        if let Some(entry) = index.files.get_mut(key) {
            (entry.used_at, entry.checksum) = (now, Some(checksum));
        }
    });
    changed.map_err(unwritten(&store.path()))
}

/// The checksum of a file that is what was saved; none of any other. That reads it all, so that it is in memory when
/// the server reads it.
fn content(store: &Store, key: &str) -> Option<u64> {
    let entry = store.read().files.remove(key)?;
    let plain = Plain::open(&store.root.join(key)).ok().filter(|plain| plain.bytes == entry.bytes)?;
    let untouched = is_untouched(store, &entry, &plain);
    let checksum = plain.checksum().ok()?;
    entry.checksum.map_or(untouched, |known| known == checksum).then_some(checksum)
}

/// Whether a file that Corral could not make a checksum of, because it was ended too soon, still is as it was saved.
/// That holds while the system runs: what a file was given is in the kernel's memory, on the disk or not.
fn is_untouched(store: &Store, entry: &Entry, plain: &Plain) -> bool {
    !store.boot.is_empty() && store.boot == entry.boot && plain.modified_ns == entry.modified_ns
}
