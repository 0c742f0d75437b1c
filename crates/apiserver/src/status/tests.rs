//! Patches of pod status, as a table.
