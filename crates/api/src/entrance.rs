//! `POST /dashboard` and `POST /dashboard/token`: how a browser comes into the dashboard. What opens it stands on a command line,
//! where every user of the machine can see it: it is a code that is good once, soon, and for the user only whose daemon
//! this is.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use corral_core::{Code, Error, Secret};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::blocking::blocking;
use crate::body;
use crate::dto::{DashboardAnswer, EnterRequest, TokenAnswer};
use crate::failure::Failure;
use crate::peer::is_of_one_user;
use crate::router::Shared;

/// How long a code is good. A browser that is started for it may take a while.
const GOOD: Duration = Duration::from_mins(1);

/// So many codes are good at once; the next one takes the place of the oldest.
const MOST: usize = 8;

/// The two ends of the connection that a request came by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// The client's.
    pub(crate) peer: SocketAddr,
    /// This daemon's.
    pub(crate) own: SocketAddr,
}

/// The codes that are good.
#[derive(Debug, Default)]
pub(crate) struct Codes(Mutex<Vec<(Secret, Instant)>>);

impl Codes {
    /// From now on this one is good.
    fn put(&self, code: Secret, now: Instant) {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|(_, until)| now < *until);
        if codes.len() == MOST {
            codes.remove(0);
        }
        codes.push((code, now + GOOD));
    }

    /// Whether this one was good. It is good no longer.
    fn take(&self, code: &str, now: Instant) -> bool {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|(_, until)| now < *until);
        let found = codes.iter().position(|(good, _)| bool::from(good.expose().as_bytes().ct_eq(code.as_bytes())));
        found.map(|found| codes.remove(found)).is_some()
    }
}

/// `POST /dashboard`
pub(crate) async fn way(State(shared): State<Shared>, request: Request) -> Result<Json<DashboardAnswer>, Failure> {
    let Ends { own, .. } = ends(&request)?;
    let machine = shared.machine.clone();
    let code = blocking("the making of a code", move || machine.new_secret()).await?;
    let url = format!("http://{own}/ui/enter.html#code={}", code.expose());
    shared.codes.put(code, Instant::now());
    Ok(Json(DashboardAnswer { url, good_seconds: GOOD.as_secs() }))
}

/// `POST /dashboard/token`
pub(crate) async fn token(State(shared): State<Shared>, request: Request) -> Result<Json<TokenAnswer>, Failure> {
    let Ends { peer, own } = ends(&request)?;
    let EnterRequest { code } = body::json(request).await?;
    // Somebody else's try does not use the code up.
    if !blocking("the look at who asks", move || Ok(is_of_one_user(peer, own))).await? {
        let error = Error::new(Code::Forbidden, "the dashboard is for the user only who runs Corral");
        return Err(error.hint("run `corral dashboard` as that user, on this machine").into());
    }
    if !shared.codes.take(&code, Instant::now()) {
        let error = Error::new(Code::Unauthorized, "this way into the dashboard was used already, or is too old");
        return Err(error.hint("run `corral dashboard` again").into());
    }
    Ok(Json(TokenAnswer { token: shared.token.expose().to_owned() }))
}

fn ends(request: &Request) -> Result<Ends, Failure> {
    let ends = request.extensions().get::<Ends>().copied();
    ends.ok_or_else(|| Error::new(Code::Internal, "the connection has no addresses").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_and_for_a_minute_and_few_are_good_at_once() {
        let (codes, now) = (Codes::default(), Instant::now());
        let put = |code: &str| codes.put(Secret::new(code), now);
        put("a");
        assert!(!codes.take("b", now) && !codes.take("", now));
        assert!(codes.take("a", now) && !codes.take("a", now), "once");
        put("a");
        let late = now + GOOD;
        assert!(!codes.take("a", late), "not for ever");
        for number in 0..=MOST {
            put(&number.to_string());
        }
        assert!(!codes.take("0", now), "the oldest went");
        assert!((1..=MOST).all(|number| codes.take(&number.to_string(), now)));
    }
}
