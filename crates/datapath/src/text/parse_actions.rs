//! Reads datapath actions.

use ferrovs_packet::flow::VLAN_CFI;
use ferrovs_packet::text::Cursor;
use ferrovs_packet::types::{DpPort, eth_type};

use super::PortNames;
use super::actions::{ActionsError, COOKIE_SIZE, MAX_DEPTH};
use super::members as text;
use crate::action::{
    Action, Cookie, Ct, DropReason, HashAlg, Masked, Nat, NatKind, NshKey, PushNsh,
    SampleDirection, Set, SlowPath, TunnelPush, Userspace,
};

/// Separators between actions.
const DELIMITERS: [char; 5] = [',', ' ', '\t', '\r', '\n'];

/// Reads a list of actions; `drop` alone is the empty list. Port names are understood when `names` are given.
pub fn parse_actions(input: &str, names: Option<&PortNames>) -> Result<Vec<Action>, ActionsError> {
    if input.trim() == "drop" {
        return Ok(Vec::new());
    }
    let mut p = Parser {
        c: Cursor::new(input),
        names,
        depth: 0,
    };
    let mut out = Vec::new();
    loop {
        p.c.skip_any(&DELIMITERS);
        if p.c.is_empty() {
            return Ok(out);
        }
        p.action(&mut out).ok_or(ActionsError)?;
        // What follows an action must separate it from the next.
        if !p.c.is_empty() && !p.c.rest().starts_with(DELIMITERS) {
            return Err(ActionsError);
        }
    }
}

struct Parser<'a, 'n> {
    c: Cursor<'a>,
    names: Option<&'n PortNames>,
    depth: usize,
}

impl Parser<'_, '_> {
    /// Actions up to and including the closing parenthesis.
    fn nested(&mut self) -> Option<Vec<Action>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut out = Vec::new();
        if !self.c.eat("drop)") {
            loop {
                self.c.skip_any(&DELIMITERS);
                if self.c.eat(")") {
                    break;
                }
                self.action(&mut out)?;
            }
        }
        self.depth -= 1;
        Some(out)
    }

    fn port(&mut self) -> Option<DpPort> {
        if let Some(n) = self.c.number(u32::MAX.into()) {
            return Some(DpPort(n as u32));
        }
        let mut copy = self.c;
        let name = copy.take_while(|b| !matches!(b, b',' | b')' | b' ' | b'\t' | b'\n'));
        let port = self.names?.number(name)?;
        self.c = copy;
        Some(port)
    }

    fn action(&mut self, out: &mut Vec<Action>) -> Option<()> {
        if self.c.peek()?.is_ascii_digit() {
            let port = DpPort(self.c.number(u32::MAX.into())? as u32);
            out.push(Action::Output(port));
            return Some(());
        }
        let before = self.c;
        let name = self
            .c
            .take_while(|b| b.is_ascii_alphanumeric() || b == b'_');
        let args = self.c.eat("(");
        let c = &mut self.c;
        let action = match (name, args) {
            ("userspace", true) => Action::Userspace(self.userspace()?),
            ("set", true) => Action::Set(self.set()?),
            ("push_vlan", true) => {
                let (mut tpid, mut tci) = (eth_type::VLAN_8021Q, VLAN_CFI);
                c.members(|name, c| {
                    match name {
                        "tpid" => tpid = c.number(0xffff)? as u16,
                        "vid" => tci |= c.number(0xfff)? as u16,
                        "pcp" => tci |= (c.number(7)? as u16) << 13,
                        "cfi" => {
                            if c.number(1)? == 0 {
                                tci &= !VLAN_CFI;
                            }
                        }
                        _ => return None,
                    }
                    Some(())
                })?;
                Action::PushVlan { tpid, tci }
            }
            ("pop_vlan", false) => Action::PopVlan,
            ("sample", true) => {
                c.expect("sample=")?;
                let percent: f64 = c
                    .take_while(|b| b.is_ascii_digit() || b == b'.')
                    .parse()
                    .ok()?;
                if !(0.0..=100.0).contains(&percent) {
                    return None;
                }
                c.expect("%,actions(")?;
                let actions = self.nested()?;
                self.c.expect(")")?;
                // Rounded down to a full probability at 100 percent.
                let probability = (f64::from(u32::MAX) * (percent / 100.0) + 0.5) as u32;
                Action::Sample {
                    probability,
                    actions,
                }
            }
            ("recirc", true) => {
                let id = c.number(u32::MAX.into())? as u32;
                c.expect(")")?;
                Action::Recirc(id)
            }
            ("hash", true) => {
                let alg = match c.take_while(|b| b.is_ascii_alphanumeric() || b == b'_') {
                    "l4" | "hash_l4" => HashAlg::L4,
                    "sym_l4" | "hash_sym_l4" => HashAlg::SymL4,
                    _ => return None,
                };
                c.expect("(")?;
                let basis = c.number(u32::MAX.into())? as u32;
                c.expect("))")?;
                Action::Hash { alg, basis }
            }
            ("push_mpls" | "add_mpls", true) => {
                let (mut lse, mut eth_type) = (0u32, None);
                c.members(|name, c| {
                    match name {
                        "label" => lse |= (c.number(0xf_ffff)? as u32) << 12,
                        "tc" => lse |= (c.number(7)? as u32) << 9,
                        "ttl" => lse |= c.number(0xff)? as u32,
                        "bos" => lse |= (c.number(1)? as u32) << 8,
                        "eth_type" => eth_type = Some(c.number(0xffff)? as u16),
                        _ => return None,
                    }
                    Some(())
                })?;
                let (lse, eth_type) = (lse.into(), eth_type?);
                if name == "push_mpls" {
                    Action::PushMpls { lse, eth_type }
                } else {
                    Action::AddMpls {
                        lse,
                        eth_type,
                        tun_flags: 0,
                    }
                }
            }
            ("pop_mpls", true) => {
                c.expect("eth_type=")?;
                let eth_type = c.number(0xffff)? as u16;
                c.expect(")")?;
                Action::PopMpls { eth_type }
            }
            ("ct", args) => Action::Ct(Box::new(self.ct(args)?)),
            ("ct_clear", false) => Action::CtClear,
            ("trunc", true) => {
                let len = c.number(u32::MAX.into())? as u32;
                c.expect(")")?;
                Action::Trunc(len)
            }
            ("push_eth", true) => {
                let eth = text::read_ethernet(c)?;
                Action::PushEth {
                    src: eth.value.src,
                    dst: eth.value.dst,
                }
            }
            ("pop_eth", false) => Action::PopEth,
            ("push_nsh", true) => self.push_nsh()?,
            ("pop_nsh", true) => {
                c.expect(")")?;
                Action::PopNsh
            }
            ("meter", true) => {
                let id = c.number(u32::MAX.into())? as u32;
                c.expect(")")?;
                Action::Meter(id)
            }
            ("clone", true) => Action::Clone(self.nested()?),
            ("check_pkt_len", true) => {
                c.expect("size=")?;
                let size = c.number(0xffff)? as u16;
                c.expect(",gt(")?;
                let greater = self.nested()?;
                self.c.expect(",le(")?;
                let less_equal = self.nested()?;
                self.c.expect(")")?;
                Action::CheckPktLen {
                    size,
                    greater,
                    less_equal,
                }
            }
            ("dec_ttl", true) => {
                c.expect("le_1(")?;
                let exceeded = self.nested()?;
                self.c.expect(")")?;
                Action::DecTtl { exceeded }
            }
            ("drop", false) => Action::Drop(DropReason::Ok),
            ("psample", true) => {
                let (mut group, mut cookie) = (None, Vec::new());
                c.members(|name, c| {
                    match name {
                        "group" => group = Some(c.number(u32::MAX.into())? as u32),
                        "cookie" => {
                            c.eat("0x");
                            cookie = c.hex_bytes()?;
                        }
                        _ => return None,
                    }
                    Some(())
                })?;
                if cookie.len() > 16 {
                    return None;
                }
                Action::Psample {
                    group: group?,
                    cookie,
                }
            }
            ("tnl_push", true) => {
                c.expect("tnl_port(")?;
                let tnl_port = self.port()?;
                self.c.expect("),header(")?;
                let header = ferrovs_encap::text::parse(&mut self.c)?;
                self.c.expect(",out_port(")?;
                let out_port = self.port()?;
                self.c.expect("))")?;
                Action::TunnelPush(Box::new(TunnelPush {
                    tnl_port,
                    out_port,
                    header,
                }))
            }
            ("tnl_pop", true) => {
                let port = self.port()?;
                self.c.expect(")")?;
                Action::TunnelPop(port)
            }
            ("lb_output", true) => {
                let bond = c.number(u32::MAX.into())? as u32;
                c.expect(")")?;
                Action::LbOutput(bond)
            }
            _ => {
                self.c = before;
                Action::Output(self.port()?)
            }
        };
        out.push(action);
        Some(())
    }

    fn userspace(&mut self) -> Option<Userspace> {
        let c = &mut self.c;
        c.expect("pid=")?;
        let pid = c.number(u32::MAX.into())? as u32;
        let mut cookie = None;
        let (mut with_actions, mut tunnel_out_port) = (false, None);
        while !c.eat(")") {
            c.expect(",")?;
            let name = c.take_while(|b| b.is_ascii_alphanumeric() || b == b'_');
            match name {
                "actions" => with_actions = true,
                "tunnel_out_port" => {
                    c.expect("=")?;
                    tunnel_out_port = Some(DpPort(c.number(u32::MAX.into())? as u32));
                }
                _ => {
                    c.expect("(")?;
                    cookie = Some(cookie_text(c, name)?);
                }
            }
        }
        Some(Userspace {
            pid,
            cookie: cookie.unwrap_or_else(|| Cookie::Raw(vec![0; COOKIE_SIZE])),
            with_actions,
            tunnel_out_port,
        })
    }

    fn set(&mut self) -> Option<Set> {
        let c = &mut self.c;
        let name = c.take_while(|b| b.is_ascii_alphanumeric() || b == b'_');
        c.expect("(")?;
        let number = |c: &mut Cursor<'_>| {
            let (v, m) = c.masked(u32::MAX.into())?;
            c.expect(")")?;
            Some(Masked {
                value: v as u32,
                mask: m as u32,
            })
        };
        let set = match name {
            "skb_priority" => Set::SkbPriority(number(c)?),
            "skb_mark" => Set::SkbMark(number(c)?),
            "ct_mark" => Set::CtMark(number(c)?),
            "ct_label" => {
                let (v, m) = c.masked128()?;
                c.expect(")")?;
                Set::CtLabels(Masked {
                    value: v.to_be_bytes(),
                    mask: m.to_be_bytes(),
                })
            }
            "eth" => Set::Ethernet(text::read_ethernet(c)?),
            "mpls" => {
                let stack = text::read_mpls(c, 1)?;
                Set::Mpls(*stack.first()?)
            }
            "ipv4" => Set::Ipv4(text::read_ipv4(c)?),
            "ipv6" => Set::Ipv6(text::read_ipv6(c)?),
            "tcp" => Set::Tcp(text::read_ports(c)?),
            "udp" => Set::Udp(text::read_ports(c)?),
            "sctp" => Set::Sctp(text::read_ports(c)?),
            "icmp" => Set::Icmp(text::read_icmp(c)?),
            "icmpv6" => Set::Icmpv6(text::read_icmp(c)?),
            "arp" => Set::Arp(text::read_arp(c)?),
            "nd" => Set::Nd(text::read_nd(c)?),
            "nd_ext" => Set::NdExtensions(text::read_nd_ext(c)?),
            "nsh" => Set::Nsh(Box::new(text::read_nsh(c)?)),
            "tunnel" => Set::Tunnel(Box::new(text::read_tunnel(c)?.value)),
            _ => return None,
        };
        c.expect(")")?;
        Some(set)
    }

    fn push_nsh(&mut self) -> Option<Action> {
        let mut key = Masked::<NshKey>::default();
        key.value.ttl = 63;
        let mut md2 = Vec::new();
        self.c.members(|name, c| {
            if name != "md2" {
                return text::read_nsh_member(&mut key, name, c);
            }
            c.expect("0x")?;
            let mut bytes = c.hex_bytes()?;
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            md2 = bytes;
            (md2.len() <= 248).then_some(())
        })?;
        Some(Action::PushNsh(Box::new(PushNsh {
            key: key.value,
            md2,
        })))
    }

    fn ct(&mut self, args: bool) -> Option<Ct> {
        let mut ct = Ct::default();
        if !args {
            return Some(ct);
        }
        let word = |c: &mut Cursor<'_>| {
            let word = c.take_while(|b| !matches!(b, b',' | b')' | b' '));
            (!word.is_empty() && word.len() < 32).then(|| word.to_owned())
        };
        self.c.members(|name, c| {
            match name {
                "commit" => ct.commit = true,
                "force_commit" => (ct.commit, ct.force) = (true, true),
                "zone" => ct.zone = c.number(0xffff)? as u16,
                "mark" => {
                    let (v, m) = c.masked(u32::MAX.into())?;
                    ct.mark = Some(Masked {
                        value: v as u32,
                        mask: m as u32,
                    });
                }
                "label" => {
                    let (v, m) = c.masked128()?;
                    ct.labels = Some(Masked {
                        value: v.to_be_bytes(),
                        mask: m.to_be_bytes(),
                    });
                }
                "helper" => ct.helper = Some(word(c)?),
                "timeout" => ct.timeout = Some(word(c)?),
                "nat" => ct.nat = Some(nat_text(c)?),
                _ => return None,
            }
            Some(())
        })?;
        Some(ct)
    }
}

fn nat_text(c: &mut Cursor<'_>) -> Option<Nat> {
    let mut nat = Nat::default();
    if !c.eat("(") {
        return Some(nat);
    }
    c.members(|name, c| {
        match name {
            "src" | "dst" => {
                nat.kind = if name == "src" {
                    NatKind::Src
                } else {
                    NatKind::Dst
                };
                nat_range(c, &mut nat)?;
            }
            "persistent" => nat.persistent = true,
            "hash" => nat.hash = true,
            "random" => nat.random = true,
            _ => return None,
        }
        Some(())
    })?;
    Some(nat)
}

fn nat_range(c: &mut Cursor<'_>, nat: &mut Nat) -> Option<()> {
    let v4 = |ip: u32| {
        let mut out = [0; 16];
        out[12..].copy_from_slice(&ip.to_be_bytes());
        out
    };
    match c.peek()? {
        b',' | b')' => return Some(()),
        b':' => {}
        _ => {
            if let Some(min) = c.ipv4() {
                nat.ip_min = v4(min);
                if c.eat("-") {
                    nat.ip_max = v4(c.ipv4()?);
                }
            } else {
                nat.ipv6 = true;
                let brackets = c.eat("[");
                nat.ip_min = c.ipv6()?;
                if brackets {
                    c.expect("]")?;
                }
                if c.eat("-") {
                    let brackets = c.eat("[");
                    nat.ip_max = c.ipv6()?;
                    if brackets {
                        c.expect("]")?;
                    }
                }
            }
        }
    }
    if c.eat(":") {
        nat.port_min = c.number(0xffff)? as u16;
        if c.eat("-") {
            nat.port_max = c.number(0xffff)? as u16;
        }
    }
    Some(())
}

/// The cookie called `name`, up to and including its closing parenthesis.
fn cookie_text(c: &mut Cursor<'_>, name: &str) -> Option<Cookie> {
    let full = u64::from(u32::MAX);
    let (ofp_in_port, ofproto) = (u16::MAX, 0);
    match name {
        "userdata" => {
            let mut bytes = c.hex_bytes()?;
            c.expect(")")?;
            bytes.resize(bytes.len().next_multiple_of(8).max(8), 0);
            Some(Cookie::Raw(bytes))
        }
        "sFlow" => {
            let (mut tci, mut output) = (0u16, 0);
            c.members(|name, c| {
                match name {
                    "vid" => tci |= c.number(0xfff)? as u16,
                    "pcp" => tci |= (c.number(7)? as u16) << 13,
                    "output" => output = c.number(full)? as u32,
                    _ => return None,
                }
                Some(())
            })?;
            Some(Cookie::Sflow {
                vlan_tci: (tci | VLAN_CFI).into(),
                output,
                ofp_in_port,
                ofproto,
            })
        }
        "slow_path" => {
            let mut reason = SlowPath::NONE;
            if !c.eat("0") {
                loop {
                    let word = c.take_while(|b| b.is_ascii_alphanumeric());
                    reason |= SlowPath::NAMES.iter().find(|(_, n)| *n == word)?.0;
                    if !c.eat("|") {
                        break;
                    }
                }
            }
            c.expect(")")?;
            Some(Cookie::SlowPath {
                reason,
                ofp_in_port,
                ofproto,
            })
        }
        "flow_sample" => {
            let (mut probability, mut set, mut domain, mut point) = (0, 0, 0, 0);
            let mut output_port = DpPort::NONE;
            let mut direction = SampleDirection::None;
            c.members(|name, c| {
                match name {
                    "probability" => probability = c.number(0xffff)? as u16,
                    "collector_set_id" => set = c.number(full)? as u32,
                    "obs_domain_id" => domain = c.number(full)? as u32,
                    "obs_point_id" => point = c.number(full)? as u32,
                    "output_port" => output_port = DpPort(c.number(full)? as u32),
                    "ingress" => direction = SampleDirection::Ingress,
                    "egress" => direction = SampleDirection::Egress,
                    _ => return None,
                }
                Some(())
            })?;
            Some(Cookie::FlowSample {
                probability,
                collector_set_id: set,
                obs_domain_id: domain,
                obs_point_id: point,
                output_port,
                direction,
                ofp_in_port,
                ofproto,
            })
        }
        "ipfix" => {
            c.expect("output_port=")?;
            let output_port = DpPort(c.number(full)? as u32);
            c.expect(")")?;
            Some(Cookie::Ipfix {
                output_port,
                ofp_in_port,
                ofproto,
            })
        }
        "controller" => {
            let (mut reason, mut dont_send, mut continuation) = (0, false, false);
            let (mut recirc_id, mut rule_cookie, mut id, mut max_len) = (0, 0, 0, 0);
            c.members(|name, c| {
                match name {
                    "reason" => reason = c.number(0xff)? as u8,
                    "dont_send" => dont_send = c.number(1)? != 0,
                    "continuation" => continuation = c.number(1)? != 0,
                    "recirc_id" => recirc_id = c.number(full)? as u32,
                    "rule_cookie" => rule_cookie = c.number(u64::MAX)?,
                    "controller_id" => id = c.number(0xffff)? as u16,
                    "max_len" => max_len = c.number(0xffff)? as u16,
                    _ => return None,
                }
                Some(())
            })?;
            Some(Cookie::Controller {
                dont_send,
                continuation,
                reason,
                recirc_id,
                rule_cookie,
                controller_id: id,
                max_len,
                ofp_in_port,
                ofproto,
            })
        }
        _ => None,
    }
}
