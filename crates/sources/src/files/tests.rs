//! A folder followed for real: files that come, change, break and go.
