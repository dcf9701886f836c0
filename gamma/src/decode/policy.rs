//! Reads XBackendTrafficPolicies. [`crate::decode`] calls it.
//!
//! A policy is always yielded: what cannot be read of it is among its refusals, and it does not hold.

use std::ops::RangeInclusive;
use std::time::Duration;

use gateway_api::apis::experimental::xbackendtrafficpolicies::{
    XBackendTrafficPolicyRetryConstraint, XBackendTrafficPolicyTargetRefs,
};
use serde_json::Value;

use super::Metadata;
use super::part::{Faults, fields, items, present, read};
use super::value::duration;
use crate::policy::{BackendTrafficPolicy, PolicyTarget, RetryConstraint};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Reads the policy whose `spec` is given.
pub(super) fn policy(spec: &Value, metadata: &Metadata) -> BackendTrafficPolicy {
    let mut faults = Faults::default();
    let mut policy = BackendTrafficPolicy {
        name: metadata.name.clone(),
        created: metadata.created,
        targets: Vec::new(),
        retries: None,
        refusals: Vec::new(),
    };
    let known = ["targetRefs", "retryConstraint", "sessionPersistence"];
    if let Some(map) = fields(spec, "spec", &known, &mut faults) {
        let at = "spec.targetRefs";
        let refs = items(map.get("targetRefs"), at, &mut faults).unwrap_or_default();
        for (index, value) in refs.iter().enumerate() {
            let part: Option<XBackendTrafficPolicyTargetRefs> =
                read(value, &format!("{at}[{index}]"), &mut faults);
            policy.targets.extend(part.map(|part| PolicyTarget {
                group: part.group,
                kind: part.kind,
                name: part.name,
            }));
        }
        if refs.is_empty() {
            faults.unsupported(at, "must name at least one Service");
        }
        policy.retries = present(map, "retryConstraint")
            .and_then(|value| constraint(value, "spec.retryConstraint", &mut faults));
        if present(map, "sessionPersistence").is_some() {
            let message = "sessionPersistence is not implemented; remove it";
            faults.unsupported("spec.sessionPersistence", message);
        }
    }
    policy.refusals = faults.0;
    policy
}

fn constraint(value: &Value, at: &str, faults: &mut Faults) -> Option<RetryConstraint> {
    let part: XBackendTrafficPolicyRetryConstraint = read(value, at, faults)?;
    let default = RetryConstraint::default();
    let budget = part.budget.unwrap_or_default();
    let rate = part.min_retry_rate.unwrap_or_default();
    let rate_at = format!("{at}.minRetryRate");
    let millisecond = Duration::from_millis(1);
    Some(RetryConstraint {
        percent: number(budget.percent, 0..=100, format!("{at}.budget.percent"), faults)
            .unwrap_or(default.percent),
        interval: interval(budget.interval, SECOND..=HOUR, format!("{at}.budget.interval"), faults)
            .unwrap_or(default.interval),
        rate_count: number(rate.count, 1..=1_000_000, format!("{rate_at}.count"), faults)
            .unwrap_or(default.rate_count),
        rate_interval: interval(
            rate.interval,
            millisecond..=HOUR,
            format!("{rate_at}.interval"),
            faults,
        )
        .unwrap_or(default.rate_interval),
    })
}

fn number(
    value: Option<i64>,
    range: RangeInclusive<u32>,
    at: String,
    faults: &mut Faults,
) -> Option<u32> {
    let number = value?;
    let valid = u32::try_from(number).ok().filter(|number| range.contains(number));
    if valid.is_none() {
        let (least, most) = range.into_inner();
        faults.unsupported(at, format!("{number} is not from {least} to {most}"));
    }
    valid
}

fn interval(
    value: Option<String>,
    range: RangeInclusive<Duration>,
    at: String,
    faults: &mut Faults,
) -> Option<Duration> {
    let valid = duration(&value?).and_then(|interval| match range.contains(&interval) {
        true => Ok(interval),
        false => {
            let (least, most) = range.into_inner();
            Err(format!("must be from {least:?} to {most:?}"))
        }
    });
    valid.map_err(|message| faults.unsupported(at, message)).ok()
}
