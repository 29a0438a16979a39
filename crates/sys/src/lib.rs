//! Safe, owned handles over the Linux facilities that the switch needs.
//!
//! Every module wraps one facility (a system call family or a device) and offers nothing but
//! owned values and plain data: no raw descriptor leaves a handle, nothing has to be freed by
//! hand. Policy lives above; this crate knows neither switches nor databases.
//!
//! This crate, `ferrovs-sync` and the few places named in the architecture document are the only
//! ones that may hold `unsafe`; each block states why it is sound.

#![allow(unsafe_code)]
#![deny(
    unsafe_op_in_unsafe_fn,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks
)]

pub mod affinity;
pub mod allocations;
pub mod bpf;
pub mod bytes;
pub mod callgrind;
pub mod children;
pub mod crash;
pub mod cycles;
pub mod doorbell;
pub mod ethtool;
pub mod fd;
pub mod file;
pub mod guest;
pub mod ifreq;
pub mod lockfile;
#[cfg(test)]
mod memcheck;
pub mod netns;
pub mod packet_socket;
pub mod prefetch;
pub mod process;
pub mod rtnetlink;
pub mod signal;
pub mod spin;
pub mod tap;
pub mod unix_socket;
pub mod vnet;
pub mod xdp;
