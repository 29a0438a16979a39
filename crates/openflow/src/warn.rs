//! What reading messages and text complains about, beside the error that it returns.
//!
//! Open vSwitch explains in its log why it refuses an action or drops a part of a match. This crate does not log:
//! a program that does gives it a [`Sink`], which decides whether a text is wanted at all before it is made.

use std::sync::OnceLock;

/// What a complaint is about, which is the name of the log module that it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// `ofp_actions`, a warning.
    Actions,
    /// `ofp_actions`, for information.
    ActionsInfo,
    /// `ofp_msgs`, a warning.
    Msgs,
    /// `meta_flow`, a warning.
    MetaFlow,
    /// `nx_match`, a warning.
    NxMatch,
    /// `ofp_port`, a warning.
    Port,
    /// `ofp_group`, a warning.
    Group,
    /// `socket_util`, an error.
    SocketUtil,
    /// `ofp_match`, for information; each line of the text is a message of its own.
    Match,
}

/// Takes a complaint, whose text it makes only to show it.
pub type Sink = fn(Topic, &dyn Fn() -> String);

static SINK: OnceLock<Sink> = OnceLock::new();

/// Gives complaints a way out; the first call counts.
pub fn set_sink(sink: Sink) {
    let _ = SINK.set(sink);
}

/// Complains.
pub(crate) fn warn(topic: Topic, text: impl Fn() -> String) {
    if let Some(sink) = SINK.get() {
        sink(topic, &text);
    }
}
