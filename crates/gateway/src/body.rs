//! The body of an answer on its way to the client, and what is learnt from it in passing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use corral_core::usage::RequestEnd;
use corral_core::{Code, Error};
use http::Response;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::answer::{AnswerReader, Seen};
use crate::events::WholeEvents;
use crate::exchange::Asked;
use crate::failure::{self, Dialect};
use crate::meter::Meter;
use crate::pool::Received;
use crate::service::Service;
use crate::traffic::Pass;

/// How often a client that waits for a stream is told that the connection lives.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Why a body could not be sent to its end; hyper then closes the connection, which tells the client.
pub(crate) type BrokenOff = Box<dyn std::error::Error + Send + Sync>;

/// A value that is there later.
type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The body of an answer.
pub(crate) enum Answer {
    /// All of it.
    Whole(Full<Bytes>),
    /// llama-server's, counted.
    Counted(Box<Counted>),
    /// llama-server's, as it is.
    Relayed(Box<(Received, Pass)>),
    /// A stream that has not begun: its client gets comments until it does.
    Waiting(Box<Waiting>),
}

impl Answer {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BrokenOff>>>;

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        loop {
            match &mut *self {
                Self::Whole(whole) => return Pin::new(whole).poll_frame(cx).map_err(|never| match never {}),
                Self::Counted(counted) => return counted.poll_frame(cx),
                Self::Relayed(relayed) => return Pin::new(&mut relayed.0).poll_frame(cx).map_err(Into::into),
                Self::Waiting(waiting) => match waiting.poll(cx) {
                    Poll::Ready(Next::Comment(comment)) => return Poll::Ready(Some(Ok(Frame::data(comment)))),
                    Poll::Ready(Next::Body(body)) => *self = body,
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Counted(counted) => counted.is_end_stream(),
            Self::Relayed(relayed) => relayed.0.is_end_stream(),
            Self::Waiting(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Counted(counted) if !counted.is_stream => counted.incoming.size_hint(),
            Self::Relayed(relayed) => relayed.0.size_hint(),
            Self::Counted(_) | Self::Waiting(_) => SizeHint::default(),
        }
    }
}

/// An answer of llama-server's that is read for its tokens while it passes.
pub(crate) struct Counted {
    pub(crate) incoming: Received,
    pub(crate) reader: AnswerReader,
    /// Given back as soon as llama-server has nothing more to do for it.
    pub(crate) pass: Option<Pass>,
    pub(crate) meter: Meter,
    pub(crate) service: Arc<Service>,
    pub(crate) asked: Asked,
    pub(crate) is_stream: bool,
    pub(crate) events: WholeEvents,
    /// Set once the last frame has been given out.
    pub(crate) ended: bool,
    pub(crate) cut: Option<Later<Error>>,
}

impl Counted {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        loop {
            let Some(pass) = self.pass.as_ref().filter(|_| !self.ended) else { return Poll::Ready(None) };
            if let Some(why) = pass.is_cut() {
                return self.break_off(&why);
            }
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        let now = self.read(data);
                        if !now.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(now))));
                        }
                    }
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Poll::Ready(Some(Err(_))) => return self.break_off(&server_gone()),
                Poll::Ready(None) => return self.end(),
                Poll::Pending => {
                    // Only an answer that is waited for needs to be woken by a cut.
                    let cut = self.cut.get_or_insert_with(|| Box::pin(pass.cut()));
                    return match cut.as_mut().poll(cx) {
                        Poll::Ready(why) => self.break_off(&why),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    /// Learns from what has come, and says what of it can be passed on.
    fn read(&mut self, data: Bytes) -> Bytes {
        let before = self.reader.deltas();
        self.reader.read(&data);
        let tokens = self.reader.deltas() - before;
        if tokens > 0 {
            self.service.shared.gate.tally().stream(tokens);
        }
        if !self.meter.has_first_token() && self.reader.content_started() {
            self.meter.first_token();
        }
        if self.is_stream { self.events.pass(data) } else { data }
    }

    /// llama-server has ended its answer.
    fn end(&mut self) -> Polled {
        if self.is_stream && !self.reader.is_complete() && !self.reader.has_error() {
            return self.break_off(&server_gone());
        }
        let rest = self.events.rest();
        self.finish(None);
        Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || (!self.is_stream && self.incoming.is_end_stream())
    }

    /// Ends an answer that cannot be completed: a stream with an error in its own protocol, any other by closing the
    /// connection, which is the only way left to say that it is not whole.
    fn break_off(&mut self, why: &Error) -> Polled {
        if self.is_stream && self.reader.is_complete() {
            // The client has the end marker: nothing is missing but the end of the connection.
            return self.end();
        }
        let end = if why.code() == Code::ServerExited { RequestEnd::Broken } else { RequestEnd::Cut };
        self.finish(Some(end));
        if self.is_stream {
            Poll::Ready(Some(Ok(Frame::data(failure::event(self.asked.dialect, why)))))
        } else {
            Poll::Ready(Some(Err(why.clone().into())))
        }
    }

    /// Writes down what was learnt. `end` is none where the answer came to its own end.
    fn finish(&mut self, end: Option<RequestEnd>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let reader = std::mem::replace(&mut self.reader, AnswerReader::new(self.asked.route, self.is_stream));
        let seen = reader.finish();
        self.count(&seen);
        let end = end.unwrap_or(match (seen.complete, seen.error) {
            (true, false) => RequestEnd::Complete,
            (_, true) => RequestEnd::Broken,
            (false, false) => RequestEnd::Abandoned,
        });
        if !self.is_stream && end == RequestEnd::Complete {
            self.meter.first_token();
        }
        self.meter.note(|record| {
            record.tokens = seen.tokens;
            record.end = end;
        });
        let Some(pass) = self.pass.take() else { return };
        if end == RequestEnd::Complete {
            self.service.answered(&mut self.asked, &pass, &self.meter, seen.tokens);
        }
    }
}

impl Counted {
    /// Counts how fast it was.
    fn count(&self, seen: &Seen) {
        let tally = self.service.shared.gate.tally();
        let tokens = seen.tokens.output;
        let since_sent = self.meter.since_sent();
        if !self.is_stream && tokens > 0 {
            // Without the server's word, the time for the prompt is in it.
            tally.whole(tokens, seen.generated_in.unwrap_or(since_sent).min(since_sent));
        }
        let first = self.meter.record().filter(|_| self.is_stream).and_then(|record| record.first_token);
        let streamed = first.map(|first| self.meter.elapsed().saturating_sub(first));
        tally.end(speed(tokens, seen.generated_in, streamed, since_sent));
    }
}

/// Tokens per second of an answer: as the server says, else from the first token of a stream to its last, else over all
/// the time; none where there are too few to say.
#[expect(clippy::cast_precision_loss, reason = "nobody generates 2^53 tokens in one answer")]
fn speed(tokens: u64, told: Option<Duration>, streamed: Option<Duration>, in_all: Duration) -> Option<f64> {
    let (tokens, time) = match (told, streamed) {
        (Some(told), _) => (tokens, told),
        // The first one is where that time begins.
        (None, Some(streamed)) => (tokens.saturating_sub(1), streamed),
        (None, None) => (tokens, in_all),
    };
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

impl Drop for Counted {
    fn drop(&mut self) {
        // A client may leave with the end marker in hand, and hyper does not ask for more than the length it was told.
        self.finish(None);
    }
}

/// llama-server ended, or the connection to it did.
pub(crate) fn server_gone() -> Error {
    Error::new(Code::ServerExited, "llama-server ended before the answer was complete")
        .hint("it is started again by itself: ask once more; `corral logs` and `corral status` say why it ended")
}

/// A stream whose client is already told that one is coming.
pub(crate) struct Waiting {
    work: Later<Result<Response<Answer>, Error>>,
    tick: Pin<Box<Sleep>>,
    began: Instant,
    dialect: Dialect,
    /// An error answer of llama-server's that is being read.
    refusal: Option<(u16, Later<Bytes>)>,
}

enum Next {
    Comment(Bytes),
    Body(Answer),
}

impl Waiting {
    pub(crate) fn new(work: Later<Result<Response<Answer>, Error>>, began: Instant, dialect: Dialect) -> Self {
        Self { work, tick: Box::pin(sleep_until(Instant::now())), began, dialect, refusal: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some((status, refusal)) = &mut self.refusal {
            let (status, dialect) = (*status, self.dialect);
            return refusal
                .as_mut()
                .poll(cx)
                .map(|body| Next::Body(Answer::whole(failure::error_from_upstream(dialect, status, &body))));
        }
        match self.work.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => {
                let status = response.status().as_u16();
                match response.into_body() {
                    body @ Answer::Counted(_) if (200..300).contains(&status) => return Poll::Ready(Next::Body(body)),
                    body => {
                        let read = async move { body.collect().await.map(Collected::to_bytes).unwrap_or_default() };
                        self.refusal = Some((status, Box::pin(read)));
                        return self.poll(cx);
                    }
                }
            }
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Next::Body(Answer::whole(failure::event(self.dialect, &error))));
            }
            Poll::Pending => {}
        }
        if self.tick.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.tick.as_mut().reset(Instant::now() + KEEP_ALIVE);
        // So that the task is woken by the tick that was just set.
        if self.tick.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        let comment = format!(": still waiting for the model after {} s\n\n", self.began.elapsed().as_secs());
        Poll::Ready(Next::Comment(comment.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corral_core::Result;

    /// The data of the next frame; none at the end.
    async fn next(answer: &mut Answer) -> Option<String> {
        let frame = answer.frame().await?.expect("it does not break off");
        Some(String::from_utf8(frame.into_data().expect("data").to_vec()).expect("text"))
    }

    fn waiting(work: impl Future<Output = Result<Response<Answer>>> + Send + 'static) -> Answer {
        Answer::Waiting(Box::new(Waiting::new(Box::pin(work), Instant::now(), Dialect::Anthropic)))
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_stream_hears_that_the_connection_lives() {
        let began = Instant::now();
        let mut answer = waiting(async {
            tokio::time::sleep(Duration::from_secs(25)).await;
            Err(Error::new(Code::LoadFailed, "it did not load"))
        });
        for seconds in [0, 10, 20] {
            let expected = format!(": still waiting for the model after {seconds} s\n\n");
            assert_eq!(next(&mut answer).await, Some(expected));
            assert_eq!(began.elapsed().as_secs(), seconds);
        }
        let error = next(&mut answer).await.expect("why not");
        assert!(error.starts_with("event: error\ndata: {") && error.contains("it did not load"), "{error}");
        assert_eq!(next(&mut answer).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_status_that_comes_too_late_comes_as_an_event() {
        let mut answer = waiting(async {
            let body = r#"{"error":{"code":400,"message":"too long","type":"invalid_request_error"}}"#;
            let mut response = Response::new(Answer::whole(body));
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            Ok(response)
        });
        let error = next(&mut answer).await.expect("an event");
        assert!(error.starts_with("event: error\ndata: {") && error.contains("too long"), "{error}");
        assert_eq!(next(&mut answer).await, None);
    }
}
