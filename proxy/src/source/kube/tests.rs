//! The view by itself, and the whole source against an API server in process.

mod back;
mod connections;
mod crowd;
mod explain;
mod faults;
mod objects;
mod policies;
mod reach;
mod run;
mod scenario;
mod server;
mod sharing;
mod view;
mod wire;
