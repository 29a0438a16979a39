//! ifreq
