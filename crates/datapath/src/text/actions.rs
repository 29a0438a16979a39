//! Facts that the printer and the parser of actions share.

/// A list of actions that cannot be read; Open vSwitch says no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("odp_actions_from_string")]
pub struct ActionsError;

/// How deep actions may nest in text.
pub const MAX_DEPTH: usize = 32;
/// Size of the cookie of an action without one, as Open vSwitch lays it out.
pub const COOKIE_SIZE: usize = 48;
