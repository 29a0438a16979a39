//! What the fuzz targets do with their bytes. Each target is a function here, so that plain tests can replay
//! seeds and findings (`tests/replay.rs`) without the fuzzer.
//!
//! ```text
//! input        bytes as choices for testkit's generator of databases
//! model        what must hold of a database after each transaction; views of monitoring clients
//! conntrack    frames through the connection tracker: states, translation, announcements, fragments
//! flow_text    flows, groups, meters: printed and read again = the same; a message carries them
//! frames       frames with odd virtio-net headers: keys, edits, tunnels, segments
//! json         text: pushed in pieces = parsed whole, printed and parsed again = the same
//! schema       schemas: printed and parsed again = the same; conversion from one to another
//! transact     schema, rows, operations on the engine, with the model beside
//! log          any bytes as a log file; recorded transactions replayed, and cut short
//! openflow     messages: shown at every verbosity; read, written and read again
//! tunnels      outer headers of every type, taken off packet after packet; STT's segments put together
//! neighbours   LLDP, ARP and neighbour advertisements
//! raft         messages and files of clusters: read, written and read again, and through a server's machine
//! dp_text      a datapath's keys and actions as text; arguments of dpctl's commands
//! netlink      reports of the kernel
//! unixctl      clients of a control socket
//! replay       capture files
//! server       sessions that send messages, right and wrong
//! bridge       OpenFlow connections of a bridge that do the same
//! ```
#![forbid(unsafe_code)]

pub mod bridge;
pub mod conntrack;
pub mod dp_text;
pub mod flow_text;
pub mod frames;
pub mod input;
pub mod json;
pub mod log;
pub mod model;
pub mod neighbours;
pub mod netlink;
pub mod openflow;
pub mod raft;
pub mod replay;
pub mod schema;
pub mod server;
pub mod transact;
pub mod tunnels;
pub mod unixctl;
