//! A packet as a list of headers, and its bytes: all lengths and checksums are computed anew from the whole, each time.

use ferrovs_testkit::database::{Choose, Random};

#[derive(Clone, Debug, PartialEq)]
pub enum Header {
    /// Each says the type of what is behind it.
    Eth {
        dst: [u8; 6],
        src: [u8; 6],
        ty: u16,
    },
    Vlan {
        tci: u16,
        ty: u16,
    },
    Mpls(u32),
    Nsh {
        flags: u8,
        ttl: u8,
        np: u8,
        path: u32,
        md1: Option<[u32; 4]>,
        md2: Vec<u8>,
    },
    Ipv4 {
        tos: u8,
        id: u16,
        frag: u16,
        ttl: u8,
        proto: u8,
        src: u32,
        dst: u32,
        options: Vec<u8>,
    },
    /// Extension headers: type and body.
    Ipv6 {
        tos: u8,
        label: u32,
        ttl: u8,
        proto: u8,
        src: [u8; 16],
        dst: [u8; 16],
        extensions: Vec<(u8, Vec<u8>)>,
    },
    Arp {
        op: u16,
        sha: [u8; 6],
        sip: u32,
        tha: [u8; 6],
        tip: u32,
    },
    Tcp {
        ports: (u16, u16),
        rest: Vec<u8>,
    },
    /// The sender may not have computed a checksum.
    Udp {
        ports: (u16, u16),
        summed: bool,
    },
    Sctp {
        ports: (u16, u16),
        tag: u32,
    },
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
    },
    /// Neighbour discovery.
    Nd {
        kind: u8,
        code: u8,
        reserved: u32,
        target: [u8; 16],
        options: Vec<(u8, [u8; 6])>,
    },
}

use Header::*;

#[derive(Clone, Debug)]
pub struct Frame {
    /// The type of what comes first where that is no Ethernet header.
    pub first: Option<u16>,
    pub headers: Vec<Header>,
    pub payload: Vec<u8>,
    /// What of the payload is in later fragments: the checksum covers it.
    pub elsewhere: Vec<u8>,
    /// The sender left the transport checksum to the device.
    pub open: bool,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
/// A fragment's offset.
const OFFSET: u16 = 0x1fff;

fn sum(bytes: &[u8]) -> u64 {
    let word = |p: &[u8]| u64::from(p[0]) << 8 | u64::from(*p.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

impl Frame {
    pub fn bytes(&self) -> Vec<u8> {
        self.from(0, 0)
    }

    /// Where the transport header begins, and where in it the checksum is.
    pub fn checksum_at(&self) -> Option<(usize, u16)> {
        let last = self.headers.len() - 1;
        let at = self.bytes().len() - self.from(last, 0).len();
        match self.headers[last] {
            Tcp { .. } => Some((at, 16)),
            Udp { summed: true, .. } => Some((at, 6)),
            _ => None,
        }
    }

    /// The sum of the pseudo-header, as the sender of an open checksum leaves it.
    pub fn pseudo(&self) -> u16 {
        let last = self.headers.len() - 1;
        fold(self.pseudo_sum(last, self.from(last, 0).len()))
    }

    /// The pseudo-header of the transport header at `at`, whose message has `len` bytes.
    fn pseudo_sum(&self, at: usize, len: usize) -> u64 {
        match &self.headers[at - 1] {
            Ipv4 {
                src, dst, proto, ..
            } => sum(&src.to_be_bytes()) + sum(&dst.to_be_bytes()) + u64::from(*proto) + len as u64,
            Ipv6 {
                src,
                dst,
                proto,
                extensions,
                ..
            } => {
                // With hops left the destination is the last address of the routing header.
                let routing = extensions
                    .iter()
                    .find(|(kind, body)| *kind == 43 && body[1] > 0);
                let last = routing.map_or(&dst[..], |(_, body)| &body[6..22]);
                sum(src) + sum(last) + u64::from(*proto) + len as u64
            }
            other => panic!("{other:?} carries no transport"),
        }
    }

    /// The checksum of the transport header at `at` of `bytes`, without it.
    fn transport(&self, at: usize, bytes: &[u8]) -> u16 {
        let whole = [bytes, &self.elsewhere].concat();
        !fold(self.pseudo_sum(at, whole.len()) + sum(&whole))
    }

    /// The bytes from the header at `at` on. A `pad` is behind the innermost packet.
    fn from(&self, at: usize, pad: usize) -> Vec<u8> {
        let Some(header) = self.headers.get(at) else {
            return [&self.payload[..], &vec![0; pad]].concat();
        };
        let rest = self.from(at + 1, pad);
        let mut out = Vec::new();
        match header {
            Eth { dst, src, ty } => {
                out.extend([&dst[..], src, &ty.to_be_bytes()].concat());
            }
            Vlan { tci, ty } => out.extend([tci.to_be_bytes(), ty.to_be_bytes()].concat()),
            Mpls(lse) => out.extend(lse.to_be_bytes()),
            Nsh {
                flags,
                ttl,
                np,
                path,
                md1,
                md2,
            } => {
                let words = 2 + md1.map_or(md2.len() / 4, |_| 4) as u16;
                let first = u16::from(*flags) << 12 | u16::from(*ttl) << 6 | words;
                out.extend(first.to_be_bytes());
                out.extend([if md1.is_some() { 1 } else { 2 }, *np]);
                out.extend(path.to_be_bytes());
                out.extend(md1.iter().flatten().flat_map(|c| c.to_be_bytes()));
                out.extend(md2);
            }
            Ipv4 {
                tos,
                id,
                frag,
                ttl,
                proto,
                src,
                dst,
                options,
            } => {
                let header = 20 + options.len();
                let total = (header + rest.len() - pad) as u16;
                out.extend([0x40 | (header / 4) as u8, *tos]);
                out.extend([total.to_be_bytes(), id.to_be_bytes(), frag.to_be_bytes()].concat());
                out.extend([*ttl, *proto, 0, 0]);
                out.extend([src.to_be_bytes(), dst.to_be_bytes()].concat());
                out.extend(options);
                let sum = !fold(sum(&out));
                out[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Ipv6 {
                tos,
                label,
                ttl,
                proto,
                src,
                dst,
                extensions,
            } => {
                let first = 6 << 28 | u32::from(*tos) << 20 | label;
                let more: usize = extensions.iter().map(|(_, body)| 2 + body.len()).sum();
                out.extend(first.to_be_bytes());
                out.extend(((more + rest.len() - pad) as u16).to_be_bytes());
                let mut chain = extensions.iter().map(|e| e.0).chain([*proto]);
                out.extend([chain.next().unwrap(), *ttl]);
                out.extend([&src[..], dst].concat());
                for (kind, body) in extensions {
                    let size = if *kind == 44 {
                        0
                    } else {
                        (body.len() / 8) as u8
                    };
                    out.extend([chain.next().unwrap(), size]);
                    out.extend(body);
                }
            }
            Arp {
                op,
                sha,
                sip,
                tha,
                tip,
            } => {
                out.extend([0, 1, 8, 0, 6, 4]);
                out.extend(op.to_be_bytes());
                out.extend([&sha[..], &sip.to_be_bytes(), tha, &tip.to_be_bytes()].concat());
            }
            transport => return self.message(transport, at, &rest),
        }
        out.extend(rest);
        out
    }

    fn message(&self, header: &Header, at: usize, rest: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let ports = |(src, dst): (u16, u16)| [src.to_be_bytes(), dst.to_be_bytes()].concat();
        let place = match header {
            Tcp { ports: p, rest } => {
                out.extend(ports(*p));
                out.extend(rest);
                16
            }
            Udp { ports: p, .. } => {
                out.extend(ports(*p));
                let len = 8 + rest.len() + self.elsewhere.len();
                out.extend((len as u16).to_be_bytes());
                out.extend([0, 0]);
                6
            }
            Sctp { ports: p, tag } => {
                out.extend(ports(*p));
                out.extend(tag.to_be_bytes());
                let whole = [&out, &[0; 4][..], rest, &self.elsewhere].concat();
                out.extend(crc32c(&whole).to_le_bytes());
                out.extend(rest);
                return out;
            }
            Icmp { kind, code, rest } => {
                out.extend([*kind, *code, 0, 0]);
                out.extend(rest);
                2
            }
            Nd {
                kind,
                code,
                reserved,
                target,
                options,
            } => {
                out.extend([*kind, *code, 0, 0]);
                out.extend(reserved.to_be_bytes());
                out.extend(target);
                for (kind, address) in options {
                    out.extend([*kind, 1]);
                    out.extend(address);
                }
                2
            }
            other => panic!("{other:?} is no transport"),
        };
        out.extend(rest);
        let is_icmp = matches!(&self.headers[at - 1], Ipv4 { proto: ICMP, .. });
        let checksum = match header {
            Udp { summed: false, .. } => return out,
            _ if is_icmp => !fold(sum(&out) + sum(&self.elsewhere)),
            Udp { .. } => match self.transport(at, &out) {
                0 => 0xffff,
                sum => sum,
            },
            _ => self.transport(at, &out),
        };
        out[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
        out
    }
}

pub fn array<const N: usize>(r: &mut Random) -> [u8; N] {
    std::array::from_fn(|_| r.below(256) as u8)
}

pub fn bytes(r: &mut Random, n: usize) -> Vec<u8> {
    (0..n).map(|_| r.below(256) as u8).collect()
}

pub fn word(r: &mut Random) -> u32 {
    u32::from_be_bytes(array(r))
}

/// A packet with right checksums.
pub fn draw(r: &mut Random) -> Frame {
    let mut f = Frame {
        first: None,
        headers: Vec::new(),
        payload: Vec::new(),
        elsewhere: Vec::new(),
        open: false,
    };
    let n = *r.pick(&[0, 1, 7, 40, 100]);
    f.payload = bytes(r, n);
    let inner = *r.pick(&[0x800u16, 0x800, 0x86dd, 0x86dd, 0x806, 0x9000]);
    let n_vlans = *r.pick(&[0, 0, 1, 2]);
    let n_labels = *r.pick(&[0, 0, 0, 1, 3]);
    let has_nsh = n_labels == 0 && r.below(8) == 0;
    let mut types: Vec<u16> = (0..n_vlans).map(|_| *r.pick(&[0x8100, 0x88a8])).collect();
    types.push(match (n_labels, has_nsh) {
        (0, false) => inner,
        (0, true) => 0x894f,
        _ => 0x8847,
    });
    f.headers.push(Eth {
        dst: array(r),
        src: array(r),
        ty: types[0],
    });
    for ty in &types[1..] {
        f.headers.push(Vlan {
            tci: r.below(0x10000) as u16 & 0xefff,
            ty: *ty,
        });
    }
    for i in 0..n_labels {
        let bottom = u32::from(i + 1 == n_labels) << 8;
        f.headers.push(Mpls(word(r) & !0x100 | bottom));
    }
    if has_nsh {
        let md1 = (r.below(2) == 0).then(|| std::array::from_fn(|_| word(r)));
        let n = if md1.is_some() { 0 } else { r.below(4) * 4 };
        let (flags, ttl, path) = (r.below(4) as u8, r.below(64) as u8, word(r));
        let np = match inner {
            0x800 => 1,
            0x86dd => 2,
            _ => 3,
        };
        f.headers.push(Nsh {
            flags,
            ttl,
            np,
            path,
            md1,
            md2: bytes(r, n),
        });
        if np == 3 {
            f.headers.push(Eth {
                dst: array(r),
                src: array(r),
                ty: inner,
            });
        }
    }
    match inner {
        0x800 => ipv4(r, &mut f),
        0x86dd => ipv6(r, &mut f),
        0x806 => f.headers.push(Arp {
            op: 1 + r.below(2) as u16,
            sha: array(r),
            sip: word(r),
            tha: array(r),
            tip: word(r),
        }),
        _ => {}
    }
    f
}

fn ipv4(r: &mut Random, f: &mut Frame) {
    let proto = *r.pick(&[TCP, TCP, UDP, UDP, ICMP, SCTP, 47]);
    let frag = *r.pick(&[0u16, 0, 0, 0x4000, 0x2000, 0x2005, 7]);
    let n = *r.pick(&[0, 0, 0, 8]);
    f.headers.push(Ipv4 {
        tos: r.below(256) as u8,
        id: r.below(0x10000) as u16,
        frag,
        ttl: r.below(256) as u8,
        proto,
        src: word(r),
        dst: word(r),
        // No operation.
        options: vec![1; n],
    });
    transport(r, f, proto, frag & 0x3fff != 0, frag & OFFSET != 0);
}

fn ipv6(r: &mut Random, f: &mut Frame) {
    let proto = *r.pick(&[TCP, TCP, UDP, UDP, ICMPV6, ICMPV6, SCTP, 59]);
    let mut extensions = Vec::new();
    if r.below(4) == 0 {
        extensions.push((0, bytes(r, 6)));
    }
    if r.below(4) == 0 {
        let mut body = bytes(r, 22);
        // Type 0, one hop or none left.
        (body[0], body[1]) = (0, r.below(2) as u8);
        extensions.push((43, body));
    }
    let frag = *r.pick(&[None, None, None, Some(1u16), Some(9), Some(0)]);
    if let Some(word) = frag {
        extensions.push((44, [&word.to_be_bytes()[..], &bytes(r, 4)].concat()));
    }
    f.headers.push(Ipv6 {
        tos: r.below(256) as u8,
        label: word(r) & 0xf_ffff,
        ttl: r.below(256) as u8,
        proto,
        src: array(r),
        dst: array(r),
        extensions,
    });
    let frag = frag.unwrap_or(0);
    transport(r, f, proto, frag != 0, frag >> 3 != 0);
}

fn transport(r: &mut Random, f: &mut Frame, proto: u8, fragment: bool, later: bool) {
    if later {
        return;
    }
    if fragment {
        if f.payload.len() % 2 == 1 {
            f.payload.push(9);
        }
        f.elsewhere = bytes(r, 20);
    }
    // Of a CRC nobody can tell the change without the length of what is in later fragments: there it comes out wrong, as in
    // Open vSwitch.
    if fragment && proto == SCTP {
        return;
    }
    let ports = (r.below(0x10000) as u16, r.below(0x10000) as u16);
    let header = match proto {
        TCP => {
            let options = *r.pick(&[0u8, 0, 4]);
            let mut rest = bytes(r, 16 + usize::from(options) * 4);
            rest[8] = (5 + options) << 4;
            rest[12..14].fill(0);
            Tcp { ports, rest }
        }
        UDP => Udp {
            ports,
            summed: r.below(4) > 0,
        },
        SCTP => Sctp {
            ports,
            tag: word(r),
        },
        ICMP => Icmp {
            kind: *r.pick(&[0, 3, 8, 11]),
            code: r.below(3) as u8,
            rest: array(r),
        },
        ICMPV6 if r.below(3) > 0 => {
            let n = r.below(3);
            let mut kinds = [1, 2];
            if r.below(2) == 0 {
                kinds.reverse();
            }
            f.payload.clear();
            Nd {
                kind: *r.pick(&[135, 136]),
                code: 0,
                reserved: word(r),
                target: array(r),
                options: kinds[..n].iter().map(|k| (*k, array(r))).collect(),
            }
        }
        ICMPV6 => Icmp {
            kind: *r.pick(&[128, 1]),
            code: r.below(3) as u8,
            rest: array(r),
        },
        _ => return,
    };
    f.headers.push(header);
    f.open = !fragment && r.below(3) == 0 && f.checksum_at().is_some();
}
