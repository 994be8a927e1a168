//! Who may come in, and with what: looked at before a single byte of the body is read.

use corral_core::{Code, Error, Result, loopback};
use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::head::Framing;

/// The largest head that is taken, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The header in which Anthropic's clients send a key.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Refuses what no client of this port has a reason to send.
pub(crate) fn check(head: &Parts, framing: Framing) -> Result<()> {
    let invalid = |what: &str, hint: &str| Err(Error::new(Code::InvalidRequest, what).hint(hint));
    if framing == Framing::Ambiguous {
        return invalid(
            "the request says in two ways how long it is",
            "send one `Content-Length`, or `Transfer-Encoding: chunked`, and not both",
        );
    }
    if head.method == Method::CONNECT || head.uri.authority().is_some() || head.uri.scheme().is_some() {
        return invalid("this is no proxy for other hosts", "ask for a path such as `/v1/messages`");
    }
    let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size + head.uri.path().len() > MAX_HEAD {
        let what = format!("the head of the request is larger than {} KiB", MAX_HEAD / 1024);
        return Err(Error::new(Code::HeadTooLarge, what).hint("send less in headers"));
    }
    check_host(&head.headers)?;
    if head.headers.contains_key(ORIGIN) && origin(&head.headers).is_none() {
        let from =
            head.headers.get(ORIGIN).map_or_else(Default::default, |from| String::from_utf8_lossy(from.as_bytes()));
        let what = format!("the request comes from a page of {}, which is not on this machine", shown(&from));
        return Err(Error::new(Code::ForbiddenOrigin, what).hint("web pages of other sites cannot use this port"));
    }
    Ok(())
}

fn check_host(headers: &HeaderMap) -> Result<()> {
    let hint = "ask for 127.0.0.1, [::1] or localhost, with or without a port";
    let Some(host) = only(headers, &HOST) else {
        let what = "the request has no `Host` header, or several";
        return Err(Error::new(Code::ForbiddenHost, what).hint(hint));
    };
    let host = String::from_utf8_lossy(host.as_bytes());
    if loopback::port_of(&host).is_some() {
        return Ok(());
    }
    let what = format!("the request is for the host {}, which is not this machine's loopback", shown(&host));
    Err(Error::new(Code::ForbiddenHost, what).hint(hint))
}

/// The page of this machine that the request comes from.
pub(crate) fn origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    only(headers, &ORIGIN).filter(|origin| origin.to_str().is_ok_and(|text| loopback::origin_port(text).is_some()))
}

/// The tokens and keys that the request carries, in either protocol's way.
pub(crate) fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearers = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    bearers.chain(headers.get_all(X_API_KEY).iter().filter_map(|value| value.to_str().ok()))
}

/// The value of a header that occurs exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// A text of somebody else's, short and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    format!("`{short}`")
}

/// Whether a header is for the next program only, or is made anew for it.
pub(crate) fn is_for_this_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "host"
            | "content-length"
            | "authorization"
            | "x-api-key"
            | "cookie"
            | "origin"
            // A compressed answer could not be read for its tokens.
            | "accept-encoding"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method("POST").uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<Code>);

    #[test]
    fn good_and_bad_heads() {
        let long = "x".repeat(70_000);
        let host = ("host", "localhost:8080");
        let table: [Case<'_>; 11] = [
            ("/v1/messages", &[host], None),
            ("/v1/messages", &[host, ("origin", "http://localhost:3000")], None),
            ("/v1/messages", &[("host", "[::1]:8080")], None),
            ("/v1/messages", &[], Some(Code::ForbiddenHost)),
            ("/v1/messages", &[host, ("host", "localhost")], Some(Code::ForbiddenHost)),
            ("/v1/messages", &[("host", "evil.example")], Some(Code::ForbiddenHost)),
            ("/v1/messages", &[host, ("origin", "http://evil.example")], Some(Code::ForbiddenOrigin)),
            ("/v1/messages", &[host, ("origin", "null")], Some(Code::ForbiddenOrigin)),
            ("http://127.0.0.1/v1/messages", &[host], Some(Code::InvalidRequest)),
            ("evil.example:443", &[host], Some(Code::InvalidRequest)),
            ("/v1/messages", &[host, ("x-long", &long)], Some(Code::HeadTooLarge)),
        ];
        for (uri, headers, expected) in table {
            let checked = check(&parts(uri, headers), Framing::Sound);
            assert_eq!(checked.as_ref().err().map(Error::code), expected, "{uri} {:?}", headers.first());
        }
        let ambiguous = check(&parts("/v1/messages", &[host]), Framing::Ambiguous);
        assert_eq!(ambiguous.expect_err("refused").code(), Code::InvalidRequest);
    }

    #[test]
    fn tokens_of_both_protocols() {
        let of = |headers: &[(&str, &str)]| tokens(&parts("/", headers).headers).collect::<Vec<_>>().join(" ");
        assert_eq!(of(&[("authorization", "Bearer abc")]), "abc");
        assert_eq!(of(&[("x-api-key", "abc")]), "abc");
        assert_eq!(of(&[("authorization", "bearer a"), ("x-api-key", "b")]), "a b");
        assert_eq!(of(&[("authorization", "Basic abc")]), "");
        assert_eq!(of(&[]), "");
    }
}
