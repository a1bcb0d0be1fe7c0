//! Percept.
