//! The userspace datapath: threads that receive packets, look their flows up and run the flows' actions.
//!
//! ```text
//!   main thread of the program                     thread "main" (non-PMD)      threads pmd-cNN
//!   Dpif: ports, flow_put, dumps  --- mailbox -->  polls tap, packet sockets    spin on polled devices
//!         execute, quiesce                         Rxq -> caches -> actions -> Txq
//! ```
//!
//! Each thread owns its receive queues, its caches and lookup tables and its transmit batches, and shares with others
//! what is written rarely: its list of queues and the configuration (swapped as a whole), the map of flows (concurrent),
//! the actions of a flow. Locks are taken on a packet's way in two places: a meter's bucket and an upcall. Counters
//! are written by the owner alone. When no flow matches, the thread calls the
//! [`UpcallHandler`](ferrovs_datapath::upcall::UpcallHandler) itself, installs the flow and runs its actions: so what
//! a translation waits for, the packets behind it wait for.
//!
//! What a flow holds about OpenFlow is nothing: only `ferrovs-datapath`'s language is spoken here.
#![forbid(unsafe_code)]

mod account;
mod actions;
mod assign;
mod balance;
mod cache;
mod class;
mod classifier;
mod commands;
mod config;
mod counters;
mod datapath;
mod drops;
mod execute;
mod flow;
mod flow_table;
mod flows;
mod implementation;
mod impls;
mod log;
mod logged;
mod lookup;
mod marked;
mod masks;
mod meter;
mod offload;
mod perf;
mod plan;
mod port;
mod process;
mod queues;
mod random;
mod rx;
mod share;
mod shared;
mod show;
mod slots;
mod thread;
mod threads;
mod tunnel;
mod tx;
mod worker;

pub use account::Account;
pub use class::{Dummy, classes, quiesce_all};
pub use commands::register_commands;
pub use drops::{Dropped, Reason};
