//! The time, as the server takes it.

use ferrovs_ovsdb::server::Now;
use ferrovs_runtime::clock;

pub fn now() -> Now {
    Now {
        instant: clock::now(),
        wall_ms: clock::wall_ms(),
    }
}
