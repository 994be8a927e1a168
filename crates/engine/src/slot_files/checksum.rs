//! Checksums are made after a save, while nobody waits: a stop must not take longer for them.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::disk::Plain;
use super::index::Entry;
use super::store::Store;

/// One save of one file.
type Save = (String, Timestamp);

/// The checksums that are being made.
#[derive(Debug, Clone)]
pub(super) struct Checksums(Arc<watch::Sender<HashSet<Save>>>);

impl Default for Checksums {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(HashSet::new())))
    }
}

/// Says that a checksum is no longer being made, however that came to its end.
struct Making(Checksums, Save);

impl Drop for Making {
    fn drop(&mut self) {
        self.0.0.send_if_modified(|making| making.remove(&self.1));
    }
}

impl Checksums {
    /// Begins to make the checksum of a file that was just saved.
    pub(super) fn make(&self, store: &Arc<Store>, key: &str, entry: &Entry) {
        let save = (key.to_owned(), entry.saved_at);
        self.0.send_if_modified(|making| making.insert(save.clone()));
        let (making, store) = (Making(self.clone(), save), Arc::clone(store));
        tokio::task::spawn_blocking(move || {
            let Making(_, (key, saved_at)) = &making;
            let made = Plain::open(&store.root.join(key)).and_then(Plain::checksum).and_then(|checksum| {
                store.change(|index| {
                    // The file may have been saved again, or have gone, in the meantime.
                    let entry = index.files.get_mut(key).filter(|entry| entry.saved_at == *saved_at);
                    entry.map(|entry| entry.checksum = Some(checksum))
                })
            });
            if let Err(error) = made {
                tracing::debug!(file = key, %error, "no checksum");
            }
        });
    }

    /// Waits for the checksum of a file, where one is being made.
    pub(super) async fn made(&self, key: &str) {
        let mut making = self.0.subscribe();
        // An error would mean that nobody can make one any more.
        let _ = making.wait_for(|making| !making.iter().any(|(name, _)| name == key)).await;
    }
}
