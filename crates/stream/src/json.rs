//! JSON on the wire: what the crate `json` holds, under the name that clients of streams know.

pub use ferrovs_json::*;
