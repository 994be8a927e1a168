//! Whose program is at the other end of a connection on this machine, by the kernel's tables (proc(5), `/proc/net/tcp`).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Whether both ends of a connection of the loopback belong to one user. Not, where the kernel does not say.
pub(crate) fn is_of_one_user(peer: SocketAddr, own: SocketAddr) -> bool {
    let table = if own.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    let table = std::fs::read_to_string(table).unwrap_or_default();
    let owner = owner(&table, peer, own);
    owner.is_some() && owner == self::owner(&table, own, peer)
}

/// The number of the user who made the socket at `local` that is connected to `remote`.
fn owner(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let (local, remote) = (written(local), written(remote));
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_it = fields.next()? == local && fields.next()? == remote;
        is_it.then(|| fields.nth(4)?.parse().ok())?
    })
}

/// An address as the kernel writes it: words of the machine's own order, and the port.
fn written(address: SocketAddr) -> String {
    let words = |octets: &[u8]| {
        let mut text = String::new();
        for word in octets.as_chunks().0 {
            let _ = write!(text, "{:08X}", u32::from_ne_bytes(*word));
        }
        text
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    format!("{ip}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_ends_of_a_connection_of_ours_are_of_one_user() {
        for host in ["127.0.0.1", "[::1]"] {
            let listener = TcpListener::bind(format!("{host}:0")).expect("a port");
            let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
            let (server, peer) = listener.accept().expect("a connection");
            let own = server.local_addr().expect("an address");
            assert!(is_of_one_user(peer, own), "{host}");
            let other = SocketAddr::new(peer.ip(), listener.local_addr().expect("an address").port());
            assert!(!is_of_one_user(other, own), "{host}: nobody is there");
            drop(client);
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_table_tells_whose_it_is() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0\n\
            1: 0100007F:1F91 0100007F:A001 01 00000000:00000000 00:00000000 00000000  1000        0 2 1 0 20 4 30 10 -1\n\
            2: 0100007F:A001 0100007F:1F91 01 00000000:00000000 00:00000000 00000000   107        0 3 1 0 20 4 30 10 -1\n";
        let [own, peer]: [SocketAddr; 2] = ["127.0.0.1:8081", "127.0.0.1:40961"].map(|text| text.parse().expect("one"));
        assert_eq!((owner(table, own, peer), owner(table, peer, own)), (Some(1000), Some(107)));
        assert_eq!(owner("", own, peer), None);
        assert_eq!(written("[::1]:80".parse().expect("one")), "00000000000000000000000001000000:0050");
    }
}
