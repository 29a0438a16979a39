//! Bare UDP: IP or MPLS packets right behind UDP. Only a kernel's datapath speaks it; in userspace such a port can be
//! configured, but nothing comes in and no header can be built.

use crate::config::DEFAULT_TTL;
use crate::row::{Carries, Options, PopError, Transport, TunnelType};
use crate::types::vxlan;
use ferrovs_packet::types::ip_proto;

pub static PORT: TunnelType = TunnelType {
    kind: "bareudp",
    dpif_port: "udp_sys",
    transport: Transport {
        protocol: ip_proto::UDP,
        port: Some(0),
        listens: &[],
    },
    options: Options::NONE,
    ttl: DEFAULT_TTL,
    carries: |_| Carries::l3("bareudp"),
    clash: |_, _| None,
    // Never built.
    header: &vxlan::HEADER,
    header6: &vxlan::HEADER,
    build: |_, _, _| None,
    pop: |_, _| Err(PopError::Header),
    gather: None,
};
