//! What traffic notices of what happens to the cluster. Each test disturbs it for all others, or must
//! not be disturbed by them.

mod clock;
mod effect;
mod outage;
mod rotation;
mod route;
mod scale;

/// Whether the cluster is the one that Weft's scripts bring up, and may be taken apart.
fn own_cluster() -> bool {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/cluster/kubeconfig");
    let same = |path: &str| std::fs::canonicalize(path).ok();
    std::env::var("KUBECONFIG")
        .is_ok_and(|path| same(&path).is_some_and(|it| Some(it) == same(own)))
}
