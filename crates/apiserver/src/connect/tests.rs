//! Kubeconfigs of every kind, and connections to a real TLS server on loopback.
