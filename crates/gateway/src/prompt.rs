//! Fingerprints of prompts: they tell whether a request goes on where an earlier one ended.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use memchr::memmem;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

/// What the first line of Claude Code's attribution begins with. It differs with the first question.
pub(crate) const ATTRIBUTION: &str = "x-anthropic-billing-header:";

/// More turns than these are not told apart: 32 KiB for one prompt at most.
const MOST_TURNS: usize = 4096;

/// Bytes of a plain text that count as one turn.
const CHUNK: usize = 1024;

/// The hashes of what a prompt consists of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Prompt {
    /// Of the system prompt; 0 where there is none.
    pub(crate) system: u64,
    /// Of the tools; 0 where there are none.
    pub(crate) tools: u64,
    /// Of each message; of a plain text, of each whole KiB.
    pub(crate) turns: Vec<u64>,
    /// Which turns are system messages amid the others.
    pub(crate) system_turns: Vec<usize>,
}

impl Prompt {
    /// Whether a server that still has `earlier` in its cache need not read that part of this prompt again.
    pub(crate) fn extends(&self, earlier: &Self) -> bool {
        self.system == earlier.system && self.tools == earlier.tools && self.extends_turns(earlier)
    }

    /// The same by the turns alone.
    pub(crate) fn extends_turns(&self, earlier: &Self) -> bool {
        !earlier.turns.is_empty() && self.turns.starts_with(&earlier.turns)
    }

    /// The prompt whose system messages were moved from amid the turns to the end of the system prompt.
    #[must_use]
    pub(crate) fn with_system_merged(mut self) -> Self {
        if self.system_turns.is_empty() {
            return self;
        }
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.system);
        for at in self.system_turns.drain(..).rev() {
            if at < self.turns.len() {
                hasher.write_u64(self.turns.remove(at));
            }
        }
        self.system = hasher.finish();
        self
    }

    /// Reads the system prompt: a string, or an array of blocks.
    pub(crate) fn system_seed(&mut self) -> SystemSeed<'_> {
        SystemSeed(self)
    }

    /// Takes the tools as they stand in the body.
    pub(crate) fn set_tools(&mut self, tools: &RawValue) {
        self.tools = if tools.get() == "null" { 0 } else { hash_without_cache_control(tools.get()) };
    }

    fn push(&mut self, digest: &Digest, may_lead: bool) {
        if digest.instructs && may_lead && self.turns.is_empty() {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(self.system);
            hasher.write_u64(digest.hasher.finish());
            self.system = hasher.finish();
            return;
        }
        if digest.instructs {
            self.system_turns.push(self.turns.len());
        }
        self.turns.push(digest.hasher.finish());
    }
}

/// See [`Prompt::system_seed`].
pub(crate) struct SystemSeed<'a>(&'a mut Prompt);

impl<'de> DeserializeSeed<'de> for SystemSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let mut digest = Digest::default();
        Scalars { digest: &mut digest, place: Place::System }.deserialize(deserializer)?;
        if digest.any {
            // Messages that lead the turns may be in there already.
            self.0.system ^= digest.hasher.finish();
        }
        Ok(())
    }
}

/// Reads the turns of a prompt: an array of messages, or a text.
pub(crate) struct Turns<'a> {
    /// Where they go; nowhere to check their type alone.
    pub(crate) prompt: Option<&'a mut Prompt>,
    /// The key they stand under.
    pub(crate) key: &'static str,
    /// Whether an array is the only type they may have.
    pub(crate) array_only: bool,
    /// Whether system messages before all others are the system prompt.
    pub(crate) system_leads: bool,
}

impl<'de> DeserializeSeed<'de> for Turns<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Turns<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.array_only { "an array" } else { "a string or an array" };
        write!(f, "{what} for `{}`", self.key)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if self.array_only {
            // Not `Unexpected::Str`: what people write does not belong into an error.
            return Err(E::invalid_type(Unexpected::Other("a string"), &self));
        }
        if let Some(prompt) = self.prompt {
            // The rest behind the last whole chunk is left out: in a longer prompt that chunk goes on.
            prompt.turns.extend(text.as_bytes().chunks_exact(CHUNK).take(MOST_TURNS).map(|chunk| {
                let mut hasher = DefaultHasher::new();
                hasher.write(chunk);
                hasher.finish()
            }));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if let Some(prompt) = self.prompt {
            while prompt.turns.len() < MOST_TURNS {
                let mut digest = Digest::default();
                let message = Scalars { digest: &mut digest, place: Place::Message };
                if seq.next_element_seed(message)?.is_none() {
                    return Ok(());
                }
                prompt.push(&digest, self.system_leads);
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        if self.array_only {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        let mut digest = Digest::default();
        Scalars { digest: &mut digest, place: Place::Message }.visit_map(map)?;
        if let Some(prompt) = self.prompt {
            prompt.push(&digest, false);
        }
        Ok(())
    }
}

/// The hash of what was read so far.
#[derive(Default)]
struct Digest {
    hasher: DefaultHasher,
    /// Something was read.
    any: bool,
    /// The role is one that instructs the model.
    instructs: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    System,
    Message,
    Role,
    Inside,
}

/// Hashes the scalars of a value: what a model reads of it, however it is wrapped.
struct Scalars<'a> {
    digest: &'a mut Digest,
    place: Place,
}

impl Scalars<'_> {
    fn take(self, kind: u8, value: u64) {
        self.digest.any = true;
        self.digest.hasher.write_u8(kind);
        self.digest.hasher.write_u64(value);
    }
}

impl<'de> DeserializeSeed<'de> for Scalars<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scalars<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.take(1, u64::from(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.take(2, value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.take(2, value.cast_unsigned());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.take(3, value.to_bits());
        Ok(())
    }

    fn visit_str<E>(self, mut text: &str) -> Result<(), E> {
        match self.place {
            Place::System if !self.digest.any && text.starts_with(ATTRIBUTION) => {
                text = text.split_once('\n').map_or("", |(_, rest)| rest);
                if text.is_empty() {
                    return Ok(());
                }
            }
            Place::Role if matches!(text, "system" | "developer") => self.digest.instructs = true,
            _ => {}
        }
        self.digest.any = true;
        self.digest.hasher.write(text.as_bytes());
        // No text holds this byte: two texts never look like one.
        self.digest.hasher.write_u8(0xff);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let place = if self.place == Place::System { Place::System } else { Place::Inside };
        while seq.next_element_seed(Scalars { digest: &mut *self.digest, place })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            let place = match (self.place, key) {
                (_, Key::Passing) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                (Place::System, _) => Place::System,
                (Place::Message, Key::Role) => Place::Role,
                _ => Place::Inside,
            };
            map.next_value_seed(Scalars { digest: &mut *self.digest, place })?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    /// What a model does not read, and what clients change from request to request.
    #[serde(rename = "cache_control", alias = "type")]
    Passing,
    Role,
    #[serde(other)]
    Other,
}

/// The hash of a JSON text less its `cache_control` entries, which clients move from tool to tool.
fn hash_without_cache_control(json: &str) -> u64 {
    const KEY: &[u8] = b"\"cache_control\"";
    let bytes = json.as_bytes();
    let mut hasher = DefaultHasher::new();
    let mut taken = 0;
    for found in memmem::find_iter(bytes, KEY) {
        let escaped = found.checked_sub(1).is_some_and(|before| bytes[before] == b'\\');
        let Some(value) = json[found + KEY.len()..].trim_start().strip_prefix(':') else { continue };
        if escaped || found < taken {
            continue;
        }
        let mut values = serde_json::Deserializer::from_str(value).into_iter::<IgnoredAny>();
        if !matches!(values.next(), Some(Ok(_))) {
            continue;
        }
        let before = json[taken..found].trim_end();
        let mut behind = value[values.byte_offset()..].trim_start();
        if let Some(before) = before.strip_suffix(',') {
            hasher.write(before.as_bytes());
        } else {
            hasher.write(before.as_bytes());
            behind = behind.strip_prefix(',').map_or(behind, str::trim_start);
        }
        taken = json.len() - behind.len();
    }
    hasher.write(&bytes[taken..]);
    hasher.finish()
}

#[cfg(test)]
mod tests;
