//! The index of one table: a [`Classifier`] of its rules.

use std::sync::atomic::AtomicU32;

use ferrovs_classifier::{Classifier, ClsEntry, Conjunction, MatchRef};
use ferrovs_packet::miniflow::FlowMap;

use crate::rule::{Rule, RuleMatch};

pub type Index = Classifier<Rule>;

impl RuleMatch {
    pub(crate) fn view(&self) -> MatchRef<'_> {
        let (map, masks) = self.mask();
        MatchRef {
            map: FlowMap([map as u64, (map >> 64) as u64]),
            masks,
            values: self.values(),
        }
    }
}

impl ClsEntry for Rule {
    fn match_ref(&self) -> MatchRef<'_> {
        self.match_.view()
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn visible_in(&self, version: u64) -> bool {
        Rule::visible_in(self, version)
    }

    fn note(&self) -> &AtomicU32 {
        &self.cls_note
    }

    fn conjunctions(&self) -> &[Conjunction] {
        &self.actions.conjunctions
    }
}
