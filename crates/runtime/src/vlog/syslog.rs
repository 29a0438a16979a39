//! The system log: `/dev/log` as the C library speaks to it, a socket of one's choice, or UDP.

use std::net::{ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use super::pattern::Message;
use crate::clock;

/// Facility number of daemons, the default of the system log.
pub(super) const DAEMON: u8 = 3;

/// Facility number of local use 0, the default of patterns, which `--syslog-target` always has.
pub(super) const LOCAL0: u8 = 16;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "clock", "ftp",
    "ntp", "audit", "alert", "clock2", "local0", "local1", "local2", "local3", "local4", "local5",
    "local6", "local7", "",
];

pub(super) fn facility_by_name(name: &str) -> Option<u8> {
    let at = FACILITIES
        .iter()
        .position(|f| !f.is_empty() && *f == name)?;
    // RFC 5424 has authpriv at 10, which has no name here.
    Some(if at < 10 { at as u8 } else { at as u8 + 1 })
}

enum Way {
    /// As syslog(3): a short header, then the message.
    Libc,
    /// A datagram socket: the priority, then the message as the pattern makes it.
    Unix(String),
    Udp(UdpSocket),
    /// `--syslog-target`: RFC 5424, whatever the pattern is.
    Target(UdpSocket),
    Null,
}

/// One way to the system log.
pub(super) struct Syslog {
    way: Way,
    socket: Option<UnixDatagram>,
    /// When to try again after the socket was not there.
    retry: Option<Instant>,
}

impl Syslog {
    fn new(way: Way) -> Syslog {
        Syslog {
            way,
            socket: None,
            retry: None,
        }
    }

    /// What `OVS_SYSLOG_METHOD` says, or the C library's way.
    pub(super) fn from_environment() -> Syslog {
        match std::env::var("OVS_SYSLOG_METHOD") {
            Ok(m) => Syslog::from_method(&m).unwrap_or_else(|_| Syslog::new(Way::Libc)),
            Err(_) => Syslog::new(Way::Libc),
        }
    }

    pub(super) fn from_method(method: &str) -> Result<Syslog, String> {
        if method == "null" {
            Ok(Syslog::new(Way::Null))
        } else if method == "libc" {
            Ok(Syslog::new(Way::Libc))
        } else if let Some(path) = method.strip_prefix("unix:") {
            Ok(Syslog::new(Way::Unix(path.to_string())))
        } else if let Some(target) = method.strip_prefix("udp:") {
            // A target that cannot be used is told later, in the log itself.
            Ok(Syslog::udp(target).unwrap_or_else(|_| Syslog::new(Way::Null)))
        } else {
            Err(format!("unsupported syslog method '{method}'"))
        }
    }

    /// What `--syslog-target` means.
    pub(super) fn target(target: &str) -> Result<Syslog, String> {
        Ok(Syslog {
            way: match Syslog::udp(target)?.way {
                Way::Udp(socket) => Way::Target(socket),
                other => other,
            },
            socket: None,
            retry: None,
        })
    }

    pub(super) fn udp(target: &str) -> Result<Syslog, String> {
        let Some((host, port)) = target.rsplit_once(':') else {
            return Err(format!("{target}: port must be specified"));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port: u16 = port
            .parse()
            .map_err(|_| format!("{target}: bad port number \"{port}\""))?;
        let address = (host, port)
            .to_socket_addrs()
            .ok()
            .and_then(|mut a| a.next())
            .ok_or_else(|| format!("{target}: bad IP address \"{host}\""))?;
        let local = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(local)
            .and_then(|s| s.connect(address).map(|()| s))
            .and_then(|s| s.set_nonblocking(true).map(|()| s))
            .map_err(|e| format!("{target}: {}", crate::text::errno(&e)))?;
        Ok(Syslog::new(Way::Udp(socket)))
    }

    /// Sends one line. What cannot be sent is lost: logging never stops the program.
    pub(super) fn send(&mut self, message: &Message<'_>, line: &str) {
        let packet = match &self.way {
            Way::Null => return,
            Way::Libc => {
                let prefix = message.format("<%B>%d{%b %e %T} %A: ");
                format!("{prefix}{line}")
            }
            Way::Unix(_) | Way::Udp(_) => format!("{}{line}", message.format("<%B>")),
            Way::Target(_) => {
                let local = Message {
                    facility: LOCAL0,
                    ..*message
                };
                local.format("<%B>1 %D{%Y-%m-%dT%H:%M:%S.###Z} %E %A %P %c - \u{feff}%m")
            }
        };
        let path = match &self.way {
            Way::Udp(s) | Way::Target(s) => {
                let _ = s.send(packet.as_bytes());
                return;
            }
            Way::Unix(p) => p.as_str(),
            _ => "/dev/log",
        };
        if self.socket.is_none() {
            let now = clock::real_now();
            if self.retry.is_some_and(|r| now < r) {
                return;
            }
            let connected = UnixDatagram::unbound()
                .and_then(|s| s.connect(path).map(|()| s))
                .and_then(|s| s.set_nonblocking(true).map(|()| s));
            match connected {
                Ok(s) => self.socket = Some(s),
                Err(_) => self.retry = Some(now + Duration::from_secs(5)),
            }
        }
        if let Some(s) = &self.socket
            && let Err(e) = s.send(packet.as_bytes())
            && e.kind() != std::io::ErrorKind::WouldBlock
        {
            self.socket = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facilities_have_their_rfc_numbers() {
        assert_eq!(facility_by_name("daemon"), Some(3));
        assert_eq!(facility_by_name("local0"), Some(16));
        assert_eq!(facility_by_name("local7"), Some(23));
        assert_eq!(facility_by_name("foo"), None);
    }
}
