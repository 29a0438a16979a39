//! Standalone fail mode: when no primary controller has admitted the switch for three probe intervals, a hidden
//! rule of a very high priority makes the bridge a learning switch until one does.
//!
//! [`FailOpen`] only decides; it is told at each turn what the connections are like ([`Controllers`]) and says
//! what is to be done ([`Act`]). A controller that connects may wait for a packet before it says anything that
//! shows that it admits the switch, so while the switch is open and one is connected, all get a made-up packet
//! now and then: a RARP request from an address that nobody has.

use std::time::{Duration, Instant};

use ferrovs_openflow::packet_in::PacketInReason;
use ferrovs_packet::flow::Flow;
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::{Poller, vlog};

use crate::xlate::snapshot::AsyncPacketIn;

/// How often the log says that the switch is still open, in seconds.
const REMIND: u64 = 60;
/// How often connected controllers get a made-up packet.
const BOGUS_INTERVAL: Duration = Duration::from_secs(2);

/// What the primary controllers of a bridge in standalone mode are like.
#[derive(Clone, Copy, Debug)]
pub struct Controllers {
    /// How long none has been admitting the switch; None while one does.
    pub away: Option<Duration>,
    /// The longest probe interval; zero when none is probed.
    pub probe: Duration,
    pub any_connected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Remove all flows, groups and meters and become a learning switch.
    Open,
    /// Follow the controllers again.
    Close,
    /// Send a made-up packet to the controllers.
    Packet,
}

#[derive(Debug, Default)]
pub struct FailOpen {
    open: bool,
    /// Seconds that the controllers had been away when the log last said so.
    told: u64,
    /// When the switch will fail open if nothing changes.
    due: Option<Instant>,
    next_packet: Option<Instant>,
}

impl FailOpen {
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// `controllers`: None if the bridge has none or its fail mode is another.
    pub fn run(&mut self, controllers: Option<Controllers>, now: Instant) -> Option<Act> {
        self.due = None;
        let Some(c) = controllers else {
            return self.close();
        };
        let Some(away) = c.away else {
            return self.close();
        };
        // Even without probes a controller gets a moment.
        let trigger = (c.probe * 3).max(Duration::from_secs(1));
        let secs = away.as_secs();
        if !self.open {
            self.next_packet = None;
            if away < trigger {
                self.due = Some(now + trigger.saturating_sub(away));
                return None;
            }
            vlog::warn!(
                vlog::modules::FAIL_OPEN,
                "Could not connect to controller (or switch failed controller's post-connection admission control policy) for {secs} seconds, failing open"
            );
            self.open = true;
            self.told = secs;
            return Some(Act::Open);
        }
        if away >= trigger && secs > self.told.saturating_add(REMIND) {
            vlog::info!(
                vlog::modules::FAIL_OPEN,
                "Still in fail-open mode after {secs} seconds disconnected from controller"
            );
            self.told = secs;
        }
        if !c.any_connected {
            self.next_packet = None;
            return None;
        }
        let due = *self.next_packet.get_or_insert(now + BOGUS_INTERVAL);
        if now < due {
            return None;
        }
        self.next_packet = Some(now + BOGUS_INTERVAL);
        Some(Act::Packet)
    }

    fn close(&mut self) -> Option<Act> {
        if !self.open {
            return None;
        }
        vlog::warn!(vlog::modules::FAIL_OPEN, "No longer in fail-open mode");
        *self = FailOpen::default();
        Some(Act::Close)
    }

    pub fn wait(&self, poller: &mut Poller) {
        for at in [self.due, self.next_packet].into_iter().flatten() {
            poller.wait_until(at);
        }
    }
}

/// The made-up packet, as if it had come in through the local port and met no flow.
pub fn bogus_packet_in(now: Instant) -> AsyncPacketIn {
    let flow = Flow {
        in_port: OfPort::LOCAL.0.into(),
        ..Flow::default()
    };
    AsyncPacketIn {
        data: rarp(random_mac()),
        flow: Box::new(flow),
        reason: PacketInReason::NoMatch as u8,
        table_id: 0,
        cookie: u64::MAX,
        controller_id: 0,
        max_len: u16::MAX,
        userdata: Vec::new(),
        miss: true,
        now,
    }
}

/// A random address with Nicira's prefix and the top bit of the rest set, which no device has.
fn random_mac() -> [u8; 6] {
    use std::hash::{BuildHasher, RandomState};
    let [_, _, _, _, _, a, b, c] = RandomState::new().hash_one(0).to_be_bytes();
    [0x00, 0x23, 0x20, a | 0x80, b, c]
}

/// A RARP request by `mac` for its own address.
fn rarp(mac: [u8; 6]) -> Vec<u8> {
    let mut packet = vec![0xff; 6];
    packet.extend_from_slice(&mac);
    packet.extend_from_slice(&[0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    for _ in 0..2 {
        packet.extend_from_slice(&mac);
        packet.extend_from_slice(&[0; 4]);
    }
    packet
}
