//! The text of `upcall/show`.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use super::Udpif;

impl Udpif {
    /// One datapath's part of `upcall/show`; `name` is `kind@name`.
    pub fn show(&self, name: &str) -> String {
        let s = &self.limit;
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "{name}:\n  flows         : (current {}) (avg {}) (max {}) (limit {})\n  dump duration : {}ms\n  ufid enabled : {}\n\n",
            s.n_flows.load(Relaxed),
            s.avg_n_flows.load(Relaxed),
            s.max_n_flows.load(Relaxed),
            s.get(),
            s.duration_ms.load(Relaxed),
            self.enable_ufid.load(Relaxed) && self.supports_ufid.load(Relaxed),
        );
        let n = self.n_revalidators();
        for i in 0..n {
            let _ = writeln!(out, "  {}: (keys {})", i + 1, self.ukeys.len_of(i, n));
        }
        out
    }

    /// `upcall/enable-megaflows` and its counterpart; the flows that are there go.
    pub fn set_megaflows(self: &std::sync::Arc<Self>, enable: bool) {
        self.enable_megaflows.store(enable, Relaxed);
        self.purge();
    }

    pub fn set_ufid(&self, enable: bool) {
        self.enable_ufid.store(enable, Relaxed);
    }

    pub fn set_ufid_support(&self, supports: bool) {
        self.supports_ufid.store(supports, Relaxed);
    }

    /// `upcall/set-flow-limit`.
    pub fn set_flow_limit(&self, limit: usize) {
        self.limit.set(limit);
    }
}
