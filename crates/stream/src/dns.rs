//! Host names, looked up without blocking: the caller asks again until an answer is there.
//!
//! Names in /etc/hosts are known at once. For others, a thread per name asks the system's resolver;
//! answers are kept for a minute, failures for ten seconds. Whoever opens a stream by name sees it
//! fail at first and succeeds on the retry that its reconnection machine makes anyway.

use ferrovs_runtime::clock;
use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

enum Lookup {
    Pending,
    Answered(Option<IpAddr>, Instant),
}

const KEEP_ANSWER: Duration = Duration::from_secs(60);
const KEEP_FAILURE: Duration = Duration::from_secs(10);
const MAX_NAMES: usize = 1024;

static CACHE: LazyLock<Mutex<HashMap<String, Lookup>>> = LazyLock::new(Mutex::default);

/// The address of `host` if it is known by now.
pub(crate) fn resolve(host: &str) -> Option<IpAddr> {
    if host.is_empty() {
        return None;
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    if let Some(address) = in_hosts(&hosts, host) {
        return Some(address);
    }
    let now = clock::now();
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    match cache.get(host) {
        Some(Lookup::Pending) => return None,
        Some(Lookup::Answered(answer, at)) => {
            let keep = if answer.is_some() {
                KEEP_ANSWER
            } else {
                KEEP_FAILURE
            };
            if now.saturating_duration_since(*at) < keep {
                return *answer;
            }
        }
        None => {}
    }
    if cache.len() >= MAX_NAMES {
        cache.retain(|_, lookup| matches!(lookup, Lookup::Pending));
    }
    cache.insert(host.to_string(), Lookup::Pending);
    drop(cache);
    let name = host.to_string();
    let spawned = std::thread::Builder::new()
        .name("dns".into())
        .spawn(move || {
            let answer = (name.as_str(), 0)
                .to_socket_addrs()
                .ok()
                .and_then(|mut a| a.next());
            let lookup = Lookup::Answered(answer.map(|a| a.ip()), clock::now());
            CACHE
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(name, lookup);
        });
    if spawned.is_err() {
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(host.to_string(), Lookup::Answered(None, now));
    }
    None
}

/// The address of `host` in the text of a hosts file, IPv4 if there is one.
fn in_hosts(text: &str, host: &str) -> Option<IpAddr> {
    let mut found: Option<IpAddr> = None;
    for line in text.lines() {
        let mut words = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
            continue;
        };
        if words.any(|name| name.eq_ignore_ascii_case(host))
            && (found.is_none() || (address.is_ipv4() && found.is_some_and(|f| f.is_ipv6())))
        {
            found = Some(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_hosts_file_are_known_at_once() {
        let text = "::1 localhost\n127.0.0.1 localhost me # you\njunk x\n";
        assert_eq!(in_hosts(text, "LOCALHOST"), "127.0.0.1".parse().ok());
        assert_eq!(in_hosts(text, "me"), "127.0.0.1".parse().ok());
        assert_eq!(in_hosts(text, "you"), None);
        assert_eq!(in_hosts(text, "x"), None);
    }
}
