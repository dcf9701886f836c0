//! What bounds a request in time, and when it is sent again.

use weft_gamma::policy;

use super::answer::{Retry, RetryBudget, Timeouts};
use super::backends::Asked;
use crate::request;
use crate::table::{Target, duration};

impl Asked<'_> {
    /// The rule's timeouts, and the client's own where it speaks gRPC.
    pub(super) fn timeouts(&self) -> Timeouts {
        let rule = self.rule.timeouts;
        let client = || request::grpc_timeout(&self.parts.headers);
        Timeouts {
            request: rule.request.map(duration),
            backend_request: rule.backend_request.map(duration),
            grpc: if self.is_grpc { client().map(duration) } else { None },
        }
    }

    /// What the rule asks for; None where it asks for nothing.
    pub(super) fn retry(&self) -> Option<Retry> {
        let retry = self.rule.retry.as_ref()?;
        Some(Retry {
            attempts: retry.attempts,
            codes: retry.codes().collect(),
            backoff: duration(retry.backoff()),
            longest_pause: duration(retry.longest_pause()),
            if_broken: request::is_idempotent(&self.parts.method, &self.parts.headers),
        })
    }

    /// How many retries the backend may get: told where the rule asks for some, or a policy bounds those
    /// that are the proxy's own.
    pub(super) fn retry_budget(&self, target: &Target) -> Option<RetryBudget> {
        let service = &target.backend.name.service;
        let verdicts = policy::resolve(self.world.objects).verdicts;
        let policy = verdicts.into_iter().find(|(policy, verdicts)| {
            verdicts.iter().any(|verdict| {
                let target = verdict.target.service(&policy.namespace);
                verdict.condition.status && target.as_ref() == Some(service)
            })
        });
        let is_told = match &self.rule.retry {
            Some(retry) => retry.attempts > 0,
            None => policy.is_some(),
        };
        if !is_told {
            return None;
        }
        let retries = target.backend.endpoints().terms.retries;
        Some(RetryBudget {
            percent: retries.percent,
            interval: duration(retries.interval),
            rate_count: retries.rate_count,
            rate_interval: duration(retries.rate_interval),
            policy: policy.map(|(policy, _)| policy.to_string()),
        })
    }
}
