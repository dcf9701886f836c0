//! What traffic notices of what happens to the pods at both of its ends: nothing.

mod rolling;
