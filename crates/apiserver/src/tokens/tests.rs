//! Tokens: kept, renewed in time, and used on when no new one is to be had.
