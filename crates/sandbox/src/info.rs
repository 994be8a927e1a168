//! What bubblewrap tells of the jail that it has made, through the pipe of `--info-fd`.

use std::io::{PipeReader, Read};

use serde::Deserialize;

#[derive(Deserialize)]
struct Info {
    #[serde(rename = "child-pid")]
    child: u32,
}

/// The number of the jail's first process, bubblewrap's child. None where bubblewrap ended without telling it.
///
/// bubblewrap writes in several pieces, and a pipe that is closed before the last of them would end it by SIGPIPE, with
/// its child waiting for it for ever. So all is read, though the number comes first.
pub(crate) fn child(mut told: PipeReader) -> Option<u32> {
    let mut text = Vec::new();
    // Its end is bubblewrap's: nobody else has the other end.
    told.read_to_end(&mut text).ok()?;
    Some(serde_json::from_slice::<Info>(&text).ok()?.child)
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write};
    use std::thread;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    const PIECES: [&str; 3] = ["{\n    \"child-pid\": 4711", ",\n    \"net-namespace\": 1", "\n}\n"];

    fn told(pieces: &[&str]) -> Option<u32> {
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(pieces.concat().as_bytes()).unwrap();
        drop(write);
        child(read)
    }

    /// Whether nobody reads any more, or will not soon.
    fn is_closed(pipe: &PipeWriter) -> bool {
        let soon = Timespec::try_from(Duration::from_millis(50)).unwrap();
        poll(&mut [PollFd::new(pipe, PollFlags::empty())], Some(&soon)).unwrap() > 0
    }

    #[test]
    fn the_number_is_read_when_all_is_told() {
        assert_eq!(told(&PIECES), Some(4711));
        assert_eq!(told(&PIECES[..2]), None);
        assert_eq!(told(&PIECES[..1]), None);
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn the_pipe_stays_open_until_bubblewrap_has_told_all() {
        let (read, mut write) = std::io::pipe().unwrap();
        let reader = thread::spawn(move || child(read));
        for piece in PIECES {
            assert!(!is_closed(&write), "bubblewrap would be ended by SIGPIPE here, before {piece:?}");
            write.write_all(piece.as_bytes()).unwrap();
        }
        drop(write);
        assert_eq!(reader.join().unwrap(), Some(4711));
    }
}
