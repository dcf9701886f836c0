//! Which attacks there are, and what is asked of the sidecar.

/// The sidecar's CPU time and memory for an attack, beside the attacker's: at most so many times.
pub(crate) const AMPLIFICATION: f64 = 10.0;

/// How long the other client's requests may take (p99), beside without the attack: so many times.
pub(crate) const SLOWDOWN: f64 = 2.0;

/// Seconds after which the sidecar serves again once there are descriptors.
pub(crate) const RECOVERY: f64 = 1.0;

/// The share of a core that it may use while there are none.
pub(crate) const IDLE: f64 = 0.05;

/// An attack of `weft-client attack`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: &'static str,
    /// Seconds of each of its windows: longer than the deadline, where it is one that ends it.
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) connections: usize,
    /// Whether the sidecar has to end the attacking connections.
    pub(crate) is_ended: bool,
}

impl Plan {
    const fn flood(kind: &'static str) -> Plan {
        Plan { kind, seconds: 1.0, rounds: 5, connections: 1, is_ended: true }
    }

    /// Of connections that are held until a deadline of 10 s.
    const fn slow(kind: &'static str) -> Plan {
        Plan { kind, seconds: 12.5, rounds: 1, connections: 500, is_ended: true }
    }
}

/// In the order in which they are made.
pub(crate) const PLANS: [Plan; 18] = [
    Plan::flood("rapid-reset"),
    // Each of its requests costs a connection to a backend of HTTP/1.
    Plan::flood("late-reset"),
    Plan::flood("made-you-reset"),
    Plan::flood("continuation"),
    Plan::flood("empty-data"),
    Plan::flood("settings"),
    Plan::flood("ping"),
    Plan::flood("priority"),
    Plan::flood("window-update"),
    Plan::flood("hpack-bomb"),
    Plan::flood("small-hpack-bomb"),
    Plan::flood("huge-headers-http2"),
    Plan::flood("huge-headers-http1"),
    // The client closes them itself.
    Plan { is_ended: false, ..Plan::flood("connections") },
    Plan::slow("slow-headers-http1"),
    Plan::slow("slow-headers-http2"),
    Plan::slow("idle-connections"),
    // A body may take its time: an upload, a stream of messages. It holds what one connection holds.
    Plan { is_ended: false, seconds: 2.0, rounds: 3, ..Plan::slow("slow-bodies") },
];
