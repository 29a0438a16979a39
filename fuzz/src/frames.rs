//! Frames with odd virtio-net headers, through everything that a datapath does with one.
//!
//! ```text
//!   virtio-net header, frame --> from_vnet --> key --> edits --> tunnel pop or push --> segments, parts, one whole
//! ```
//!
//! What must hold: nothing panics, what comes out is bounded by what came in, and what is not large any more says so.

use std::sync::LazyLock;

use ferrovs_datapath::action::Action;
use ferrovs_datapath::edit::{self, Outcome};
use ferrovs_datapath::text::parse_actions;
use ferrovs_encap::{PortState, pop, push, types};
use ferrovs_netdev::offload;
use ferrovs_packet::buffer::{Checksum, Packet};
use ferrovs_packet::flow::Flow;
use ferrovs_packet::gso::{self, MAX_HEADERS, MAX_SEGMENTS};
use ferrovs_packet::types::DpPort;
use ferrovs_sys::vnet::VnetHdr;
use ferrovs_testkit::database::Choose;

use crate::input::Input;

/// One of each kind of edit.
static EDITS: LazyLock<Vec<Action>> = LazyLock::new(|| {
    let texts = [
        "push_vlan(vid=5,pcp=1)",
        "pop_vlan",
        "push_mpls(label=5,tc=0,ttl=3,bos=1,eth_type=0x8847)",
        "pop_mpls(eth_type=0x800)",
        "pop_mpls(eth_type=0x86dd)",
        "push_eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02)",
        "pop_eth",
        "push_nsh(flags=0,ttl=63,mdtype=1,np=3,spi=0x1,si=255,c1=0x1,c2=0x2,c3=0x3,c4=0x4)",
        "pop_nsh()",
        "set(eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02))",
        "set(ipv4(src=1.2.3.4,dst=2.3.4.5,tos=4,ttl=5))",
        "set(ipv6(src=::1,dst=::2,label=0x5,tclass=4,hlimit=5))",
        "set(tcp(src=1,dst=2))",
        "set(udp(src=1,dst=2))",
        "set(sctp(src=1,dst=2))",
        "set(icmp(type=8,code=0))",
        "set(icmpv6(type=135,code=0))",
        "set(arp(sip=1.2.3.4,tip=2.3.4.5,op=2,sha=00:00:00:00:00:01,tha=00:00:00:00:00:02))",
        "set(nd(target=::5,sll=00:00:00:00:00:01,tll=00:00:00:00:00:02))",
        "set(mpls(label=7,tc=1,ttl=2,bos=1))",
        "set(nsh(flags=0,ttl=5,spi=0x5,si=7))",
    ];
    let parsed = texts
        .iter()
        .filter_map(|text| parse_actions(text, None).ok());
    parsed.flatten().collect()
});

/// One of each kind of outer header.
static PUSH: LazyLock<Vec<Action>> = LazyLock::new(|| {
    let kinds = [
        (
            50,
            4,
            17,
            "udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x5)",
        ),
        (50, 5, 17, "udp(src=0,dst=6081,csum=0xffff),geneve(vni=0x5)"),
        (
            50,
            3,
            47,
            "gre((flags=0xb000,proto=0x6558),csum=0x0,key=0x5,seq=0x0)",
        ),
        (54, 107, 47, "erspan(ver=2,sid=0x4,dir=1,hwid=0x9)"),
        (
            50,
            110,
            17,
            "udp(src=0,dst=2152,csum=0x0),gtpu(flags=0x30,msgtype=255,teid=0x9)",
        ),
        (
            50,
            105,
            17,
            "udp(src=0,dst=4341,csum=0xffff),lisp(flags=0x48000000,instance_id=0x5,lsb=0x1)",
        ),
        (72, 106, 6, "tcp(src=0,dst=7471),stt(key=0x5)"),
    ];
    let parsed = kinds.into_iter().flat_map(|(size, ty, proto, header)| {
        let outer = format!(
            "eth(dst=00:00:00:00:00:02,src=00:00:00:00:00:01,dl_type=0x0800),\
             ipv4(src=10.9.0.1,dst=10.9.0.2,proto={proto},tos=0,ttl=64,frag=0x4000)"
        );
        let header = format!("header(size={size},type={ty},{outer},{header})");
        let text = format!("tnl_push(tnl_port(1),{header},out_port(2))");
        parse_actions(&text, None).unwrap_or_default()
    });
    parsed.collect()
});

fn header(input: &mut Input<'_>) -> VnetHdr {
    let mut word = || u16::from_be_bytes([input.byte(), input.byte()]);
    let (kind, hdr_len, gso_size, csum_start, csum_offset) =
        (word(), word(), word(), word(), word());
    VnetHdr {
        flags: (kind >> 8) as u8,
        gso_type: kind as u8,
        hdr_len,
        gso_size,
        csum_start,
        csum_offset,
    }
}

/// What an emitted frame must be; counts it.
struct Out {
    n: usize,
    bytes: usize,
}

impl Out {
    fn new() -> Out {
        Out { n: 0, bytes: 0 }
    }

    fn take(&mut self, p: &Packet) {
        self.n += 1;
        self.bytes += p.size();
    }

    /// A large frame makes so many others at most, each with its headers.
    fn check(&self, from: &Packet) {
        assert!(self.n <= MAX_SEGMENTS + 1, "{} frames", self.n);
        // A frame for the kernel may hold several segments, each with inner headers.
        let size = from.offload.gso.map_or(from.size(), |g| g.size.into());
        let segments = from.size().div_ceil(size.max(1));
        let most = from.size() + (self.n + segments) * (MAX_HEADERS + 64);
        assert!(self.bytes <= most, "{} bytes of {most}", self.bytes);
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let hdr = header(&mut input);
    let shift = if input.below(4) == 0 { 4 } else { 0 };
    let (tunnel, n_edits) = (input.below(32), input.below(6));
    let edits: Vec<usize> = (0..n_edits).map(|_| input.below(EDITS.len())).collect();
    // A long payload costs the fuzzer one byte.
    let zeros = input.below(256) * 256;
    let mut frame = input.rest().to_vec();
    frame.resize(frame.len() + zeros, 0);
    frame.truncate(65_000);
    if frame.len() < 14 {
        return;
    }
    let Some(offload) = offload::from_vnet(&hdr, frame.len(), shift) else {
        return;
    };
    let mut packet = Packet::from_slice(&frame);
    packet.offload = offload;
    packet.md.in_port = DpPort(1);
    _ = Flow::from_packet(&mut packet);
    for at in edits {
        if edit::apply(&EDITS[at], &mut packet) == Outcome::Drop {
            return;
        }
        // What an action leaves is what the next lookup reads.
        _ = Flow::from_packet(&mut packet);
    }
    // The first numbers are types to take off, the last ones headers to put on.
    if let Some(ty) = types::ports().nth(tunnel) {
        if let Some(gather) = ty.gather {
            let (state, now) = (PortState::default(), ferrovs_runtime::clock::now());
            if !gather(&mut packet, &state, now).is_ok_and(|g| g.whole) {
                return;
            }
        }
        if pop::pop(ty, &mut packet).is_err() {
            return;
        }
        _ = Flow::from_packet(&mut packet);
    } else if let Some(Action::TunnelPush(action)) = PUSH.get(31 - tunnel) {
        let mut parts = Vec::new();
        push::push(packet.duplicate(), &action.header, None, |p| parts.push(p));
        parts.into_iter().for_each(leave);
        return;
    }
    leave(packet);
}

/// Every way out.
fn leave(packet: Packet) {
    _ = offload::to_vnet(&packet.offload, true);
    let mut out = Out::new();
    gso::to_uso(packet.duplicate(), |p| out.take(&p));
    out.check(&packet);
    let mut out = Out::new();
    gso::split(packet.duplicate(), 9000, |p| out.take(&p));
    out.check(&packet);
    let mut out = Out::new();
    let understood = gso::shape(&packet).is_some();
    let large = packet.offload.gso.is_some();
    gso::finish(packet.duplicate(), |mut p| {
        if understood || !large {
            assert!(p.offload.gso.is_none());
            assert!(!matches!(p.offload.checksum, Checksum::Partial { .. }));
        }
        _ = Flow::from_packet(&mut p);
        out.take(&p);
    });
    out.check(&packet);
}
