//! The Open vSwitch command line tools, one module each: `run(args) -> ExitCode`.
//!
//! `bin/ovs-tools` dispatches on the name it was called by; nothing here looks at `argv[0]`
//! except through `dirs::program_name`.

#![forbid(unsafe_code)]

pub mod appctl;
pub mod dbctl;
pub mod dpctl;
pub mod ofctl;
pub mod ovsdb_client;
pub mod ovsdb_tool;
pub mod pki;
pub mod table;
mod tls;
pub mod vsctl;
pub mod vtep_ctl;

pub use ferrovs_runtime::dirs::set_program_name;

/// The command line of this process. What is not UTF-8 in it would become something else on the
/// way to a database or a switch: then what Open vSwitch says of such values.
pub fn arguments() -> Result<Vec<String>, String> {
    use std::os::unix::ffi::OsStrExt;
    std::env::args_os()
        .map(|arg| match std::str::from_utf8(arg.as_bytes()) {
            Ok(text) => Ok(text.to_owned()),
            Err(e) => Err(format!(
                "constraint violation: not a valid UTF-8 string: {}",
                ferrovs_ovsdb::json::describe_invalid_utf8(arg.as_bytes(), &e)
            )),
        })
        .collect()
}

/// Prepares a tool's process: standard output that goes away ends the tool quietly, as it would
/// end any filter, instead of by a panic.
pub fn init() {
    ferrovs_runtime::clock::init();
    ferrovs_runtime::end_with_standard_output();
}

/// Limits the time by `OVS_CTL_TIMEOUT`, until an option `--timeout` says otherwise.
pub fn take_default_timeout() {
    let value = std::env::var("OVS_CTL_TIMEOUT").ok();
    if let Some(seconds) = value.as_deref().and_then(default_timeout) {
        ferrovs_runtime::set_timeout(seconds);
    }
}

/// What is no number of seconds limits nothing, without a word.
fn default_timeout(value: &str) -> Option<u32> {
    value.parse().ok().filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_default_timeout_is_a_positive_number() {
        for (value, seconds) in [
            ("1", Some(1)),
            ("0", None),
            ("-3", None),
            ("1.5", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(super::default_timeout(value), seconds, "{value}");
        }
    }
}
