//! What the datapath makes of packets by lists of actions, beside a naive model: a packet there is a list of headers,
//! an action a change of that list, and all bytes are written anew for each packet that is sent.
//!
//! Only actions that fit the packet are drawn, as a switch would send them: where one would look at the packet anew, for
//! an action made it one of another kind, it is only sent from there on, or gets another header. `FUZZ_CASES` says how
//! many lists.

use std::fmt::Write;
use std::sync::Arc;

use ferrovs_datapath::dpif::{Dpif, Execute};
use ferrovs_datapath::text::parse_actions;
use ferrovs_dpif_netdev::{Dummy, classes};
use ferrovs_packet::buffer::{Checksum, Packet};
use ferrovs_packet::flow::Flow;
use ferrovs_packet::parse::set_vlan_limit;
use ferrovs_packet::types::MacAddr;
use ferrovs_testkit::database::{Choose, Random};
use ferrovs_testkit::memory::{self, device};

#[path = "model/frame.rs"]
mod frame;

use frame::{Frame, Header, Header::*, array, bytes, draw, word};

const PORTS: [&str; 2] = ["model1", "model2"];

/// A list of actions as it is drawn: the packet as the model has it, the text so far, and what is sent.
struct Drawn<'a> {
    r: &'a mut Random,
    f: Frame,
    text: String,
    /// Through which port, and the bytes.
    sent: Vec<(usize, Vec<u8>)>,
    /// The packet is of another kind now: until it is looked at again it is only sent, or gets another header.
    hidden: bool,
}

fn mac(a: [u8; 6]) -> MacAddr {
    MacAddr(a)
}

fn ip6(a: [u8; 16]) -> std::net::Ipv6Addr {
    a.into()
}

fn ip4(a: u32) -> std::net::Ipv4Addr {
    a.into()
}

fn merge<const N: usize>(old: [u8; N], new: [u8; N], mask: [u8; N]) -> [u8; N] {
    std::array::from_fn(|i| old[i] & !mask[i] | new[i] & mask[i])
}

fn merge32(old: u32, new: u32, mask: u32) -> u32 {
    u32::from_be_bytes(merge(
        old.to_be_bytes(),
        new.to_be_bytes(),
        mask.to_be_bytes(),
    ))
}

impl Drawn<'_> {
    fn say(&mut self, action: &str) {
        if !matches!(self.text.chars().last(), None | Some('(')) {
            self.text.push(',');
        }
        self.text.push_str(action);
    }

    /// A mask: all, nothing, or some bits.
    fn mask<const N: usize>(&mut self) -> [u8; N] {
        match self.r.below(3) {
            0 => [0xff; N],
            1 => array(self.r),
            _ => {
                let mut mask = [0; N];
                mask[self.r.below(N)] = 0xff;
                mask
            }
        }
    }

    fn mask32(&mut self) -> u32 {
        u32::from_be_bytes(self.mask())
    }

    /// How many headers are of the link layer, with labels.
    fn n_link(&self) -> (usize, usize) {
        let h = &self.f.headers;
        let n = h
            .iter()
            .take_while(|h| matches!(h, Eth { .. } | Vlan { .. }));
        // An Ethernet header behind another one is inside of something.
        let link = n.count();
        let labels = h[link..].iter().take_while(|h| matches!(h, Mpls(_)));
        (link, labels.count())
    }

    fn output(&mut self, cut: Option<usize>) {
        let port = self.r.below(2);
        if let Some(max) = cut {
            self.say(&format!("trunc({max})"));
        }
        self.say(&format!("{}", port + 1));
        let mut bytes = self.f.bytes();
        bytes.truncate(cut.unwrap_or(usize::MAX));
        self.sent.push((port, bytes));
    }

    fn list(&mut self, n: usize, depth: usize) {
        for _ in 0..n {
            match self.r.below(8) {
                0 => self.output(None),
                // A checksum that is left to the device covers what is left of the packet.
                1 if !self.f.open => {
                    let max = 14 + self.r.below(120);
                    self.output(Some(max));
                }
                2 if depth < 3 => self.nested(depth),
                3 | 4 if !self.hidden => self.tag(),
                5 => self.encapsulate(),
                _ if !self.hidden => self.set(),
                _ => {}
            }
        }
    }

    /// `clone(..)`, `sample(..)` of all, and `check_pkt_len(..)`, which leave the packet behind as it was.
    fn nested(&mut self, depth: usize) {
        let before = (self.f.clone(), self.hidden);
        let n = 1 + self.r.below(3);
        match self.r.below(3) {
            0 => {
                self.say("clone(");
                self.list(n, depth + 1);
                self.output(None);
                self.text.push(')');
            }
            1 => {
                self.say("sample(sample=100.0%,actions(");
                self.list(n, depth + 1);
                self.output(None);
                self.text.push_str("))");
            }
            _ => {
                let size = self.r.below(200);
                let long = self.f.bytes().len() > size;
                self.say(&format!("check_pkt_len(size={size},gt("));
                for (side, is_it) in [("", long), ("),le(", !long)] {
                    self.text.push_str(side);
                    let so_far = self.sent.len();
                    (self.f, self.hidden) = before.clone();
                    self.list(n, depth + 1);
                    self.output(None);
                    if !is_it {
                        self.sent.truncate(so_far);
                    }
                }
                self.text.push_str("))");
            }
        }
        (self.f, self.hidden) = before;
    }

    /// Tags and labels.
    fn tag(&mut self) {
        let (link, labels) = self.n_link();
        let ethernet = self.f.first.is_none();
        match self.r.below(4) {
            0 if ethernet && link < 3 => {
                let (tpid, vid, pcp) = (
                    *self.r.pick(&[0x8100, 0x88a8]),
                    self.r.below(4096),
                    self.r.below(8),
                );
                self.say(&format!("push_vlan(tpid={tpid:#x},vid={vid},pcp={pcp})"));
                let Eth { ty, .. } = &mut self.f.headers[0] else {
                    panic!()
                };
                let inner = std::mem::replace(ty, tpid);
                let tci = (pcp << 13 | vid) as u16;
                self.f.headers.insert(1, Vlan { tci, ty: inner });
            }
            1 if ethernet && link > 1 => {
                self.say("pop_vlan");
                let Vlan { ty: inner, .. } = self.f.headers.remove(1) else {
                    panic!()
                };
                let Eth { ty, .. } = &mut self.f.headers[0] else {
                    panic!()
                };
                *ty = inner;
            }
            2 if labels < 3 => {
                let (label, tc, ttl) = (self.r.below(1 << 20), self.r.below(8), self.r.below(256));
                let bos = u32::from(labels == 0);
                let ty = *self.r.pick(&[0x8847u16, 0x8848]);
                self.say(&format!(
                    "push_mpls(label={label},tc={tc},ttl={ttl},bos={bos},eth_type={ty:#x})"
                ));
                let lse = (label << 12 | tc << 9 | ttl) as u32 | bos << 8;
                self.f.headers.insert(link, Mpls(lse));
                self.set_type(link, ty);
            }
            3 if labels > 0 => {
                let ty = match self.f.headers.get(link + 1) {
                    Some(Mpls(_)) => 0x8847,
                    Some(Ipv4 { .. }) => 0x800,
                    Some(Ipv6 { .. }) => 0x86dd,
                    Some(Arp { .. }) => 0x806,
                    _ => 0x9000u16,
                };
                self.say(&format!("pop_mpls(eth_type={ty:#x})"));
                self.f.headers.remove(link);
                self.set_type(link, ty);
                self.hidden = labels == 1;
            }
            _ => {}
        }
    }

    /// The type of what is behind `link` headers.
    fn set_type(&mut self, link: usize, new: u16) {
        match link.checked_sub(1).map(|last| &mut self.f.headers[last]) {
            None => self.f.first = Some(new),
            Some(Eth { ty, .. } | Vlan { ty, .. }) => *ty = new,
            Some(other) => panic!("{other:?}"),
        }
    }

    /// Ethernet and network service headers.
    fn encapsulate(&mut self) {
        let (link, _) = self.n_link();
        match self.r.below(4) {
            0 if self.f.first.is_none() && link == 1 && !self.hidden => {
                self.say("pop_eth");
                let Eth { ty, .. } = self.f.headers.remove(0) else {
                    panic!()
                };
                self.f.first = Some(ty);
                // The service header is what it was.
                self.hidden = ty != 0x894f;
            }
            1 => {
                let Some(ty) = self.f.first.take() else {
                    return;
                };
                let (src, dst) = (array(self.r), array(self.r));
                self.say(&format!("push_eth(src={},dst={})", mac(src), mac(dst)));
                self.f.headers.insert(0, Eth { dst, src, ty });
                self.hidden = true;
            }
            2 => {
                let np = match self.f.first {
                    None => 3,
                    Some(0x800) => 1,
                    Some(0x86dd) => 2,
                    Some(0x894f) => 4,
                    _ => return,
                };
                self.push_nsh(np);
            }
            3 if self.f.first == Some(0x894f) => {
                self.say("pop_nsh()");
                let Nsh { np, .. } = self.f.headers.remove(0) else {
                    panic!()
                };
                self.f.first =
                    [None, Some(0x800), Some(0x86dd), None, Some(0x894f)][usize::from(np)];
                self.hidden = true;
            }
            _ => {}
        }
    }

    fn push_nsh(&mut self, np: u8) {
        let r = &mut *self.r;
        let (flags, ttl, path) = (r.below(4) as u8, r.below(64) as u8, word(r));
        let md1: Option<[u32; 4]> = (r.below(2) == 0).then(|| std::array::from_fn(|_| word(r)));
        let n = if md1.is_some() { 0 } else { 4 + r.below(4) * 4 };
        let md2 = bytes(r, n);
        let mut text = format!(
            "push_nsh(flags={flags},ttl={ttl},mdtype={},np={np},spi={:#x},si={}",
            if md1.is_some() { 1 } else { 2 },
            path >> 8,
            path & 255
        );
        for (i, c) in md1.iter().flatten().enumerate() {
            _ = write!(text, ",c{}={c:#x}", i + 1);
        }
        if md1.is_none() {
            let hex: String = md2.iter().map(|b| format!("{b:02x}")).collect();
            _ = write!(text, ",md2=0x{hex}");
        }
        self.say(&format!("{text})"));
        self.f.headers.insert(
            0,
            Nsh {
                flags,
                ttl,
                np,
                path,
                md1,
                md2,
            },
        );
        self.f.first = Some(0x894f);
        self.hidden = false;
    }

    /// Sets members of a header that the packet shows.
    fn set(&mut self) {
        let (link, _) = self.n_link();
        let n = self.f.headers.len();
        let shown = match self.f.headers.get(link) {
            Some(Mpls(_)) => link + 1,
            Some(Nsh { .. }) => link + 1,
            _ => n,
        };
        let candidates: Vec<usize> = (0..shown.min(n))
            .filter(|i| !matches!(self.f.headers[*i], Vlan { .. }))
            .collect();
        if candidates.is_empty() {
            return;
        }
        let at = *self.r.pick(&candidates);
        let mut header = self.f.headers[at].clone();
        let v6 = matches!(
            at.checked_sub(1).map(|i| &self.f.headers[i]),
            Some(Ipv6 { .. })
        );
        let text = match &mut header {
            Eth { .. } | Mpls(_) | Nsh { .. } | Arp { .. } => self.set_link(&mut header),
            Ipv4 { .. } | Ipv6 { .. } => self.set_network(&mut header),
            _ => self.set_transport(&mut header, v6),
        };
        self.f.headers[at] = header;
        self.say(&format!("set({text})"));
    }

    fn set_link(&mut self, header: &mut Header) -> String {
        match header {
            Eth { dst, src, .. } => {
                let (new, m): ([u8; 6], [u8; 6]) = (array(self.r), self.mask());
                let target = if self.r.below(2) == 0 {
                    ("src", src)
                } else {
                    ("dst", dst)
                };
                *target.1 = merge(*target.1, new, m);
                format!(
                    "eth({}={}/{})",
                    target.0,
                    mac(merge([0; 6], new, m)),
                    mac(m)
                )
            }
            Mpls(lse) => {
                let new = word(self.r);
                // The label's place in the stack stays.
                *lse = *lse & 0x100 | new & !0x100;
                let (label, tc, ttl) = (new >> 12, new >> 9 & 7, new & 255);
                format!(
                    "mpls(label={label},tc={tc},ttl={ttl},bos={})",
                    *lse >> 8 & 1
                )
            }
            Nsh {
                flags, ttl, path, ..
            } => {
                (*flags, *ttl, *path) =
                    (self.r.below(4) as u8, self.r.below(64) as u8, word(self.r));
                format!(
                    "nsh(flags={flags},ttl={ttl},spi={:#x},si={})",
                    *path >> 8,
                    *path & 255
                )
            }
            Arp {
                op,
                sha,
                sip,
                tha,
                tip,
            } => {
                (*op, *sip, *tip) = (1 + self.r.below(2) as u16, word(self.r), word(self.r));
                (*sha, *tha) = (array(self.r), array(self.r));
                format!(
                    "arp(sip={},tip={},op={op},sha={},tha={})",
                    ip4(*sip),
                    ip4(*tip),
                    mac(*sha),
                    mac(*tha)
                )
            }
            other => panic!("{other:?}"),
        }
    }

    fn set_network(&mut self, header: &mut Header) -> String {
        match header {
            Ipv4 {
                tos, ttl, src, dst, ..
            } => {
                let (s, d) = (word(self.r), word(self.r));
                let (sm, dm) = (self.mask32(), self.mask32());
                (*src, *dst) = (merge32(*src, s, sm), merge32(*dst, d, dm));
                let mut text = format!(
                    "ipv4(src={}/{},dst={}/{}",
                    ip4(s & sm),
                    ip4(sm),
                    ip4(d & dm),
                    ip4(dm)
                );
                if self.r.below(2) == 0 {
                    (*tos, *ttl) = (self.r.below(256) as u8, self.r.below(256) as u8);
                    _ = write!(text, ",tos={tos:#x},ttl={ttl}");
                }
                text + ")"
            }
            Ipv6 {
                tos,
                label,
                ttl,
                src,
                dst,
                ..
            } => {
                let (s, d): ([u8; 16], [u8; 16]) = (array(self.r), array(self.r));
                let (sm, dm) = (self.mask(), self.mask());
                (*src, *dst) = (merge(*src, s, sm), merge(*dst, d, dm));
                let mut text = format!(
                    "ipv6(src={}/{},dst={}/{}",
                    ip6(merge([0; 16], s, sm)),
                    ip6(sm),
                    ip6(merge([0; 16], d, dm)),
                    ip6(dm)
                );
                if self.r.below(2) == 0 {
                    (*tos, *ttl) = (self.r.below(256) as u8, self.r.below(256) as u8);
                    *label = word(self.r) & 0xf_ffff;
                    _ = write!(text, ",label={label:#x},tclass={tos:#x},hlimit={ttl}");
                }
                text + ")"
            }
            other => panic!("{other:?}"),
        }
    }

    fn set_transport(&mut self, header: &mut Header, v6: bool) -> String {
        let port = |r: &mut Random| r.below(0x10000) as u16;
        match header {
            Tcp { ports, .. } => {
                *ports = (port(self.r), port(self.r));
                format!("tcp(src={},dst={})", ports.0, ports.1)
            }
            Udp { ports, .. } => {
                let (new, m) = (port(self.r), u16::from_be_bytes(self.mask()));
                ports.1 = ports.1 & !m | new & m;
                format!("udp(dst={}/{m:#x})", new & m)
            }
            Sctp { ports, .. } => {
                *ports = (port(self.r), port(self.r));
                format!("sctp(src={},dst={})", ports.0, ports.1)
            }
            Icmp { kind, code, .. } => {
                let (t, c) = (self.r.below(120) as u8, self.r.below(256) as u8);
                (*kind, *code) = (t, c);
                let name = if v6 { "icmpv6" } else { "icmp" };
                format!("{name}(type={t},code={c})")
            }
            Nd {
                target,
                options,
                reserved,
                ..
            } => {
                if self.r.below(3) == 0 {
                    *reserved = word(self.r);
                    return format!("nd_ext(nd_reserved={reserved:#x})");
                }
                let (sll, tll) = (array(self.r), array(self.r));
                *target = array(self.r);
                for (kind, address) in options {
                    *address = if *kind == 1 { sll } else { tll };
                }
                format!(
                    "nd(target={},sll={},tll={})",
                    ip6(*target),
                    mac(sll),
                    mac(tll)
                )
            }
            other => panic!("{other:?}"),
        }
    }
}

/// One packet and one list, through the datapath and the model.
fn one(dp: &Arc<dyn Dpif>, r: &mut Random) {
    let f = draw(r);
    let mut packet = Packet::from_slice(&f.bytes());
    if f.open
        && let Some((start, offset)) = f.checksum_at()
    {
        let at = start + usize::from(offset);
        packet.data_mut()[at..at + 2].copy_from_slice(&f.pseudo().to_be_bytes());
        packet.offload.checksum = Checksum::Partial {
            start: start as u16,
            offset,
        };
    }
    let before = format!("{f:?}");
    let n = 1 + r.below(8);
    let mut drawn = Drawn {
        r,
        f,
        text: String::new(),
        sent: Vec::new(),
        hidden: false,
    };
    drawn.list(n, 0);
    drawn.output(None);
    let (text, want) = (drawn.text, drawn.sent);
    let actions = parse_actions(&text, None).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    dp.execute(Execute {
        packet,
        flow: Box::new(Flow {
            in_port: 1,
            ..Flow::default()
        }),
        actions: actions.into(),
        mtu: 0,
        needs_help: false,
    })
    .unwrap();
    dp.quiesce();
    for (i, port) in PORTS.iter().enumerate() {
        let got = device(port).sent();
        let want = want.iter().filter(|(p, _)| *p == i).map(|(_, b)| b);
        let want: Vec<_> = want.collect();
        assert_eq!(got.len(), want.len(), "{text}\n{before}");
        for (got, want) in got.iter().zip(want) {
            assert!(
                got == want,
                "{text}\n{before}\ngot  {got:02x?}\nwant {want:02x?}"
            );
        }
    }
}

#[test]
fn packets_are_what_a_naive_model_makes_of_them() {
    set_vlan_limit(2);
    let ports: Vec<_> = PORTS.iter().map(|p| (*p, "memory")).collect();
    let dp = memory::datapath(&classes(Dummy::Normal), "model", &ports);
    let cases = std::env::var("FUZZ_CASES").map_or(5_000, |n| n.parse().unwrap());
    let mut r = Random::new(9);
    for _ in 0..cases {
        one(&dp, &mut r);
    }
    dp.destroy();
}
