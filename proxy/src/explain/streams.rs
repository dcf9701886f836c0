//! What becomes of a connection that passes unread, step by step as [`crate::opaque`] takes them.

use weft_gamma::matching::{self, Considered, Selected};
use weft_gamma::resolve::ResolvedRule;

use super::answer::{Answer, Backend, Explanation, Rule, RuleName, Timeouts};
use super::{World, backends, decide};
use crate::fault::{Fault, Kind};
use crate::metrics::TcpSeries;
use crate::opaque::{self, Ended, Hello};
use crate::table::{Destination, StreamRouting, StreamRule, WeightedBackend};

/// A connection that is to pass unread.
pub(super) struct Connection<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) destination: &'a Destination,
    /// What the destination's rules were compiled from, in their order.
    pub(super) rules: &'a [ResolvedRule],
    pub(super) hello: &'a Hello,
}

impl Connection<'_> {
    /// As `opaque::to_service` does, but with every backend that can be drawn instead of one.
    pub(super) fn follow(&self, explanation: &mut Explanation) {
        let (winner, considered) = self.consider();
        explanation.matches = decide::matches(self.world, self.rules, winner, considered);
        let rule = match opaque::select(self.destination, self.hello) {
            Ok(rule) => rule,
            Err(ended) => {
                explanation.answer = Some(Answer::closed(&ended));
                return;
            }
        };
        explanation.rule = rule.source.as_ref().map(|source| Rule {
            name: RuleName::of(source),
            filters: Vec::new(),
            forwarded: None,
            timeouts: Timeouts::default(),
            retry: None,
            stickiness: None,
        });
        if let Err(fault) = opaque::choose(rule, rule.backends().first()) {
            explanation.answer = Some(Answer::closed(&Ended::from(fault)));
            return;
        }
        explanation.backends = self.backends(rule, winner.and_then(|it| self.rules.get(it.rule)));
    }

    /// The match that wins, and all there are, in the order of precedence.
    fn consider(&self) -> (Option<Selected>, Vec<Considered<'_>>) {
        match (&self.destination.streams, self.hello) {
            (StreamRouting::Tls { matcher, .. }, Hello::Tls(name)) => {
                let considered = matching::consider_server_name(self.rules, name.as_deref());
                (matcher.select(name.as_deref()), considered)
            }
            (StreamRouting::Tcp { .. }, _) => {
                let all = self.rules.iter().enumerate().filter_map(|(rule, resolved)| {
                    let selected = Selected { rule, matched: 0 };
                    let criteria = resolved.matches.first()?;
                    Some(Considered { selected, criteria, unmet: Vec::new() })
                });
                let all: Vec<_> = all.collect();
                (all.first().map(|it| it.selected), all)
            }
            _ => (None, Vec::new()),
        }
    }

    fn backends(&self, rule: &StreamRule, resolved: Option<&ResolvedRule>) -> Vec<Backend> {
        backends::in_order(self.destination, rule, resolved, |weighted, backend| {
            self.describe(weighted, backend)
        })
    }

    fn describe(&self, weighted: &WeightedBackend<TcpSeries>, backend: &mut Backend) {
        let target = match &weighted.target {
            Ok(target) => target,
            Err(why) => {
                let fault = Fault::new(Kind::BackendInvalid, why.clone());
                backend.answer = Some(Answer::closed(&Ended::from(fault)));
                return;
            }
        };
        backend.protocol = Some("bytes");
        backend.look_up(self.world, &target.backend);
        if backend.has_none_ready() {
            backend.answer = Some(Answer::closed(&Ended::from(target.backend.no_endpoint())));
        }
    }
}
