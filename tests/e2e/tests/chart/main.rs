//! The Helm chart: what it refuses, what it makes, and that nothing of it stays. It is the cluster's
//! only Weft, so each test runs alone; at the end of each, Weft is installed as it was.

mod life;
mod values;
