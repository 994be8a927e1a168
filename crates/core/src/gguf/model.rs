//! A model out of the headers of all its files.

use std::collections::BTreeMap;

use super::{GgufError, Header, Tensor, Value};

/// What all files of a model say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// `general.architecture`
    pub architecture: String,
    /// The metadata of the first file: those of the others are about themselves.
    pub values: BTreeMap<String, Value>,
    /// The tensors of all files.
    pub tensors: Vec<Tensor>,
    /// The size of all files in bytes.
    pub size_bytes: u64,
}

impl Model {
    /// Joins the headers of a model's files, in the order of their names. The error says which of them is wrong.
    ///
    /// `llama-server` loads the files that `split.count` of the first tells of, and each has to say by `split.no` that
    /// it is the one meant: a file that was put in another's place, or is a link to it, is found by that.
    pub fn join(parts: Vec<Header>) -> Result<Self, (usize, GgufError)> {
        let damaged = |text: String| GgufError::Damaged(text);
        let mut parts = parts.into_iter().enumerate();
        let Some((_, first)) = parts.next() else {
            return Err((0, damaged("no file at all".to_owned())));
        };
        let Some(architecture) = first.summary.architecture else {
            return Err((0, damaged("no `general.architecture`".to_owned())));
        };
        let split = first.summary.split;
        let expected = first.values.get("split.tensors.count").cloned();
        let mut model =
            Self { architecture, values: first.values, tensors: first.tensors, size_bytes: first.summary.size_bytes };
        // Without a word of the others in the first, it is loaded alone, whatever the names say.
        let Some(split) = split else { return Ok(model) };
        if split.index != 0 {
            return Err((0, damaged(format!("it says that it is part {} of {}", split.index + 1, split.count))));
        }
        let mut last = 0;
        for (index, part) in parts {
            if part.number("split.no") != Some(index as u64) || part.number("split.count") != Some(split.count) {
                let says = match (part.number("split.no"), part.number("split.count")) {
                    (Some(no), Some(count)) => format!("part {} of {count}", no.saturating_add(1)),
                    _ => "no part at all".to_owned(),
                };
                return Err((index, damaged(format!("it says that it is {says}"))));
            }
            model.tensors.extend(part.tensors);
            model.size_bytes = model.size_bytes.saturating_add(part.summary.size_bytes);
            last = index;
        }
        if (last as u64).checked_add(1) != Some(split.count) {
            return Err((0, damaged(format!("it is one of {} parts, and there are {}", split.count, last + 1))));
        }
        match expected {
            Some(Value::Number(count)) if count != model.tensors.len() as u64 => {
                let text = format!("its parts hold {} tensors and not {count}", model.tensors.len());
                Err((last, damaged(text)))
            }
            _ => Ok(model),
        }
    }

    /// The whole number that `<architecture>.<key>` has; of numbers for each layer the largest.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.own(key)? {
            Value::Number(number) => Some(*number),
            Value::Numbers(numbers) => numbers.iter().max().copied(),
            Value::Bool(yes) => Some(u64::from(*yes)),
            _ => None,
        }
    }

    /// What `<architecture>.<key>` says of one layer: a number for all of them, or the layer's own.
    pub fn of_layer(&self, key: &str, layer: u64) -> Option<u64> {
        match self.own(key)? {
            Value::Number(number) => Some(*number),
            Value::Bool(yes) => Some(u64::from(*yes)),
            Value::Numbers(numbers) => numbers.get(usize::try_from(layer).ok()?).copied(),
            _ => None,
        }
    }

    /// The value of `<architecture>.<key>`.
    pub fn own(&self, key: &str) -> Option<&Value> {
        self.values.get(&format!("{}.{key}", self.architecture))
    }
}
