//! Reading "HOST:PORT" and "PORT:HOST" the way Open vSwitch does.
//!
//! IPv6 addresses stand in brackets when a port follows; without brackets a text with more than
//! one colon is all address. Faults are logged by socket_util and make the stream's opening fail
//! with "Address family not supported by protocol".

use crate::dns;
use ferrovs_runtime::vlog::{self, modules};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Splits `[HOST]:PORT` style text into its two parts, in the order they are written.
fn tokens(target: &str) -> Option<(&str, &str)> {
    if let Some(rest) = target.strip_prefix('[') {
        let Some((host, tail)) = rest.split_once(']') else {
            return Some((target, ""));
        };
        return match tail.strip_prefix(':') {
            Some(port) => Some((host, port)),
            None if tail.is_empty() => Some((host, "")),
            None => None,
        };
    }
    match target.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((target, "")),
        Some((host, port)) => Some((host, port)),
        None => Some((target, "")),
    }
}

/// The host in "HOST[:PORT]", without brackets.
pub fn host(target: &str) -> &str {
    tokens(target).map_or(target, |(host, _)| host)
}

/// Reads "HOST[:PORT]". `default_port` is used when none is written; without one it is a fault.
///
/// `None` means a fault that has been logged, or a host name that is still being looked up.
pub fn parse_active(target: &str, default_port: Option<u16>) -> Option<SocketAddr> {
    let Some((host, port)) = tokens(target) else {
        vlog::err!(
            modules::SOCKET_UTIL,
            "{target}: unexpected characters follow host"
        );
        return None;
    };
    let port = match (port, default_port) {
        ("", None) => {
            vlog::err!(modules::SOCKET_UTIL, "{target}: port must be specified");
            return None;
        }
        ("", Some(port)) => port,
        (text, _) => parse_port(target, text)?,
    };
    parse_host(host).map(|ip| SocketAddr::new(ip, port))
}

/// Reads "[PORT][:HOST]"; no host means every address.
pub fn parse_passive(target: &str, default_port: Option<u16>) -> Option<SocketAddr> {
    let (port, host) = match target.split_once(':') {
        Some((port, host)) => (port, host),
        None => (target, ""),
    };
    let port = match (port, default_port) {
        ("", None) => {
            vlog::err!(modules::SOCKET_UTIL, "{target}: port must be specified");
            return None;
        }
        ("", Some(port)) => port,
        (text, _) => parse_port(target, text)?,
    };
    let ip = match host {
        "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        host => {
            let bare = host
                .strip_prefix('[')
                .and_then(|h| h.strip_suffix(']'))
                .unwrap_or(host);
            parse_host(bare)?
        }
    };
    Some(SocketAddr::new(ip, port))
}

fn parse_port(target: &str, text: &str) -> Option<u16> {
    let port = text.parse().ok();
    if port.is_none() {
        vlog::err!(modules::SOCKET_UTIL, "{target}: bad port number \"{text}\"");
    }
    port
}

fn parse_host(host: &str) -> Option<IpAddr> {
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Some(IpAddr::V4(ip));
    }
    // A zone ("fe80::1%eth0") is for the resolver.
    if let Ok(ip) = host.parse::<Ipv6Addr>() {
        return Some(IpAddr::V6(ip));
    }
    dns::resolve(host)
}

/// "1.2.3.4:6640" or "[::1]:6640".
pub fn format_address(address: &SocketAddr) -> String {
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_split_as_open_vswitch_splits_them() {
        assert_eq!(tokens("1.2.3.4:5"), Some(("1.2.3.4", "5")));
        assert_eq!(tokens("[::1]:5"), Some(("::1", "5")));
        assert_eq!(tokens("[::1]"), Some(("::1", "")));
        assert_eq!(tokens("::1"), Some(("::1", "")));
        assert_eq!(tokens("[::1]x"), None);
        assert_eq!(
            parse_active("1.2.3.4", Some(6640)),
            Some("1.2.3.4:6640".parse().unwrap())
        );
        assert_eq!(parse_active("1.2.3.4", None), None);
        assert_eq!(parse_active("1.2.3.4:70000", None), None);
        assert_eq!(
            parse_passive("", Some(6640)),
            Some("0.0.0.0:6640".parse().unwrap())
        );
        assert_eq!(
            parse_passive("0:[::1]", None),
            Some("[::1]:0".parse().unwrap())
        );
        assert_eq!(
            parse_passive("7:127.0.0.1", None),
            Some("127.0.0.1:7".parse().unwrap())
        );
    }
}
