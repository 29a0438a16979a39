//! What a datapath can do: the answers to the probes that the switch makes when it opens one.
//!
//! [`FEATURES`] lists them once, with the names and in the order of `dpif/show-dp-features`.

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
    /// Does nothing with a value of the other kind.
    pub set: fn(&mut DpFeatures, Value),
}

/// A type that features have.
trait Member: Copy {
    fn value(self) -> Value;

    fn take(&mut self, value: Value);
}

impl Member for bool {
    fn value(self) -> Value {
        Value::Bool(self)
    }

    fn take(&mut self, value: Value) {
        if let Value::Bool(value) = value {
            *self = value;
        }
    }
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        impl Member for $t {
            fn value(self) -> Value {
                Value::Number(self as u32)
            }

            fn take(&mut self, value: Value) {
                if let Value::Number(value) = value {
                    *self = value as $t;
                }
            }
        }
    )*};
}
numbers!(u32, usize);

/// Rows of features: member, type and label.
macro_rules! features {
    ($($key:ident: $t:ty, $label:literal;)*) => {
        /// What a datapath can do: by default nothing.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct DpFeatures {
            $(pub $key: $t,)*
        }

        /// All features.
        pub const FEATURES: &[Feature] = &[
            $(Feature {
                key: stringify!($key),
                label: $label,
                get: |f| f.$key.value(),
                set: |f, value| f.$key.take(value),
            },)*
        ];
    };
}

features! {
    masked_set_action: bool, "Masked set action";
    tnl_push_pop: bool, "Tunnel push pop";
    ufid: bool, "Ufid";
    trunc: bool, "Truncate action";
    clone: bool, "Clone action";
    sample_nesting: usize, "Sample nesting";
    ct_eventmask: bool, "Conntrack eventmask";
    ct_clear: bool, "Conntrack clear";
    max_hash_alg: u32, "Max dp_hash algorithm";
    check_pkt_len: bool, "Check pkt length action";
    ct_timeout: bool, "Conntrack timeout policy";
    explicit_drop_action: bool, "Explicit Drop action";
    lb_output_action: bool, "Optimized Balance TCP mode";
    ct_zero_snat: bool, "Conntrack all-zero IP SNAT";
    add_mpls: bool, "MPLS Label add";
    psample: bool, "psample action";
    max_vlan_headers: usize, "Max VLAN headers";
    max_mpls_depth: usize, "Max MPLS depth";
    recirc: bool, "Recirc";
    ct_state: bool, "CT state";
    ct_zone: bool, "CT zone";
    ct_mark: bool, "CT mark";
    ct_label: bool, "CT label";
    ct_state_nat: bool, "CT state NAT";
    ct_orig_tuple: bool, "CT orig tuple";
    ct_orig_tuple6: bool, "CT orig tuple for IPv6";
    nd_ext: bool, "IPv6 ND Extension";
}
