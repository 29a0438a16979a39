//! Why packets were dropped: one table of reasons, and a ledger of how many each port lost for each.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use ferrovs_datapath::action::DropReason;
use ferrovs_encap::row::PopError;
use ferrovs_netdev::{Loss, LossSums, Netdev};
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::coverage::{self, Event};
use ferrovs_sync::Counter;

/// A reason as users see it.
struct Row {
    name: &'static str,
    /// What Open vSwitch counts it as, if it does.
    event: Option<&'static Event>,
    text: &'static str,
}

macro_rules! reasons {
    ($($id:ident $name:literal $event:tt $text:literal;)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $(#[doc = $text] $id),*
        }

        static ROWS: &[Row] = &[$(Row {
            name: $name,
            event: reasons!(@event $event),
            text: $text,
        }),*];

        impl Reason {
            const ALL: &[Reason] = &[$(Reason::$id),*];
        }
    };
    (@event -) => { None };
    (@event $event:ident) => { Some(&coverage::$event) };
}

reasons! {
    RxInvalid "rx-invalid" DATAPATH_DROP_RX_INVALID_PACKET "received without a whole Ethernet header";
    RxMalformed "rx-malformed" - "received in a shape that the device's queue cannot hand on";
    RxQueueFull "rx-queue-full" - "received while the device's queue was full";
    UpcallError "upcall-error" DATAPATH_DROP_UPCALL_ERROR "matched no flow, and no answer came: lost";
    UpcallShare "upcall-share" DATAPATH_DROP_UPCALL_ERROR "matched no flow, while packets of known flows waited and upcalls had had their share of the time";
    RecircError "recirc-error" DATAPATH_DROP_RECIRC_ERROR "recirculated too often";
    Meter "meter" DATAPATH_DROP_METER "exceeded a meter";
    FragmentExpired "fragment-expired" - "a fragment whose packet never became whole";
    NshDecapError "nsh-decap-error" DATAPATH_DROP_NSH_DECAP_ERROR "has no NSH header to remove";
    SampleError "sample-error" DATAPATH_DROP_SAMPLE_ERROR "not sampled, and nothing else to do";
    UserspaceActionError "userspace-action-error" DATAPATH_DROP_USERSPACE_ACTION_ERROR "sent up by an action, and no answer came";
    UserspaceCopyLost "userspace-copy-lost" - "a copy sent up by an action, and no answer came";
    InvalidBond "invalid-bond" DATAPATH_DROP_INVALID_BOND "sent to a bond that does not exist";
    InvalidPort "invalid-port" DATAPATH_DROP_INVALID_PORT "sent to a port that does not exist";
    InvalidTnlPort "invalid-tnl-port" DATAPATH_DROP_INVALID_TNL_PORT "sent to a tunnel port that does not exist";
    TunnelPushError "tunnel-push-error" DATAPATH_DROP_TUNNEL_PUSH_ERROR "could not be given a tunnel's header";
    TunnelPopError "tunnel-pop-error" DATAPATH_DROP_TUNNEL_POP_ERROR "has no header of the tunnel to remove";
    TunnelPopTruncated "tunnel-pop-truncated" DATAPATH_DROP_TUNNEL_POP_ERROR "ends before the tunnel's header, or what it says, does";
    TunnelPopChecksum "tunnel-pop-checksum" DATAPATH_DROP_TUNNEL_POP_ERROR "has a wrong checksum in its outer headers";
    NotSegmentable "not-segmentable" - "stands for several packets, but cannot be cut into them";
    TooNested "too-nested" - "met actions nested too deep";
    Unsupported "unsupported-action" - "met an action that this datapath does not run";
    NoOutput "no-output" - "went through actions none of which sends it anywhere";
    TxQueueFull "tx-queue-full" - "sent while the device's queue was full";
    TxDown "tx-down" - "sent to a device that is down or gone";
    TxOverMtu "tx-over-mtu" - "longer than its device sends";
    TxMalformed "tx-malformed" - "refused by its device as malformed";
    TxError "tx-error" - "not sent by its device for another reason";
    OfPipeline "of-pipeline" DROP_ACTION_OF_PIPELINE "dropped by the OpenFlow pipeline";
    BridgeNotFound "bridge-not-found" DROP_ACTION_BRIDGE_NOT_FOUND "its bridge is gone";
    RecursionTooDeep "recursion-too-deep" DROP_ACTION_RECURSION_TOO_DEEP "its translation nests too deep";
    TooManyResubmits "too-many-resubmit" DROP_ACTION_TOO_MANY_RESUBMIT "its translation visits too many tables";
    StackTooDeep "stack-too-deep" DROP_ACTION_STACK_TOO_DEEP "its translation pushes too much on the stack";
    NoRecirculationContext "no-recirculation-context" DROP_ACTION_NO_RECIRCULATION_CONTEXT "recirculated under a number that nobody knows";
    RecirculationConflict "recirculation-conflict" DROP_ACTION_RECIRCULATION_CONFLICT "recirculated in a way that its translation cannot go on from";
    TooManyMplsLabels "too-many-mpls-labels" DROP_ACTION_TOO_MANY_MPLS_LABELS "has or would get too many MPLS labels";
    InvalidTunnelMetadata "invalid-tunnel-metadata" DROP_ACTION_INVALID_TUNNEL_METADATA "its tunnel metadata cannot be read";
    UnsupportedPacketType "unsupported-packet-type" DROP_ACTION_UNSUPPORTED_PACKET_TYPE "its packet type is not supported";
    Congestion "congestion" DROP_ACTION_CONGESTION "its outer header says congestion, which its inner one cannot";
    ForwardingDisabled "forwarding-disabled" DROP_ACTION_FORWARDING_DISABLED "its port does not forward";
    TunnelRoutingFailed "tunnel-routing-failed" DROP_ACTION_TUNNEL_ROUTING_FAILED "no route to the tunnel's other end";
    TunnelOutputNoEthernet "tunnel-output-no-ethernet" DROP_ACTION_TUNNEL_OUTPUT_NO_ETHERNET "has no Ethernet header, which its tunnel needs";
    TunnelNeighCacheMiss "tunnel-neigh-cache-miss" DROP_ACTION_TUNNEL_NEIGH_CACHE_MISS "the tunnel's next hop has not been resolved yet";
    TunnelHeaderBuildFailed "tunnel-header-build-failed" DROP_ACTION_TUNNEL_HEADER_BUILD_FAILED "the tunnel's header could not be made";
}

const N: usize = Reason::ALL.len();

impl Reason {
    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Its short name.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What is true of a packet that is dropped for it.
    pub fn text(self) -> &'static str {
        self.row().text
    }

    /// What Open vSwitch counts it as, if it does.
    pub fn coverage(self) -> Option<&'static str> {
        self.row().event.map(Event::name)
    }

    /// Why a tunnel's header was not taken off.
    pub fn popping(error: PopError) -> Reason {
        match error {
            PopError::Truncated => Reason::TunnelPopTruncated,
            PopError::Checksum => Reason::TunnelPopChecksum,
            PopError::Header => Reason::TunnelPopError,
        }
    }

    /// Why a device did not send a packet.
    pub fn sending(loss: Loss) -> Reason {
        match loss {
            Loss::QueueFull => Reason::TxQueueFull,
            Loss::Down => Reason::TxDown,
            Loss::OverMtu => Reason::TxOverMtu,
            Loss::Malformed => Reason::TxMalformed,
            Loss::Failed => Reason::TxError,
        }
    }

    /// Why a device did not hand on a packet that it received.
    fn receiving(loss: Loss) -> Reason {
        match loss {
            Loss::QueueFull => Reason::RxQueueFull,
            _ => Reason::RxMalformed,
        }
    }
}

impl From<DropReason> for Reason {
    fn from(reason: DropReason) -> Reason {
        match reason {
            DropReason::Ok => Reason::OfPipeline,
            DropReason::BridgeNotFound => Reason::BridgeNotFound,
            DropReason::RecursionTooDeep => Reason::RecursionTooDeep,
            DropReason::TooManyResubmits => Reason::TooManyResubmits,
            DropReason::StackTooDeep => Reason::StackTooDeep,
            DropReason::NoRecirculationContext => Reason::NoRecirculationContext,
            DropReason::RecirculationConflict => Reason::RecirculationConflict,
            DropReason::TooManyMplsLabels => Reason::TooManyMplsLabels,
            DropReason::InvalidTunnelMetadata => Reason::InvalidTunnelMetadata,
            DropReason::UnsupportedPacketType => Reason::UnsupportedPacketType,
            DropReason::CongestionDrop => Reason::Congestion,
            DropReason::ForwardingDisabled => Reason::ForwardingDisabled,
            DropReason::TunnelRoutingFailed => Reason::TunnelRoutingFailed,
            DropReason::TunnelOutputNoEthernet => Reason::TunnelOutputNoEthernet,
            DropReason::TunnelNeighCacheMiss => Reason::TunnelNeighCacheMiss,
            DropReason::TunnelHeaderBuildFailed => Reason::TunnelHeaderBuildFailed,
        }
    }
}

/// Drops by reason. Each thread adds to cells of its own.
#[derive(Debug)]
struct Counts([Counter; N]);

impl Default for Counts {
    fn default() -> Counts {
        Counts([const { Counter::new() }; N])
    }
}

/// Drops of one origin. It takes memory when the first packet is dropped.
#[derive(Debug, Default)]
pub struct Tally(OnceLock<Box<Counts>>);

impl Tally {
    /// Counts `n` packets.
    #[inline]
    pub fn add(&self, reason: Reason, n: u64) {
        if let Some(event) = reason.row().event {
            event.add(n);
        }
        self.add_silently(reason, n);
    }

    /// The same for packets that have been told of already.
    #[inline]
    fn add_silently(&self, reason: Reason, n: u64) {
        self.0.get_or_init(Box::default).0[reason as usize].add(n);
    }

    fn sum(&self, reason: Reason) -> u64 {
        let counts = self.0.get();
        counts.map_or(0, |counts| counts.0[reason as usize].sum())
    }
}

/// What one port has lost.
pub struct PortDrops {
    pub tally: Tally,
    number: DpPort,
    name: String,
    netdev: Arc<dyn Netdev>,
    /// Told by the device before the port was there.
    before: LossSums,
    /// Who counts on when the port is gone.
    heir: OnceLock<Arc<Ledger>>,
}

impl PortDrops {
    pub fn new(number: DpPort, name: &str, netdev: Arc<dyn Netdev>) -> PortDrops {
        PortDrops {
            tally: Tally::default(),
            number,
            name: name.to_owned(),
            before: netdev.rx_losses(),
            netdev,
            heir: OnceLock::new(),
        }
    }

    /// By reason, what the device received and lost since the port is there included.
    fn sums(&self) -> impl Iterator<Item = (Reason, u64)> {
        let (now, before) = (self.netdev.rx_losses(), self.before);
        let lost = move |loss| {
            let n = now.of(loss).saturating_sub(before.of(loss));
            (Reason::receiving(loss), n)
        };
        let own = Reason::ALL.iter().map(|r| (*r, self.tally.sum(*r)));
        own.chain(Loss::ALL.into_iter().map(lost))
    }
}

impl Drop for PortDrops {
    fn drop(&mut self) {
        if let Some(heir) = self.heir.get() {
            for (reason, n) in self.sums().filter(|(_, n)| *n > 0) {
                heir.others.add_silently(reason, n);
            }
        }
    }
}

/// All drops of a datapath.
#[derive(Default)]
pub struct Ledger {
    ports: Mutex<Vec<Weak<PortDrops>>>,
    /// Of packets that belong to no port, or to one that is gone.
    pub others: Tally,
}

/// How many packets a port lost for a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub reason: Reason,
    /// None for packets of no port, or of ports that are gone.
    pub port: Option<(DpPort, String)>,
    pub packets: u64,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Tells of a port's drops from now on, and keeps them when the port is gone.
    pub fn open(self: &Arc<Ledger>, port: &Arc<PortDrops>) {
        _ = port.heir.set(self.clone());
        let mut ports = lock(&self.ports);
        ports.retain(|p| p.strong_count() > 0);
        ports.push(Arc::downgrade(port));
    }

    /// What was dropped, by reason and port; those without drops are left out.
    pub fn dropped(&self) -> Vec<Dropped> {
        let mut ports: Vec<_> = lock(&self.ports).iter().filter_map(Weak::upgrade).collect();
        ports.sort_by_key(|p| p.number.0);
        let mut sums: Vec<Dropped> = Vec::new();
        for port in &ports {
            for (reason, packets) in port.sums() {
                sums.push(Dropped {
                    reason,
                    port: Some((port.number, port.name.clone())),
                    packets,
                });
            }
        }
        sums.extend(Reason::ALL.iter().map(|&reason| Dropped {
            reason,
            port: None,
            packets: self.others.sum(reason),
        }));
        sums.retain(|d| d.packets > 0);
        sums.sort_by_key(|d| d.reason as usize);
        sums
    }
}
