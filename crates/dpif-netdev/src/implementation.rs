//! Names of the implementations that threads run, which are those of Open vSwitch's plain code.

use ferrovs_runtime::vlog::{self, modules};

/// Processes packets.
pub const DPIF: &str = "dpif_scalar";
/// Reads headers.
pub const PARSER: &str = "scalar";
/// Looks a table of the classifier up.
pub const LOOKUP: &str = "generic";
/// Carries out actions.
pub const ACTIONS: &str = "scalar";

/// Tells in the log what a datapath that is made uses.
pub fn log_defaults() {
    static FIRST: std::sync::Once = std::sync::Once::new();
    vlog::info!(
        modules::DPIF_NETDEV_EXTRACT,
        "Default MFEX Extract implementation is {PARSER}."
    );
    FIRST.call_once(|| {
        vlog::info!(
            modules::DPIF_NETDEV_IMPL,
            "Default DPIF implementation is {DPIF}."
        );
    });
}
