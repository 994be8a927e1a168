//! Who may call: programs on this machine that hold the token, and no web page of another site.
//!
//! A page that resolves its own name to 127.0.0.1 still sends that name as `Host`, and a page of another site sends
//! its `Origin`; both are refused before anything else is looked at.

use corral_core::loopback;
use corral_core::{Code, Error, Secret};
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Uri};
use subtle::ConstantTimeEq;

use crate::quote::quoted;
use crate::routes::of_sessions;

/// Refuses a request that does not name this machine's loopback, in `Host` and in an absolute request target.
pub(crate) fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Error> {
    let refuse = |what: String| {
        Err(Error::new(Code::ForbiddenHost, what).hint("ask for 127.0.0.1, [::1] or localhost, with or without a port"))
    };
    let Some(host) = only(headers, &HOST) else {
        return refuse("the request has no `Host` header, or several".to_owned());
    };
    for name in [Some(text(host)), uri.authority().map(|authority| authority.as_str().to_owned())].into_iter().flatten()
    {
        if loopback::port_of(&name).is_none() {
            return refuse(format!(
                "the request is for the host {}, which is not this machine's loopback",
                quoted(&name)
            ));
        }
    }
    Ok(())
}

/// Refuses a request that a web page of another site, or of another port, has caused.
pub(crate) fn check_origin(headers: &HeaderMap, own_port: u16) -> Result<(), Error> {
    if !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let origin = only(headers, &ORIGIN).map(text).unwrap_or_default();
    if loopback::origin_port(&origin) == Some(own_port) {
        return Ok(());
    }
    Err(Error::new(
        Code::ForbiddenOrigin,
        format!("the request comes from a page of {}, which is not Corral's own", quoted(&origin)),
    )
    .hint("web pages cannot use this API; programs send no `Origin` header"))
}

/// Refuses a request without the token. The comparison takes as long whatever is wrong with the one that was sent. The
/// token of a session is one for some routes only, as `session` says: none where it is none, or whether it will do here.
/// Without a `token`, none will do but a session's.
pub(crate) fn check_token(
    headers: &HeaderMap,
    token: Option<&Secret>,
    session: impl FnOnce(&str) -> Option<bool>,
) -> Result<(), Error> {
    let sent = only(headers, &AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
    let expected = token.map_or(&b""[..], |token| token.expose().as_bytes());
    // An empty token would let everybody in who sends an empty one.
    let same = !expected.is_empty() && sent.is_some_and(|sent| bool::from(sent.ct_eq(expected)));
    if same {
        return Ok(());
    }
    match sent.and_then(|sent| std::str::from_utf8(sent).ok()).and_then(session) {
        Some(true) => return Ok(()),
        Some(false) => {
            let what = format!("the token is that of a session, which may call {} only", of_sessions());
            return Err(Error::new(Code::Forbidden, what)
                .hint("run `corral` outside of the session, or ask with the token in Corral's runtime folder"));
        }
        None => {}
    }
    let what = if headers.contains_key(AUTHORIZATION) { "the token is wrong" } else { "the request has no token" };
    let right = match token {
        Some(_) => "the token that Corral keeps in its runtime folder",
        None => "the token of this session; no other is taken here",
    };
    Err(Error::new(Code::Unauthorized, what).hint(format!("send `Authorization: Bearer TOKEN`, with {right}")))
}

/// The token that a request bears, whatever it is worth.
pub(crate) fn bearer_of(headers: &HeaderMap) -> Option<&str> {
    let sent = only(headers, &AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer)?;
    std::str::from_utf8(sent).ok()
}

/// The value of a header that must occur exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_token_lets_nobody_in() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer "));
        assert!(check_token(&headers, Some(&Secret::new("")), |_| None).is_err());
        assert!(check_token(&HeaderMap::new(), Some(&Secret::new("")), |_| None).is_err());
    }

    #[test]
    fn the_scheme_is_written_in_any_case_and_the_token_in_one() {
        let token = Secret::new("Abc");
        let check = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            check_token(&headers, Some(&token), |_| None).is_ok()
        };
        assert!(check("Bearer Abc"));
        assert!(check("bearer Abc"));
        for wrong in ["Bearer abc", "Bearer Abcd", "Bearer Ab", "Bearer", "Basic Abc", "Abc", "Bearer  Abc"] {
            assert!(!check(wrong), "{wrong}");
        }
    }
}
