//! Actions to bytes, with the choices that Open vSwitch makes for each version.
//!
//! What a version lacks is said with what it has: `set_field` becomes loads before 1.2, the old `mod_*` actions
//! become set-field from 1.2 on, `enqueue` becomes set-queue, output and pop-queue, and so on.

use ferrovs_packet::field::{Field, FieldId, FieldValue, SubField, port_to_ofp11};
use ferrovs_packet::flow::{IP_DSCP_MASK, VLAN_CFI, VLAN_PCP_SHIFT, VLAN_VID_MASK};
use ferrovs_packet::types::{eth_type, ip_proto};

use super::*;
use crate::error::{NX_VENDOR, ONF_VENDOR};
use crate::oxm;
use crate::tun::Tun;
use crate::version::Version;
use crate::wire::Put;

/// Appends a list of actions; instructions in it that the version has as actions become those, others are skipped.
pub fn actions(list: &[Action], version: Version, tun: &Tun<'_>, out: &mut Vec<u8>) {
    let e = Encoder { version, tun };
    for a in list {
        e.action(a, out);
    }
}

struct Encoder<'a, 'b> {
    version: Version,
    tun: &'a Tun<'b>,
}

/// Begins an action and fixes its length (padded to 8) when done.
fn std(out: &mut Vec<u8>, type_: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u16(type_);
    out.put_u16(0);
    body(out);
    out.pad8(start);
    let len = out.len() - start;
    out.set_u16(start + 2, len as u16);
}

fn nx(out: &mut Vec<u8>, subtype: u16, body: impl FnOnce(&mut Vec<u8>)) {
    std(out, 0xffff, |o| {
        o.put_u32(NX_VENDOR);
        o.put_u16(subtype);
        body(o);
    });
}

fn pack(sf: &SubField) -> u16 {
    sf.ofs << 6 | (sf.n_bits - 1) & 0x3f
}

impl Encoder<'_, '_> {
    fn flavor(&self) -> oxm::Flavor {
        Some(self.version)
    }

    /// Names a field as Nicira's actions do: the NXM code point if it has one.
    fn nxm(&self, field: FieldId, out: &mut Vec<u8>) {
        let f = field.field();
        if let Some(o) = f.oxm(0) {
            let n = self.tun.bytes(f) as u8;
            let n = if f.id.tun_metadata_index().is_some() && self.tun.is_auto() {
                f.n_bytes
            } else {
                n
            };
            o.header(n, false).write(out);
        }
    }

    fn set_exact(&self, field: FieldId, value: u64, out: &mut Vec<u8>) {
        let f = field.field();
        std(out, 25, |o| {
            oxm::put_entry(
                f,
                &value.into(),
                &f.exact_mask(),
                self.flavor(),
                self.tun,
                o,
            );
        });
    }

    fn action(&self, a: &Action, out: &mut Vec<u8>) {
        use Version::*;
        let v = self.version;
        let v10 = v == V10;
        match a {
            Action::Output { port, max_len } => std(out, 0, |o| {
                if v10 {
                    o.put_u16(port.0);
                    o.put_u16(*max_len);
                } else {
                    o.put_u32(port_to_ofp11(port.0));
                    o.put_u16(*max_len);
                    o.put_zeros(6);
                }
            }),
            Action::OutputReg { src, max_len } => {
                let wide = src.field.field().oxm(0).is_some_and(|o| o.class == 0xffff);
                if wide || src.n_bits > 64 {
                    nx(out, 32, |o| {
                        o.put_u16(pack(src));
                        o.put_u16(*max_len);
                        self.nxm(src.field, o);
                        while o.len() % 2 != 0 {
                            o.put_u8(0);
                        }
                    });
                } else {
                    nx(out, 15, |o| {
                        o.put_u16(pack(src));
                        self.nxm(src.field, o);
                        o.put_u16(*max_len);
                        o.put_zeros(6);
                    });
                }
            }
            Action::OutputTrunc { port, max_len } => nx(out, 39, |o| {
                o.put_u16(port.0);
                o.put_u32(*max_len);
            }),
            Action::Group(id) => {
                if v10 {
                    nx(out, 40, |o| {
                        o.put_u16(0);
                        o.put_u32(*id);
                    });
                } else {
                    std(out, 22, |o| o.put_u32(*id));
                }
            }
            Action::Controller(c) => self.controller(c, out),
            Action::Enqueue { port, queue } => {
                if v10 {
                    std(out, 11, |o| {
                        o.put_u16(port.0);
                        o.put_zeros(6);
                        o.put_u32(*queue);
                    });
                } else {
                    self.action(&Action::SetQueue(*queue), out);
                    let port = Action::Output {
                        port: *port,
                        max_len: MAX_LEN_NO_BUFFER,
                    };
                    self.action(&port, out);
                    self.action(&Action::PopQueue, out);
                }
            }
            Action::Bundle(b) => self.bundle(b, out),
            Action::SetField(sf) => self.set_field(sf, out),
            Action::RegMove { src, dst, onf } => {
                let fields = |o: &mut Vec<u8>| {
                    o.put_u16(src.n_bits);
                    o.put_u16(src.ofs);
                    o.put_u16(dst.ofs);
                };
                if v >= V15 {
                    std(out, 28, |o| {
                        fields(o);
                        o.put_u16(0);
                        oxm::put_header(src.field, self.flavor(), o);
                        oxm::put_header(dst.field, self.flavor(), o);
                    });
                } else if *onf && v == V13 {
                    std(out, 0xffff, |o| {
                        o.put_u32(ONF_VENDOR);
                        o.put_u16(3200);
                        o.put_u16(0);
                        fields(o);
                        o.put_u16(0);
                        oxm::put_header(src.field, self.flavor(), o);
                        oxm::put_header(dst.field, self.flavor(), o);
                    });
                } else {
                    nx(out, 6, |o| {
                        fields(o);
                        self.nxm(src.field, o);
                        self.nxm(dst.field, o);
                    });
                }
            }
            Action::SetVlanVid {
                vid,
                push_if_needed,
                flow_has_vlan,
            } => {
                if v10 {
                    return std(out, 1, |o| o.put_u16(*vid));
                }
                if *push_if_needed && !*flow_has_vlan {
                    std(out, 17, |o| o.put_u16(eth_type::VLAN_8021Q));
                }
                if v == V11 {
                    std(out, 1, |o| o.put_u16(*vid));
                } else {
                    self.set_exact(FieldId::VlanVid, (vid | VLAN_CFI).into(), out);
                }
            }
            Action::SetVlanPcp {
                pcp,
                push_if_needed,
                flow_has_vlan,
            } => {
                if v10 {
                    return std(out, 2, |o| o.put_u8(*pcp));
                }
                if *push_if_needed && !*flow_has_vlan {
                    std(out, 17, |o| o.put_u16(eth_type::VLAN_8021Q));
                }
                if v == V11 {
                    std(out, 2, |o| o.put_u8(*pcp));
                } else {
                    self.set_exact(FieldId::VlanPcp, (*pcp).into(), out);
                }
            }
            Action::StripVlan { .. } => std(out, if v10 { 3 } else { 18 }, |_| {}),
            // 1.0 has no push: setting the VLAN ID adds a tag there.
            Action::PushVlan(ty) => {
                if !v10 {
                    std(out, 17, |o| o.put_u16(ty.get()));
                }
            }
            Action::SetEthSrc(mac) => self.mac(4, FieldId::EthSrc, *mac, out),
            Action::SetEthDst(mac) => self.mac(5, FieldId::EthDst, *mac, out),
            Action::SetIpv4Src(ip) => self.ipv4(6, FieldId::IpSrc, *ip, out),
            Action::SetIpv4Dst(ip) => self.ipv4(7, FieldId::IpDst, *ip, out),
            Action::SetIpDscp(tos) => match v {
                V10 => std(out, 8, |o| o.put_u8(*tos)),
                V11 => std(out, 7, |o| o.put_u8(*tos)),
                _ => self.set_exact(FieldId::IpDscp, (tos >> 2).into(), out),
            },
            Action::SetIpEcn(ecn) => match v {
                V10 => self.load(&SubField::whole(FieldId::NwEcn), (*ecn).into(), out),
                V11 => std(out, 8, |o| o.put_u8(*ecn)),
                _ => self.set_exact(FieldId::NwEcn, (*ecn).into(), out),
            },
            Action::SetIpTtl(ttl) => {
                if v10 {
                    self.load(&SubField::whole(FieldId::NwTtl), (*ttl).into(), out);
                } else {
                    std(out, 23, |o| o.put_u8(*ttl));
                }
            }
            Action::SetL4SrcPort {
                port,
                flow_ip_proto,
            } => {
                let ids = [FieldId::TcpSrc, FieldId::UdpSrc, FieldId::SctpSrc];
                self.l4(9, ids, *port, *flow_ip_proto, out);
            }
            Action::SetL4DstPort {
                port,
                flow_ip_proto,
            } => {
                let ids = [FieldId::TcpDst, FieldId::UdpDst, FieldId::SctpDst];
                self.l4(10, ids, *port, *flow_ip_proto, out);
            }
            Action::DecTtl { ids, explicit_ids } => {
                if *explicit_ids || ids.len() > 1 || ids.first().is_some_and(|&id| id != 0) {
                    nx(out, 21, |o| {
                        o.put_u16(ids.len() as u16);
                        o.put_zeros(4);
                        ids.iter().for_each(|&id| o.put_u16(id));
                    });
                } else if v10 {
                    nx(out, 18, |_| {});
                } else {
                    std(out, 24, |_| {});
                }
            }
            Action::SetMplsLabel(label) => match v {
                V10 => nx(out, 30, |o| {
                    o.put_u16(0);
                    o.put_u32(*label);
                }),
                V11 => std(out, 13, |o| o.put_u32(*label)),
                _ => self.set_exact(FieldId::MplsLabel, (*label).into(), out),
            },
            Action::SetMplsTc(tc) => match v {
                V10 => nx(out, 31, |o| o.put_u8(*tc)),
                V11 => std(out, 14, |o| o.put_u8(*tc)),
                _ => self.set_exact(FieldId::MplsTc, (*tc).into(), out),
            },
            Action::SetMplsTtl(ttl) => {
                if v10 {
                    nx(out, 25, |o| o.put_u8(*ttl));
                } else {
                    std(out, 15, |o| o.put_u8(*ttl));
                }
            }
            Action::DecMplsTtl => self.either(26, 16, |_| {}, out),
            Action::PushMpls(ty) => self.either(23, 19, |o| o.put_u16(ty.get()), out),
            Action::PopMpls(ty) => self.either(24, 20, |o| o.put_u16(ty.get()), out),
            Action::DecNshTtl => nx(out, 48, |_| {}),
            Action::DeleteField(field) => nx(out, 50, |o| {
                self.nxm(*field, o);
                o.put_zeros(14 - (o.len() % 8 + 6) % 8 % 4);
                // The struct is 24 bytes long whatever the header.
                let excess = o.len() % 8;
                o.truncate(o.len() - excess);
            }),
            Action::SetTunnel { id, wide } => {
                if v >= V12 {
                    self.set_exact(FieldId::TunId, *id, out);
                } else if *wide || *id > u32::MAX.into() {
                    nx(out, 9, |o| {
                        o.put_zeros(6);
                        o.put_u64(*id);
                    });
                } else {
                    nx(out, 2, |o| {
                        o.put_u16(0);
                        o.put_u32(*id as u32);
                    });
                }
            }
            Action::SetQueue(q) => {
                if v10 {
                    nx(out, 4, |o| {
                        o.put_u16(0);
                        o.put_u32(*q);
                    });
                } else {
                    std(out, 21, |o| o.put_u32(*q));
                }
            }
            Action::PopQueue => nx(out, 5, |_| {}),
            Action::FinTimeout { idle, hard } => nx(out, 19, |o| {
                o.put_u16(*idle);
                o.put_u16(*hard);
            }),
            Action::Resubmit(r) => {
                if r.with_ct_orig || r.table != TABLE_ALL || !r.port_only {
                    nx(out, if r.with_ct_orig { 44 } else { 14 }, |o| {
                        o.put_u16(r.in_port.0);
                        o.put_u8(r.table);
                    });
                } else {
                    nx(out, 1, |o| o.put_u16(r.in_port.0));
                }
            }
            Action::Learn(l) => self.learn(l, out),
            Action::Conjunction {
                id,
                clause,
                n_clauses,
            } => nx(out, 34, |o| {
                o.put_u8(*clause);
                o.put_u8(*n_clauses);
                o.put_u32(*id);
            }),
            Action::Multipath(m) => nx(out, 10, |o| {
                o.put_u16(m.fields.number());
                o.put_u16(m.basis);
                o.put_u16(0);
                o.put_u16(m.algorithm as u16);
                o.put_u16(m.max_link);
                o.put_u32(m.arg);
                o.put_u16(0);
                o.put_u16(pack(&m.dst));
                self.nxm(m.dst.field, o);
            }),
            Action::StackPush(sf) | Action::StackPop(sf) => {
                let subtype = if matches!(a, Action::StackPush(_)) {
                    27
                } else {
                    28
                };
                nx(out, subtype, |o| {
                    o.put_u16(sf.ofs);
                    self.nxm(sf.field, o);
                    o.put_u16(sf.n_bits);
                    o.put_zeros(6);
                    // Eight-byte headers leave less room for padding.
                    let excess = o.len() % 8;
                    o.truncate(o.len() - excess);
                });
            }
            Action::Note(data) => nx(out, 8, |o| o.put(data)),
            Action::Exit => nx(out, 17, |_| {}),
            Action::Sample(s) => self.sample(s, out),
            Action::UnrollXlate { .. } => {}
            Action::Ct(c) => nx(out, 35, |o| {
                o.put_u16(u16::from(c.commit) | u16::from(c.force) << 1);
                match &c.zone {
                    CtZone::Immediate(z) => {
                        o.put_u32(0);
                        o.put_u16(*z);
                    }
                    CtZone::Field(sf) => {
                        self.nxm(sf.field, o);
                        o.put_u16(pack(sf));
                    }
                }
                o.put_u8(c.recirc_table);
                o.put_zeros(3);
                o.put_u16(c.alg);
                actions(&c.actions, v, self.tun, o);
            }),
            Action::Nat(n) => nat(n, out),
            Action::CtClear => nx(out, 43, |_| {}),
            Action::Clone(list) => nx(out, 42, |o| {
                o.put_zeros(6);
                actions(list, v, self.tun, o);
            }),
            Action::CheckPktLarger { pkt_len, dst } => nx(out, 49, |o| {
                o.put_u16(*pkt_len);
                o.put_u16(dst.ofs);
                self.nxm(dst.field, o);
                o.put_zeros(6);
                let excess = o.len() % 8;
                o.truncate(o.len() - excess);
            }),
            Action::Encap(e) => encap(e, out),
            Action::Decap { new_packet_type } => nx(out, 47, |o| {
                o.put_u16(0);
                o.put_u32(*new_packet_type);
            }),
            Action::DebugSlow => nx(out, 254, |_| {}),
            Action::DebugRecirc => nx(out, 255, |_| {}),
            Action::Meter(id) => {
                if v >= V15 {
                    std(out, 29, |o| o.put_u32(*id));
                }
            }
            Action::WriteMetadata { metadata, mask } => {
                if v10 {
                    nx(out, 22, |o| {
                        o.put_zeros(6);
                        o.put_u64(*metadata);
                        o.put_u64(*mask);
                    });
                }
            }
            Action::GotoTable(table) => {
                if v10 {
                    nx(out, 14, |o| {
                        o.put_u16(OfPort::IN_PORT.0);
                        o.put_u8(*table);
                    });
                }
            }
            Action::ClearActions | Action::WriteActions(_) => {}
        }
    }

    /// An action that 1.0 has as an extension and later versions as standard.
    fn either(&self, subtype: u16, type_: u16, body: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        if self.version == Version::V10 {
            nx(out, subtype, body)
        } else {
            std(out, type_, body)
        }
    }

    fn mac(&self, type10: u16, field: FieldId, mac: MacAddr, out: &mut Vec<u8>) {
        match self.version {
            Version::V10 | Version::V11 => {
                let type_ = if self.version == Version::V10 {
                    type10
                } else {
                    type10 - 1
                };
                std(out, type_, |o| {
                    o.put(&mac.0);
                    o.put_zeros(6);
                });
            }
            _ => self.set_exact(field, mac.to_u64(), out),
        }
    }

    fn ipv4(&self, type10: u16, field: FieldId, ip: Ipv4Addr, out: &mut Vec<u8>) {
        match self.version {
            Version::V10 => std(out, type10, |o| o.put(&ip.octets())),
            Version::V11 => std(out, type10 - 1, |o| o.put(&ip.octets())),
            _ => self.set_exact(field, u32::from(ip).into(), out),
        }
    }

    fn l4(&self, type_: u16, fields: [FieldId; 3], port: u16, proto: u8, out: &mut Vec<u8>) {
        if self.version <= Version::V11 {
            return std(out, type_, |o| o.put_u16(port));
        }
        match proto {
            ip_proto::TCP => self.set_exact(fields[0], port.into(), out),
            ip_proto::UDP => self.set_exact(fields[1], port.into(), out),
            ip_proto::SCTP => self.set_exact(fields[2], port.into(), out),
            // Later versions have no field for it; Open vSwitch still understands the action of 1.1.
            _ => std(out, type_, |o| o.put_u16(port)),
        }
    }

    /// NXAST_REG_LOAD of up to 64 bits.
    fn load(&self, dst: &SubField, value: u64, out: &mut Vec<u8>) {
        nx(out, 7, |o| {
            o.put_u16(pack(dst));
            self.nxm(dst.field, o);
            o.put_u64(value);
        });
    }

    /// The set bits of `mask` as runs of at most 64 bits, each as one load.
    fn loads(&self, sf: &SetField, out: &mut Vec<u8>) {
        for (dst, value) in load_segments(sf) {
            self.load(&dst, value, out);
        }
    }

    fn set_field(&self, sf: &SetField, out: &mut Vec<u8>) {
        let f = sf.field.field();
        let whole = mask_is_whole(f, &sf.mask, self.tun);
        match self.version {
            Version::V15 => self.set_field_oxm(sf, 25, whole, out),
            _ if sf.form != SetFieldForm::SetField => self.set_field_nx(sf, whole, out),
            Version::V10 | Version::V11 => self.set_field_legacy(sf, whole, out),
            _ if whole => self.set_field_oxm(sf, 25, true, out),
            _ => self.set_field_nx(sf, whole, out),
        }
    }

    fn entry(&self, sf: &SetField, whole: bool, flavor: oxm::Flavor, out: &mut Vec<u8>) {
        let f = sf.field.field();
        let mut n = self.tun.bytes(f);
        if whole && self.tun.is_auto() && f.id.tun_metadata_index().is_some() {
            n = oxm::option_len(&sf.mask).unwrap_or(n);
        }
        let mask = if whole {
            FieldValue::ones(n * 8)
        } else {
            sf.mask
        };
        oxm::put_entry_of(f, &sf.value, &mask, n, flavor, out);
    }

    fn set_field_oxm(&self, sf: &SetField, type_: u16, whole: bool, out: &mut Vec<u8>) {
        std(out, type_, |o| self.entry(sf, whole, self.flavor(), o));
    }

    fn set_field_nx(&self, sf: &SetField, whole: bool, out: &mut Vec<u8>) {
        let f = sf.field.field();
        let experimenter = f.oxm(0).is_some_and(|o| o.class == 0xffff);
        if sf.form == SetFieldForm::RegLoad2 || experimenter || f.id.tun_metadata_index().is_some()
        {
            nx(out, 33, |o| self.entry(sf, whole, None, o));
        } else {
            self.loads(sf, out);
        }
    }

    fn set_field_legacy(&self, sf: &SetField, whole: bool, out: &mut Vec<u8>) {
        let v10 = self.version == Version::V10;
        let value = sf.value.to_u64();
        if !whole {
            return self.set_field_nx(sf, whole, out);
        }
        let same = |a: Action, out: &mut Vec<u8>| self.action(&a, out);
        let has_vlan = sf.flow_has_vlan;
        match sf.field {
            FieldId::VlanTci => {
                let tci = value as u16;
                if tci & VLAN_CFI == 0 {
                    // Popping where there is no tag would be wrong before 1.1's checks.
                    if v10 || has_vlan {
                        same(Action::StripVlan { pop: false }, out);
                    }
                } else {
                    let (vid, pcp) = (tci & VLAN_VID_MASK, (tci >> VLAN_PCP_SHIFT) as u8);
                    let push_if_needed = true;
                    same(
                        Action::SetVlanVid {
                            vid,
                            push_if_needed,
                            flow_has_vlan: has_vlan,
                        },
                        out,
                    );
                    same(
                        Action::SetVlanPcp {
                            pcp,
                            push_if_needed,
                            flow_has_vlan: true,
                        },
                        out,
                    );
                }
            }
            FieldId::DlVlan | FieldId::VlanVid => {
                let vid = value as u16 & VLAN_VID_MASK;
                let push_if_needed = sf.field == FieldId::DlVlan;
                same(
                    Action::SetVlanVid {
                        vid,
                        push_if_needed,
                        flow_has_vlan: has_vlan,
                    },
                    out,
                );
            }
            FieldId::DlVlanPcp | FieldId::VlanPcp => {
                let push_if_needed = sf.field == FieldId::DlVlanPcp;
                same(
                    Action::SetVlanPcp {
                        pcp: value as u8,
                        push_if_needed,
                        flow_has_vlan: has_vlan,
                    },
                    out,
                );
            }
            FieldId::EthSrc => same(Action::SetEthSrc(sf.value.to_mac()), out),
            FieldId::EthDst => same(Action::SetEthDst(sf.value.to_mac()), out),
            FieldId::IpSrc => same(Action::SetIpv4Src(sf.value.to_ipv4()), out),
            FieldId::IpDst => same(Action::SetIpv4Dst(sf.value.to_ipv4()), out),
            FieldId::NwTos => same(Action::SetIpDscp(value as u8 & IP_DSCP_MASK), out),
            FieldId::IpDscp => same(Action::SetIpDscp((value << 2) as u8), out),
            FieldId::NwEcn if !v10 => same(Action::SetIpEcn(value as u8), out),
            FieldId::NwTtl if !v10 => same(Action::SetIpTtl(value as u8), out),
            FieldId::TcpSrc | FieldId::UdpSrc => {
                same(
                    Action::SetL4SrcPort {
                        port: value as u16,
                        flow_ip_proto: 0,
                    },
                    out,
                );
            }
            FieldId::TcpDst | FieldId::UdpDst => {
                same(
                    Action::SetL4DstPort {
                        port: value as u16,
                        flow_ip_proto: 0,
                    },
                    out,
                );
            }
            FieldId::SctpSrc if !v10 => {
                same(
                    Action::SetL4SrcPort {
                        port: value as u16,
                        flow_ip_proto: 0,
                    },
                    out,
                );
            }
            FieldId::SctpDst if !v10 => {
                same(
                    Action::SetL4DstPort {
                        port: value as u16,
                        flow_ip_proto: 0,
                    },
                    out,
                );
            }
            _ => self.set_field_nx(sf, whole, out),
        }
    }

    fn controller(&self, c: &Controller, out: &mut Vec<u8>) {
        if c.controller2 || !c.userdata.is_empty() || c.pause || c.meter_id.is_some() {
            nx(out, 37, |o| {
                o.put_zeros(6);
                if c.max_len != MAX_LEN_NO_BUFFER {
                    prop(o, 0, |o| o.put_u16(c.max_len));
                }
                if c.controller_id != 0 {
                    prop(o, 1, |o| o.put_u16(c.controller_id));
                }
                if c.reason != PacketInReason::Action {
                    prop(o, 2, |o| o.put_u8(c.reason as u8));
                }
                if !c.userdata.is_empty() {
                    prop(o, 3, |o| o.put(&c.userdata));
                }
                if c.pause {
                    prop(o, 4, |_| {});
                }
                if let Some(id) = c.meter_id {
                    prop(o, 5, |o| o.put_u32(id));
                }
            });
        } else {
            nx(out, 20, |o| {
                o.put_u16(c.max_len);
                o.put_u16(c.controller_id);
                o.put_u8(c.reason as u8);
                o.put_u8(0);
            });
        }
    }

    fn bundle(&self, b: &Bundle, out: &mut Vec<u8>) {
        nx(out, if b.dst.is_some() { 13 } else { 12 }, |o| {
            o.put_u16(b.algorithm as u16);
            o.put_u16(b.fields.number());
            o.put_u16(b.basis);
            o.put_u32(0x0000_0002);
            o.put_u16(b.members.len() as u16);
            match &b.dst {
                Some(dst) => {
                    o.put_u16(pack(dst));
                    self.nxm(dst.field, o);
                }
                None => o.put_zeros(6),
            }
            o.put_zeros(4);
            b.members.iter().for_each(|m| o.put_u16(m.0));
        });
    }

    fn learn(&self, l: &Learn, out: &mut Vec<u8>) {
        let second = l.second || l.limit != 0 || l.result_dst.is_some();
        nx(out, if second { 45 } else { 16 }, |o| {
            o.put_u16(l.idle_timeout);
            o.put_u16(l.hard_timeout);
            o.put_u16(l.priority);
            o.put_u64(l.cookie);
            o.put_u16(
                u16::from(l.send_flow_rem)
                    | u16::from(l.delete_learned) << 1
                    | u16::from(l.result_dst.is_some()) << 2,
            );
            o.put_u8(l.table_id);
            o.put_u8(0);
            o.put_u16(l.fin_idle_timeout);
            o.put_u16(l.fin_hard_timeout);
            if second {
                o.put_u32(l.limit);
                o.put_u16(l.result_dst.map_or(0, |d| d.ofs));
                o.put_u16(0);
                if let Some(dst) = &l.result_dst {
                    self.nxm(dst.field, o);
                }
            }
            for s in &l.specs {
                let (kind, dst) = match &s.dst {
                    LearnDst::Match(sf) => (0, Some(sf)),
                    LearnDst::Load(sf) => (1, Some(sf)),
                    LearnDst::Output => (2, None),
                };
                let immediate = matches!(s.src, LearnSrc::Immediate(_));
                o.put_u16(s.n_bits | kind << 11 | u16::from(immediate) << 13);
                match &s.src {
                    LearnSrc::Field(sf) => {
                        self.nxm(sf.field, o);
                        o.put_u16(sf.ofs);
                    }
                    LearnSrc::Immediate(value) => {
                        o.put(value.low_bytes(usize::from(s.n_bits).div_ceil(16) * 2));
                    }
                }
                if let Some(sf) = dst {
                    self.nxm(sf.field, o);
                    o.put_u16(sf.ofs);
                }
            }
        });
    }

    fn sample(&self, s: &Sample, out: &mut Vec<u8>) {
        let by_field = [&s.obs_domain_id, &s.obs_point_id]
            .iter()
            .any(|id| matches!(id, SampleId::Field(_)));
        let form = if by_field {
            4
        } else if s.form >= 3 || s.direction != SampleDirection::Default {
            3
        } else if s.form == 2 || s.sampling_port != OfPort::NONE {
            2
        } else {
            1
        };
        nx(out, [29, 38, 41, 51][form - 1], |o| {
            o.put_u16(s.probability);
            o.put_u32(s.collector_set_id);
            for id in [&s.obs_domain_id, &s.obs_point_id] {
                match id {
                    SampleId::Immediate(n) => {
                        if form == 4 {
                            o.put_u32(0);
                        }
                        o.put_u32(*n);
                    }
                    SampleId::Field(sf) => {
                        self.nxm(sf.field, o);
                        o.put_u16(pack(sf));
                        o.put_u16(0);
                    }
                }
            }
            if form >= 2 {
                o.put_u16(s.sampling_port.0);
                o.put_u8(s.direction as u8);
                o.put_zeros(5);
            }
        });
    }
}

/// Whether `mask` has every bit of the field, so that no mask need be said.
pub(crate) fn mask_is_whole(f: &Field, mask: &FieldValue, tun: &Tun<'_>) -> bool {
    if f.id.tun_metadata_index().is_some() {
        return mask.is_ones(tun.bits(f)) || tun.is_auto() && oxm::option_len(mask).is_some();
    }
    // The presence bit belongs to the VLAN ID on the wire.
    let bits = if f.id == FieldId::VlanVid {
        12
    } else {
        usize::from(f.n_bits)
    };
    mask.is_ones(bits)
}

/// A field write as runs of at most 64 bits, from the low end.
pub(crate) fn load_segments(sf: &SetField) -> Vec<(SubField, u64)> {
    let f = sf.field.field();
    let bits = usize::from(f.n_bits);
    let mut out = Vec::new();
    let mut i = 0;
    while i < bits {
        if !sf.mask.bit(i) {
            i += 1;
            continue;
        }
        let mut n = 1;
        while i + n < bits && n < 64 && sf.mask.bit(i + n) {
            n += 1;
        }
        let dst = SubField {
            field: sf.field,
            ofs: i as u16,
            n_bits: n as u16,
        };
        out.push((dst, sf.value.extract(i, n).to_u64()));
        i += n;
    }
    out
}

/// Appends a property: type, length, value, padding to 8.
pub(crate) fn prop(out: &mut Vec<u8>, type_: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u16(type_);
    out.put_u16(0);
    body(out);
    let len = out.len() - start;
    out.set_u16(start + 2, len as u16);
    out.pad8(start);
}

fn encap(e: &Encap, out: &mut Vec<u8>) {
    nx(out, 46, |o| {
        o.put_u16(e.header_size);
        o.put_u32(e.new_packet_type);
        for p in &e.props {
            let start = o.len();
            o.put_u16(4);
            match p {
                EncapProp::NshMdType(t) => {
                    o.put_u8(1);
                    o.put_u8(5);
                    o.put_u8(*t);
                }
                EncapProp::NshTlv { class, type_, data } => {
                    o.put_u8(2);
                    o.put_u8((8 + data.len()) as u8);
                    o.put_u16(*class);
                    o.put_u8(*type_);
                    o.put_u8(data.len() as u8);
                    o.put(data);
                }
            }
            o.pad8(start);
        }
    });
}

fn nat(n: &Nat, out: &mut Vec<u8>) {
    nx(out, 36, |o| {
        o.put_u16(0);
        let flags = [n.snat, n.dnat, n.persistent, n.proto_hash, n.proto_random];
        o.put_u16(
            flags
                .iter()
                .enumerate()
                .map(|(i, &f)| u16::from(f) << i)
                .sum(),
        );
        let present_at = o.len();
        o.put_u16(0);
        let mut present = 0;
        match n.range {
            NatRange::None => {}
            NatRange::V4 { min, max } => {
                present |= 1;
                o.put(&min.octets());
                if let Some(max) = max {
                    present |= 2;
                    o.put(&max.octets());
                }
            }
            NatRange::V6 { min, max } => {
                present |= 4;
                o.put(&min.octets());
                if let Some(max) = max {
                    present |= 8;
                    o.put(&max.octets());
                }
            }
        }
        if n.proto_min != 0 {
            present |= 16;
            o.put_u16(n.proto_min);
            if n.proto_max != 0 {
                present |= 32;
                o.put_u16(n.proto_max);
            }
        }
        o.set_u16(present_at, present);
    });
}
