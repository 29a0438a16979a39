//! Standalone fail mode: when no primary controller has been there for three probe intervals, a hidden rule of
//! a very high priority makes the bridge a learning switch until one is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrovs_openflow::action::Action;
use ferrovs_openflow::flow::{FlowModFlags, FlowRemovedReason};
use ferrovs_packet::flow::Match;
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::{Poller, vlog};

use crate::ofproto::Ofproto;
use crate::rule::{NewRule, RuleActions};
use crate::tables::{Requester, RuleMatch};
use crate::time::to_ms;

/// Priority of the rule.
const PRIORITY: i32 = 0xf0_f0f0;

#[derive(Debug, Default)]
pub struct FailOpen {
    open: bool,
    /// When the switch will fail open if nothing changes.
    due: Option<Instant>,
}

impl FailOpen {
    /// `down`: how long every primary controller has been away, None if one is there.
    pub fn run(
        &mut self,
        ofproto: &mut Ofproto,
        active: bool,
        down: Option<Duration>,
        probe: Option<Duration>,
        now: Instant,
    ) {
        let trigger = probe.map(|p| p * 3).unwrap_or(Duration::from_secs(15));
        self.due = None;
        match down.filter(|_| active) {
            Some(down) if down >= trigger && !self.open => {
                vlog::warn!(
                    vlog::modules::FAIL_OPEN,
                    "Could not connect to controller (or switch failed controller's post-connection admission control policy) for {} seconds, failing open",
                    down.as_secs()
                );
                self.open = true;
                ofproto.remove_flows(now);
                set_rule(ofproto, true, now);
            }
            Some(down) => self.due = Some(now + (trigger - down)),
            None if self.open => {
                vlog::warn!(vlog::modules::FAIL_OPEN, "No longer in fail-open mode");
                self.open = false;
                set_rule(ofproto, false, now);
            }
            None => {}
        }
    }

    pub fn wait(&self, poller: &mut Poller) {
        if let Some(due) = self.due {
            poller.wait_until(due);
        }
    }
}

fn set_rule(ofproto: &mut Ofproto, there: bool, now: Instant) {
    let now_ms = to_ms(now);
    let everything = RuleMatch::new(&Match::default());
    let mut change = ofproto.tables.change(Requester::default(), now_ms);
    if there {
        change.add_own(NewRule {
            table_id: 0,
            priority: PRIORITY,
            match_: everything,
            actions: Arc::new(RuleActions::new(vec![Action::output(OfPort::NORMAL)])),
            cookie: 0,
            flags: FlowModFlags::empty(),
            importance: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            now_ms,
        });
    } else if let Some(rule) =
        ofproto
            .tables
            .find_exactly(0, &everything, PRIORITY, change.version())
    {
        change.remove(rule, FlowRemovedReason::Delete);
    }
    change.commit();
}
