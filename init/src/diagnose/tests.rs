use super::*;

const INPUT: &str = "*nat\n:WEFT_OUTPUT - [0:0]\n-A WEFT_OUTPUT -m owner --uid-owner 65101 -j RETURN\n\
                     -A WEFT_OUTPUT -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n";

fn advised(stderr: &str) -> String {
    advice(stderr, INPUT).unwrap()
}

#[test]
fn a_missing_capability_is_named() {
    for stderr in [
        "iptables-nft-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: \
         Permission denied (you must be root)",
        "iptables-save v1.8.9 (legacy): Cannot initialize: Permission denied (you must be root)",
        "iptables-nft-restore: line 5: CHAIN_ADD failed (Operation not permitted): chain X",
    ] {
        assert!(denied(stderr));
        assert!(advised(stderr).contains("needs the capability NET_ADMIN"));
    }
}

#[test]
fn a_feature_that_the_kernel_lacks_is_named_with_its_rule() {
    let advice = advised(
        "Warning: Extension owner revision 0 not supported, missing kernel module?\n\
         iptables-nft-restore v1.8.9 (nf_tables): \n\
         line 3: RULE_APPEND failed (No such file or directory): rule in chain WEFT_OUTPUT",
    );
    assert!(advice.contains("xt_REDIRECT, xt_owner"), "{advice}");
    assert!(advice.ends_with("`-A WEFT_OUTPUT -m owner --uid-owner 65101 -j RETURN`"), "{advice}");
}

#[test]
fn legacy_names_only_the_commit_and_so_every_module_is_named() {
    let advice = advised("iptables-restore: line 5 failed");
    assert!(advice.ends_with("need the kernel modules nf_nat, xt_REDIRECT, xt_owner, xt_tcpudp"));
}

#[test]
fn what_the_image_or_the_node_lacks_is_named() {
    let match_missing = "iptables-restore v1.8.9 (legacy): Couldn't load match `owner':No such \
                         file or directory\n\nError occurred at line: 3\nTry `iptables-restore -h' \
                         or 'iptables-restore --help' for more information.";
    let advice = advised(match_missing);
    assert!(advice.contains("extension `owner`") && advice.contains("--uid-owner"), "{advice}");
    let table_missing =
        "iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat'";
    assert!(advised(table_missing).contains("load iptable_nat"));
    let nft_missing = "iptables-nft-save: Failed to initialize nft: Protocol not supported";
    assert!(advised(nft_missing).contains("--iptables legacy"));
    let locked = "Another app is currently holding the xtables lock; still 9s 0us time ahead";
    assert!(advised(locked).contains("kept the lock"));
}

#[test]
fn what_is_not_known_is_passed_on() {
    assert_eq!(advice("the sky has fallen", INPUT), None);
    assert_eq!(one_line("\n a: \n\n b\nTry `x -h'\n"), "a: b");
}
