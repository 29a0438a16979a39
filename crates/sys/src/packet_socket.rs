//! packet socket
