//! The dashboard's files: those that the management port serves.

use std::borrow::Cow;

use tauri::utils::assets::{AssetKey, AssetsIter, CspHash};
use tauri::{Assets, Runtime};

/// The files as Tauri asks for them.
pub(crate) struct Dashboard;

impl<R: Runtime> Assets<R> for Dashboard {
    fn get(&self, key: &AssetKey) -> Option<Cow<'_, [u8]>> {
        corral_api::ui_file(key.as_ref().trim_start_matches('/')).map(Cow::Borrowed)
    }

    fn iter(&self) -> Box<AssetsIter<'_>> {
        // Only dynamic linking of assets and mobile need it.
        Box::new(std::iter::empty())
    }

    fn csp_hashes(&self, _: &AssetKey) -> Box<dyn Iterator<Item = CspHash<'_>> + '_> {
        // Nothing in them is inline.
        Box::new(std::iter::empty())
    }
}
