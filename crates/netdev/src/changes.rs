//! One number for all devices: whoever looks after many of them sees by it that there is nothing to see.

use ferrovs_sync::Seq;

static CHANGES: Seq = Seq::new();

/// Changes whenever any device changed, or a link of the host came or went.
pub fn change_seq() -> &'static Seq {
    &CHANGES
}
