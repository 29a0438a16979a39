//! Where complaints of the OpenFlow library go: to the log modules that Open vSwitch's library logs to.

use ferrovs_openflow::warn::Topic;
use ferrovs_runtime::vlog::{self, RateLimit, modules};

/// Logs a complaint.
pub fn warn(topic: Topic, text: &dyn Fn() -> String) {
    static ACTIONS: RateLimit = RateLimit::new(5, 1);
    static MSGS: RateLimit = RateLimit::new(1, 5);
    static PORT: RateLimit = RateLimit::new(5, 1);
    static META_FLOW: RateLimit = RateLimit::new(5, 1);
    static NX_MATCH: RateLimit = RateLimit::new(2, 1);
    match topic {
        Topic::Actions => vlog::warn_rl!(ACTIONS, modules::OFP_ACTIONS, "{}", text()),
        Topic::Msgs => vlog::warn_rl!(MSGS, modules::OFP_MSGS, "{}", text()),
        Topic::ActionsInfo => vlog::info_rl!(ACTIONS, modules::OFP_ACTIONS, "{}", text()),
        Topic::Port => vlog::warn_rl!(PORT, modules::OFP_PORT, "{}", text()),
        Topic::MetaFlow => vlog::warn_rl!(META_FLOW, modules::META_FLOW, "{}", text()),
        Topic::NxMatch => vlog::warn_rl!(NX_MATCH, modules::NX_MATCH, "{}", text()),
        Topic::Group => vlog::warn!(modules::OFP_GROUP, "{}", text()),
        Topic::SocketUtil => vlog::err!(modules::SOCKET_UTIL, "{}", text()),
        Topic::Match => {
            for line in text().lines() {
                vlog::info!(modules::OFP_MATCH, "{line}");
            }
        }
    }
}
