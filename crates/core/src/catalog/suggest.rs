//! What was probably meant.

/// Names that other programs give to what the catalog has under another name.
const ELSEWHERE: &[(&str, &str)] = &[
    ("address", "gateway"),
    ("alias", "aliases"),
    ("backend", "runtime"),
    ("context", "ctx"),
    ("context_length", "ctx"),
    ("context_size", "ctx"),
    ("ctx_size", "ctx"),
    ("environment", "env"),
    ("extra_args", "args"),
    ("gpus", "gpu"),
    ("max_context", "ctx"),
    ("model", "file"),
    ("model_path", "file"),
    ("n_cpu_moe", "cpu_moe"),
    ("n_ctx", "ctx"),
    ("n_gpu_layers", "gpu_layers"),
    ("n_parallel", "parallel"),
    ("ngl", "gpu_layers"),
    ("path", "file"),
    ("port", "gateway"),
    ("presets", "models"),
    ("projector", "mmproj"),
    ("repetition_penalty", "repeat_penalty"),
    ("slots", "parallel"),
    ("temp", "temperature"),
    ("timeout", "load_timeout"),
    ("title", "name"),
    ("ttl", "idle_unload"),
];

/// Longer words are no slip of the hand, and comparing them takes long.
const LONGEST: usize = 64;

/// The sentence about a key that a table of these `names` does not have.
pub(super) fn unknown_key(key: &str, names: &[String]) -> String {
    let word = plain(key);
    let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == word).map(|(_, ours)| *ours);
    let meant = elsewhere
        .and_then(|ours| names.iter().find(|name| last(name) == ours).map(String::as_str))
        .or_else(|| nearest(key, names.iter().map(String::as_str)));
    match meant {
        Some(name) => format!("unknown key; did you mean `{name}`?"),
        None => "unknown key".to_owned(),
    }
}

/// The candidate nearest to a word, where one is near enough; the last part of a dotted candidate is enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let word = plain(word);
    let near = |candidate: &&'a str| {
        let distance = |other: &str| {
            let other = plain(other);
            let steps = strsim::damerau_levenshtein(&word, &other);
            // A third of the letters may differ.
            (steps * 3 <= word.chars().count().max(other.chars().count())).then_some(steps)
        };
        [distance(candidate), distance(last(candidate))].into_iter().flatten().min()
    };
    let candidates = candidates.into_iter();
    candidates.filter_map(|name| near(&name).map(|steps| (steps, name))).min_by_key(|(steps, _)| *steps).map(|(_, n)| n)
}

fn plain(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
