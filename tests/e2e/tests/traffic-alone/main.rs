//! What traffic notices of what happens to the cluster. Each test disturbs it for all others, or must
//! not be disturbed by them.

mod away;
mod clock;
mod effect;
mod outage;
mod relist;
mod rotation;
mod route;
mod scale;
