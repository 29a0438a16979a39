//! STT (draft-davie-stt-08): frames behind a header that looks like TCP's, so that network cards cut large ones.
//!
//! ```text
//!   | source port 2 | 7471 | length 2, offset 2 | identification 4 | TCP's 8 more |
//!   | version | flags | L4 offset | 0 | MSS 2 | VLAN 2 | context 8 | padding 2 | frame ...
//! ```
//!
//! TCP's sequence number is the length of the whole (the second line) and the offset of a segment in it; its
//! acknowledgement number tells the segments of one frame from those of others. So a large inner frame, whose
//! own checksum and segments are left open, is one frame of the tunnel: it is cut as any TCP is, and
//! put together again at the other end ([`gather`]), where it is large still.
//!
//! There is no connection: nothing is acknowledged or sent again. What does not become whole in time is lost.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Instant;

use ferrovs_packet::buffer::{Checksum, Gso, GsoType, Offload, Packet};
use ferrovs_packet::checksum::checksum;
use ferrovs_packet::flow::{FLOW_TNL_F_KEY, FlowTnl, PT_ETH};
use ferrovs_packet::gso;
use ferrovs_packet::text::Cursor;
use ferrovs_packet::types::{eth_type, ip_proto};

use crate::config::{DEFAULT_TTL, TunnelConfig};
use crate::header::{ETH_LEN, IPV4_LEN, IPV6_LEN, source_port};
use crate::pieces::{be16, be32};
use crate::pop;
use crate::push::{get, pseudo, put};
use crate::row::{
    Carries, Gathered, HeaderType, Inner, Inside, Left, Options, Outer, PopError, PortState,
    Received, Transport, TunnelType,
};
use crate::segments::{Added, Key};

const TCP_LEN: usize = 20;
/// Length of STT's own header, with the padding that aligns the IP header of the frame.
const STT_LEN: usize = 18;
/// Every network sends IP packets as long, or nearly.
const LEAST_MTU: usize = 576;
const MOST_MTU: usize = 65535;

const TCP_ACK_PSH: u8 = 0x18;
/// None of these fits a segment: FIN, SYN, RST, URG.
const TCP_OTHERS: u8 = 0x27;

/// The inner checksum was verified; it is still to be computed.
const VERIFIED: u8 = 1 << 0;
const PARTIAL: u8 = 1 << 1;
/// The inner packet is one of IPv4; of TCP.
const IPV4: u8 = 1 << 2;
const TCP: u8 = 1 << 3;
/// Of the VLAN field: there is one.
const VLAN_PRESENT: u16 = 0x1000;

/// Where the checksum is in TCP's and in UDP's header.
const TCP_SUM: u16 = 16;
const UDP_SUM: u16 = 6;

pub static HEADER: HeaderType = HeaderType {
    number: 106,
    format,
    parse,
    finish,
    large: |packet| place(packet, 0).is_some(),
    timed: false,
    cuts: true,
};

pub static PORT: TunnelType = TunnelType {
    kind: "stt",
    dpif_port: "stt_sys",
    transport: Transport {
        protocol: ip_proto::TCP,
        port: Some(7471),
        listens: &[ip_proto::TCP],
    },
    options: Options::NONE,
    ttl: DEFAULT_TTL,
    carries: |_| Carries::l2("stt"),
    clash: |_, _| None,
    header: &HEADER,
    header6: &HEADER,
    build,
    pop,
    gather: Some(gather),
};

fn build(bytes: &mut Vec<u8>, config: &TunnelConfig, inside: &Inside<'_>) -> Option<()> {
    bytes.extend([0, 0]);
    bytes.extend(config.dst_port.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend([
        (TCP_LEN as u8 / 4) << 4,
        TCP_ACK_PSH,
        0xff,
        0xff,
        0,
        0,
        0,
        0,
    ]);
    bytes.extend([0; 8]);
    bytes.extend(inside.tnl.tun_id.get().to_be_bytes());
    bytes.extend([0; 2]);
    Some(())
}

/// What is left open in an inner packet, as the header tells it: flags, and the offset of the transport header. None if
/// it cannot be told. The packet begins at `at`.
fn place(packet: &Packet, at: usize) -> Option<(u8, u8)> {
    let Checksum::Partial { start, offset } = packet.offload.checksum else {
        return None;
    };
    let tcp = match (packet.offload.gso.map(|g| g.kind), offset) {
        (Some(GsoType::Tcp4 | GsoType::Tcp6) | None, TCP_SUM) => TCP,
        (None, UDP_SUM) => 0,
        _ => return None,
    };
    let l4 = usize::from(start).checked_sub(at)?;
    let data = packet.data().get(at..)?;
    // The network header is the first one: a tunnel inside is none of those that can be told.
    let mut l3 = ETH_LEN;
    while matches!(
        be16(data, l3 - 2)?,
        eth_type::VLAN_8021Q | eth_type::VLAN_8021AD
    ) {
        l3 += 4;
    }
    let (flag, len) = match be16(data, l3 - 2)? {
        eth_type::IP => (IPV4, usize::from(*data.get(l3)? & 15) * 4),
        eth_type::IPV6 => (0, IPV6_LEN),
        _ => return None,
    };
    (l3 + len == l4).then_some((PARTIAL | flag | tcp, u8::try_from(l4).ok()?))
}

fn finish(p: &mut Packet, outer: &Outer<'_>) {
    let (l4, stt) = (outer.l4, outer.l4 + TCP_LEN);
    let told = place(p, stt + STT_LEN);
    if told.is_none() && matches!(p.offload.checksum, Checksum::Partial { .. }) {
        gso::complete_checksum(p);
    }
    let mss = p.offload.gso.map_or(0, |g| g.size);
    let id = outer.state.map_or(outer.hash, PortState::next);
    let data = p.data_mut();
    let len = data.len() - stt;
    if let Some((flags, offset)) = told {
        data[stt + 1] = flags;
        data[stt + 2] = offset;
        put(data, stt + 4, mss);
    }
    put(data, l4, source_port(outer.hash));
    put(data, l4 + 4, len as u16);
    data[l4 + 8..l4 + 12].copy_from_slice(&id.to_be_bytes());
    // The checksum is left to the sender, and the segments if there are several.
    let sum = pseudo(data, outer.v6, ip_proto::TCP, TCP_LEN + len).fold();
    put(data, l4 + usize::from(TCP_SUM), sum);
    let (kind, ip_len) = match outer.v6 {
        false => (GsoType::Tcp4, IPV4_LEN),
        true => (GsoType::Tcp6, IPV6_LEN),
    };
    let mtu = outer.state.map_or(1500, PortState::mtu) as usize;
    let size = mtu.clamp(LEAST_MTU, MOST_MTU) - ip_len - TCP_LEN;
    p.offload = Offload {
        checksum: Checksum::Partial {
            start: l4 as u16,
            offset: TCP_SUM,
        },
        gso: (len > size).then_some(Gso {
            kind,
            size: size as u16,
            hdr_len: stt as u16,
            ecn: false,
        }),
    };
}

/// What the header that looks like TCP's says of a segment: identification, length of the whole, offset in it.
fn segment(bytes: &[u8]) -> Result<(u32, usize, usize), PopError> {
    let fixed: &[u8; TCP_LEN] = bytes.first_chunk().ok_or(PopError::Truncated)?;
    let [_, _, _, _, l0, l1, o0, o1, i0, i1, i2, i3, doff, flags, ..] = *fixed;
    let (len, offset) = (u16::from_be_bytes([l0, l1]), u16::from_be_bytes([o0, o1]));
    let (len, offset) = (usize::from(len), usize::from(offset));
    let payload = bytes.len() - TCP_LEN;
    let fits = len >= STT_LEN && payload > 0 && offset + payload <= len;
    match usize::from(doff >> 4) * 4 == TCP_LEN && flags & TCP_OTHERS == 0 && fits {
        true => Ok((u32::from_be_bytes([i0, i1, i2, i3]), len, offset)),
        false => Err(PopError::Header),
    }
}

/// Checks a segment, and puts the frame together once all of it is here.
fn gather(packet: &mut Packet, state: &PortState, now: Instant) -> Result<Gathered, PopError> {
    let mut tnl = FlowTnl::default();
    let (at, end, protocol) = pop::ip(packet.data(), packet.l3, packet.offload.checksum, &mut tnl)?;
    if protocol != ip_proto::TCP {
        return Err(PopError::Header);
    }
    let data = packet.data();
    let bytes = &data[at..end];
    let v6 = tnl.ip_dst.get() == 0;
    if matches!(
        packet.offload.checksum,
        Checksum::Unknown | Checksum::Claimed
    ) {
        let ip = &data[at - if v6 { IPV6_LEN } else { IPV4_LEN } - ETH_LEN..];
        let sum = pseudo(ip, v6, ip_proto::TCP, bytes.len());
        pop::verify(sum.add(bytes))?;
    }
    let (id, len, offset) = segment(bytes)?;
    let payload = &bytes[TCP_LEN..];
    if payload.len() == len {
        return Ok(Gathered {
            whole: true,
            given_up: 0,
        });
    }
    // What is put together is an IP packet like any other.
    let ip_len = TCP_LEN + len + if v6 { 0 } else { IPV4_LEN };
    let ip_len = u16::try_from(ip_len).map_err(|_| PopError::Header)?;
    let addresses: (IpAddr, IpAddr) = match v6 {
        true => (tnl.ipv6_src.into(), tnl.ipv6_dst.into()),
        false => {
            let v4 = |a: u32| IpAddr::from(a.to_be_bytes());
            (v4(tnl.ip_src.get()), v4(tnl.ip_dst.get()))
        }
    };
    let key = Key {
        addresses,
        ports: be32(bytes, 0).unwrap_or_default(),
        id,
        len,
    };
    let Added { frame, given_up } = state.segments().add(key, offset, payload, now);
    let Some(parts) = frame else {
        return Ok(Gathered {
            whole: false,
            given_up,
        });
    };
    let l3 = at - if v6 { IPV6_LEN } else { IPV4_LEN };
    *packet = whole(packet, l3, at, ip_len, &parts);
    Ok(Gathered {
        whole: true,
        given_up,
    })
}

/// The packet that the segments make, with the headers of the last that came, whose IP header is at `l3` and that
/// of the transport at `at`.
fn whole(last: &Packet, l3: usize, at: usize, ip_len: u16, parts: &[Vec<u8>]) -> Packet {
    let headers = &last.data()[..at + TCP_LEN];
    let len: usize = parts.iter().map(Vec::len).sum();
    let mut p = Packet::with_capacity(headers.len() + len);
    p.append(headers);
    parts.iter().for_each(|part| p.append(part));
    p.take_after(last);
    // Its transport checksum was verified part by part.
    p.offload.checksum = Checksum::Good;
    let data = p.data_mut();
    if data[l3] >> 4 == 6 {
        put(data, l3 + 4, ip_len);
    } else {
        put(data, l3 + 2, ip_len);
        put(data, l3 + 10, 0);
        let sum = checksum(&data[l3..at]);
        put(data, l3 + 10, sum);
    }
    put(data, at + 6, 0);
    p
}

fn pop(received: &Received<'_>, tnl: &mut FlowTnl) -> Result<Inner, PopError> {
    let bytes = received.bytes;
    let (_, len, offset) = segment(bytes)?;
    let stt = &bytes[TCP_LEN..];
    // Part of a frame is none.
    if offset != 0 || stt.len() != len {
        return Err(PopError::Header);
    }
    let [version, flags, l4, _] = *stt.first_chunk().ok_or(PopError::Truncated)?;
    let (mss, vlan) = (get(stt, 4), get(stt, 6));
    let key = stt[8..16].try_into().map_or(0, u64::from_be_bytes);
    if version != 0 {
        return Err(PopError::Header);
    }
    tnl.tp_src = get(bytes, 0).into();
    tnl.tp_dst = get(bytes, 2).into();
    tnl.tun_id = key.into();
    tnl.flags |= FLOW_TNL_F_KEY;
    let offload = left_open(flags, l4, mss, &stt[STT_LEN..])?;
    let vlan = (vlan & VLAN_PRESENT != 0).then_some(vlan & !VLAN_PRESENT);
    if stt.len() < STT_LEN + ETH_LEN {
        return Err(PopError::Truncated);
    }
    Ok(Inner {
        at: Some(TCP_LEN + STT_LEN),
        packet_type: PT_ETH,
        left: Some(Left { offload, vlan }),
    })
}

/// What the header says is left open in the inner frame.
fn left_open(flags: u8, l4: u8, mss: u16, frame: &[u8]) -> Result<Offload, PopError> {
    if flags & PARTIAL == 0 {
        let good = flags & VERIFIED != 0;
        return Ok(Offload {
            checksum: if good {
                Checksum::Good
            } else {
                Checksum::Unknown
            },
            gso: None,
        });
    }
    let start = usize::from(l4);
    let (header, offset) = match flags & TCP {
        0 => (8, UDP_SUM),
        _ => (TCP_LEN, TCP_SUM),
    };
    if start < ETH_LEN || start + header > frame.len() {
        return Err(PopError::Header);
    }
    let hdr_len = match flags & TCP {
        0 => start + header,
        _ => start + usize::from(frame[start + 12] >> 4) * 4,
    };
    let gso =
        (mss > 0 && flags & TCP != 0 && frame.len() > hdr_len + usize::from(mss)).then_some(Gso {
            kind: if flags & IPV4 != 0 {
                GsoType::Tcp4
            } else {
                GsoType::Tcp6
            },
            size: mss,
            hdr_len: hdr_len as u16,
            ecn: false,
        });
    Ok(Offload {
        checksum: Checksum::Partial {
            start: start as u16,
            offset,
        },
        gso,
    })
}

fn format(out: &mut String, l4: &[u8]) -> Option<()> {
    let key = l4.get(TCP_LEN + 8..TCP_LEN + 16)?.try_into().ok()?;
    _ = write!(
        out,
        ",tcp(src={},dst={}),stt(key=0x{:x})",
        be16(l4, 0)?,
        be16(l4, 2)?,
        u64::from_be_bytes(key)
    );
    Some(())
}

fn parse(c: &mut Cursor<'_>, b: &mut Vec<u8>) -> Option<()> {
    c.expect(",tcp(src=")?;
    let src = c.number(0xffff)? as u16;
    c.expect(",dst=")?;
    let dst = c.number(0xffff)? as u16;
    c.expect("),stt(key=")?;
    let tnl = FlowTnl {
        tun_id: c.number(u64::MAX)?.into(),
        ..FlowTnl::default()
    };
    let config = TunnelConfig {
        dst_port: dst,
        ..TunnelConfig::default()
    };
    let inside = Inside {
        tnl: &tnl,
        packet_type: PT_ETH,
    };
    let start = b.len();
    build(b, &config, &inside)?;
    b[start..start + 2].copy_from_slice(&src.to_be_bytes());
    c.expect(")")
}
