//! `ofproto/trace`: what would happen to a packet, told step by step.

use std::sync::Arc;

use ferrovs_openflow::action::Action;

use crate::rule::Rule;

/// A rule as a trace names it: match, priority, cookie if it has one.
pub fn describe_rule(rule: &Arc<Rule>) -> String {
    let mut text = format!("priority {}", rule.priority);
    if rule.cookie != 0 {
        text += &format!(", cookie {:#x}", rule.cookie);
    }
    text
}

pub fn describe_action(action: &Action) -> String {
    action.name().to_string()
}
