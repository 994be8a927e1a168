//! From the text of a file to a catalog and the list of its mistakes.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;
use toml::de::{DeTable, DeValue};

use super::reader::{Node, Reader, Setting};
use super::source::Source;
use super::tables::{EngineTable, Entry, GatewayTable, ModelTable, Models, Root, SamplingTable, ServerTable, Version};
use super::values::Loopback;
use super::{Alias, Catalog, Engine, Gateway, Model, Reading, Server, Surroundings};
use crate::error::{Code, Error};
use crate::id::ModelId;
use crate::launch::{LaunchSpec, Sampling};

const CTX: u32 = 65_536;
const LOAD_TIMEOUT: Duration = Duration::from_mins(10);

/// Reads a catalog; see [`Catalog::read`].
pub(super) fn catalog(text: &str, surroundings: &Surroundings) -> Reading {
    let source = Source::new(text, surroundings.path.display().to_string());
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Reading { catalog: None, problems: syntax(&source, &errors) };
    }
    let mut reader = Reader::new(&source);
    let version = document.get_ref().get("schema");
    if let Some(version) = version.filter(|version| version.get_ref().is_integer()) {
        reader.example = "schema = 1";
        // A file of another format would only be full of keys that are not known here.
        if reader.under("schema", |reader| Version::read(version, reader)).is_none() {
            return Reading { catalog: None, problems: reader.finish() };
        }
    }
    if version.is_none() {
        reader.under("schema", |reader| reader.problem_with(0..0, "missing", "begin the file with `schema = 1`"));
    }
    let span = document.span();
    let root = Root::read(&Node::new(span, DeValue::Table(document.into_inner())), &mut reader).unwrap_or_default();
    resolve(root, surroundings, reader)
}

/// The mistakes of a text that is not TOML: the first of each line, and not endlessly many.
fn syntax(source: &Source<'_>, errors: &[toml::de::Error]) -> Vec<Error> {
    let mut lines = HashSet::new();
    let mut problems = Vec::new();
    let mut errors: Vec<_> = errors.iter().map(|error| (error.span().unwrap_or_default(), error)).collect();
    errors.sort_by_key(|(span, _)| span.start);
    for (span, error) in errors {
        let offset = span.start;
        if lines.insert(source.line(offset)) && problems.len() < 20 {
            let message = format!("{}: {}", source.line_and_column(offset), error.message().replace('\n', ", "));
            let hint = format!("the line is `{}`", source.shown(offset));
            problems.push(Error::new(Code::CatalogInvalid, message).hint(hint).at(source.place(&span)));
        }
    }
    problems
}

fn resolve(root: Root, surroundings: &Surroundings, mut reader: Reader<'_>) -> Reading {
    let server = server(root.server.as_ref(), &mut reader);
    let gateway = gateway(&root.gateway.unwrap_or_default());
    let engine = engine(root.engine.unwrap_or_default(), surroundings);
    let defaults = root.defaults.map(|defaults| defaults.0).unwrap_or_default();
    let Models(mut entries) = root.models.unwrap_or_default();
    check_aliases(&mut entries, &mut reader);
    let problems = reader.finish();
    if problems.iter().any(|problem| problem.code() == Code::CatalogInvalid) {
        return Reading { catalog: None, problems };
    }
    let models = entries
        .into_iter()
        .filter(|entry| entry.sound)
        .filter_map(|entry| {
            let table = entry.table.merge(&defaults);
            Some((entry.id.clone(), model(&entry.id, table, &engine, &surroundings.home)?))
        })
        .collect::<IndexMap<_, _>>();
    Reading { catalog: Some(Catalog { server, gateway, engine, models }), problems }
}

fn server(table: Option<&ServerTable>, reader: &mut Reader<'_>) -> Server {
    let (gateway, management) = table.map_or((None, None), |table| (table.gateway.clone(), table.management.clone()));
    let usual = Server::default();
    let address = |given: Option<Loopback>, usual: SocketAddr| given.map_or(usual, |given| given.address);
    let server = Server {
        gateway: address(gateway.clone(), usual.gateway),
        management: address(management.clone(), usual.management),
    };
    if server.gateway == server.management && server.gateway.port() != 0 {
        // The later of the two that the file sets is the one to change.
        let given = [gateway.map(|given| ("gateway", given)), management.map(|given| ("management", given))];
        if let Some((key, given)) = given.into_iter().flatten().max_by_key(|(_, given)| given.span.start) {
            let what = format!("{} is taken: `gateway` and `management` need a port each", given.address);
            let hint = "the usual ones are 127.0.0.1:8080 and 127.0.0.1:8081";
            reader.under("server", |reader| {
                reader.under(key, |reader| reader.problem_with(given.span, &what, hint));
            });
        }
    }
    server
}

fn gateway(table: &GatewayTable) -> Gateway {
    let usual = Gateway::default();
    Gateway {
        drain_timeout: table.drain_timeout.map_or(usual.drain_timeout, |period| period.0),
        auto_switch: table.auto_switch.unwrap_or(usual.auto_switch),
        min_stay: table.min_stay.map_or(usual.min_stay, |period| period.0),
        hold_timeout: table.hold_timeout.map_or(usual.hold_timeout, |period| period.0),
        queue: table.queue.map_or(usual.queue, |queue| queue.0),
        slot_cache: table.slot_cache.map_or(usual.slot_cache, |size| size.0),
        keep_usage: table.keep_usage.map_or(usual.keep_usage, |period| period.0),
    }
}

fn engine(table: EngineTable, surroundings: &Surroundings) -> Engine {
    let home = &surroundings.home;
    let usual = Engine::default();
    Engine {
        runtime: table.runtime.unwrap_or(usual.runtime),
        image: table.image.map_or(usual.image, |image| image.0),
        binary: table.binary.map_or(usual.binary, |binary| binary.expanded(home)),
        models_dir: table.models_dir.map_or_else(|| surroundings.models_dir.clone(), |folder| folder.absolute(home)),
    }
}

/// Notes aliases that another model has already, as its alias or its id.
fn check_aliases(entries: &mut [Entry], reader: &mut Reader<'_>) {
    let ids: HashSet<String> = entries.iter().map(|entry| entry.id.to_string()).collect();
    let mut owners: HashMap<String, ModelId> = HashMap::new();
    reader.code = Code::ModelInvalid;
    for entry in entries {
        let before = reader.count();
        for (index, (span, alias)) in entry.table.aliases.iter().flat_map(|aliases| &aliases.0).enumerate() {
            let what = if alias != entry.id.as_str() && ids.contains(alias) {
                format!("`{alias}` is the id of another model")
            } else if let Some(owner) = owners.get(alias) {
                let whose = if *owner == entry.id { "this model".to_owned() } else { format!("`{owner}`") };
                format!("`{alias}` is already an alias of {whose}")
            } else {
                owners.insert(alias.clone(), entry.id.clone());
                continue;
            };
            let hint = "a name can mean one model only";
            let here = |reader: &mut Reader<'_>| reader.problem_with(span.clone(), &what, hint);
            reader.under("models", |reader| {
                reader.model(entry.id.as_str(), |reader| {
                    reader.under("aliases", |reader| reader.item(index, here));
                });
            });
        }
        entry.sound &= reader.count() == before;
    }
    reader.code = Code::CatalogInvalid;
}

fn model(id: &ModelId, table: ModelTable, engine: &Engine, home: &Path) -> Option<Model> {
    let below = |file: &super::values::FilePath| -> PathBuf { file.below(&engine.models_dir, home) };
    let launch = LaunchSpec {
        model: id.clone(),
        runtime: engine.runtime,
        image: table.image.map_or_else(|| engine.image.clone(), |image| image.0),
        binary: engine.binary.clone(),
        models_dir: engine.models_dir.clone(),
        file: below(table.file.as_ref()?),
        mmproj: table.mmproj.as_ref().map(below),
        ctx: table.ctx.map_or(CTX, |ctx| ctx.0),
        parallel: table.parallel.map_or(1, |parallel| parallel.0),
        gpu: table.gpu.unwrap_or_default(),
        gpu_layers: table.gpu_layers,
        tensor_split: table.tensor_split.map(|shares| shares.0).unwrap_or_default(),
        override_tensor: table.override_tensor.map(|overrides| overrides.0).unwrap_or_default(),
        cache_type_k: table.cache_type_k.map(|kind| kind.0),
        cache_type_v: table.cache_type_v.map(|kind| kind.0),
        cpu_moe: table.cpu_moe.and_then(|experts| experts.0),
        jinja: table.jinja,
        sampling: table.sampling.as_ref().map(sampling).unwrap_or_default(),
        args: table.args.map(|args| args.0).unwrap_or_default(),
        env: table.env.map(|env| env.0).unwrap_or_default(),
        load_timeout: table.load_timeout.map_or(LOAD_TIMEOUT, |timeout| timeout.0),
    };
    Some(Model {
        name: table.name.map_or_else(|| id.to_string(), |name| name.0),
        description: table.description,
        aliases: table.aliases.into_iter().flat_map(|aliases| aliases.0).map(|(_, alias)| Alias(alias)).collect(),
        idle_unload: table.idle_unload.and_then(|idle| idle.0),
        keep_context: table.keep_context.unwrap_or(true),
        adapt_requests: table.adapt_requests.unwrap_or(true),
        launch,
    })
}

fn sampling(table: &SamplingTable) -> Sampling {
    Sampling {
        temperature: table.temperature.map(|number| number.0),
        top_p: table.top_p.map(|number| number.0),
        top_k: table.top_k.map(|number| number.0),
        min_p: table.min_p.map(|number| number.0),
        repeat_penalty: table.repeat_penalty.map(|number| number.0),
        presence_penalty: table.presence_penalty.map(|number| number.0),
        frequency_penalty: table.frequency_penalty.map(|number| number.0),
    }
}
