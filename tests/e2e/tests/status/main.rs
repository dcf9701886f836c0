//! What the controller writes into the status of routes, as the API server has it: no pods are needed.

mod entries;
mod samples;
mod wrong;
