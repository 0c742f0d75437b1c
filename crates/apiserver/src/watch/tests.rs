//! Watches that break, expire, stall or send what is no event.
