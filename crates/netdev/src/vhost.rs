//! Ports for guests by vhost-user: `dpdkvhostuserclient` connects to a virtual machine monitor that listens,
//! `dpdkvhostuser` listens for one.
//!
//! ```text
//!   guest's driver  --- rings and buffers in the guest's memory, mapped here ---  queues (format, split, packed, vring)
//!   monitor         --- unix socket: where memory and rings are ---------------  thread (wire, session, events)
//!                                                          both meet in Guest: a lock for each ring
//! ```
//!
//! Either way the switch is the back-end: it polls the guest's rings, copies frames out and in, and tells the guest
//! only if it asks for that. Checksums and segmentation that the guest, or who sends to it, leaves undone travel with
//! the packet as its [`Offload`](ferrovs_packet::buffer::Offload). Nothing that a guest writes into its memory, and
//! nothing that a front-end says, reaches beyond the memory that they share: see `format` and `sys::guest`. The protocol
//! and the rings follow QEMU's vhost-user specification and VIRTIO 1.2, sections 2 and 5.1.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrovs_packet::hash::known;
use ferrovs_packet::types::MacAddr;
use ferrovs_runtime::vlog::modules::{NETDEV, NETDEV_DPDK};
use ferrovs_runtime::{dirs, vlog};

use crate::{
    Capabilities, Features, Flags, Layout, Loss, LossSums, Netdev, Rxq, Stats, Txq, offload,
};

mod events;
mod format;
mod guest;
mod log;
mod packed;
mod queue;
mod session;
mod split;
mod stats;
mod tally;
#[cfg(test)]
mod tests;
mod vring;
mod wire;

use events::{Place, Role};
use guest::Guest;
use queue::{VhostRxq, VhostTxq};

/// Queues of a port without a guest.
const NO_GUEST: Layout = Layout::SINGLE;
const DEFAULT_RETRIES: u32 = 8;
const MAX_RETRIES: u32 = 32;

/// Where `dpdkvhostuser` ports listen; None: where the program keeps its sockets.
static SOCKET_DIR: Mutex<Option<PathBuf>> = Mutex::new(None);

/// `vhost-sock-dir`: a directory below the one where the program keeps its sockets. It concerns ports that are opened
/// later.
pub fn set_socket_dir(dir: Option<&str>) {
    let dir = dir.filter(|dir| {
        let bad = dir.contains("..");
        if bad {
            let rundir = dirs::rundir();
            let rundir = rundir.display();
            vlog::err!(
                NETDEV_DPDK,
                "vhost-sock-dir request '{rundir}/{dir}' has invalidcharacters '..' - using {rundir} instead."
            );
        }
        !bad
    });
    let dir = dir.map(|dir| dirs::rundir().join(dir.trim_start_matches('/')));
    *SOCKET_DIR.lock().unwrap_or_else(PoisonError::into_inner) = dir;
}

#[derive(Debug)]
struct Device {
    kind: &'static str,
    role: Role,
    guest: Arc<Guest>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    layout: Layout,
    /// Where front-ends are.
    path: Option<PathBuf>,
    place: Option<Place>,
    promisc: bool,
    mac: MacAddr,
}

impl State {
    fn new(path: Option<PathBuf>, place: Option<Place>) -> State {
        State {
            layout: NO_GUEST,
            path,
            place,
            promisc: false,
            mac: MacAddr::default(),
        }
    }
}

/// Opens a port that connects, once it knows where.
pub fn open_client(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    Ok(Arc::new(Device::new(
        name,
        kind,
        Role::Client,
        State::new(None, None),
    )))
}

/// Opens a port that listens under its name.
pub fn open_server(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    if name.contains(['/', '\\']) {
        vlog::err!(
            NETDEV_DPDK,
            "\"{name}\" is not a valid name for a vhost-user port. A valid name must not include '/' or '\\'"
        );
        return Err(io::Error::from_raw_os_error(22)); // EINVAL
    }
    let dir = SOCKET_DIR
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let path = dir.unwrap_or_else(dirs::rundir).join(name);
    let device = Device::new(
        name,
        kind,
        Role::Server,
        State::new(Some(path.clone()), None),
    );
    let shown = path.display();
    let place = listen(&device.guest, &path).inspect_err(|_| {
        vlog::err!(
            NETDEV_DPDK,
            "vhost-user socket device setup failure for socket {shown}"
        );
    })?;
    vlog::info!(
        NETDEV_DPDK,
        "Socket {shown} created for vhost-user port {name}"
    );
    vlog::warn!(
        NETDEV_DPDK,
        "dpdkvhostuser ports are considered deprecated;  please migrate to dpdkvhostuserclient ports."
    );
    device.state().place = Some(place);
    Ok(Arc::new(device))
}

/// Listens there, in place of a process that ended without removing its socket.
fn listen(guest: &Arc<Guest>, path: &Path) -> io::Result<Place> {
    const EADDRINUSE: i32 = 98;
    let open = || Place::open(guest.clone(), path, Role::Server);
    open().or_else(|error| {
        let is_left = error.raw_os_error() == Some(EADDRINUSE)
            && std::os::unix::net::UnixStream::connect(path)
                .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        if !is_left {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        open()
    })
}

impl Device {
    fn new(name: &str, kind: &'static str, role: Role, state: State) -> Device {
        let guest = Guest::new(name);
        guest.max_retries.store(DEFAULT_RETRIES, Relaxed);
        Device {
            kind,
            role,
            guest: Arc::new(guest),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to another place than before, or to none.
    fn move_to(&self, path: Option<PathBuf>) -> Result<(), String> {
        let mut state = self.state();
        if state.path == path {
            return Ok(());
        }
        // What was there ends first.
        state.place = None;
        state.path.clone_from(&path);
        if let Some(path) = path {
            vlog::info!(
                NETDEV_DPDK,
                "vHost User device '{}' created in 'client' mode, using client socket '{}'",
                self.guest.name,
                path.display()
            );
            let place = Place::open(self.guest.clone(), &path, Role::Client);
            state.place = Some(place.map_err(|e| e.to_string())?);
        }
        drop(state);
        self.guest.changed();
        Ok(())
    }

    fn set_retries(&self, options: &BTreeMap<String, String>) {
        let asked = options.get("tx-retries-max").and_then(|v| v.parse().ok());
        let max = asked
            .filter(|n| *n <= MAX_RETRIES)
            .unwrap_or(DEFAULT_RETRIES);
        if self.guest.max_retries.swap(max, Relaxed) != max {
            vlog::info!(
                NETDEV_DPDK,
                "Max Tx retries for vhost device '{}' set to {max}",
                self.guest.name
            );
        }
    }
}

impl Netdev for Device {
    fn name(&self) -> &str {
        &self.guest.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn is_pmd(&self) -> bool {
        true
    }

    fn set_config(&self, options: &BTreeMap<String, String>) -> Result<(), String> {
        if self.role == Role::Server {
            // As in Open vSwitch it takes none.
            if !options.is_empty() {
                vlog::warn!(
                    NETDEV,
                    "{}: arguments provided to device that is not configurable",
                    self.guest.name
                );
            }
            return Ok(());
        }
        let path = options.get("vhost-server-path").filter(|p| !p.is_empty());
        if path.is_some_and(|p| p.starts_with("/dev/vduse/")) {
            let name = &self.guest.name;
            return Err(format!(
                "'{name}': there is no VDUSE, options:vhost-server-path must be a socket"
            ));
        }
        self.set_retries(options);
        self.move_to(path.map(PathBuf::from))
    }

    fn config(&self) -> BTreeMap<String, String> {
        let mut config = BTreeMap::new();
        if let (Role::Client, Some(path)) = (self.role, &self.state().path) {
            let path = path.to_string_lossy().into_owned();
            config.insert("vhost-server-path".to_owned(), path);
        }
        let retries = self.guest.max_retries.load(Relaxed);
        if retries != DEFAULT_RETRIES {
            config.insert("tx-retries-max".to_owned(), retries.to_string());
        }
        config
    }

    fn layout(&self) -> Layout {
        self.state().layout
    }

    fn requested(&self) -> Layout {
        if !self.guest.is_running() {
            return NO_GUEST;
        }
        let facts = self.guest.facts();
        let pairs = facts.sizes.len().div_ceil(2).max(1);
        Layout {
            n_rxq: pairs,
            n_txq: pairs,
            numa_id: facts.numa,
            serial: 0,
        }
    }

    fn reconfigure(&self) -> io::Result<()> {
        let requested = self.requested();
        let mut state = self.state();
        let other = state.layout != requested;
        state.layout = requested;
        drop(state);
        if other {
            self.guest.changed();
        }
        Ok(())
    }

    fn rxq_enabled(&self, queue: usize) -> bool {
        let slot = self.guest.slot(2 * queue + 1);
        !self.guest.is_running() || slot.is_some_and(|slot| slot.is_active())
    }

    fn rxq_open(&self, queue: usize) -> io::Result<Box<dyn Rxq>> {
        Ok(Box::new(VhostRxq {
            guest: self.guest.clone(),
            index: 2 * queue + 1,
        }))
    }

    fn txq_open(&self, queue: usize) -> io::Result<Box<dyn Txq>> {
        Ok(Box::new(VhostTxq {
            guest: self.guest.clone(),
            queue,
            n: self.layout().n_txq,
        }))
    }

    fn capabilities(&self) -> Capabilities {
        self.guest.capabilities()
    }

    fn etheraddr(&self) -> io::Result<MacAddr> {
        Ok(self.state().mac)
    }

    fn set_etheraddr(&self, mac: MacAddr) -> io::Result<()> {
        self.state().mac = mac;
        self.guest.changed();
        Ok(())
    }

    fn mtu(&self) -> io::Result<u32> {
        Ok(self.guest.mtu.load(Relaxed))
    }

    fn set_mtu(&self, mtu: u32) -> io::Result<()> {
        const LEAST: u32 = 68;
        const MOST: u32 = 65_535;
        if !(LEAST..=MOST).contains(&mtu) {
            return Err(io::Error::from_raw_os_error(22)); // EINVAL
        }
        let guest = &self.guest;
        if guest.wanted_mtu.swap(mtu, Relaxed) != mtu {
            if guest.is_running() {
                guest.mtu.store(mtu, Relaxed);
            }
            guest.changed();
        }
        Ok(())
    }

    fn flags(&self) -> io::Result<Flags> {
        let mut flags = Flags::empty();
        flags.set(Flags::UP, self.guest.is_up());
        flags.set(Flags::PROMISC, self.state().promisc);
        Ok(flags)
    }

    fn update_flags(&self, off: Flags, on: Flags) -> io::Result<()> {
        let old = self.flags()?;
        let new = (old | on) - off;
        if new != old {
            self.guest.up.store(new.contains(Flags::UP), Relaxed);
            self.state().promisc = new.contains(Flags::PROMISC);
            self.guest.changed();
        }
        Ok(())
    }

    fn carrier(&self) -> bool {
        self.guest.is_running() && self.guest.is_up()
    }

    fn ifindex(&self) -> Option<u32> {
        // The host has no such device; whoever asks by SNMP gets a number that stays the same.
        Some(known::bytes(self.guest.name.as_bytes(), 0) % 0x00ff_fffe + 1)
    }

    fn stats(&self) -> io::Result<Stats> {
        if !self.guest.is_running() {
            return Err(io::Error::from_raw_os_error(71)); // EPROTO
        }
        Ok(stats::of(&self.guest))
    }

    fn stats_among(&self, _links: &crate::LinkStats) -> io::Result<Stats> {
        // The database is told what was lost while there was no guest.
        Ok(self
            .stats()
            .unwrap_or_else(|_| stats::without_guest(&self.guest)))
    }

    fn rx_losses(&self) -> LossSums {
        let mut sums = LossSums::default();
        sums.add(Loss::Malformed, stats::malformed(&self.guest));
        sums
    }

    fn features(&self) -> io::Result<Features> {
        Ok(Features::default())
    }

    fn addresses(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        Ok(Vec::new())
    }

    fn status(&self) -> BTreeMap<String, String> {
        let mut status = offload::status(self.capabilities());
        let state = self.state();
        let connects = self.role == Role::Client && state.path.is_some();
        let mut put = |key: &str, value: String| {
            status.insert(key.to_owned(), value);
        };
        put("mode", if connects { "client" } else { "server" }.into());
        if !self.guest.is_running() {
            put("status", "disconnected".into());
            return status;
        }
        let facts = self.guest.facts();
        put("status", "connected".into());
        put("features", format!("{:#018x}", facts.features));
        put("n_rxq", state.layout.n_rxq.to_string());
        put("n_txq", state.layout.n_txq.to_string());
        put("num_of_vrings", facts.sizes.len().to_string());
        put("numa", facts.numa.to_string());
        let path = state.path.as_deref().map(Path::to_string_lossy);
        put("socket", path.unwrap_or_default().into_owned());
        for (index, size) in facts.sizes.iter().enumerate() {
            put(&format!("vring_{index}_size"), size.to_string());
        }
        status
    }

    fn change_seq(&self) -> u64 {
        self.guest.change_seq()
    }
}
