//! What keeps the user of a request where it was before, as [`crate::session`] has it.

use super::answer::Stickiness;
use super::backends::Asked;
use crate::backend::local;
use crate::session::Visit;
use crate::table::{Action, Target, WeightedBackend};

impl<'a> Asked<'a> {
    /// What the rule keeps users by, and what that means for this request.
    pub(super) fn stickiness(&self) -> Option<Stickiness> {
        let visit = self.visit()?;
        let by = self.rule.stickiness.as_ref()?.to_string();
        let keeps_backend = self.kept().is_some();
        let keeps_endpoint =
            self.drawable().iter().any(|backend| visit.endpoint(backend.digest).is_some());
        let because = match (keeps_backend, visit.has_session()) {
            (true, true) => "the request's session began there, and stays",
            (true, false) => "the request says whose it is: that user always goes there",
            (false, true) => {
                "the request's session is at one endpoint of a backend, and stays there"
            }
            (false, false) if visit.begins_session() => {
                "the request has no session: it goes by these odds, and stays where it comes to"
            }
            (false, false) => "the request does not say whose it is: it goes by these odds",
        };
        Some(Stickiness { by, because: because.to_owned(), keeps_backend, keeps_endpoint })
    }

    /// The backend that the request gets whatever the odds.
    pub(super) fn kept(&self) -> Option<&'a WeightedBackend> {
        match &self.rule.action {
            Action::Forward(split) => self.visit()?.kept(split),
            Action::Refuse(_) | Action::Answer => None,
        }
    }

    /// The backends that the request can get.
    pub(super) fn drawable(&self) -> Vec<&'a WeightedBackend> {
        match self.kept() {
            Some(kept) => vec![kept],
            None => self.rule.backends().iter().collect(),
        }
    }

    /// The address of the endpoint that the request's session is at, or that the pod is kept at.
    pub(super) fn kept_endpoint(
        &self,
        weighted: &WeightedBackend,
        target: &Target,
    ) -> Option<String> {
        let session = self.visit().and_then(|visit| visit.endpoint(weighted.digest));
        let kept = session.or_else(|| target.backend.kept())?;
        let endpoints = target.backend.endpoints();
        let kept = endpoints.endpoints.iter().find(|it| local::digest(it) == kept);
        kept.map(|it| it.addr.to_string())
    }

    fn visit(&self) -> Option<Visit<'a>> {
        self.rule.stickiness.as_ref().map(|it| it.visit(&self.parts.headers))
    }
}
