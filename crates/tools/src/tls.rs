//! Hands the TLS options of a command line to the stream layer.

use ferrovs_runtime::options::Ssl;

/// Applies the options to every TLS stream that is opened from now on.
pub(crate) fn configure(options: &Ssl) {
    ferrovs_stream::tls::configure(options);
}
