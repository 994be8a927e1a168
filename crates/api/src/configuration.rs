//! `/settings` and `/catalog`: the files that a person configures Corral by.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use corral_core::Error;
use corral_core::configuration::{CatalogFile, CatalogPatch, Configuration, SettingsFile};
use corral_core::settings::Settings;

use crate::blocking::blocking;
use crate::body::{self, Limit};
use crate::dto::{CatalogEdit, CatalogText, ProblemList};
use crate::failure::Failure;
use crate::router::Shared;

type Answer<T> = Result<Json<T>, Failure>;

/// `GET /settings`
pub(crate) async fn settings(State(shared): State<Shared>) -> Answer<SettingsFile> {
    at(&shared, |files| Ok(files.settings())).await
}

/// `PUT /settings`
pub(crate) async fn put_settings(State(shared): State<Shared>, request: Request) -> Answer<SettingsFile> {
    let wanted: Settings = body::whole(request, Limit::Usual).await?;
    at(&shared, move |files| files.put_settings(&wanted)).await
}

/// `GET /catalog`
pub(crate) async fn catalog(State(shared): State<Shared>) -> Answer<CatalogFile> {
    at(&shared, |files| files.catalog()).await
}

/// `POST /catalog/check`
pub(crate) async fn check(State(shared): State<Shared>, request: Request) -> Answer<ProblemList> {
    let CatalogText { text } = body::whole(request, Limit::Catalog).await?;
    at(&shared, move |files| Ok(ProblemList { problems: files.check_catalog(&text) })).await
}

/// `PUT /catalog`
pub(crate) async fn put_catalog(State(shared): State<Shared>, request: Request) -> Answer<CatalogFile> {
    let CatalogEdit { text, version } = body::whole(request, Limit::Catalog).await?;
    at(&shared, move |files| files.put_catalog(&text, &version)).await
}

/// `PATCH /catalog`
pub(crate) async fn patch_catalog(State(shared): State<Shared>, request: Request) -> Answer<CatalogFile> {
    let patch: CatalogPatch = body::whole(request, Limit::Usual).await?;
    at(&shared, move |files| files.patch_catalog(&patch)).await
}

async fn at<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce(&dyn Configuration) -> Result<T, Error> + Send + 'static,
) -> Answer<T> {
    let files: Arc<dyn Configuration> = shared.configuration.clone();
    blocking("the configuration", move || work(&*files)).await.map(Json)
}
