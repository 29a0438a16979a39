//! A lock at the server, for programs of which only one may be in charge (RFC 7047 4.1.8).

use super::Idl;
use ferrovs_runtime::vlog::{self, modules};
use ferrovs_stream::json::{Value, to_string};
use ferrovs_stream::jsonrpc::Msg;

#[derive(Default)]
pub(super) struct Lock {
    pub name: Option<String>,
    request: Option<String>,
    held: bool,
    contended: bool,
}

impl Idl {
    /// Wants the lock `name` from now on, or none.
    pub fn set_lock(&mut self, name: Option<&str>) {
        if self.lock.name.as_deref() == name {
            return;
        }
        if let Some(old) = self.lock.name.take()
            && self.sync.is_talking()
        {
            let (msg, _) = Msg::request("unlock", vec![old.into()]);
            self.session.send(&msg);
        }
        self.lock = Lock {
            name: name.map(str::to_string),
            ..Lock::default()
        };
        if self.sync.is_talking() {
            self.request_lock();
        }
    }

    /// Whether the lock is ours.
    pub fn has_lock(&self) -> bool {
        self.lock.held
    }

    /// Whether somebody else has it.
    pub fn is_lock_contended(&self) -> bool {
        self.lock.contended
    }

    pub(crate) fn lock_name(&self) -> Option<&str> {
        self.lock.name.as_deref()
    }

    pub(super) fn request_lock(&mut self) {
        if let Some(name) = &self.lock.name {
            let (msg, id) = Msg::request("lock", vec![name.as_str().into()]);
            self.session.send(&msg);
            self.lock.request = Some(to_string(&id));
        }
    }

    pub(super) fn lose_lock(&mut self) {
        self.lock.held = false;
        self.lock.contended = false;
        self.lock.request = None;
    }

    /// Takes the reply to a lock request; gives it back if it is not one.
    pub(super) fn lock_reply(&mut self, msg: Msg) -> Option<Msg> {
        match msg {
            Msg::Reply { result, id } if self.lock.request == Some(to_string(&id)) => {
                self.lock.request = None;
                let locked = result
                    .get("locked")
                    .and_then(Value::as_bool)
                    .unwrap_or(false);
                self.update_lock(locked);
                None
            }
            other => Some(other),
        }
    }

    /// Takes a "locked" or "stolen" notification; false if it is neither, or of another lock.
    pub(super) fn lock_notification(&mut self, method: &str, params: &[Value]) -> bool {
        let locked = match method {
            "locked" => true,
            "stolen" => false,
            _ => return false,
        };
        if let Some(name) = &self.lock.name
            && params.first().and_then(Value::as_str) == Some(name.as_str())
        {
            self.update_lock(locked);
        }
        true
    }

    fn update_lock(&mut self, locked: bool) {
        if locked && !self.lock.held {
            let name = self.lock.name.as_deref().unwrap_or_default();
            vlog::dbg!(
                modules::OVSDB_IDL,
                "{}: lock \"{name}\" acquired",
                self.session.name()
            );
            // Whoever waits for the lock must look again.
            self.seqno += 1;
        }
        self.lock.held = locked;
        self.lock.contended = !locked;
    }
}
