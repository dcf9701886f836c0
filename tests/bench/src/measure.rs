//! What is measured: the kinds of work, and the figures that each gives.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::proxy::Proxy;

/// A kind of load. All requests carry `end-user: jason` and are split 90/10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// GETs answered with 64 bytes, on connections that stay.
    Http1,
    /// The same, each on a connection of its own.
    NewConnections,
    /// The same, of a client of HTTP/2.
    Http2ToHttp1,
    /// HTTP/2 on both sides.
    Http2,
    /// Unary calls of 64 bytes each way.
    Grpc,
    /// POSTs of 1 MiB that are answered with 1 MiB.
    Mib,
    /// 8 MiB at a time, unread.
    Tcp,
}

impl Work {
    pub(crate) const ALL: [Work; 7] = [
        Work::Http1,
        Work::NewConnections,
        Work::Http2ToHttp1,
        Work::Http2,
        Work::Grpc,
        Work::Mib,
        Work::Tcp,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Work::Http1 => "HTTP/1.1 keep-alive",
            Work::NewConnections => "HTTP/1.1 new connections",
            Work::Http2ToHttp1 => "HTTP/2 to HTTP/1.1",
            Work::Http2 => "HTTP/2 both ways",
            Work::Grpc => "gRPC unary",
            Work::Mib => "1 MiB bodies",
            Work::Tcp => "TCP pass-through",
        }
    }

    /// In the words of the report.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Work::Http1 => "32 connections, GETs answered with 64 bytes",
            Work::NewConnections => "32 at a time, one GET on each connection",
            Work::Http2ToHttp1 => {
                "4 connections of 16 streams, backends of HTTP/1.1, GETs answered with 64 bytes"
            }
            Work::Http2 => "4 connections of 16 streams, h2c to the backend, as above",
            Work::Grpc => "4 connections of 16 streams, messages of 64 bytes, status in trailers",
            Work::Mib => "8 connections, POSTs of 1 MiB answered with 1 MiB",
            Work::Tcp => "4 connections, 8 MiB at a time to the client",
        }
    }

    /// The Service's port for it.
    pub(crate) fn port(self) -> u16 {
        match self {
            Work::Http1 | Work::NewConnections | Work::Mib => 8001,
            Work::Http2ToHttp1 => 8002,
            Work::Http2 => 8003,
            Work::Grpc => 8004,
            Work::Tcp => 8005,
        }
    }

    /// Whether clients speak HTTP/2.
    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Work::Http2ToHttp1 | Work::Http2 | Work::Grpc)
    }

    /// What one answer counts for, and how that is called.
    pub(crate) fn unit(self) -> (f64, &'static str) {
        match self {
            Work::NewConnections => (1.0, "connection"),
            Work::Tcp => ((crate::work::LARGE >> 20) as f64, "MiB"),
            _ => (1.0, "request"),
        }
    }
}

/// A figure of all proxies, with a value of each for each round, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: BTreeMap<Proxy, Vec<f64>>,
    typical: Typical,
}

/// Which of the rounds' values stands for all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Typical {
    Median,
    /// Of the slowest requests of a round, which are the machine's in more than half of the rounds: one
    /// stall of some milliseconds makes a hundredth of a round's requests late.
    LowerQuartile,
}

/// How often rounds are drawn for an [`Estimate`].
const DRAWS: usize = 4000;

/// The typical value, the least and the greatest.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) typical: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

/// What came of all rounds, and between what it would lie were the same measured again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Measure {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str) -> Measure {
        Measure { name: name.into(), unit, values: BTreeMap::new(), typical: Typical::Median }
    }

    /// The same, for which another of the rounds' values stands than the median.
    pub(crate) fn told_by(self, typical: Typical) -> Measure {
        Measure { typical, ..self }
    }

    pub(crate) fn add(&mut self, proxy: Proxy, value: f64) {
        self.values.entry(proxy).or_default().push(value);
    }

    /// Takes the typical value of `base` from all others': what is left is what they add to it.
    pub(crate) fn less(&mut self, base: Proxy) {
        let Some(typical) = self.typical(base) else { return };
        self.values.remove(&base);
        for value in self.values.values_mut().flatten() {
            *value -= typical;
        }
    }

    pub(crate) fn spread(&self, proxy: Proxy) -> Option<Spread> {
        Spread::of(self.values.get(&proxy)?.clone(), self.typical)
    }

    /// Weft's figure to a peer's: the median of the rounds' ratios. What a shared machine does for a
    /// while, both of a round have felt; their medians may be of different rounds.
    pub(crate) fn ratio(&self, peer: Proxy) -> Option<Estimate> {
        let (weft, peer) = (self.values.get(&Proxy::Weft)?, self.values.get(&peer)?);
        let ratio = |rounds: &[usize]| {
            let ratios = rounds.iter().map(|round| weft[*round] / peer[*round]);
            Spread::of(ratios.collect(), Typical::Median).map(|spread| spread.typical)
        };
        Estimate::of(weft.len().min(peer.len()), ratio)
    }

    pub(crate) fn typical(&self, proxy: Proxy) -> Option<f64> {
        self.spread(proxy).map(|spread| spread.typical)
    }
}

impl Estimate {
    /// Of a figure that `of` makes of rounds, by their numbers; None of none.
    ///
    /// The bounds are where 95 of 100 figures lie of as many rounds, drawn from those that there were, each as
    /// often as it comes (the bootstrap's percentile interval). The draws are the same each time.
    fn of(rounds: usize, of: impl Fn(&[usize]) -> Option<f64>) -> Option<Estimate> {
        let all: Vec<usize> = (0..rounds).collect();
        let value = of(&all)?;
        let mut random = fastrand::Rng::with_seed(0);
        let mut drawn = Vec::with_capacity(DRAWS);
        for _ in 0..DRAWS {
            let rounds: Vec<usize> = all.iter().map(|_| random.usize(..rounds)).collect();
            drawn.push(of(&rounds)?);
        }
        drawn.sort_by(f64::total_cmp);
        let tail = DRAWS / 40;
        Some(Estimate { value, least: drawn[tail], most: drawn[DRAWS - 1 - tail] })
    }

    /// Of what was measured once.
    pub(crate) fn exactly(value: f64) -> Estimate {
        Estimate { value, least: value, most: value }
    }
}

impl Spread {
    /// None of nothing.
    fn of(mut values: Vec<f64>, typical: Typical) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let share = match typical {
            Typical::Median => 0.5,
            Typical::LowerQuartile => 0.25,
        };
        // Between two values, where it falls between them.
        let place = share * (values.len() - 1) as f64;
        let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
        let typical = below + (above - below) * place.fract();
        Some(Spread { typical, least, greatest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typical_is_the_median_or_the_lower_quartile() {
        let of = |values: &[f64], typical| Spread::of(values.to_vec(), typical).unwrap().typical;
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0, 3.0], Typical::Median), 3.0);
        assert_eq!(of(&[1.0, 2.0, 4.0, 9.0], Typical::Median), 3.0);
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0, 3.0], Typical::LowerQuartile), 2.0);
        assert_eq!(of(&[7.0], Typical::LowerQuartile), 7.0);
    }

    #[test]
    fn an_estimate_is_as_sure_as_its_rounds_agree() {
        let of = |weft: &dyn Fn(usize) -> f64, rounds| {
            let mut measure = Measure::new("CPU", "µs");
            for round in 0..rounds {
                measure.add(Proxy::Weft, weft(round));
                measure.add(Proxy::Floor, 10.0);
            }
            measure.ratio(Proxy::Floor).unwrap()
        };
        assert_eq!(of(&|_| 12.0, 9), Estimate::exactly(1.2));
        let spread = |round: usize| 10.0 + (round % 5) as f64;
        let (few, many) = (of(&spread, 10), of(&spread, 200));
        assert_eq!(few.value, 1.2);
        assert!(few.least < 1.2 && few.most > 1.2, "{few:?}");
        assert!(many.most - many.least < few.most - few.least, "{many:?}, {few:?}");
        assert_eq!(few, of(&spread, 10), "the same of the same");
    }

    #[test]
    fn what_is_added_is_told_by_the_base_s_typical_value() {
        let mut measure = Measure::new("p99", "µs").told_by(Typical::LowerQuartile);
        for (direct, weft, nginx) in [
            (10.0, 15.0, 13.0),
            (900.0, 18.0, 14.0),
            (12.0, 700.0, 900.0),
            (10.0, 17.0, 22.0),
            (10.0, 16.0, 22.0),
        ] {
            measure.add(Proxy::Direct, direct);
            measure.add(Proxy::Weft, weft);
            measure.add(Proxy::Nginx, nginx);
        }
        measure.less(Proxy::Direct);
        assert_eq!(measure.typical(Proxy::Weft), Some(6.0));
        assert_eq!(measure.typical(Proxy::Direct), None);
        // The median of 5/3, 2, 690/890, 7/12 and 6/12.
        assert_eq!(measure.ratio(Proxy::Nginx).unwrap().value, 690.0 / 890.0);
    }
}
