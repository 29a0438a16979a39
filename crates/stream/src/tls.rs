//! TLS.

use ferrovs_runtime::options::Ssl;
use std::sync::{Mutex, PoisonError};

static SETTINGS: Mutex<Option<Ssl>> = Mutex::new(None);

/// Sets the files and rules for every TLS stream that is opened from now on.
pub fn configure(options: &Ssl) {
    *SETTINGS.lock().unwrap_or_else(PoisonError::into_inner) = Some(options.clone());
}
