//! Whole programs: real daemons, real sockets, network namespaces, and the oracle beside ours.

#[path = "daemons/afxdp.rs"]
mod afxdp;
#[path = "daemons/bridge.rs"]
mod bridge;
#[path = "daemons/clock.rs"]
mod clock;
#[path = "daemons/connections.rs"]
mod connections;
#[path = "daemons/conntrack.rs"]
mod conntrack;
#[path = "daemons/counters.rs"]
mod counters;
#[path = "daemons/ctl.rs"]
mod ctl;
#[path = "daemons/datapath.rs"]
mod datapath;
#[path = "daemons/drops.rs"]
mod drops;
#[path = "daemons/exchange.rs"]
mod exchange;
#[path = "daemons/guests.rs"]
mod guests;
#[path = "daemons/honesty.rs"]
mod honesty;
#[path = "daemons/hosts.rs"]
mod hosts;
#[path = "daemons/keys.rs"]
mod keys;
#[path = "daemons/life.rs"]
mod life;
#[path = "daemons/lldp.rs"]
mod lldp;
#[path = "daemons/log_lines.rs"]
mod log_lines;
#[path = "daemons/openflow.rs"]
mod openflow;
#[path = "daemons/oracle.rs"]
mod oracle;
#[path = "daemons/packet_side.rs"]
mod packet_side;
#[path = "daemons/packets.rs"]
mod packets;
#[path = "daemons/pki.rs"]
mod pki;
#[path = "daemons/polled.rs"]
mod polled;
#[path = "daemons/routes.rs"]
mod routes;
#[path = "daemons/traces.rs"]
mod traces;
#[path = "daemons/translated.rs"]
mod translated;
#[path = "daemons/tunnels.rs"]
mod tunnels;
#[path = "daemons/user.rs"]
mod user;
