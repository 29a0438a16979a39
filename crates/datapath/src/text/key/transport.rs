//! The transport layer. Later fragments have none.

use std::fmt::Write;

use ferrovs_packet::flow::{Flow, NW_FRAG_LATER};
use ferrovs_packet::text::Cursor;
use ferrovs_packet::types::{Be16, MacAddr, eth_type, ip_proto};

use super::{Attribute, ParsedKey, Presence, Printer, Written, attr};
use crate::action::{IcmpKey, NdKey, PortsKey};
use crate::text::{FieldWriter, TCP_FLAGS as FLAGS, format_flags, format_flags_masked, members};

fn is_over_ip(k: &Flow, proto: u8) -> bool {
    matches!(k.dl_type.get(), eth_type::IP | eth_type::IPV6)
        && k.nw_frag & NW_FRAG_LATER == 0
        && k.nw_proto == proto
}

pub(super) static TCP: Attribute = Attribute {
    name: "tcp",
    bit: attr::TCP,
    presence: Presence::Must,
    of: |k| is_over_ip(k, ip_proto::TCP),
    print: print_ports,
    read: |key, c, _| read_ports(key, c),
    written: WRITTEN_PORTS,
};

pub(super) static UDP: Attribute = Attribute {
    name: "udp",
    bit: attr::UDP,
    presence: Presence::Must,
    of: |k| is_over_ip(k, ip_proto::UDP),
    print: print_ports,
    read: |key, c, _| read_ports(key, c),
    written: WRITTEN_PORTS,
};

pub(super) static SCTP: Attribute = Attribute {
    name: "sctp",
    bit: attr::SCTP,
    presence: Presence::Must,
    of: |k| is_over_ip(k, ip_proto::SCTP),
    print: print_ports,
    read: |key, c, _| read_ports(key, c),
    written: WRITTEN_PORTS,
};

fn print_ports(p: &mut Printer<'_, '_>, a: &Attribute) {
    let ports = |f: &Flow| PortsKey {
        src: f.tp_src,
        dst: f.tp_dst,
    };
    let (key, mask) = (ports(p.k), ports(p.m));
    p.members(a.name, mask == PortsKey::default(), |w| {
        members::write_ports(w, &key, &mask);
    });
}

fn read_ports(key: &mut ParsedKey, c: &mut Cursor<'_>) -> Option<()> {
    let ports = members::read_ports(c)?;
    let (flow, wc) = (&mut key.flow, &mut key.wc.masks);
    (flow.tp_src, flow.tp_dst) = (ports.value.src, ports.value.dst);
    (wc.tp_src, wc.tp_dst) = (ports.mask.src, ports.mask.dst);
    Some(())
}

const WRITTEN_PORTS: Written = Written::Inside(|out, key| {
    let (src, dst) = (key.flow.tp_src.get(), key.flow.tp_dst.get());
    _ = write!(out, "src={src},dst={dst}");
});

pub(super) static TCP_FLAGS: Attribute = Attribute {
    name: "tcp_flags",
    bit: attr::TCP_FLAGS,
    presence: Presence::May,
    of: |k| is_over_ip(k, ip_proto::TCP),
    print: |p, a| {
        let (flags, mask) = (p.k.tcp_flags.get() & 0xfff, p.m.tcp_flags.get() & 0xfff);
        // A key without flags has no such attribute, unless the flow matches on that.
        if mask == 0 && (!p.verbose || flags == 0) {
            return;
        }
        p.inside(a.name, |out| match mask {
            0 => out.push_str("0/0"),
            0xfff => format_flags(out, &FLAGS, flags.into(), '|'),
            _ => format_flags_masked(out, &FLAGS, flags.into(), mask.into()),
        });
    },
    read: |key, c, _| {
        let (v, m) = c.flags(&FLAGS, 0xfff)?;
        (key.flow.tcp_flags, key.wc.masks.tcp_flags) = ((v as u16).into(), (m as u16).into());
        c.expect(")")
    },
    written: Written::AsRead,
};

pub(super) static ICMP: Attribute = Attribute {
    name: "icmp",
    bit: attr::ICMP,
    presence: Presence::Must,
    of: |k| k.dl_type.get() == eth_type::IP && is_over_ip(k, ip_proto::ICMP),
    print: print_icmp,
    read: |key, c, _| read_icmp(key, c),
    written: WRITTEN_ICMP,
};

pub(super) static ICMPV6: Attribute = Attribute {
    name: "icmpv6",
    bit: attr::ICMPV6,
    presence: Presence::Must,
    of: |k| k.dl_type.get() == eth_type::IPV6 && is_over_ip(k, ip_proto::ICMPV6),
    print: print_icmp,
    read: |key, c, _| read_icmp(key, c),
    written: WRITTEN_ICMP,
};

fn print_icmp(p: &mut Printer<'_, '_>, a: &Attribute) {
    let icmp = |f: &Flow| IcmpKey {
        icmp_type: f.tp_src.get() as u8,
        code: f.tp_dst.get() as u8,
    };
    let (key, mask) = (icmp(p.k), icmp(p.m));
    p.members(a.name, mask == IcmpKey::default(), |w| {
        members::write_icmp(w, &key, &mask);
    });
}

fn read_icmp(key: &mut ParsedKey, c: &mut Cursor<'_>) -> Option<()> {
    let icmp = members::read_icmp(c)?;
    let (flow, wc) = (&mut key.flow, &mut key.wc.masks);
    let wide = |v: u8| Be16::new(v.into());
    (flow.tp_src, flow.tp_dst) = (wide(icmp.value.icmp_type), wide(icmp.value.code));
    // The high bytes are zero in every packet.
    let exact = |m: u8| Be16::new(if m == 0xff { 0xffff } else { m.into() });
    (wc.tp_src, wc.tp_dst) = (exact(icmp.mask.icmp_type), exact(icmp.mask.code));
    Some(())
}

const WRITTEN_ICMP: Written = Written::Inside(|out, key| {
    let (ty, code) = (key.flow.tp_src.get(), key.flow.tp_dst.get());
    _ = write!(out, "type={ty},code={code}");
});

/// Whether it is a neighbour solicitation or advertisement.
fn is_nd(k: &Flow) -> bool {
    (ICMPV6.of)(k) && matches!(k.tp_src.get(), 135 | 136) && k.tp_dst.get() == 0
}

pub(super) static ND: Attribute = Attribute {
    name: "nd",
    bit: attr::ND,
    presence: Presence::Must,
    of: is_nd,
    print: |p, a| {
        let (key, mask) = (nd(p.k), nd(p.m));
        p.members(a.name, mask == NdKey::default(), |w| {
            members::write_nd(w, &key, &mask);
        });
    },
    read: |key, c, _| {
        let read = members::read_nd(c)?;
        let wc = &mut key.wc.masks;
        for (f, k) in [(&mut key.flow, &read.value), (wc, &read.mask)] {
            (f.nd_target, f.arp_sha, f.arp_tha) = (k.target, k.sll, k.tll);
        }
        Some(())
    },
    written: Written::Inside(|out, key| {
        let full = NdKey {
            target: [u8::MAX; 16],
            sll: MacAddr::BROADCAST,
            tll: MacAddr::BROADCAST,
        };
        members::write_nd(&mut FieldWriter::new(out, false), &nd(&key.flow), &full);
    }),
};

fn nd(f: &Flow) -> NdKey {
    NdKey {
        target: f.nd_target,
        sll: f.arp_sha,
        tll: f.arp_tha,
    }
}

pub(super) static ND_EXT: Attribute = Attribute {
    name: "nd_ext",
    bit: attr::ND_EXT,
    presence: Presence::May,
    of: is_nd,
    // Read only.
    print: |_, _| (),
    read: |key, c, _| {
        let ext = members::read_nd_ext(c)?;
        for (f, k) in [(&mut key.flow, &ext.value), (&mut key.wc.masks, &ext.mask)] {
            f.igmp_group_ip4 = k.reserved;
            f.tcp_flags = u16::from(k.options_type).into();
        }
        Some(())
    },
    written: Written::Inside(|out, key| {
        let (reserved, ty) = (key.flow.igmp_group_ip4.get(), key.flow.tcp_flags.get());
        _ = write!(out, "nd_reserved={reserved:#x},nd_options_type={ty}");
    }),
};
