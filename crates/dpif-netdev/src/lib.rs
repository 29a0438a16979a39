//! dpif-netdev
