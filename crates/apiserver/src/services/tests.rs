//! The index of Services: what of them is kept, and when it counts as read.
