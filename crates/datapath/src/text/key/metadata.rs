//! What is known of a packet beyond its headers.

use std::fmt::Write;

use ferrovs_packet::flow::FLOW_TNL_F_MASK;
use ferrovs_packet::text::{Cursor, hex};
use ferrovs_packet::types::DpPort;

use super::{Attribute, Presence, U32, Written, attr, masked32};
use crate::text::{format_port, members};

pub(super) static RECIRC_ID: Attribute = Attribute {
    name: "recirc_id",
    bit: attr::RECIRC_ID,
    presence: Presence::Free,
    of: |_| true,
    print: |p, a| p.number(a.name, p.k.recirc_id.into(), p.m.recirc_id.into(), U32),
    read: |key, c, _| {
        (key.flow.recirc_id, key.wc.masks.recirc_id) = (c.number(U32)? as u32, u32::MAX);
        c.expect(")")
    },
    written: Written::Inside(|out, key| _ = write!(out, "{:#x}", key.flow.recirc_id)),
};

pub(super) static DP_HASH: Attribute = Attribute {
    name: "dp_hash",
    bit: attr::DP_HASH,
    presence: Presence::Free,
    of: |_| true,
    print: |p, a| p.number(a.name, p.k.dp_hash.into(), p.m.dp_hash.into(), U32),
    read: |key, c, _| {
        (key.flow.dp_hash, key.wc.masks.dp_hash) = masked32(c)?;
        Some(())
    },
    written: Written::Inside(|out, key| _ = write!(out, "{:#x}", key.flow.dp_hash)),
};

pub(super) static SKB_PRIORITY: Attribute = Attribute {
    name: "skb_priority",
    bit: attr::SKB_PRIORITY,
    presence: Presence::Free,
    of: |_| true,
    print: |p, a| {
        let (value, mask) = (p.k.skb_priority, p.m.skb_priority);
        p.number(a.name, value.into(), mask.into(), U32);
    },
    read: |key, c, _| {
        (key.flow.skb_priority, key.wc.masks.skb_priority) = masked32(c)?;
        Some(())
    },
    written: Written::Inside(|out, key| _ = write!(out, "{:#x}", key.flow.skb_priority)),
};

pub(super) static SKB_MARK: Attribute = Attribute {
    name: "skb_mark",
    bit: attr::SKB_MARK,
    presence: Presence::Free,
    of: |_| true,
    print: |p, a| p.number(a.name, p.k.pkt_mark.into(), p.m.pkt_mark.into(), U32),
    read: |key, c, _| {
        (key.flow.pkt_mark, key.wc.masks.pkt_mark) = masked32(c)?;
        Some(())
    },
    written: Written::Inside(|out, key| _ = write!(out, "{:#x}", key.flow.pkt_mark)),
};

pub(super) static TUNNEL: Attribute = Attribute {
    name: "tunnel",
    bit: attr::TUNNEL,
    presence: Presence::Free,
    of: |k| k.tunnel.dst_is_set(),
    print: |p, a| {
        let words = size_of_val(&p.m.tunnel) / 8;
        let wild = p.m.words()[..words].iter().all(|&w| w == 0);
        let (k, m, verbose) = (p.k, p.m, p.verbose);
        if !wild || verbose {
            p.inside(a.name, |out| {
                members::write_tunnel(out, &k.tunnel, Some(&m.tunnel), verbose);
            });
        }
    },
    read: |key, c, _| {
        let tunnel = members::read_tunnel(c)?;
        (key.flow.tunnel, key.wc.masks.tunnel) = (tunnel.value, tunnel.mask);
        Some(())
    },
    written: Written::Inside(|out, key| {
        let mut mask = key.wc.masks.tunnel;
        mask.flags = FLOW_TNL_F_MASK;
        members::write_tunnel(out, &key.flow.tunnel, Some(&mask), false);
    }),
};

pub(super) static IN_PORT: Attribute = Attribute {
    name: "in_port",
    bit: attr::IN_PORT,
    presence: Presence::Free,
    of: |k| k.in_port != DpPort::NONE.0,
    print: |p, a| {
        let (k, m, names) = (p.k, p.m, p.names);
        if m.in_port != 0 || p.verbose {
            p.inside(a.name, |out| {
                format_port(out, DpPort(k.in_port), names);
                if m.in_port != u32::MAX {
                    out.push('/');
                    hex(out, m.in_port.into());
                }
            });
        }
    },
    read: |key, c, names| {
        let text = c.take_while(|b| b != b')');
        let mut n = Cursor::new(text);
        (key.flow.in_port, key.wc.masks.in_port) = match n.masked(U32) {
            Some((v, m)) if n.is_empty() => (v as u32, m as u32),
            _ => (names?.number(text)?.0, u32::MAX),
        };
        c.expect(")")
    },
    written: Written::Inside(|out, key| _ = write!(out, "{}", key.flow.in_port)),
};
