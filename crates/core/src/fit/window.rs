//! Which layers see only the last tokens: that is partly in llama.cpp's code, and not in the file.

use crate::gguf::{Model, Value};

/// How an architecture alternates layers that see all tokens with those that see a window.
struct Pattern {
    architecture: &'static str,
    /// The window where the file names none, in tokens.
    window: Option<u64>,
    /// One of so many layers sees everything.
    period: u64,
    /// The first of them, instead of the last.
    dense_first: bool,
}

const fn pattern(architecture: &'static str, window: Option<u64>, period: u64, dense_first: bool) -> Pattern {
    Pattern { architecture, window, period, dense_first }
}

/// `load_swa_pattern` and `set_swa_pattern` of llama.cpp's models.
const PATTERNS: [Pattern; 17] = [
    pattern("afmoe", None, 4, false),
    pattern("cohere2", None, 4, false),
    pattern("cohere2moe", None, 4, true),
    pattern("exaone-moe", Some(128), 4, false),
    pattern("exaone4", None, 4, false),
    pattern("gemma2", Some(4096), 2, false),
    pattern("gemma3", None, 6, false),
    pattern("gemma3n", None, 5, false),
    pattern("gpt-oss", None, 2, false),
    pattern("laguna", None, 4, true),
    pattern("llama4", Some(8192), 4, false),
    pattern("mellum", None, 4, false),
    pattern("olmo2", None, 4, false),
    pattern("plamo3", None, 8, false),
    pattern("smallthinker", Some(4096), 4, true),
    pattern("muse-glimmer", None, 4, false),
    // Its files name the layers themselves.
    pattern("gemma4", None, 0, false),
];

/// The window of each layer, in tokens; none where a layer sees everything.
pub(super) fn windows(model: &Model, layers: u64) -> Vec<Option<u64>> {
    let every = |layer: &dyn Fn(u64) -> Option<u64>| (0..layers).map(layer).collect();
    let known = PATTERNS.iter().find(|pattern| pattern.architecture == model.architecture);
    let named = model.own("attention.sliding_window_pattern");
    let window = model.number("attention.sliding_window").or_else(|| known.and_then(|known| known.window));
    // Other architectures have the key as well, and do nothing with it.
    let (Some(window), true) = (window.filter(|window| *window > 0), known.is_some() || is_list(named)) else {
        return every(&|_| None);
    };
    match (named, known) {
        (Some(Value::Numbers(list)), _) => every(&|layer| {
            let within =
                usize::try_from(layer).ok().and_then(|layer| list.get(layer)).is_some_and(|within| *within != 0);
            within.then_some(window)
        }),
        (named, Some(known)) => {
            let period = match named {
                Some(Value::Number(period)) => *period,
                _ => known.period,
            };
            every(&|layer| {
                let dense = if known.dense_first { 0 } else { period.saturating_sub(1) };
                (period == 0 || layer % period != dense).then_some(window)
            })
        }
        _ => every(&|_| None),
    }
}

fn is_list(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Numbers(_)))
}
