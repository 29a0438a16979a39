//! What a datapath can do: the answers to the probes that the switch makes when it opens one.
//!
//! [`FEATURES`] lists them once, with the names and in the order of `dpif/show-dp-features`.

/// What a datapath can do: by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DpFeatures {
    pub masked_set_action: bool,
    pub tnl_push_pop: bool,
    pub ufid: bool,
    pub trunc: bool,
    pub clone: bool,
    pub sample_nesting: usize,
    pub ct_eventmask: bool,
    pub ct_clear: bool,
    pub max_hash_alg: u32,
    pub check_pkt_len: bool,
    pub ct_timeout: bool,
    pub explicit_drop_action: bool,
    pub lb_output_action: bool,
    pub ct_zero_snat: bool,
    pub add_mpls: bool,
    pub psample: bool,
    pub max_vlan_headers: usize,
    pub max_mpls_depth: usize,
    pub recirc: bool,
    pub ct_state: bool,
    pub ct_zone: bool,
    pub ct_mark: bool,
    pub ct_label: bool,
    pub ct_state_nat: bool,
    pub ct_orig_tuple: bool,
    pub ct_orig_tuple6: bool,
    pub nd_ext: bool,
}

/// The value of one feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    Number(u32),
}

impl std::fmt::Display for Value {
    /// As the database's `Datapath` rows have it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Bool(b) => b.fmt(f),
            Value::Number(n) => n.fmt(f),
        }
    }
}

/// One feature.
#[derive(Debug)]
pub struct Feature {
    pub key: &'static str,
    /// What `dpif/show-dp-features` calls it.
    pub label: &'static str,
    pub get: fn(&DpFeatures) -> Value,
}

/// All features.
pub const FEATURES: [Feature; 27] = [
    Feature {
        key: "masked_set_action",
        label: "Masked set action",
        get: |f| Value::Bool(f.masked_set_action),
    },
    Feature {
        key: "tnl_push_pop",
        label: "Tunnel push pop",
        get: |f| Value::Bool(f.tnl_push_pop),
    },
    Feature {
        key: "ufid",
        label: "Ufid",
        get: |f| Value::Bool(f.ufid),
    },
    Feature {
        key: "trunc",
        label: "Truncate action",
        get: |f| Value::Bool(f.trunc),
    },
    Feature {
        key: "clone",
        label: "Clone action",
        get: |f| Value::Bool(f.clone),
    },
    Feature {
        key: "sample_nesting",
        label: "Sample nesting",
        get: |f| Value::Number(f.sample_nesting as u32),
    },
    Feature {
        key: "ct_eventmask",
        label: "Conntrack eventmask",
        get: |f| Value::Bool(f.ct_eventmask),
    },
    Feature {
        key: "ct_clear",
        label: "Conntrack clear",
        get: |f| Value::Bool(f.ct_clear),
    },
    Feature {
        key: "max_hash_alg",
        label: "Max dp_hash algorithm",
        get: |f| Value::Number(f.max_hash_alg),
    },
    Feature {
        key: "check_pkt_len",
        label: "Check pkt length action",
        get: |f| Value::Bool(f.check_pkt_len),
    },
    Feature {
        key: "ct_timeout",
        label: "Conntrack timeout policy",
        get: |f| Value::Bool(f.ct_timeout),
    },
    Feature {
        key: "explicit_drop_action",
        label: "Explicit Drop action",
        get: |f| Value::Bool(f.explicit_drop_action),
    },
    Feature {
        key: "lb_output_action",
        label: "Optimized Balance TCP mode",
        get: |f| Value::Bool(f.lb_output_action),
    },
    Feature {
        key: "ct_zero_snat",
        label: "Conntrack all-zero IP SNAT",
        get: |f| Value::Bool(f.ct_zero_snat),
    },
    Feature {
        key: "add_mpls",
        label: "MPLS Label add",
        get: |f| Value::Bool(f.add_mpls),
    },
    Feature {
        key: "psample",
        label: "psample action",
        get: |f| Value::Bool(f.psample),
    },
    Feature {
        key: "max_vlan_headers",
        label: "Max VLAN headers",
        get: |f| Value::Number(f.max_vlan_headers as u32),
    },
    Feature {
        key: "max_mpls_depth",
        label: "Max MPLS depth",
        get: |f| Value::Number(f.max_mpls_depth as u32),
    },
    Feature {
        key: "recirc",
        label: "Recirc",
        get: |f| Value::Bool(f.recirc),
    },
    Feature {
        key: "ct_state",
        label: "CT state",
        get: |f| Value::Bool(f.ct_state),
    },
    Feature {
        key: "ct_zone",
        label: "CT zone",
        get: |f| Value::Bool(f.ct_zone),
    },
    Feature {
        key: "ct_mark",
        label: "CT mark",
        get: |f| Value::Bool(f.ct_mark),
    },
    Feature {
        key: "ct_label",
        label: "CT label",
        get: |f| Value::Bool(f.ct_label),
    },
    Feature {
        key: "ct_state_nat",
        label: "CT state NAT",
        get: |f| Value::Bool(f.ct_state_nat),
    },
    Feature {
        key: "ct_orig_tuple",
        label: "CT orig tuple",
        get: |f| Value::Bool(f.ct_orig_tuple),
    },
    Feature {
        key: "ct_orig_tuple6",
        label: "CT orig tuple for IPv6",
        get: |f| Value::Bool(f.ct_orig_tuple6),
    },
    Feature {
        key: "nd_ext",
        label: "IPv6 ND Extension",
        get: |f| Value::Bool(f.nd_ext),
    },
];
