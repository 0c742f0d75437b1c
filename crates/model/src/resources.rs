//! What a pod effectively requests of its node.
