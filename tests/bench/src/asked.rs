//! What is asked of Weft, as data: its figures beside those of its peers in the same run.

use crate::measure::{Estimate, Measure, Typical, Work};
use crate::proxy::Proxy;

pub(crate) const MEMORY_IDLE: &str = "Resident memory, idle, 5 Services known";
pub(crate) const MEMORY_HELD: &str = "Resident memory, 1,000 open connections";

/// What a proxy adds at a fixed rate: the share of requests, which of the rounds' values counts, and the
/// measure's name.
pub(crate) const LATENCY: [(f64, Typical, &str); 3] = [
    (0.5, Typical::Median, "Latency at half of Envoy's capacity: added p50"),
    (0.99, Typical::LowerQuartile, "Latency at half of Envoy's capacity: added p99"),
    (0.999, Typical::LowerQuartile, "Latency at half of Envoy's capacity: added p99.9"),
];

/// The name of the measure of CPU time.
pub(crate) fn cpu(work: Work) -> String {
    format!("{}: CPU per {}", work.title(), work.unit().1)
}

/// The name of the measure of throughput.
pub(crate) fn rate(work: Work) -> String {
    format!("{}: {}", work.title(), per_second(work))
}

/// The unit of throughput, as it is read.
pub(crate) fn per_second(work: Work) -> &'static str {
    match work.unit().1 {
        "MiB" => "MiB/s",
        "connection" => "connections/s",
        _ => "requests/s",
    }
}

/// A bound of one of Weft's figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    bound: Bound,
    factor: f64,
    /// Of whose figure; None for a figure by itself.
    of: Option<Proxy>,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    AtMost,
    AtLeast,
}

/// What one run says of a bound. Only what would be so again is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// Another run may say one thing or the other.
    TooNear,
}

const fn at_most(factor: f64, of: Proxy) -> Asked {
    Asked { bound: Bound::AtMost, factor, of: Some(of) }
}

const fn at_least(factor: f64, of: Proxy) -> Asked {
    Asked { bound: Bound::AtLeast, factor, of: Some(of) }
}

/// What is asked of a measure, by its name; nothing of most.
pub(crate) fn asked(measure: &str) -> Vec<Asked> {
    use Proxy::{Envoy, Floor, Haproxy, Nginx};
    if measure == cpu(Work::Http1) {
        return vec![at_most(1.0, Haproxy), at_most(0.25, Envoy), at_most(1.25, Floor)];
    }
    if [Work::Http2ToHttp1, Work::Http2, Work::Grpc].iter().any(|work| measure == cpu(*work)) {
        return vec![at_most(1.0 / 3.0, Envoy), at_most(1.25, Floor), at_most(1.25, Haproxy)];
    }
    if measure == rate(Work::Http1) {
        return vec![at_least(1.0, Haproxy)];
    }
    if measure == rate(Work::NewConnections) {
        return vec![at_least(1.0, Nginx)];
    }
    if measure == rate(Work::Tcp) {
        return vec![at_least(0.9, Haproxy)];
    }
    if LATENCY[..2].iter().any(|(_, _, name)| measure == *name) {
        return vec![at_most(0.5, Envoy), at_most(1.0, Haproxy)];
    }
    match measure {
        MEMORY_IDLE => {
            vec![Asked { bound: Bound::AtMost, factor: 12.0, of: None }, at_most(1.0 / 6.0, Envoy)]
        }
        MEMORY_HELD => vec![at_most(1.0 / 3.0, Envoy)],
        _ => Vec::new(),
    }
}

impl Asked {
    /// What the factor bounds: a ratio to a peer's figure, or Weft's own.
    pub(crate) fn seen(self, measure: &Measure) -> Option<Estimate> {
        match self.of {
            Some(peer) => measure.ratio(peer),
            None => measure.typical(Proxy::Weft).map(Estimate::exactly),
        }
    }

    /// What was seen says to that.
    pub(crate) fn verdict(self, seen: Estimate) -> Verdict {
        let (best, worst) = match self.bound {
            Bound::AtMost => (seen.least <= self.factor, seen.most <= self.factor),
            Bound::AtLeast => (seen.most >= self.factor, seen.least >= self.factor),
        };
        match (best, worst) {
            (_, true) => Verdict::Met,
            (true, false) => Verdict::TooNear,
            (false, false) => Verdict::Missed,
        }
    }

    /// `≤ 0.25 envoy`, `≤ 12 MiB`.
    pub(crate) fn text(self, unit: &str) -> String {
        let sign = match self.bound {
            Bound::AtMost => '≤',
            Bound::AtLeast => '≥',
        };
        let factor = match 1.0 / self.factor {
            inverse if (inverse - inverse.round()).abs() < 1e-9 && inverse.round() == 3.0 => {
                "1/3".to_owned()
            }
            inverse if (inverse - 6.0).abs() < 1e-9 => "1/6".to_owned(),
            _ => self.factor.to_string(),
        };
        match self.of {
            Some(peer) => format!("{sign} {factor} {}", peer.name()),
            None => format!("{sign} {factor} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(name: &str, values: &[(Proxy, f64)]) -> Measure {
        let mut measure = Measure::new(name, "µs");
        for (proxy, value) in values {
            measure.add(*proxy, *value);
        }
        measure
    }

    #[test]
    fn rounds_are_compared_one_by_one() {
        let name = rate(Work::NewConnections);
        let mut measure = Measure::new(&name, "1/s");
        // In each round, slow or not, Weft is a little ahead; its median is not.
        for (weft, nginx) in [(11.0, 10.0), (22.0, 20.0), (21.0, 20.0), (11.0, 10.0), (31.0, 30.0)]
        {
            measure.add(Proxy::Weft, weft);
            measure.add(Proxy::Nginx, nginx);
        }
        measure.add(Proxy::Haproxy, 20.0);
        let seen = asked(&name)[0].seen(&measure).unwrap();
        assert_eq!(seen.value, 1.1);
        assert_eq!(asked(&name)[0].verdict(seen), Verdict::Met);
        let haproxy = measure.ratio(Proxy::Haproxy).unwrap();
        assert_eq!(haproxy.value, 0.55, "of the rounds that both have had");
        assert_eq!(measure.ratio(Proxy::Envoy), None);
    }

    #[test]
    fn bounds_hold_by_ratios() {
        let values = [
            (Proxy::Weft, 25.0),
            (Proxy::Envoy, 100.0),
            (Proxy::Haproxy, 24.0),
            (Proxy::Floor, 20.0),
        ];
        let name = cpu(Work::Http1);
        let measure = measure(&name, &values);
        let verdict = |it: &Asked| (it.text("µs"), it.verdict(it.seen(&measure).unwrap()));
        let verdicts: Vec<_> = asked(&name).iter().map(verdict).collect();
        assert_eq!(
            verdicts,
            [
                ("≤ 1 haproxy".to_owned(), Verdict::Missed),
                ("≤ 0.25 envoy".to_owned(), Verdict::Met),
                ("≤ 1.25 floor".to_owned(), Verdict::Met),
            ]
        );
    }

    #[test]
    fn what_may_be_otherwise_next_time_is_not_met() {
        let seen = Estimate { value: 0.98, least: 0.95, most: 1.01 };
        assert_eq!(at_most(1.0, Proxy::Haproxy).verdict(seen), Verdict::TooNear);
        assert_eq!(at_most(1.01, Proxy::Haproxy).verdict(seen), Verdict::Met);
        assert_eq!(at_most(0.94, Proxy::Haproxy).verdict(seen), Verdict::Missed);
        assert_eq!(at_least(1.0, Proxy::Haproxy).verdict(seen), Verdict::TooNear);
        assert_eq!(at_least(0.95, Proxy::Haproxy).verdict(seen), Verdict::Met);
        assert_eq!(at_least(1.02, Proxy::Haproxy).verdict(seen), Verdict::Missed);
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let name = rate(Work::NewConnections);
        let measure = measure(&name, &[(Proxy::Weft, 9.0)]);
        assert_eq!(asked(&name)[0].seen(&measure), None);
    }

    #[test]
    fn every_asked_figure_is_measured() {
        let mut names = vec![MEMORY_IDLE.to_owned(), MEMORY_HELD.to_owned()];
        names.extend(LATENCY.map(|(_, _, name)| name.to_owned()));
        for work in Work::ALL {
            names.extend([cpu(work), rate(work)]);
        }
        // 3 + 3 × 3 of CPU, 3 of rates, 2 × 2 of latency, 3 of memory.
        let all: usize = names.iter().map(|name| asked(name).len()).sum();
        assert_eq!(all, 22);
    }

    #[test]
    fn texts_are_short() {
        assert_eq!(at_most(1.0 / 3.0, Proxy::Envoy).text("µs"), "≤ 1/3 envoy");
        assert_eq!(asked(MEMORY_IDLE)[0].text("MiB"), "≤ 12 MiB");
        assert_eq!(asked(MEMORY_IDLE)[1].text("MiB"), "≤ 1/6 envoy");
    }
}
