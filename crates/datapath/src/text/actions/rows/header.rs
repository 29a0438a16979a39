//! Actions that add a header or take one away.

use std::fmt::Write;

use ferrovs_packet::flow::{VLAN_CFI, VLAN_PCP_SHIFT, VLAN_VID_MASK};
use ferrovs_packet::text::write_long_hex;
use ferrovs_packet::types::eth_type;

use super::{attribute, rows};
use crate::action::{Action, Masked, NshKey, PushNsh};
use crate::text::{ActionParser, members};

/// Longest metadata of a service header, in bytes.
const MAX_MD2: usize = 248;

rows! {
    "push_vlan" Inside Action::PushVlan { tpid, tci } => {
        size: attribute(4),
        write(out, names): {
            out.push_str("push_vlan(");
            if *tpid != eth_type::VLAN_8021Q {
                _ = write!(out, "tpid=0x{tpid:04x},");
            }
            let (vid, pcp) = (tci & VLAN_VID_MASK, tci >> VLAN_PCP_SHIFT);
            _ = write!(out, "vid={vid},pcp={pcp}");
            if tci & VLAN_CFI == 0 {
                out.push_str(",cfi=0");
            }
            out.push(')');
        },
        read(p, _inside): {
            let (mut tpid, mut tci) = (eth_type::VLAN_8021Q, VLAN_CFI);
            p.c.members(|name, c| {
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
            Some(Action::PushVlan { tpid, tci })
        },
    }
    "pop_vlan" Bare Action::PopVlan => {
        size: attribute(0),
        write(out, names): out.push_str("pop_vlan"),
        read(_p, _inside): Some(Action::PopVlan),
    }
    "push_mpls" Inside Action::PushMpls { lse, eth_type } => {
        size: attribute(8),
        write(out, names): write_mpls(out, "push_mpls", lse.get(), *eth_type),
        read(p, _inside): {
            let (lse, eth_type) = read_mpls(p)?;
            Some(Action::PushMpls { lse: lse.into(), eth_type })
        },
    }
    "add_mpls" Inside Action::AddMpls { lse, eth_type, .. } => {
        size: attribute(12),
        write(out, names): write_mpls(out, "add_mpls", lse.get(), *eth_type),
        read(p, _inside): {
            let (lse, eth_type) = read_mpls(p)?;
            Some(Action::AddMpls { lse: lse.into(), eth_type, tun_flags: 0 })
        },
    }
    "pop_mpls" Inside Action::PopMpls { eth_type } => {
        size: attribute(4),
        write(out, names): _ = write!(out, "pop_mpls(eth_type=0x{eth_type:x})"),
        read(p, _inside): {
            p.c.expect("eth_type=")?;
            let eth_type = p.last_number(0xffff)? as u16;
            Some(Action::PopMpls { eth_type })
        },
    }
    "push_eth" Inside Action::PushEth { src, dst } => {
        size: attribute(12),
        write(out, names): _ = write!(out, "push_eth(src={src},dst={dst})"),
        read(p, _inside): {
            let eth = members::read_ethernet(&mut p.c)?.value;
            Some(Action::PushEth { src: eth.src, dst: eth.dst })
        },
    }
    "pop_eth" Bare Action::PopEth => {
        size: attribute(0),
        write(out, names): out.push_str("pop_eth"),
        read(_p, _inside): Some(Action::PopEth),
    }
    "push_nsh" Inside Action::PushNsh(push) => {
        size: attribute(attribute(8) + attribute(16)),
        write(out, names): write_nsh(out, push),
        read(p, _inside): read_nsh(p),
    }
    "pop_nsh" Inside Action::PopNsh => {
        size: attribute(0),
        write(out, names): out.push_str("pop_nsh()"),
        read(p, _inside): {
            p.c.expect(")")?;
            Some(Action::PopNsh)
        },
    }
}

fn write_mpls(out: &mut String, name: &str, lse: u32, ethertype: u16) {
    _ = write!(out, "{name}(");
    members::write_mpls(out, lse, None);
    _ = write!(out, ",eth_type=0x{ethertype:x})");
}

fn read_mpls(p: &mut ActionParser<'_, '_>) -> Option<(u32, u16)> {
    let (mut lse, mut eth_type) = (0u32, None);
    p.c.members(|name, c| {
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
    Some((lse, eth_type?))
}

fn write_nsh(out: &mut String, push: &PushNsh) {
    let k = &push.key;
    let path = k.path_hdr.get();
    _ = write!(
        out,
        "push_nsh(flags={},ttl={},mdtype={},np={},spi=0x{:x},si={}",
        k.flags,
        k.ttl,
        k.mdtype,
        k.np,
        path >> 8,
        path & 0xff
    );
    match k.mdtype {
        1 => {
            for (i, c) in k.context.iter().enumerate() {
                _ = write!(out, ",c{}=0x{:x}", i + 1, c.get());
            }
        }
        2 => {
            out.push_str(",md2=");
            write_long_hex(out, &push.md2);
        }
        _ => {}
    }
    out.push(')');
}

fn read_nsh(p: &mut ActionParser<'_, '_>) -> Option<Action> {
    let mut key = Masked::<NshKey>::default();
    key.value.ttl = 63;
    let mut md2 = Vec::new();
    p.c.members(|name, c| {
        if name != "md2" {
            return members::read_nsh_member(&mut key, name, c);
        }
        c.expect("0x")?;
        let mut bytes = c.hex_bytes()?;
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        md2 = bytes;
        (md2.len() <= MAX_MD2).then_some(())
    })?;
    Some(Action::PushNsh(Box::new(PushNsh {
        key: key.value,
        md2,
    })))
}
