//! Registration and the patches of node status.
