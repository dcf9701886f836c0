//! What traffic notices of what happens to the cluster; each test disturbs it for all others.
