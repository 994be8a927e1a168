//! Taking in the body of a request: whole, bounded, and not for ever.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corral_core::{Code, Error, Result};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The largest body, in bytes.
const MAX_BODY: usize = 64 << 20;

/// What all bodies that are being held may take together, in bytes. Small ones are not counted.
const ALL_BODIES: usize = 512 << 20;
const SMALL: usize = 1 << 20;

/// How long the next piece of a body may take to come.
const PATIENCE: Duration = Duration::from_mins(1);

/// How much of a body that is too large is read, so that its client gets to the answer.
const WASTE: usize = 64 << 20;

/// Takes bodies in.
#[derive(Debug)]
pub(crate) struct Intake {
    room: Arc<Semaphore>,
}

/// A body, and its share of the memory that bodies may take.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(ALL_BODIES / SMALL)) }
    }

    /// Reads a body to its end.
    pub(crate) async fn read(&self, mut body: Incoming) -> Result<Taken> {
        let announced = body.size_hint().exact().map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        if announced.is_some_and(|size| size > MAX_BODY) {
            return Err(waste(body).await);
        }
        let Some(first) = next(&mut body).await? else { return Ok(Taken { bytes: Bytes::new(), _room: None }) };
        if body.is_end_stream() {
            return Ok(Taken { bytes: first, _room: None });
        }
        let mut room = None;
        let mut bytes = BytesMut::with_capacity(announced.unwrap_or(first.len() * 2).min(SMALL));
        bytes.extend_from_slice(&first);
        while let Some(piece) = next(&mut body).await? {
            if bytes.len() + piece.len() > MAX_BODY {
                return Err(waste(body).await);
            }
            bytes.extend_from_slice(&piece);
            self.make_room(&mut room, bytes.len())?;
        }
        Ok(Taken { bytes: bytes.freeze(), _room: room })
    }

    /// Sees that a body of so many bytes has its share.
    fn make_room(&self, room: &mut Option<OwnedSemaphorePermit>, size: usize) -> Result<()> {
        let (needed, has) = (size / SMALL, room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let more = u32::try_from(needed.saturating_sub(has)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let more = self.room.clone().try_acquire_many_owned(more).map_err(|_| {
            let what = format!("the requests that wait take {} MiB of memory already", ALL_BODIES >> 20);
            Error::new(Code::QueueFull, what).hint("ask again when some of them have been answered")
        })?;
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>> {
    loop {
        let frame = timeout(PATIENCE, body.frame()).await.map_err(|_| {
            let what = format!("the rest of the request did not come within {} s", PATIENCE.as_secs());
            Error::new(Code::RequestTimeout, what).hint("send the request again")
        })?;
        match frame {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => {
                let what = "the request broke off, or its chunks are malformed";
                return Err(Error::new(Code::InvalidRequest, what).because(error).hint("send it again"));
            }
        }
    }
}

/// Reads on for a while, then says that it is too large: a client that still sends would not see an answer.
async fn waste(mut body: Incoming) -> Error {
    let mut left = WASTE;
    while let Ok(Ok(Some(piece))) = timeout(Duration::from_secs(5), next(&mut body)).await {
        left = left.saturating_sub(piece.len());
        if left == 0 {
            break;
        }
    }
    Error::new(Code::BodyTooLarge, format!("the request is larger than {} MiB", MAX_BODY >> 20))
        .hint("shorten the conversation, or send smaller images")
}
