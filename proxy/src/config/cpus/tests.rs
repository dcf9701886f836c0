use super::*;

/// A mount of control groups with these files, and the limit that a process sees there.
fn seen(membership: &str, files: &[(&str, &str)]) -> Option<usize> {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("mount");
    for (name, text) in files {
        let path = mount.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let file = dir.path().join("cgroup");
    fs::write(&file, membership).unwrap();
    limit(&file, &mount).map(NonZeroUsize::get)
}

#[test]
fn version_2_limits() {
    let own = "0::/\n";
    assert_eq!(seen(own, &[("cpu.max", "200000 100000\n")]), Some(2));
    assert_eq!(seen(own, &[("cpu.max", "150000 100000\n")]), Some(2), "rounded up");
    assert_eq!(seen(own, &[("cpu.max", "1000 100000\n")]), Some(1), "at least 1");
    assert_eq!(seen(own, &[("cpu.max", "max 100000\n")]), None);
    assert_eq!(seen(own, &[]), None);
}

#[test]
fn the_smallest_limit_on_the_way_up_counts() {
    let pod = "0::/kubepods/pod1/container\n";
    let files = [
        ("kubepods/cpu.max", "6400000 100000\n"),
        ("kubepods/pod1/cpu.max", "300000 100000\n"),
        ("kubepods/pod1/container/cpu.max", "max 100000\n"),
    ];
    assert_eq!(seen(pod, &files), Some(3));
    // The group is mounted as the root, but its path is the node's.
    assert_eq!(seen("0::/../../pod1\n", &[("cpu.max", "400000 100000\n")]), Some(4));
}

#[test]
fn version_1_limits() {
    let membership = "12:memory:/pod\n4:cpu,cpuacct:/pod\n0::/\n";
    let limited = [
        ("cpu,cpuacct/pod/cpu.cfs_quota_us", "250000\n"),
        ("cpu,cpuacct/pod/cpu.cfs_period_us", "100000\n"),
    ];
    assert_eq!(seen(membership, &limited), Some(3));
    let unlimited =
        [("cpu/pod/cpu.cfs_quota_us", "-1\n"), ("cpu/pod/cpu.cfs_period_us", "100000\n")];
    assert_eq!(seen(membership, &unlimited), None);
}

#[test]
fn there_is_always_a_cpu() {
    assert!(available().get() >= 1);
    assert!(available() <= scheduled_on());
}
