//! node_status
