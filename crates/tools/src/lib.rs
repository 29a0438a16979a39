//! The Open vSwitch command line tools, one module each: `run(args) -> ExitCode`.
//!
//! `bin/ovs-tools` dispatches on the name it was called by; nothing here looks at `argv[0]`
//! except through `dirs::program_name`.

#![forbid(unsafe_code)]

pub mod appctl;
pub mod dpctl;
pub mod ofctl;
pub mod ovsdb_client;
pub mod ovsdb_tool;
pub mod vsctl;
