//! Reading "HOST:PORT" and "PORT:HOST" the way Open vSwitch does.
//!
//! IPv6 addresses stand in brackets when a port follows; without brackets a text with more than
//! one colon is all address. Faults are logged by socket_util and make the stream's opening fail
//! with "Address family not supported by protocol".

use crate::{address_family_error, dns, errno, error_text};
use ferrovs_runtime::vlog::{self, modules};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Takes a token off the front: up to a colon, or in brackets, which need not be closed at the end
/// of the text. `None` if something else than a colon follows the brackets.
fn token(text: &str) -> Option<(&str, &str)> {
    let (token, rest) = match text.strip_prefix('[') {
        Some(inside) => inside.split_once(']').unwrap_or((inside, "")),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    match rest.strip_prefix(':') {
        Some(rest) => Some((token, rest)),
        None => rest.is_empty().then_some((token, "")),
    }
}

/// Splits text into what stands before and behind its colon; what has more colons is one part, the
/// `whole_is`th.
fn tokens(target: &str, whole_is: usize) -> Option<[&str; 2]> {
    let (first, rest) = token(target)?;
    let (second, rest) = token(rest)?;
    if rest.is_empty() {
        return Some([first, second]);
    }
    let mut parts = [""; 2];
    parts[whole_is] = target;
    Some(parts)
}

/// The host in "HOST[:PORT]", without brackets.
pub fn host(target: &str) -> &str {
    tokens(target, 0).map_or(target, |[host, _]| host)
}

/// Reads "HOST[:PORT]". `default_port` is used when none is written; without one it is a fault.
///
/// Faults have been logged; a host name that is still being looked up is one, too.
pub fn parse_active(target: &str, default_port: Option<u16>) -> io::Result<SocketAddr> {
    let [host, port] = tokens(target, 0).ok_or_else(address_family_error)?;
    let port = parse_port(target, port, default_port)?;
    if host.is_empty() {
        return Err(address_family_error());
    }
    parse_host(target, host, port)?.ok_or_else(address_family_error)
}

/// Reads "[PORT][:HOST]"; no host means every address. `WouldBlock` is a host name that is still
/// being looked up.
pub fn parse_passive(target: &str, default_port: Option<u16>) -> io::Result<SocketAddr> {
    let [port, host] = tokens(target, 1).ok_or_else(address_family_error)?;
    let port = parse_port(target, port, default_port)?;
    if host.is_empty() {
        return Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port));
    }
    parse_host(target, host, port)?.ok_or_else(|| errno(rustix::io::Errno::AGAIN))
}

fn parse_port(target: &str, text: &str, default: Option<u16>) -> io::Result<u16> {
    match (text, default) {
        ("", Some(port)) => return Ok(port),
        ("", None) => vlog::err!(modules::SOCKET_UTIL, "{target}: port must be specified"),
        (text, _) => match text.parse() {
            Ok(port) => return Ok(port),
            Err(_) => vlog::err!(modules::SOCKET_UTIL, "{target}: bad port number \"{text}\""),
        },
    }
    Err(address_family_error())
}

/// An address, or a name; `None` while the name is unknown.
fn parse_host(target: &str, host: &str, port: u16) -> io::Result<Option<SocketAddr>> {
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Some(SocketAddr::new(ip.into(), port)));
    }
    let (address, scope) = match host.split_once('%') {
        Some((address, scope)) => (address, Some(scope)),
        None => (host, None),
    };
    let Ok(ip) = address.parse::<Ipv6Addr>() else {
        return Ok(dns::resolve(host).map(|ip| SocketAddr::new(ip, port)));
    };
    let scope = match scope {
        Some(scope) => scope_id(scope).map_err(|e| {
            let text = error_text(&e);
            vlog::err!(
                modules::SOCKET_UTIL,
                "{target}: bad IPv6 scope \"{scope}\" ({text})"
            );
            address_family_error()
        })?,
        None => 0,
    };
    Ok(Some(SocketAddrV6::new(ip, port, 0, scope).into()))
}

/// The number of the interface that a zone of IPv6 addresses is named by.
fn scope_id(scope: &str) -> io::Result<u32> {
    if let Ok(number) = scope.parse() {
        return Ok(number);
    }
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let (family, kind) = (
        rustix::net::AddressFamily::INET6,
        rustix::net::SocketType::DGRAM,
    );
    let fd = rustix::net::socket_with(family, kind, flags, None).map_err(errno)?;
    rustix::net::netdevice::name_to_index(&fd, scope).map_err(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_split_as_open_vswitch_splits_them() {
        assert_eq!(tokens("1.2.3.4:5", 0), Some(["1.2.3.4", "5"]));
        assert_eq!(tokens("[::1]:5", 0), Some(["::1", "5"]));
        assert_eq!(tokens("[::1]", 0), Some(["::1", ""]));
        assert_eq!(tokens("[::1", 0), Some(["::1", ""]));
        assert_eq!(tokens("::1", 0), Some(["::1", ""]));
        assert_eq!(tokens("[::1]x", 0), None);
        assert_eq!(tokens("5:[::1]", 1), Some(["5", "::1"]));
        assert_eq!(tokens("0:127.0.0.1:5", 1), Some(["", "0:127.0.0.1:5"]));
    }

    #[test]
    fn addresses_are_read() {
        let active = |text, port| parse_active(text, port).ok();
        let passive = |text, port| parse_passive(text, port).ok();
        assert_eq!(
            active("1.2.3.4", Some(6640)),
            Some("1.2.3.4:6640".parse().unwrap())
        );
        for wrong in ["1.2.3.4", "1.2.3.4:70000", "1.2.3.4:5:6", "[::1]x:5", ":5"] {
            assert_eq!(active(wrong, None), None, "{wrong}");
        }
        assert_eq!(
            passive("", Some(6640)),
            Some("0.0.0.0:6640".parse().unwrap())
        );
        assert_eq!(passive("0:[::1]", None), Some("[::1]:0".parse().unwrap()));
        assert_eq!(
            passive("7:127.0.0.1", None),
            Some("127.0.0.1:7".parse().unwrap())
        );
        assert_eq!(passive("0:127.0.0.1:5", None), None);
    }

    #[test]
    fn a_zone_is_an_interface_or_its_number() {
        let zone = |text| match parse_active(text, Some(1)) {
            Ok(SocketAddr::V6(a)) => Some(a.scope_id()),
            _ => None,
        };
        assert_eq!(zone("[fe80::1%7]"), Some(7));
        assert_eq!(zone("[fe80::1%lo]:5"), Some(1));
        assert_eq!(zone("[fe80::1%no-such-one]:5"), None);
    }
}
