//! The network layer, and what else stands behind an EtherType.

use ferrovs_packet::flow::{FLOW_MAX_MPLS_LABELS, Flow, NW_FRAG_MASK};
use ferrovs_packet::types::eth_type;

use super::{Attribute, Presence, Written, attr};
use crate::action::{ArpKey, Ipv4Key, Ipv6Key, NshKey};
use crate::text::{FieldWriter, members};

pub(super) static IPV4: Attribute = Attribute {
    name: "ipv4",
    bit: attr::IPV4,
    presence: Presence::Must,
    of: |k| k.dl_type.get() == eth_type::IP,
    print: |p, a| {
        let (key, mask) = (ipv4(p.k), ipv4(p.m));
        p.members(a.name, mask == Ipv4Key::default(), |w| {
            members::write_ipv4(w, &key, &mask);
        });
    },
    read: |key, c, _| {
        let ip = members::read_ipv4(c)?;
        for (f, k) in [(&mut key.flow, &ip.value), (&mut key.wc.masks, &ip.mask)] {
            (f.nw_src, f.nw_dst, f.nw_proto) = (k.src, k.dst, k.proto);
            (f.nw_tos, f.nw_ttl, f.nw_frag) = (k.tos, k.ttl, k.frag);
        }
        Some(())
    },
    written: Written::Inside(|out, key| {
        let full = Ipv4Key {
            src: u32::MAX.into(),
            dst: u32::MAX.into(),
            proto: u8::MAX,
            tos: u8::MAX,
            ttl: u8::MAX,
            frag: NW_FRAG_MASK,
        };
        members::write_ipv4(&mut FieldWriter::new(out, false), &ipv4(&key.flow), &full);
    }),
};

fn ipv4(f: &Flow) -> Ipv4Key {
    Ipv4Key {
        src: f.nw_src,
        dst: f.nw_dst,
        proto: f.nw_proto,
        tos: f.nw_tos,
        ttl: f.nw_ttl,
        frag: f.nw_frag,
    }
}

pub(super) static IPV6: Attribute = Attribute {
    name: "ipv6",
    bit: attr::IPV6,
    presence: Presence::Must,
    of: |k| k.dl_type.get() == eth_type::IPV6,
    print: |p, a| {
        let (key, mask) = (ipv6(p.k), ipv6(p.m));
        p.members(a.name, mask == Ipv6Key::default(), |w| {
            members::write_ipv6(w, &key, &mask);
        });
    },
    read: |key, c, _| {
        let ip = members::read_ipv6(c)?;
        for (f, k) in [(&mut key.flow, &ip.value), (&mut key.wc.masks, &ip.mask)] {
            (f.ipv6_src, f.ipv6_dst, f.ipv6_label) = (k.src, k.dst, k.label);
            (f.nw_proto, f.nw_tos) = (k.proto, k.tclass);
            (f.nw_ttl, f.nw_frag) = (k.hlimit, k.frag);
        }
        Some(())
    },
    written: Written::Inside(|out, key| {
        let full = Ipv6Key {
            src: [u8::MAX; 16],
            dst: [u8::MAX; 16],
            label: 0xf_ffff.into(),
            proto: u8::MAX,
            tclass: u8::MAX,
            hlimit: u8::MAX,
            frag: NW_FRAG_MASK,
        };
        members::write_ipv6(&mut FieldWriter::new(out, false), &ipv6(&key.flow), &full);
    }),
};

fn ipv6(f: &Flow) -> Ipv6Key {
    Ipv6Key {
        src: f.ipv6_src,
        dst: f.ipv6_dst,
        label: f.ipv6_label,
        proto: f.nw_proto,
        tclass: f.nw_tos,
        hlimit: f.nw_ttl,
        frag: f.nw_frag,
    }
}

pub(super) static ARP: Attribute = Attribute {
    name: "arp",
    bit: attr::ARP,
    presence: Presence::Must,
    of: |k| matches!(k.dl_type.get(), eth_type::ARP | eth_type::RARP),
    print: |p, a| {
        let (key, mut mask) = (arp(p.k), arp(p.m));
        // The low byte of the operation stands for all of it.
        if mask.op.get() == 0xff {
            mask.op = u16::MAX.into();
        }
        p.members(a.name, mask == ArpKey::default(), |w| {
            members::write_arp(w, &key, &mask);
        });
    },
    read: |key, c, _| {
        let arp = members::read_arp(c)?;
        for (f, k) in [(&mut key.flow, &arp.value), (&mut key.wc.masks, &arp.mask)] {
            (f.nw_src, f.nw_dst) = (k.sip, k.tip);
            (f.arp_sha, f.arp_tha) = (k.sha, k.tha);
            f.nw_proto = k.op.get() as u8;
        }
        key.unknown_arp = Some(arp.value.op.get()).filter(|&op| op > 0xff);
        Some(())
    },
    written: Written::AsRead,
};

fn arp(f: &Flow) -> ArpKey {
    ArpKey {
        sip: f.nw_src,
        tip: f.nw_dst,
        op: u16::from(f.nw_proto).into(),
        sha: f.arp_sha,
        tha: f.arp_tha,
    }
}

pub(super) static MPLS: Attribute = Attribute {
    name: "mpls",
    bit: attr::MPLS,
    presence: Presence::Must,
    of: |k| matches!(k.dl_type.get(), eth_type::MPLS | eth_type::MPLS_MCAST),
    print: |p, a| {
        let (k, m) = (p.k, p.m);
        if !p.verbose && m.mpls_lse.iter().all(|l| l.get() == 0) {
            return;
        }
        let is_last = |i: &usize| {
            k.mpls_lse[*i].get() & 0x100 != 0
                || k.mpls_lse[i + 1].get() == 0
                || i + 1 == FLOW_MAX_MPLS_LABELS
        };
        let n = 1 + (0..).find(is_last).unwrap_or_default();
        let is_exact = m.mpls_lse[..n].iter().all(|m| m.get() == u32::MAX);
        p.inside(a.name, |out| {
            for i in 0..n {
                if i > 0 {
                    out.push(',');
                }
                let mask = (!is_exact).then(|| m.mpls_lse[i].get());
                members::write_mpls(out, k.mpls_lse[i].get(), mask);
            }
        });
    },
    read: |key, c, _| {
        let stack = members::read_mpls(c, FLOW_MAX_MPLS_LABELS)?;
        for (i, lse) in stack.iter().enumerate() {
            key.flow.mpls_lse[i] = lse.value.into();
            key.wc.masks.mpls_lse[i] = lse.mask.into();
        }
        Some(())
    },
    written: Written::AsRead,
};

pub(super) static NSH: Attribute = Attribute {
    name: "nsh",
    bit: attr::NSH,
    presence: Presence::Must,
    of: |k| k.dl_type.get() == eth_type::NSH,
    print: |p, a| {
        let (key, mask) = (nsh(p.k), nsh(p.m));
        p.members(a.name, mask == NshKey::default(), |w| {
            members::write_nsh(w, &key, &mask);
        });
    },
    read: |key, c, _| {
        let nsh = members::read_nsh(c)?;
        for (f, k) in [(&mut key.flow, &nsh.value), (&mut key.wc.masks, &nsh.mask)] {
            (f.nsh.flags, f.nsh.ttl, f.nsh.mdtype, f.nsh.np) = (k.flags, k.ttl, k.mdtype, k.np);
            (f.nsh.path_hdr, f.nsh.context) = (k.path_hdr, k.context);
        }
        Some(())
    },
    written: Written::AsRead,
};

fn nsh(f: &Flow) -> NshKey {
    NshKey {
        flags: f.nsh.flags,
        ttl: f.nsh.ttl,
        mdtype: f.nsh.mdtype,
        np: f.nsh.np,
        path_hdr: f.nsh.path_hdr,
        context: f.nsh.context,
    }
}
