//! What the database says about controllers, and what it is told of them.

use std::collections::BTreeMap;
use std::time::Duration;

use ferrovs_openflow::version::Versions;

use super::ConnKind;

/// What happens to traffic when no primary controller is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailMode {
    #[default]
    Standalone,
    Secure,
}

/// A `Controller` row, or a listener of the switch's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerSettings {
    pub target: String,
    /// Overrides what the target says about primary or service.
    pub kind: Option<ConnKind>,
    pub max_backoff: Duration,
    /// None turns probing off.
    pub probe_interval: Option<Duration>,
    pub enable_async_messages: bool,
    pub allowed_versions: Versions,
    /// Packet-ins per second; 0 is without limit.
    pub rate_limit: u32,
    pub burst_limit: u32,
    /// Packet-ins that may wait, 1 to 512; 0 means the default.
    pub max_pktq_size: u32,
    pub dscp: u8,
}

impl ControllerSettings {
    pub fn new(target: &str) -> ControllerSettings {
        ControllerSettings {
            target: target.to_string(),
            kind: None,
            max_backoff: Duration::from_secs(8),
            probe_interval: Some(Duration::from_secs(5)),
            enable_async_messages: true,
            allowed_versions: Versions::NONE,
            rate_limit: 0,
            burst_limit: 0,
            max_pktq_size: 0,
            dscp: ferrovs_stream::DSCP_DEFAULT,
        }
    }

    pub(super) fn is_passive(&self) -> bool {
        ["punix:", "ptcp:", "pssl:"]
            .iter()
            .any(|p| self.target.starts_with(p))
    }

    pub(super) fn kind(&self) -> ConnKind {
        let default = if self.is_passive() {
            ConnKind::Service
        } else {
            ConnKind::Primary
        };
        self.kind.unwrap_or(default)
    }
}

/// What the `Controller` row says about a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerStatus {
    pub is_connected: bool,
    /// `other`, `master` or `slave`.
    pub role: &'static str,
    /// Column `status`.
    pub pairs: BTreeMap<String, String>,
}
