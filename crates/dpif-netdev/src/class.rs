//! The kinds of datapath that this crate makes: `netdev` and, for tests, `dummy`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ferrovs_datapath::dpif::{Dpif, DpifClass, Errno};

use crate::datapath::Datapath;
use crate::logged::Logged;

/// `--enable-dummy`: which kinds of datapath are dummies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dummy {
    /// There is no kind `dummy`.
    #[default]
    Off,
    /// `dummy` exists beside the others.
    Normal,
    /// Kind `system` is a dummy too.
    System,
    /// Every kind is a dummy.
    Override,
}

/// Every datapath of the program, for control commands.
static ALL: Mutex<Vec<Weak<Datapath>>> = Mutex::new(Vec::new());

/// The datapaths that are open.
pub fn open_datapaths() -> Vec<Arc<Datapath>> {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let open = all.iter().filter_map(Weak::upgrade);
    open.filter(|d| !d.is_destroyed()).collect()
}

/// Waits until every datapath has handled the packets that it was given before.
pub fn quiesce_all() {
    for dp in open_datapaths() {
        dp.quiesce();
    }
}

struct Class {
    kind: &'static str,
    dummy: bool,
    datapaths: Mutex<BTreeMap<String, Arc<Datapath>>>,
}

/// The classes that a program shall offer.
pub fn classes(dummy: Dummy) -> Vec<Arc<dyn DpifClass>> {
    let class = |kind, dummy| -> Arc<dyn DpifClass> {
        Arc::new(Class {
            kind,
            dummy,
            datapaths: Mutex::default(),
        })
    };
    let mut out = Vec::new();
    if matches!(dummy, Dummy::System | Dummy::Override) {
        out.push(class("system", true));
    }
    out.push(class("netdev", dummy == Dummy::Override));
    if dummy != Dummy::Off {
        out.push(class("dummy", true));
    }
    out
}

impl DpifClass for Class {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn enumerate(&self) -> Vec<String> {
        let mut datapaths = self
            .datapaths
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        datapaths.retain(|_, d| !d.is_destroyed());
        datapaths.keys().cloned().collect()
    }

    fn open(&self, name: &str, create: bool) -> Result<Arc<dyn Dpif>, Errno> {
        let mut datapaths = self
            .datapaths
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(dp) = datapaths.get(name).filter(|d| !d.is_destroyed()) {
            return Ok(Logged::wrap(dp.clone()));
        }
        if !create {
            return Err(Errno::ENODEV);
        }
        let dp = Datapath::new(name, self.kind, self.dummy)?;
        datapaths.insert(name.to_owned(), dp.clone());
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|d| d.strong_count() > 0);
        all.push(Arc::downgrade(&dp));
        Ok(Logged::wrap(dp))
    }

    fn port_open_kind(&self, kind: &str) -> String {
        match kind {
            "internal" if self.dummy => "dummy-internal",
            "internal" => "tap",
            other => other,
        }
        .to_owned()
    }
}
