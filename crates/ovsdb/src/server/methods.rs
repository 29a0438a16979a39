//! The methods that clients call.

use std::time::Duration;

use ferrovs_json::RawArray;
use serde_json::Value;

use super::db::{Forward, Params, Trigger};
use super::{Db, Now, Server, Text, unknown_database};
use crate::error::tag;
use crate::exec::Outcome;
use crate::monitor::{SessionId, Spec, Version, id_text};
use crate::parser::is_id;
use crate::{Error, json};

/// What the locks, monitors and waiting transactions of one client may take, in bytes.
const MAX_HELD: usize = 100 << 20;
/// What a lock takes, beside its name.
const LOCK: usize = 256;
/// What a database's name may take.
const MAX_NAME: usize = 1 << 16;

type Reply = Result<String, Value>;

fn error<T>(e: Error) -> Result<T, Value> {
    Err(e.to_json())
}

impl Server {
    /// Handles a request. The reply goes to the session's output, now or later.
    pub fn request(
        &mut self,
        session: SessionId,
        method: &str,
        params: Vec<Value>,
        id: Value,
        now: Now,
    ) {
        if !self.sessions.contains_key(&session) {
            return;
        }
        let params = Value::Array(params);
        let reply = match method {
            "transact" => {
                match self.named_db(&params, "transact") {
                    Ok(db) => self.transact(session, &db, Params::Tree(params), id, now),
                    Err(e) => self.reply_error(session, &id, &e),
                }
                return;
            }
            "convert" => {
                if let Some(reply) = self.convert_method(session, params, &id, now) {
                    match reply {
                        Ok(result) => self.reply(session, &id, result.into_bytes()),
                        Err(e) => self.reply_error(session, &id, &e),
                    }
                }
                return;
            }
            "monitor_cond" | "monitor_cond_since" | "monitor_cond_change"
                if self.monitor_cond_disabled =>
            {
                Err("unknown method".into())
            }
            "monitor" => self.monitor(session, &params, Version::V1),
            "monitor_cond" => self.monitor(session, &params, Version::V2),
            "monitor_cond_since" => self.monitor(session, &params, Version::V3),
            "monitor_cond_change" => self.monitor_cond_change(session, &params),
            "monitor_cancel" => self.monitor_cancel(session, &params),
            "get_schema" => self
                .named_db(&params, method)
                .map(|n| json::to_string(&self.dbs[&n].database.schema.to_json())),
            "list_dbs" => {
                let names: Vec<Value> = self.dbs.keys().map(|k| k.as_str().into()).collect();
                Ok(json::to_string(&Value::Array(names)))
            }
            "get_server_id" => Ok(format!("\"{}\"", self.id)),
            "set_db_change_aware" => self.set_db_change_aware(session, &params),
            "lock" | "steal" => self.lock(session, &params, method),
            "unlock" => self.unlock(session, &params),
            "echo" => Ok(json::to_string(&params)),
            _ => Err("unknown method".into()),
        };
        match reply {
            Ok(result) => self.reply(session, &id, result.into_bytes()),
            Err(e) => self.reply_error(session, &id, &e),
        }
    }

    /// Handles a `transact` request whose parameters are text still.
    pub fn transact_text(&mut self, session: SessionId, params: RawArray, id: Value, now: Now) {
        let first = params.iter().next();
        let name = first.and_then(|t| RawArray::element(t, MAX_NAME).ok());
        let db = name.as_ref().and_then(Value::as_str);
        let available = |db: &&str| self.dbs.get(*db).is_some_and(Db::is_available);
        if let Some(db) = db.filter(available) {
            self.transact(session, db, Params::Text(params), id, now);
            return;
        }
        // The reply quotes all of it.
        let params = Params::Text(params);
        if let Err(e) = self.named_db(&params.tree(), "transact") {
            self.reply_error(session, &id, &e);
        }
    }

    /// Handles a notification; `cancel` is the only one there is.
    pub fn notification(&mut self, session: SessionId, method: &str, params: &[Value]) {
        if method != "cancel" {
            return;
        }
        let [id] = params else { return };
        let canceled = |t: &Trigger| t.session == session && t.id == *id;
        for db in self.dbs.values_mut() {
            let n = db.triggers.len();
            db.triggers.retain(|t| !canceled(t));
            if db.triggers.len() < n {
                return self.reply_canceled(session, id);
            }
        }
    }

    /// Tells a client that nothing comes of its transaction. Only a client that asked to be told
    /// of changes expects such a reply.
    pub(super) fn reply_canceled(&mut self, session: SessionId, id: &Value) {
        if self.sessions.get(&session).is_some_and(|s| s.change_aware) {
            self.reply_error(session, id, &"canceled".into());
        }
    }

    /// True if a transaction of the session with this id waits already.
    fn waits(&self, session: SessionId, id: &Value) -> bool {
        let mut all = self.dbs.values().flat_map(|d| &d.triggers);
        all.any(|t| t.session == session && t.id == *id)
    }

    /// The database that the first parameter names.
    fn named_db(&self, params: &Value, method: &str) -> Result<String, Value> {
        let Some(name) = params.get(0).and_then(Value::as_str) else {
            return error(Error::syntax(
                params,
                format!("{method} request params must begin with <db-name>"),
            ));
        };
        if let Some(db) = self.dbs.get(name) {
            if db.is_available() {
                return Ok(name.to_owned());
            }
            return error(Error::new(
                tag::NOT_AVAILABLE,
                format!(
                    "{method} request specifies database {name} which is not yet available \
                     because it has not completed joining its cluster"
                ),
            ));
        }
        error(unknown_database(params, method, name))
    }

    fn transact(&mut self, session: SessionId, name: &str, params: Params, id: Value, now: Now) {
        if self.waits(session, &id) {
            let e = Error::syntax(&params.tree(), "transact: duplicate request ID");
            return self.reply_error(session, &id, &e.to_json());
        }
        let trigger = Trigger {
            session,
            id,
            method: "transact",
            params,
            forward: Forward::No,
            arrived: now.instant,
            deadline: None,
        };
        if let Some(t) = self.try_trigger(name, trigger, now)
            && let Some(db) = self.dbs.get_mut(name)
        {
            db.triggers.push(t);
            self.check_held(session);
        }
        // What waited for this change gets its turn at once.
        if self.dbs.get(name).is_some_and(|d| d.touched) {
            self.run_triggers(name, now);
        }
    }

    /// What the server holds for a session, without what waits to be read by it.
    pub fn held(&self, session: SessionId) -> usize {
        let locks = self.sessions.get(&session).map_or(0, |s| s.locks);
        let of_db = |db: &Db| db.waiting(session) + db.monitors.weight(session);
        locks + self.dbs.values().map(of_db).sum::<usize>()
    }

    /// Ends a session that makes the server hold too much.
    fn check_held(&mut self, session: SessionId) {
        if self.held(session) > MAX_HELD {
            self.doom(
                session,
                "its locks, monitors and waiting transactions take too much memory",
            );
        }
    }

    fn count_lock(&mut self, session: SessionId, name: &str, taken: bool) {
        if let Some(s) = self.sessions.get_mut(&session) {
            let size = LOCK + name.len();
            s.locks = if taken {
                s.locks + size
            } else {
                s.locks.saturating_sub(size)
            };
            // Only what grows is looked at: counting the rest takes longer than taking a lock.
            if taken && s.locks > MAX_HELD {
                self.check_held(session);
            }
        }
    }

    /// Runs a transaction and replies, or returns it if it has to wait.
    fn try_trigger(&mut self, name: &str, mut t: Trigger, now: Now) -> Option<Trigger> {
        if t.forward != Forward::No {
            return Some(t);
        }
        let session = t.session;
        let diff = self.column_diff;
        let Self {
            dbs,
            locks,
            sessions,
            ..
        } = self;
        let client = sessions.get(&session)?;
        let db = dbs.get_mut(name)?;
        let elapsed = now.instant.saturating_duration_since(t.arrived);
        let owns = |lock: &str| locks.owns(session, lock);
        match db.transact(&t.params, &client.access, &owns, elapsed, now, diff) {
            Outcome::Done(result, _) => {
                // A client sees the effect of its transaction before the reply to it.
                self.flush_session(name, session);
                self.reply(session, &t.id, result);
                None
            }
            Outcome::Forward => {
                t.forward = Forward::Waiting;
                t.deadline = None;
                Some(t)
            }
            Outcome::Wait(timeout) => {
                let limit = timeout.filter(|d| *d < Duration::from_secs(u64::from(u32::MAX)));
                t.deadline = limit.and_then(|d| t.arrived.checked_add(d));
                Some(t)
            }
        }
    }

    /// Tries the waiting transactions again until none gets further.
    pub(crate) fn run_triggers(&mut self, name: &str, now: Now) {
        loop {
            let Some(db) = self.dbs.get_mut(name) else {
                return;
            };
            db.touched = false;
            let waiting = std::mem::take(&mut db.triggers);
            if waiting.is_empty() {
                return;
            }
            let mut still = Vec::with_capacity(waiting.len());
            for t in waiting {
                still.extend(self.try_trigger(name, t, now));
            }
            let Some(db) = self.dbs.get_mut(name) else {
                return;
            };
            still.append(&mut db.triggers);
            db.triggers = still;
            if !db.touched {
                return;
            }
        }
    }

    fn monitor(&mut self, session: SessionId, params: &Value, version: Version) -> Reply {
        let name = self.named_db(
            params,
            match version {
                Version::V1 => "monitor",
                Version::V2 => "monitor_cond",
                Version::V3 => "monitor_cond_since",
            },
        )?;
        let n = params.as_array().map_or(0, Vec::len);
        // Open vSwitch lets the older methods have more.
        let enough = if version == Version::V3 {
            n == 4
        } else {
            n >= 3
        };
        if !enough {
            return error(Error::syntax(params, "invalid parameters"));
        }
        let id = id_text(&params[1]);
        if self.dbs.values().any(|d| d.monitors.contains(session, &id)) {
            return error(Error::syntax(&params[1], "duplicate monitor ID"));
        }
        if version == Version::V3 && !params[3].is_string() {
            return error(Error::syntax(&params[3], "last-txn-id must be string"));
        }
        if version == Version::V3 && params[3].as_str().and_then(crate::uuid::parse).is_none() {
            return error(Error::syntax(
                &params[3],
                "last-txn-id must be UUID format.",
            ));
        }
        let Some(db) = self.dbs.get_mut(&name) else {
            return Err(Value::Null);
        };
        let spec = Spec::from_json(&db.database, &params[2], version).map_err(|e| e.to_json())?;
        let initial = db.monitors.add(&db.database, session, id, spec);
        self.check_held(session);
        Ok(match version {
            Version::V3 => format!("[false,\"{}\",{initial}]", crate::monitor::NO_TXN),
            _ => initial,
        })
    }

    fn monitor_cond_change(&mut self, session: SessionId, params: &Value) -> Reply {
        if params.as_array().map_or(0, Vec::len) != 3 {
            return error(Error::syntax(params, "invalid parameters"));
        }
        let (id, new_id) = (id_text(&params[0]), id_text(&params[1]));
        let found = self
            .dbs
            .iter()
            .find(|(_, d)| d.monitors.contains(session, &id));
        let Some(name) = found.map(|(n, _)| n.clone()) else {
            return error(Error::syntax(&params[0], "unknown monitor session"));
        };
        if id != new_id
            && self
                .dbs
                .values()
                .any(|d| d.monitors.contains(session, &new_id))
        {
            return error(Error::syntax(&params[1], "duplicate monitor ID"));
        }
        let db = &self.dbs[&name];
        let Some(spec) = db.monitors.spec(session, &id) else {
            return Err(Value::Null);
        };
        let spec = if spec.version == Version::V1 {
            // These have no conditions: whatever is asked, nothing changes but the id.
            spec.clone()
        } else {
            spec.with_conditions(&db.database, &params[2])
                .map_err(|e| e.to_json())?
        };
        self.flush_session(&name, session);
        let Some(db) = self.dbs.get_mut(&name) else {
            return Err(Value::Null);
        };
        if let Some(text) = db.monitors.change(&db.database, session, &id, new_id, spec) {
            self.send(session, Text::Shared(text));
        }
        self.check_held(session);
        Ok("{}".into())
    }

    fn monitor_cancel(&mut self, session: SessionId, params: &Value) -> Reply {
        let [id] = params.as_array().map_or(&[][..], Vec::as_slice) else {
            return Err("invalid parameters".into());
        };
        let id = id_text(id);
        if self
            .dbs
            .values_mut()
            .any(|d| d.monitors.remove(session, &id))
        {
            Ok("{}".into())
        } else {
            Err("unknown monitor".into())
        }
    }

    fn set_db_change_aware(&mut self, session: SessionId, params: &Value) -> Reply {
        let [Value::Bool(aware)] = params.as_array().map_or(&[][..], Vec::as_slice) else {
            return error(Error::syntax(
                params,
                "set_db_change_aware: true or false parameter expected",
            ));
        };
        if let Some(s) = self.sessions.get_mut(&session) {
            s.change_aware = *aware;
        }
        Ok("{}".into())
    }

    fn lock_name(params: &Value, method: &str) -> Result<String, Value> {
        match params.as_array().map(Vec::as_slice) {
            Some([Value::String(s)]) if is_id(s) => Ok(s.clone()),
            _ => error(Error::syntax(
                params,
                format!("{method} request params must be <id>"),
            )),
        }
    }

    /// Locks are for those who mean to change something.
    fn may_lock(&self, session: SessionId) -> Result<(), Value> {
        let read_only = self
            .sessions
            .get(&session)
            .is_some_and(|s| s.access.read_only);
        if read_only {
            return Err("lock and unlock methods not allowed, DB server is read only.".into());
        }
        Ok(())
    }

    fn lock(&mut self, session: SessionId, params: &Value, method: &str) -> Reply {
        self.may_lock(session)?;
        let name = Self::lock_name(params, method)?;
        if self.locks.wants(session, &name) {
            return error(Error::syntax(
                params,
                format!("must issue \"unlock\" before new \"{method}\""),
            ));
        }
        self.count_lock(session, &name, true);
        let locked = if method == "steal" {
            if let Some(victim) = self.locks.steal(session, &name) {
                self.notify_lock(victim, "stolen", &name);
            }
            true
        } else {
            self.locks.lock(session, &name)
        };
        Ok(format!("{{\"locked\":{locked}}}"))
    }

    fn unlock(&mut self, session: SessionId, params: &Value) -> Reply {
        self.may_lock(session)?;
        let name = Self::lock_name(params, "unlock")?;
        if !self.locks.wants(session, &name) {
            return error(Error::syntax(
                params,
                "unlock: \"unlock\" without \"lock\" or \"steal\"",
            ));
        }
        self.count_lock(session, &name, false);
        if let Some(next) = self.locks.unlock(session, &name) {
            self.notify_lock(next, "locked", &name);
        }
        Ok("{}".into())
    }

    /// The reply to `convert`; none if another server gives it.
    fn convert_method(
        &mut self,
        session: SessionId,
        params: Value,
        id: &Value,
        now: Now,
    ) -> Option<Reply> {
        let name = match self.named_db(&params, "convert") {
            Ok(name) => name,
            Err(e) => return Some(Err(e)),
        };
        let access = &self.sessions.get(&session)?.access;
        let read_only = access.read_only || self.dbs.get(&name).is_some_and(|d| d.read_only);
        if !access.role.is_empty() {
            let client = access.client.as_deref().unwrap_or("(null)");
            let role = &access.role;
            return Some(error(Error::new(
                tag::PERMISSION,
                format!(
                    "RBAC rules for client \"{client}\" role \"{role}\" prohibit \"convert\" of \
                     database {name} (only the root role may convert databases)"
                ),
            )));
        }
        let Some([_, schema]) = params.as_array().map(Vec::as_slice) else {
            return Some(error(Error::syntax(&params, "array expected")));
        };
        if read_only {
            return Some(error(Error::new(
                tag::NOT_ALLOWED,
                format!("conversion is not allowed for read-only database {name}"),
            )));
        }
        if name.starts_with('_') {
            // Open vSwitch 3.1 converts it, and dies of that.
            return Some(error(Error::new(
                tag::NOT_ALLOWED,
                format!("convert operation not allowed on reserved database {name}"),
            )));
        }
        if self.dbs.get(&name).is_some_and(|d| d.relay.is_some()) {
            // The schema is the source's; here it changes when it has changed there.
            if let Err(e) = super::convert::check_schema(&name, schema) {
                return Some(error(e));
            }
            self.dbs.get_mut(&name)?.triggers.push(Trigger {
                session,
                id: id.clone(),
                method: "convert",
                params: Params::Tree(params),
                forward: Forward::Waiting,
                arrived: now.instant,
                deadline: None,
            });
            return None;
        }
        if let Err(e) = self.convert(&name, schema, now) {
            return Some(error(e));
        }
        Some(Ok("{}".into()))
    }
}
