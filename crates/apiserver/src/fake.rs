//! A small HTTP server that answers as a test tells it, for what only shows on a real connection.
