//! The oldest writes of header fields, each an action of its own, and the decrement of the TTL.
//!
//! OpenFlow 1.0 has them as standard actions, 1.1 with other numbers; later versions set fields instead.

use std::fmt::Write;
use std::net::Ipv4Addr;

use ferrovs_packet::field::{FieldId, SubField, parse_mac_prefix};
use ferrovs_packet::flow::{IP_DSCP_MASK, IP_ECN_MASK, NW_FRAG_LATER};
use ferrovs_packet::types::{MacAddr, eth_type, ip_proto};

use super::Action;
use super::check::Checker;
use super::decode::must;
use super::encode::{Encoder, nx, std};
use super::row::{MAX, Row, nicira, of, word};
use crate::error::OfpErr;
use crate::text::action::list_of;
use crate::text::color::{Colors, Paint, Part};
use crate::text::cursor::{atoi, u8 as num8, u16 as num16, words};
use crate::version::Version;
use crate::warn::{Topic, warn};
use crate::wire::Put;

/// Writes a whole value: by the number of 1.0 or 1.1, or by setting the field.
fn write(
    [type10, type11]: [u16; 2],
    field: FieldId,
    value: u64,
    e: &Encoder<'_, '_>,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>),
) {
    match e.version {
        Version::V10 => std(out, type10, body),
        Version::V11 => std(out, type11, body),
        _ => e.set_exact(field, value, out),
    }
}

/// An address has as many bytes of padding.
fn put_mac(mac: MacAddr, out: &mut Vec<u8>) {
    out.put(&mac.0);
    out.put_zeros(6);
}

fn parse_mac(v: &str) -> Result<MacAddr, String> {
    parse_mac_prefix(v).ok_or_else(|| format!("invalid mac address {v}"))
}

pub(super) static SET_ETH_SRC: Row = Row {
    name: "mod_dl_src",
    words: &[word("mod_dl_src", |_, v| {
        Ok(Action::SetEthSrc(parse_mac(v)?))
    })],
    wires: &[
        of(4, 0..=0, "OFPAT_SET_DL_SRC", 16..=16, |_, mut r| {
            Ok(Action::SetEthSrc(r.mac()?))
        }),
        of(3, 1..=5, "OFPAT_SET_DL_SRC", 16..=16, |_, mut r| {
            Ok(Action::SetEthSrc(r.mac()?))
        })
        .deprecated(),
    ],
    encode: |a, e, out| {
        let &Action::SetEthSrc(mac) = a else { return };
        write([4, 3], FieldId::EthSrc, mac.to_u64(), e, out, |o| {
            put_mac(mac, o);
        });
    },
    format: |a, _, out| {
        if let Action::SetEthSrc(mac) = a {
            let _ = write!(out, "mod_dl_src:{mac}");
        }
    },
    ..Row::ACTION
};

pub(super) static SET_ETH_DST: Row = Row {
    name: "mod_dl_dst",
    words: &[word("mod_dl_dst", |_, v| {
        Ok(Action::SetEthDst(parse_mac(v)?))
    })],
    wires: &[
        of(5, 0..=0, "OFPAT_SET_DL_DST", 16..=16, |_, mut r| {
            Ok(Action::SetEthDst(r.mac()?))
        }),
        of(4, 1..=5, "OFPAT_SET_DL_DST", 16..=16, |_, mut r| {
            Ok(Action::SetEthDst(r.mac()?))
        })
        .deprecated(),
    ],
    encode: |a, e, out| {
        let &Action::SetEthDst(mac) = a else { return };
        write([5, 4], FieldId::EthDst, mac.to_u64(), e, out, |o| {
            put_mac(mac, o);
        });
    },
    format: |a, _, out| {
        if let Action::SetEthDst(mac) = a {
            let _ = write!(out, "mod_dl_dst:{mac}");
        }
    },
    ..Row::ACTION
};

fn parse_ipv4(v: &str) -> Result<Ipv4Addr, String> {
    v.parse().map_err(|_| {
        warn(Topic::SocketUtil, || {
            format!("\"{v}\" is not a valid IP address")
        });
        format!("{v}: could not convert to IP address")
    })
}

/// The packet has an IPv4 header.
fn check_ipv4(_: &mut Action, c: &mut Checker<'_>) -> Result<(), OfpErr> {
    c.legacy(c.m.flow.ether_type() == eth_type::IP);
    Ok(())
}

/// The packet has an IP header of either version.
fn check_ip(_: &mut Action, c: &mut Checker<'_>) -> Result<(), OfpErr> {
    c.legacy(c.is_ip_any());
    Ok(())
}

pub(super) static SET_IPV4_SRC: Row = Row {
    name: "mod_nw_src",
    words: &[word("mod_nw_src", |_, v| {
        Ok(Action::SetIpv4Src(parse_ipv4(v)?))
    })],
    wires: &[
        of(6, 0..=0, "OFPAT_SET_NW_SRC", 8..=8, |_, mut r| {
            Ok(Action::SetIpv4Src(r.u32()?.into()))
        }),
        of(5, 1..=5, "OFPAT_SET_NW_SRC", 8..=8, |_, mut r| {
            Ok(Action::SetIpv4Src(r.u32()?.into()))
        })
        .deprecated(),
    ],
    encode: |a, e, out| {
        let &Action::SetIpv4Src(ip) = a else { return };
        let value = u32::from(ip).into();
        write([6, 5], FieldId::IpSrc, value, e, out, |o| {
            o.put(&ip.octets());
        });
    },
    format: |a, _, out| {
        if let Action::SetIpv4Src(ip) = a {
            let _ = write!(out, "mod_nw_src:{ip}");
        }
    },
    check: check_ipv4,
    ..Row::ACTION
};

pub(super) static SET_IPV4_DST: Row = Row {
    name: "mod_nw_dst",
    words: &[word("mod_nw_dst", |_, v| {
        Ok(Action::SetIpv4Dst(parse_ipv4(v)?))
    })],
    wires: &[
        of(7, 0..=0, "OFPAT_SET_NW_DST", 8..=8, |_, mut r| {
            Ok(Action::SetIpv4Dst(r.u32()?.into()))
        }),
        of(6, 1..=5, "OFPAT_SET_NW_DST", 8..=8, |_, mut r| {
            Ok(Action::SetIpv4Dst(r.u32()?.into()))
        })
        .deprecated(),
    ],
    encode: |a, e, out| {
        let &Action::SetIpv4Dst(ip) = a else { return };
        let value = u32::from(ip).into();
        write([7, 6], FieldId::IpDst, value, e, out, |o| {
            o.put(&ip.octets());
        });
    },
    format: |a, _, out| {
        if let Action::SetIpv4Dst(ip) = a {
            let _ = write!(out, "mod_nw_dst:{ip}");
        }
    },
    check: check_ipv4,
    ..Row::ACTION
};

fn dscp(tos: u8) -> Result<Action, OfpErr> {
    must(tos & !IP_DSCP_MASK == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    Ok(Action::SetIpDscp(tos))
}

pub(super) static SET_IP_DSCP: Row = Row {
    name: "mod_nw_tos",
    words: &[word("mod_nw_tos", |_, v| {
        let tos = num8(v, "TOS")?;
        if tos & !IP_DSCP_MASK != 0 {
            return Err(format!("{v}: not a valid TOS"));
        }
        Ok(Action::SetIpDscp(tos))
    })],
    wires: &[
        of(8, 0..=0, "OFPAT_SET_NW_TOS", 8..=8, |_, mut r| {
            dscp(r.u8()?)
        }),
        of(7, 1..=5, "OFPAT_SET_NW_TOS", 8..=8, |_, mut r| {
            dscp(r.u8()?)
        })
        .deprecated(),
    ],
    encode: |a, e, out| {
        let &Action::SetIpDscp(tos) = a else { return };
        let value = (tos >> 2).into();
        write([8, 7], FieldId::IpDscp, value, e, out, |o| o.put_u8(tos));
    },
    format: |a, _, out| {
        if let Action::SetIpDscp(tos) = a {
            let _ = write!(out, "mod_nw_tos:{tos}");
        }
    },
    check: check_ip,
    ..Row::ACTION
};

pub(super) static SET_IP_ECN: Row = Row {
    name: "mod_nw_ecn",
    words: &[word("mod_nw_ecn", |_, v| {
        let ecn = num8(v, "ECN")?;
        if ecn & !IP_ECN_MASK != 0 {
            return Err(format!("{v}: not a valid ECN"));
        }
        Ok(Action::SetIpEcn(ecn))
    })],
    wires: &[of(8, 1..=5, "OFPAT_SET_NW_ECN", 8..=8, |_, mut r| {
        let ecn = r.u8()?;
        must(ecn & !IP_ECN_MASK == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
        Ok(Action::SetIpEcn(ecn))
    })
    .deprecated()],
    encode: |a, e, out| {
        let &Action::SetIpEcn(ecn) = a else { return };
        match e.version {
            Version::V10 => e.load(&SubField::whole(FieldId::NwEcn), ecn.into(), out),
            Version::V11 => std(out, 8, |o| o.put_u8(ecn)),
            _ => e.set_exact(FieldId::NwEcn, ecn.into(), out),
        }
    },
    format: |a, _, out| {
        if let Action::SetIpEcn(ecn) = a {
            let _ = write!(out, "mod_nw_ecn:{ecn}");
        }
    },
    check: check_ip,
    ..Row::ACTION
};

fn parse_ttl(v: &str) -> Result<Action, String> {
    Ok(Action::SetIpTtl(num8(v, "TTL")?))
}

pub(super) static SET_IP_TTL: Row = Row {
    name: "mod_nw_ttl",
    words: &[
        word("mod_nw_ttl", |_, v| parse_ttl(v)),
        word("set_nw_ttl", |_, v| parse_ttl(v)),
    ],
    wires: &[of(23, 1..=5, "OFPAT_SET_NW_TTL", 8..=8, |_, mut r| {
        Ok(Action::SetIpTtl(r.u8()?))
    })],
    encode: |a, e, out| {
        let &Action::SetIpTtl(ttl) = a else { return };
        if e.version == Version::V10 {
            e.load(&SubField::whole(FieldId::NwTtl), ttl.into(), out);
        } else {
            std(out, 23, |o| o.put_u8(ttl));
        }
    },
    format: |a, _, out| {
        if let Action::SetIpTtl(ttl) = a {
            let _ = write!(out, "mod_nw_ttl:{ttl}");
        }
    },
    check: check_ip,
    ..Row::ACTION
};

/// Writes a port of the protocol that the match fixes.
fn write_port(
    type_: u16,
    [tcp, udp, sctp]: [FieldId; 3],
    port: u16,
    proto: u8,
    e: &Encoder<'_, '_>,
    out: &mut Vec<u8>,
) {
    let field = match proto {
        ip_proto::TCP => tcp,
        ip_proto::UDP => udp,
        ip_proto::SCTP => sctp,
        // Later versions have no field for it; Open vSwitch still understands the action of 1.1.
        _ => return std(out, type_, |o| o.put_u16(port)),
    };
    write([type_; 2], field, port.into(), e, out, |o| o.put_u16(port));
}

/// Notes the protocol that the match fixes; it must have ports, which later fragments do not show.
fn check_port(flow_ip_proto: &mut u8, c: &mut Checker<'_>) {
    let flow = &c.m.flow;
    *flow_ip_proto = flow.nw_proto;
    let ports = [ip_proto::TCP, ip_proto::UDP, ip_proto::SCTP].contains(&flow.nw_proto);
    c.legacy(c.is_ip_any() && ports && flow.nw_frag & NW_FRAG_LATER == 0);
}

pub(super) static SET_L4_SRC_PORT: Row = Row {
    name: "mod_tp_src",
    words: &[word("mod_tp_src", |_, v| {
        Ok(Action::SetL4SrcPort {
            port: num16(v, "source port")?,
            flow_ip_proto: 0,
        })
    })],
    wires: &[of(9, 0..=5, "OFPAT_SET_TP_SRC", 8..=8, |_, mut r| {
        Ok(Action::SetL4SrcPort {
            port: r.u16()?,
            flow_ip_proto: 0,
        })
    })
    .deprecated()],
    encode: |a, e, out| {
        if let &Action::SetL4SrcPort {
            port,
            flow_ip_proto,
        } = a
        {
            let fields = [FieldId::TcpSrc, FieldId::UdpSrc, FieldId::SctpSrc];
            write_port(9, fields, port, flow_ip_proto, e, out);
        }
    },
    format: |a, _, out| {
        if let Action::SetL4SrcPort { port, .. } = a {
            let _ = write!(out, "mod_tp_src:{port}");
        }
    },
    check: |a, c| {
        if let Action::SetL4SrcPort { flow_ip_proto, .. } = a {
            check_port(flow_ip_proto, c);
        }
        Ok(())
    },
    ..Row::ACTION
};

pub(super) static SET_L4_DST_PORT: Row = Row {
    name: "mod_tp_dst",
    words: &[word("mod_tp_dst", |_, v| {
        Ok(Action::SetL4DstPort {
            port: num16(v, "destination port")?,
            flow_ip_proto: 0,
        })
    })],
    wires: &[of(10, 0..=5, "OFPAT_SET_TP_DST", 8..=8, |_, mut r| {
        Ok(Action::SetL4DstPort {
            port: r.u16()?,
            flow_ip_proto: 0,
        })
    })
    .deprecated()],
    encode: |a, e, out| {
        if let &Action::SetL4DstPort {
            port,
            flow_ip_proto,
        } = a
        {
            let fields = [FieldId::TcpDst, FieldId::UdpDst, FieldId::SctpDst];
            write_port(10, fields, port, flow_ip_proto, e, out);
        }
    },
    format: |a, _, out| {
        if let Action::SetL4DstPort { port, .. } = a {
            let _ = write!(out, "mod_tp_dst:{port}");
        }
    },
    check: |a, c| {
        if let Action::SetL4DstPort { flow_ip_proto, .. } = a {
            check_port(flow_ip_proto, c);
        }
        Ok(())
    },
    ..Row::ACTION
};

fn plain_dec_ttl() -> Action {
    Action::DecTtl {
        ids: vec![0],
        explicit_ids: false,
    }
}

pub(super) static DEC_TTL: Row = Row {
    name: "dec_ttl",
    paint: Paint {
        call: Colors::dec_ttl,
        ..Paint::alone(Part::Paren)
    },
    words: &[word("dec_ttl", |_, v| {
        if v.is_empty() {
            return Ok(plain_dec_ttl());
        }
        let ids: Vec<u16> = words(v).map(|w| atoi(w) as u16).collect();
        if ids.is_empty() {
            return Err("dec_ttl_cnt_ids: expected at least one controller id.".to_owned());
        }
        Ok(Action::DecTtl {
            ids,
            explicit_ids: true,
        })
    })],
    wires: &[
        of(24, 1..=5, "OFPAT_DEC_NW_TTL", 8..=8, |_, _| {
            Ok(plain_dec_ttl())
        }),
        nicira(18, 0..=0, "OFPAT_DEC_NW_TTL", 16..=16, |_, _| {
            Ok(plain_dec_ttl())
        }),
        nicira(21, 0..=5, "NXAST_DEC_TTL_CNT_IDS", 16..=MAX, |_, mut r| {
            let n = usize::from(r.u16()?);
            must(r.zeros(4)?, OfpErr::NXBRC_MUST_BE_ZERO)?;
            must(n != 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
            must(r.len() >= n * 2, OfpErr::OFPBAC_BAD_LEN)?;
            let ids = (0..n).map(|_| r.u16()).collect::<Result<_, _>>()?;
            Ok(Action::DecTtl {
                ids,
                explicit_ids: true,
            })
        }),
    ],
    encode: |a, e, out| {
        let Action::DecTtl { ids, explicit_ids } = a else {
            return;
        };
        if *explicit_ids || ids.len() > 1 || ids.first().is_some_and(|&id| id != 0) {
            nx(out, 21, |o| {
                o.put_u16(ids.len() as u16);
                o.put_zeros(4);
                ids.iter().for_each(|&id| o.put_u16(id));
            });
        } else {
            e.either(18, 24, |_| {}, out);
        }
    },
    format: |a, _, out| {
        let Action::DecTtl { ids, explicit_ids } = a else {
            return;
        };
        out.push_str("dec_ttl");
        if *explicit_ids {
            out.push('(');
            list_of(ids, out, |id, o| {
                let _ = write!(o, "{id}");
            });
            out.push(')');
        }
    },
    check: check_ip,
    ..Row::ACTION
};
