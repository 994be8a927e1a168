//! Keeps server-sent events whole on their way, so that an error event can follow wherever a stream breaks off.

use bytes::{Bytes, BytesMut};
use memchr::memmem;

/// The part of an event that is kept at most, in bytes; a longer one passes in pieces.
const LONGEST: usize = 4 << 20;

/// Passes whole events on, and keeps the beginning of one until its end has come.
#[derive(Debug, Default)]
pub(crate) struct WholeEvents {
    begun: BytesMut,
}

impl WholeEvents {
    /// What can be passed on now that these bytes have come; empty where that is nothing.
    pub(crate) fn pass(&mut self, bytes: Bytes) -> Bytes {
        if self.begun.is_empty() {
            // Nearly always events come whole.
            let end = end_of_events(&bytes, 0);
            if end == bytes.len() {
                return bytes;
            }
            self.begun.extend_from_slice(bytes.get(end..).unwrap_or_default());
            return bytes.slice(..end);
        }
        // The blank line can have been cut in two.
        let searched = self.begun.len().saturating_sub(3);
        self.begun.extend_from_slice(&bytes);
        let end = if self.begun.len() > LONGEST { self.begun.len() } else { end_of_events(&self.begun, searched) };
        self.begun.split_to(end).freeze()
    }

    /// What has begun and not ended.
    pub(crate) fn rest(&mut self) -> Bytes {
        self.begun.split().freeze()
    }
}

/// Where the last event that is whole ends; the bytes before `searched` have no such place.
fn end_of_events(bytes: &[u8], searched: usize) -> usize {
    let fresh = bytes.get(searched..).unwrap_or_default();
    let after = |end: &[u8]| memmem::rfind(fresh, end).map(|at| searched + at + end.len());
    after(b"\n\n").max(after(b"\n\r\n")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_not_ended_is_kept() {
        let mut events = WholeEvents::default();
        let mut pass = |text: &'static str| events.pass(Bytes::from_static(text.as_bytes()));
        assert_eq!(pass("data: 1\n\ndata: 2\n\n"), "data: 1\n\ndata: 2\n\n");
        assert_eq!(pass("data: 3\n\ndata: 4"), "data: 3\n\n");
        assert_eq!(pass("44\n"), "");
        assert_eq!(pass("\nda"), "data: 444\n\n");
        assert_eq!(pass("ta: 5\r\n\r\n"), "data: 5\r\n\r\n");
        assert_eq!(pass("data: 6"), "");
        assert_eq!(events.rest(), "data: 6");
        assert_eq!(events.rest(), "");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_only_whole_events_pass(
            text in "(data: [a-c]{0,6}\r?\n\r?\n){0,6}[a-c\n]{0,8}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes = Bytes::from(text.into_bytes());
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut events = WholeEvents::default();
            let mut passed = Vec::new();
            for pair in cuts.windows(2) {
                let now = events.pass(bytes.slice(pair[0]..pair[1]));
                prop_assert!(now.is_empty() || now.ends_with(b"\n\n") || now.ends_with(b"\n\r\n"), "{now:?}");
                passed.extend_from_slice(&now);
            }
            passed.extend_from_slice(&events.rest());
            prop_assert_eq!(passed, bytes.to_vec());
        }
    }
}
