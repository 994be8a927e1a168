//! Claude Code's dialect of `/v1/messages`, made into what models behind llama-server take.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use memchr::{memchr, memmem};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::prompt::ATTRIBUTION;

/// The body without the attribution in front of the system prompt, which differs with the first question and so would
/// keep all of them from sharing a cache; with `merge_system` also with the system messages amid the others moved to the
/// end of the system prompt, for templates that take them nowhere else. None where nothing is to be done.
///
/// All else stays as it is, byte for byte.
pub(crate) fn adapt(body: &Bytes, merge_system: bool) -> Option<Bytes> {
    let attributed = memmem::find(body, ATTRIBUTION.as_bytes()).is_some();
    let merge = merge_system && may_need_merge(body);
    if !attributed && !merge {
        return None;
    }
    let request: Request<'_> = object(std::str::from_utf8(body).ok()?)?;
    let mut edits = Edits { body, list: Vec::new() };
    let system = System::read(request.system)?;
    let blocks_left = system.leave_out_attribution(&mut edits);
    if merge {
        let moved = take_system_messages(request.messages.as_ref()?, &mut edits);
        if !moved.is_empty() {
            system.append(&moved, blocks_left, &mut edits)?;
        }
    }
    edits.apply()
}

/// Whether there are system messages amid the others.
pub(crate) fn needs_merge(body: &[u8]) -> bool {
    may_need_merge(body)
        && std::str::from_utf8(body)
            .ok()
            .and_then(object::<Request<'_>>)
            .and_then(|request| request.messages)
            .is_some_and(|messages| messages.iter().any(|message| Message::read_system(message).is_some()))
}

/// Whether `"system"` stands there as a value, which it does not as the key of the system prompt.
fn may_need_merge(body: &[u8]) -> bool {
    const WORD: &[u8] = b"\"system\"";
    memmem::find_iter(body, WORD).any(|at| !body[at + WORD.len()..].trim_ascii_start().starts_with(b":"))
}

/// Reads an object; serde takes an array for a struct too.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    json.trim_ascii_start().starts_with('{').then(|| serde_json::from_str(json).ok())?
}

#[derive(Deserialize)]
struct Request<'a> {
    // Null is a value to be replaced, unlike a missing one.
    #[serde(borrow, default, deserialize_with = "present")]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<Vec<&'a RawValue>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    fn read_system(raw: &'a RawValue) -> Option<Self> {
        object(raw.get()).filter(|message: &Self| message.role == "system")
    }
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

impl<'a> Block<'a> {
    /// The text of a block, which may be a mere string, as it stands there, quotes included.
    fn text(raw: &'a RawValue) -> Option<&'a str> {
        let text = match raw.get().as_bytes().first() {
            Some(b'"') => raw,
            _ => object::<Self>(raw.get())?.text?,
        };
        Some(text.get()).filter(|text| text.starts_with('"'))
    }
}

/// Where the system prompt stands, and in which form.
enum System<'a> {
    Missing,
    Null(&'a RawValue),
    Text(&'a RawValue),
    Blocks(&'a RawValue, Vec<&'a RawValue>),
}

impl<'a> System<'a> {
    /// None where it is what no system prompt can be.
    fn read(raw: Option<&'a RawValue>) -> Option<Self> {
        let Some(raw) = raw else { return Some(Self::Missing) };
        match raw.get().as_bytes().first()? {
            b'n' => Some(Self::Null(raw)),
            b'"' => Some(Self::Text(raw)),
            b'[' => Some(Self::Blocks(raw, serde_json::from_str(raw.get()).ok()?)),
            _ => None,
        }
    }

    /// Returns how many blocks are left.
    fn leave_out_attribution(&self, edits: &mut Edits<'_>) -> usize {
        match self {
            Self::Missing | Self::Null(_) => 0,
            Self::Text(raw) => {
                if let Some((line, _)) = attribution(raw.get()) {
                    edits.remove(shifted(line, edits.place(raw.get()).start));
                }
                1
            }
            Self::Blocks(_, blocks) => {
                let Some(&first) = blocks.first() else { return 0 };
                let Some(text) = Block::text(first) else { return blocks.len() };
                match attribution(text) {
                    None => blocks.len(),
                    Some((line, Rest::Text)) => {
                        edits.remove(shifted(line, edits.place(text).start));
                        blocks.len()
                    }
                    Some((_, Rest::Nothing)) => {
                        let place = edits.place(first.get());
                        let end = blocks.get(1).map_or(place.end, |next| edits.place(next.get()).start);
                        edits.remove(place.start..end);
                        blocks.len() - 1
                    }
                }
            }
        }
    }

    /// Puts texts, each with its quotes, behind it as blocks.
    fn append(&self, texts: &[&str], blocks_left: usize, edits: &mut Edits<'_>) -> Option<()> {
        let mut blocks = String::new();
        for text in texts {
            let first = blocks.is_empty();
            if !first {
                blocks.push(',');
            }
            // llama-server puts nothing between blocks.
            let gap = if first && blocks_left == 0 { "" } else { "\\n\\n" };
            for part in ["{\"type\":\"text\",\"text\":\"", gap, text.get(1..)?, "}"] {
                blocks.push_str(part);
            }
        }
        match self {
            Self::Missing => {
                let opening = memchr(b'{', edits.body)? + 1;
                edits.insert(opening, format!("\"system\":[{blocks}],"));
            }
            Self::Null(raw) => {
                let place = edits.place(raw.get());
                edits.remove(place.clone());
                edits.insert(place.end, format!("[{blocks}]"));
            }
            Self::Text(raw) => {
                let place = edits.place(raw.get());
                edits.insert(place.start, "[{\"type\":\"text\",\"text\":".to_owned());
                edits.insert(place.end, format!("}},{blocks}]"));
            }
            Self::Blocks(raw, _) => {
                let comma = if blocks_left == 0 { "" } else { "," };
                edits.insert(edits.place(raw.get()).end - 1, format!("{comma}{blocks}"));
            }
        }
        Some(())
    }
}

/// What follows the attribution in its text.
enum Rest {
    Nothing,
    Text,
}

/// Where in a string, quotes included, the line of the attribution stands.
fn attribution(quoted: &str) -> Option<(Range<usize>, Rest)> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.starts_with(ATTRIBUTION) {
        return None;
    }
    let mut at = 0;
    while let Some(found) = memchr(b'\\', &inner.as_bytes()[at..]) {
        at += found + 2;
        if inner.as_bytes().get(at - 1) == Some(&b'n') {
            let rest = if at < inner.len() { Rest::Text } else { Rest::Nothing };
            return Some((1..1 + at, rest));
        }
    }
    Some((1..1 + inner.len(), Rest::Nothing))
}

fn shifted(range: Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

/// Takes the system messages out and returns their texts.
fn take_system_messages<'a>(messages: &[&'a RawValue], edits: &mut Edits<'_>) -> Vec<&'a str> {
    let mut texts = Vec::new();
    let mut kept_one = false;
    for (at, raw) in messages.iter().enumerate() {
        let Some(message) = Message::read_system(raw) else {
            kept_one = true;
            continue;
        };
        if let Some(content) = message.content {
            let blocks: Vec<&'a RawValue> = match content.get().as_bytes().first() {
                Some(b'[') => serde_json::from_str(content.get()).unwrap_or_default(),
                _ => vec![content],
            };
            texts.extend(blocks.into_iter().filter_map(Block::text).filter(|text| *text != "\"\""));
        }
        let place = edits.place(raw.get());
        // One of the commas around it goes with it: the one in front where something stays in front.
        let (start, end) = match (kept_one, at.checked_sub(1), messages.get(at + 1)) {
            (true, Some(before), _) => (edits.place(messages[before].get()).end, place.end),
            (_, _, Some(next)) => (place.start, edits.place(next.get()).start),
            _ => (place.start, place.end),
        };
        edits.remove(start..end);
    }
    texts
}

/// Changes to a body.
struct Edits<'b> {
    body: &'b [u8],
    list: Vec<(Range<usize>, String)>,
}

impl Edits<'_> {
    /// Where a part that was borrowed from the body stands in it.
    fn place(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr() as usize - self.body.as_ptr() as usize;
        start..start + part.len()
    }

    fn remove(&mut self, range: Range<usize>) {
        self.list.push((range, String::new()));
    }

    fn insert(&mut self, at: usize, text: String) {
        self.list.push((at..at, text));
    }

    fn apply(mut self) -> Option<Bytes> {
        if self.list.is_empty() {
            return None;
        }
        // Stable: what was inserted at one place stays in its order.
        self.list.sort_by_key(|(range, _)| range.start);
        let inserted: usize = self.list.iter().map(|(_, text)| text.len()).sum();
        let mut adapted = Vec::with_capacity(self.body.len() + inserted);
        let mut taken = 0;
        for (range, text) in &self.list {
            adapted.extend_from_slice(self.body.get(taken..range.start)?);
            adapted.extend_from_slice(text.as_bytes());
            taken = range.end;
        }
        adapted.extend_from_slice(self.body.get(taken..)?);
        Some(adapted.into())
    }
}

#[cfg(test)]
mod tests;
