//! rtnetlink: the kernel's tables of links, addresses, routes and neighbours, and their changes.
//!
//! [`Rtnl`] asks (dumps and single gets); [`Monitor`] listens to the multicast groups. Both speak
//! plain data types defined here; attributes that nobody needs are skipped. A monitor that falls
//! behind reports [`Event::Lost`], after which the listener must dump again.
//!
//! Wire format (rtnetlink(7)), everything in host byte order and aligned to 4 bytes:
//!
//! ```text
//! nlmsghdr {len u32, type u16, flags u16, seq u32, pid u32} family-header attributes...
//! attribute {len u16, type u16} value
//! ```
//!
//! Lengths come from the kernel but are still checked: a short message yields fewer attributes,
//! never a panic.

use std::io;
use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

mod parse;

use parse::{Message, messages};

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Device name.
    pub name: String,
    /// Hardware type (`ARPHRD_*`).
    pub hw_type: u16,
    /// `IFF_*`.
    pub flags: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// Address, when it is an Ethernet one.
    pub mac: Option<[u8; 6]>,
    /// Kind (`veth`, `tun`, `vxlan` ...), empty for hardware.
    pub kind: String,
    /// Index of the peer or of the lower device.
    pub link: Option<u32>,
    /// Index of the device that this one is enslaved to.
    pub master: Option<u32>,
    /// Number of the group of devices that it belongs to; 0 unless somebody said so.
    pub group: u32,
    /// Number of the XDP program that looks at its packets; 0 for none.
    pub xdp_program: u32,
    /// How often the carrier changed.
    pub carrier_changes: u32,
    /// Traffic counters.
    pub stats: LinkStats,
}

/// The kernel's 64-bit counters of a link, from the host's point of view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LinkStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub multicast: u64,
    pub collisions: u64,
    pub rx_length_errors: u64,
    pub rx_over_errors: u64,
    pub rx_crc_errors: u64,
    pub rx_frame_errors: u64,
    pub rx_fifo_errors: u64,
    pub rx_missed_errors: u64,
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addr {
    /// Device.
    pub index: u32,
    /// The address (of this end, for a point-to-point link).
    pub addr: IpAddr,
    /// Length of the network prefix.
    pub prefix_len: u8,
    /// `RT_SCOPE_*`: 0 universe, 253 link, 254 host.
    pub scope: u8,
}

/// An entry of a routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `RT_TABLE_*`: 254 main, 255 local, 253 default.
    pub table: u32,
    /// Destination network.
    pub dst: IpAddr,
    /// Length of its prefix.
    pub dst_len: u8,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Device.
    pub oif: Option<u32>,
    /// Source address that the host prefers on this route.
    pub prefsrc: Option<IpAddr>,
    /// Metric: lower wins.
    pub priority: u32,
    /// `RTN_*`: 1 unicast, 2 local, 3 broadcast ...
    pub kind: u8,
    /// `RTPROT_*`: who installed it.
    pub protocol: u8,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// There are several next hops; `gateway` and `oif` are the first.
    pub multipath: bool,
    /// The next hop is an object with this number, which may change without a word about the route.
    pub shared_hop: Option<u32>,
}

/// A rule that says which routing table is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For IPv4, or for IPv6.
    pub ipv4: bool,
    /// Lower ones are asked first.
    pub priority: u32,
    /// The table.
    pub table: u32,
    /// The sources that it is for; all without.
    pub src: Option<(IpAddr, u8)>,
    /// It is for the others.
    pub invert: bool,
    /// It does look up the table, and whether it does depends on the source alone.
    pub plain: bool,
}

/// A neighbour (ARP or ND) entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neigh {
    /// Device.
    pub index: u32,
    /// Its address.
    pub addr: IpAddr,
    /// Its Ethernet address, if resolved.
    pub mac: Option<[u8; 6]>,
    /// `NUD_*`.
    pub state: u16,
}

/// A change in the kernel's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link appeared or changed.
    NewLink(Link),
    /// A link went away.
    DelLink(Link),
    /// An address appeared or changed.
    NewAddr(Addr),
    /// An address went away.
    DelAddr(Addr),
    /// A route appeared, in place of another of its network, table and metric if `replaces`.
    NewRoute { route: Route, replaces: bool },
    /// A route went away.
    DelRoute(Route),
    /// A neighbour appeared or changed.
    NewNeigh(Neigh),
    /// A neighbour went away.
    DelNeigh(Neigh),
    /// A routing rule appeared.
    NewRule(Rule),
    /// A routing rule went away.
    DelRule(Rule),
    /// A next hop that routes may share appeared or went away, or is another now if `replaces`.
    Hop { id: u32, replaces: bool },
    /// Changes were lost: dump again.
    Lost,
}

/// What a [`Monitor`] listens to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Groups {
    /// Links.
    pub links: bool,
    /// IPv4 and IPv6 addresses.
    pub addrs: bool,
    /// IPv4 and IPv6 routes and rules, and the next hops that routes share.
    pub routes: bool,
    /// Neighbours.
    pub neighs: bool,
}

/// The group of messages about rules of IPv6, RTNLGRP_IPV6_RULE, as a bit.
const RTMGRP_IPV6_RULE: libc::c_int = 1 << 18;
/// The group of messages about next hops, RTNLGRP_NEXTHOP, as a bit.
const RTMGRP_NEXTHOP: libc::c_int = 1 << 31;
const NLA_F_NESTED: u16 = 1 << 15;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// Room for what was not heard yet, in bytes.
const ROOM: usize = 16 << 20;

fn socket(groups: u32) -> io::Result<OwnedFd> {
    // NETLINK_ROUTE is 0, and so the default of the family.
    let fd = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: sockaddr_nl is a plain C struct of integers.
    let mut sa: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    sa.nl_family = libc::AF_NETLINK as u16;
    sa.nl_groups = groups;
    // SAFETY: bind reads the given number of bytes of `sa`.
    let rc = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            std::ptr::from_ref(&sa).cast(),
            size_of::<libc::sockaddr_nl>() as u32,
        )
    };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(fd)
    }
}

/// Receives one datagram, whatever its size.
fn recv(fd: &OwnedFd, buf: &mut Vec<u8>, flags: libc::c_int) -> io::Result<usize> {
    loop {
        // SAFETY: recv writes at most `len` bytes; a zero-length peek only tells the size.
        let n = unsafe {
            libc::recv(
                fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                flags | libc::MSG_PEEK | libc::MSG_TRUNC,
            )
        };
        if n < 0 {
            let e = io::Error::last_os_error();
            if e.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(e);
        }
        if buf.len() < n as usize {
            buf.resize(n as usize, 0);
        }
        // SAFETY: `buf` holds `buf.len()` writable bytes.
        let n = unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags) };
        if n >= 0 {
            return Ok(n as usize);
        }
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
}

/// Asks the kernel about its tables, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Rtnl {
    fd: OwnedFd,
    seq: u32,
    buf: Vec<u8>,
}

impl Rtnl {
    /// Opens a request socket.
    pub fn open() -> io::Result<Rtnl> {
        Ok(Rtnl {
            fd: socket(0)?,
            seq: 0,
            buf: vec![0; 32768],
        })
    }

    fn request(&mut self, kind: u16, flags: libc::c_int, body: &[u8]) -> io::Result<()> {
        self.seq = self.seq.wrapping_add(1);
        let mut m = Vec::with_capacity(16 + body.len());
        m.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
        m.extend_from_slice(&kind.to_ne_bytes());
        m.extend_from_slice(&((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        m.extend_from_slice(&self.seq.to_ne_bytes());
        m.extend_from_slice(&0u32.to_ne_bytes());
        m.extend_from_slice(body);
        // SAFETY: send only reads `m`.
        let n = unsafe { libc::send(self.fd.as_raw_fd(), m.as_ptr().cast(), m.len(), 0) };
        if n < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Feeds every message of the reply to `visit` until the kernel says that it is done.
    fn replies(&mut self, dump: bool, mut visit: impl FnMut(u16, &[u8])) -> io::Result<()> {
        loop {
            let n = recv(&self.fd, &mut self.buf, 0)?;
            for m in messages(&self.buf[..n]) {
                if m.seq != self.seq {
                    continue;
                }
                match libc::c_int::from(m.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        let e = parse::i32_at(m.body, 0).unwrap_or(0);
                        return if e == 0 {
                            Ok(())
                        } else {
                            Err(io::Error::from_raw_os_error(-e))
                        };
                    }
                    _ => {
                        visit(m.kind, m.body);
                        if !dump {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    fn dump<T>(
        &mut self,
        kind: u16,
        header: usize,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        self.request(kind, libc::NLM_F_DUMP, &vec![0; header])?;
        let mut out = Vec::new();
        self.replies(true, |_, body| out.extend(parse(body)))?;
        Ok(out)
    }

    /// Every link.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        self.dump(libc::RTM_GETLINK, 16, Link::parse)
    }

    /// The link called `name`.
    pub fn link(&mut self, name: &str) -> io::Result<Link> {
        let mut body = vec![0; 16];
        let len = 4 + name.len() + 1;
        body.extend_from_slice(&(len as u16).to_ne_bytes());
        body.extend_from_slice(&libc::IFLA_IFNAME.to_ne_bytes());
        body.extend_from_slice(name.as_bytes());
        body.resize(16 + len.next_multiple_of(4), 0);
        self.request(libc::RTM_GETLINK, 0, &body)?;
        let mut out = None;
        self.replies(false, |_, body| out = Link::parse(body))?;
        out.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// Puts a link into a group.
    pub fn set_group(&mut self, index: u32, group: u32) -> io::Result<()> {
        self.change_link(libc::RTM_SETLINK, index, group)
    }

    /// Deletes every link of a group, as far as links can be deleted.
    pub fn delete_group(&mut self, group: u32) -> io::Result<()> {
        self.change_link(libc::RTM_DELLINK, 0, group)
    }

    fn change_link(&mut self, kind: u16, index: u32, group: u32) -> io::Result<()> {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body.extend_from_slice(&8u16.to_ne_bytes());
        body.extend_from_slice(&libc::IFLA_GROUP.to_ne_bytes());
        body.extend_from_slice(&group.to_ne_bytes());
        self.request(kind, libc::NLM_F_ACK, &body)?;
        self.replies(false, |_, _| {})
    }

    /// Takes the XDP program that somebody put at a link off it.
    pub fn remove_xdp(&mut self, index: u32) -> io::Result<()> {
        const NONE: i32 = -1;
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        for (len, kind) in [
            (12u16, parse::IFLA_XDP | NLA_F_NESTED),
            (8, parse::IFLA_XDP_FD),
        ] {
            body.extend_from_slice(&len.to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
        }
        body.extend_from_slice(&NONE.to_ne_bytes());
        self.request(libc::RTM_SETLINK, libc::NLM_F_ACK, &body)?;
        self.replies(false, |_, _| {})
    }

    /// Every address.
    pub fn addrs(&mut self) -> io::Result<Vec<Addr>> {
        self.dump(libc::RTM_GETADDR, 8, Addr::parse)
    }

    /// Every route of every table.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        self.dump(libc::RTM_GETROUTE, 12, Route::parse)
    }

    /// Every rule of both families.
    pub fn rules(&mut self) -> io::Result<Vec<Rule>> {
        self.dump(libc::RTM_GETRULE, 12, Rule::parse)
    }

    /// Every neighbour.
    pub fn neighs(&mut self) -> io::Result<Vec<Neigh>> {
        self.dump(libc::RTM_GETNEIGH, 12, Neigh::parse)
    }
}

/// Hears about changes, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
    buf: Vec<u8>,
}

impl Monitor {
    /// Starts to listen.
    pub fn open(groups: Groups) -> io::Result<Monitor> {
        let mut bits = 0;
        for (on, b) in [
            (groups.links, libc::RTMGRP_LINK),
            (
                groups.addrs,
                libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR,
            ),
            (
                groups.routes,
                libc::RTMGRP_IPV4_ROUTE
                    | libc::RTMGRP_IPV6_ROUTE
                    | libc::RTMGRP_IPV4_RULE
                    | RTMGRP_IPV6_RULE
                    | RTMGRP_NEXTHOP,
            ),
            (groups.neighs, libc::RTMGRP_NEIGH),
        ] {
            if on {
                bits |= b as u32;
            }
        }
        let fd = socket(bits)?;
        // Who may, has room for the burst of a routing daemon that starts; memory that nobody fills costs nothing.
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, ROOM)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&fd, ROOM));
        Ok(Monitor {
            fd,
            buf: vec![0; 16384],
        })
    }

    /// Everything that has been reported since the last call.
    pub fn recv(&mut self) -> io::Result<Vec<Event>> {
        let mut out = Vec::new();
        loop {
            match recv(&self.fd, &mut self.buf, libc::MSG_DONTWAIT) {
                Ok(n) => out.extend(events(&self.buf[..n])),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(out),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => out.push(Event::Lost),
                Err(e) => return Err(e),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What the messages of a datagram report.
pub fn events(datagram: &[u8]) -> impl Iterator<Item = Event> {
    messages(datagram).filter_map(event)
}

fn event(m: Message<'_>) -> Option<Event> {
    let body = m.body;
    let replaces = libc::c_int::from(m.flags) & libc::NLM_F_REPLACE != 0;
    Some(match m.kind {
        libc::RTM_NEWLINK => Event::NewLink(Link::parse(body)?),
        // A device that leaves a bridge of the kernel does not go away.
        libc::RTM_DELLINK if body.first() == Some(&(libc::AF_BRIDGE as u8)) => return None,
        libc::RTM_DELLINK => Event::DelLink(Link::parse(body)?),
        libc::RTM_NEWADDR => Event::NewAddr(Addr::parse(body)?),
        libc::RTM_DELADDR => Event::DelAddr(Addr::parse(body)?),
        libc::RTM_NEWROUTE => Event::NewRoute {
            route: Route::parse(body)?,
            replaces,
        },
        libc::RTM_DELROUTE => Event::DelRoute(Route::parse(body)?),
        libc::RTM_NEWNEIGH => Event::NewNeigh(Neigh::parse(body)?),
        libc::RTM_DELNEIGH => Event::DelNeigh(Neigh::parse(body)?),
        libc::RTM_NEWRULE => Event::NewRule(Rule::parse(body)?),
        libc::RTM_DELRULE => Event::DelRule(Rule::parse(body)?),
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => Event::Hop {
            id: parse::hop_id(body)?,
            replaces,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ifreq::{self, IFF_UP};
    use crate::tap::{Tap, TapOptions};
    use rustix::event::{PollFd, PollFlags, poll};

    fn ip(args: &str) {
        let status = crate::children::sh(&format!("ip {args}")).unwrap();
        assert!(status.success(), "ip {args}");
    }

    #[test]
    fn dumps_show_links_addresses_routes_and_neighbours() {
        crate::netns::unshare().unwrap();
        let _tap = Tap::open("t0", TapOptions::default()).unwrap();
        ifreq::set_hwaddr("t0", [2, 0, 0, 0, 0, 9]).unwrap();
        ip("link set t0 up");
        ip("addr add 192.0.2.1/24 dev t0");
        ip("route add 198.51.100.0/24 via 192.0.2.7 metric 5");
        ip("neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 dev t0");
        let mut r = Rtnl::open().unwrap();
        let l = r.link("t0").unwrap();
        assert_eq!((l.name.as_str(), l.kind.as_str()), ("t0", "tun"));
        assert_eq!((l.mac, l.mtu), (Some([2, 0, 0, 0, 0, 9]), 1500));
        assert_ne!(l.flags & IFF_UP, 0);
        assert_eq!(r.links().unwrap().len(), 2);
        assert_eq!(
            r.link("nosuch").unwrap_err().raw_os_error(),
            Some(libc::ENODEV)
        );
        let a = r
            .addrs()
            .unwrap()
            .into_iter()
            .find(|a| a.index == l.index && a.addr.is_ipv4());
        let a = a.unwrap();
        assert_eq!((a.addr, a.prefix_len), ("192.0.2.1".parse().unwrap(), 24));
        let routes = r.routes().unwrap();
        let far = routes
            .iter()
            .find(|r| r.dst == "198.51.100.0".parse::<IpAddr>().unwrap());
        let far = far.unwrap();
        assert_eq!(
            (far.dst_len, far.gateway, far.oif, far.priority, far.table),
            (
                24,
                Some("192.0.2.7".parse().unwrap()),
                Some(l.index),
                5,
                254
            )
        );
        assert!(routes.iter().any(|r| r.table == 255 && r.kind == 2));
        let n = r.neighs().unwrap();
        let n = n
            .iter()
            .find(|n| n.addr == "192.0.2.7".parse::<IpAddr>().unwrap())
            .unwrap();
        assert_eq!((n.mac, n.index), (Some([2, 0, 0, 0, 0, 7]), l.index));
    }

    #[test]
    fn a_monitor_reports_a_device_that_comes_and_goes() {
        crate::netns::unshare().unwrap();
        let g = Groups {
            links: true,
            addrs: true,
            routes: true,
            neighs: true,
        };
        let mut m = Monitor::open(g).unwrap();
        assert_eq!(m.recv().unwrap(), []);
        let tap = Tap::open("t0", TapOptions::default()).unwrap();
        ip("addr add 192.0.2.1/24 dev t0");
        drop(tap);
        let is_gone = |e: &Event| matches!(e, Event::DelLink(l) if l.name == "t0");
        // A child that another test of this process starts may hold the device a little longer.
        let mut ev = m.recv().unwrap();
        while !ev.iter().any(is_gone) {
            let mut fds = [PollFd::new(&m, PollFlags::IN)];
            let limit = rustix::time::Timespec {
                tv_sec: 20,
                tv_nsec: 0,
            };
            assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1);
            ev.extend(m.recv().unwrap());
        }
        assert!(
            ev.iter()
                .any(|e| matches!(e, Event::NewLink(l) if l.name == "t0"))
        );
        assert!(
            ev.iter()
                .any(|e| matches!(e, Event::NewAddr(a) if a.prefix_len == 24))
        );
    }
}
