//! Which names mean this machine alone.
//!
//! A web page that resolves its own name to 127.0.0.1 still sends that name as `Host`, and a page of another site sends
//! its `Origin`: both ports tell friend from foe by these texts.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The port of an authority that names the loopback, 80 unless it says; none for every other authority.
pub fn port_of(authority: &str) -> Option<u16> {
    let (is_loopback, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        (address.parse() == Ok(Ipv6Addr::LOCALHOST), port)
    } else {
        let (name, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        let is_loopback = name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
        (is_loopback || name.eq_ignore_ascii_case("localhost"), port)
    };
    match port.strip_prefix(':') {
        _ if !is_loopback => None,
        None if port.is_empty() => Some(80),
        // Parsing alone would take a sign.
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    }
}

/// The port of the loopback address that a page was loaded from, by its `Origin`; none for a page of another site.
pub fn origin_port(origin: &str) -> Option<u16> {
    origin.strip_prefix("http://").and_then(port_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_authorities() {
        for good in ["127.0.0.1", "127.255.0.3", "localhost", "LocalHost", "[::1]", "[0:0:0:0:0:0:0:1]"] {
            assert_eq!(port_of(good), Some(80), "{good}");
            assert_eq!(port_of(&format!("{good}:8081")), Some(8081), "{good} with a port");
        }
    }

    #[test]
    fn everything_else_is_foreign() {
        let bad = [
            "",
            ":",
            ":80",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "localhost.",
            "127.0.0.1.",
            "127.1",
            "127.0.0.01",
            "2130706433",
            "0x7f000001",
            "0.0.0.0",
            "10.0.0.1",
            "[::1].evil",
            "[::1",
            "::1",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::1%25lo]",
            "[127.0.0.1]",
            "user@127.0.0.1",
            "127.0.0.1:80@evil",
            "127.0.0.1:",
            "127.0.0.1:99999",
            "127.0.0.1:+80",
            "127.0.0.1: 80",
            "127.0.0.1:80:80",
            " 127.0.0.1",
            "127.0.0.1,evil",
            "127.0.0.1/",
            "http://127.0.0.1",
        ];
        for bad in bad {
            assert_eq!(port_of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn pages_of_this_machine() {
        assert_eq!(origin_port("http://localhost:3000"), Some(3000));
        for foreign in ["null", "https://127.0.0.1:8080", "http://evil.example", "file://", ""] {
            assert_eq!(origin_port(foreign), None, "{foreign}");
        }
    }
}
