//! Without the injector: what still starts, what does not, and what is said about it. These tests
//! disturb the whole cluster, so each runs alone.

mod injector;
