//! What goes over a session's socket: a kind, a length, so many bytes.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest that is taken: a command, with room.
const LONGEST: u32 = 2 << 20;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// JSON.
    Message,
    /// The text of a command.
    Command,
    /// A piece of its standard output.
    Output,
    /// A piece of its error output.
    Error,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Message, Self::Command, Self::Output, Self::Error];

    fn byte(self) -> u8 {
        match self {
            Self::Message => b'M',
            Self::Command => b'C',
            Self::Output => b'O',
            Self::Error => b'E',
        }
    }
}

/// A frame in one piece.
pub(super) fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    // Nothing is longer than `LONGEST`.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [&[kind.byte()], length.to_be_bytes().as_slice(), payload].concat()
}

/// A message as a frame.
pub(super) fn message(value: &impl Serialize) -> Vec<u8> {
    // Our own messages are all JSON; an empty one is refused by the other side.
    frame(Kind::Message, &serde_json::to_vec(value).unwrap_or_default())
}

/// The next frame; none where the other side has closed.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut kind = [0];
    if from.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    let kind = Kind::ALL.into_iter().find(|one| [one.byte()] == kind).filter(|_| length <= LONGEST);
    let kind = kind.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is no frame"))?;
    let mut payload = Vec::new();
    from.take(length.into()).read_to_end(&mut payload)?;
    if payload.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((kind, payload)))
}

/// The next frame, which has to be a message.
pub(super) fn read_message<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    match read(from)? {
        None => Ok(None),
        Some((Kind::Message, payload)) => Ok(Some(serde_json::from_slice(&payload)?)),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no message")),
    }
}

/// Sends a message.
pub(super) fn send(mut to: impl Write, value: &impl Serialize) -> io::Result<()> {
    to.write_all(&message(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_as_they_were_and_others_are_refused() {
        let all = [frame(Kind::Output, b"a\0b"), message(&"text"), frame(Kind::Error, b"")].concat();
        let mut from = all.as_slice();
        assert_eq!(read(&mut from).unwrap(), Some((Kind::Output, b"a\0b".to_vec())));
        assert_eq!(read_message::<String>(&mut from).unwrap().as_deref(), Some("text"));
        assert_eq!(read(&mut from).unwrap(), Some((Kind::Error, Vec::new())));
        assert_eq!(read(&mut from).unwrap(), None);
        for refused in [&b"X\0\0\0\0"[..], b"O\xff\0\0\0", b"O\0\0\0\x02a", b"O\0"] {
            assert!(read(&mut &*refused).is_err(), "{refused:?}");
        }
        assert!(read_message::<String>(&mut frame(Kind::Output, b"\"text\"").as_slice()).is_err());
    }
}
