//! Which ports of a Service the routes hold that name it as their parent. [`crate::resolve`] calls it.

use std::collections::BTreeMap;

use crate::object::{ObjectKey, Service, Transport};
use crate::precedence::RouteOrder;
use crate::reference::{ParentRef, port_list};
use crate::route::{Route, RouteKind};

/// A route's parentRef to a Service.
pub(crate) struct Attachment<'a> {
    /// The route.
    pub(crate) route: &'a Route,
    /// The parentRef's index in the route.
    pub(crate) index: usize,
    /// The indices of the Service's ports that the parentRef selects, or why it selects none.
    pub(crate) ports: Result<Vec<usize>, String>,
    /// Those of `ports` that another kind of route holds, with that kind.
    pub(crate) lost: Vec<(usize, RouteKind)>,
    /// Those of `ports` whose connections an older TCPRoute takes, with that route.
    pub(crate) shadowed: Vec<(usize, &'a ObjectKey)>,
}

/// Whose clients a route is for.
///
/// "A route is a producer route when the `parentRef` refers to a service in the *same namespace*. This
/// route SHOULD apply to all incoming requests to the service, including from clients in other
/// namespaces." "A route is a consumer route when the `parentRef` refers to a service in *another
/// namespace*. Unlike producer routes, consumer routes are scoped only the same namespace." (GEP-1294)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group<'a> {
    Producer,
    Consumer(&'a str),
}

impl<'a> Attachment<'a> {
    /// The parentRef.
    pub(crate) fn parent(&self) -> &'a ParentRef {
        &self.route.parents[self.index]
    }

    /// The indices of the Service's ports that the route holds by this parentRef.
    pub(crate) fn held(&self) -> impl Iterator<Item = usize> {
        self.ports.iter().flatten().copied().filter(|port| !self.has_lost(*port))
    }

    pub(crate) fn has_lost(&self, port: usize) -> bool {
        self.lost.iter().any(|(lost, _)| *lost == port)
    }
}

impl<'a> Group<'a> {
    /// The group of a route on a Service.
    pub(crate) fn of(route: &'a Route, service: &Service) -> Self {
        match route.key.namespace == service.name.namespace {
            true => Group::Producer,
            false => Group::Consumer(&route.key.namespace),
        }
    }
}

/// Attaches to `service` those of `routes` that name it as a parent: an entry for each parentRef.
pub(crate) fn attach<'a>(
    service: &Service,
    routes: impl Iterator<Item = &'a Route>,
) -> Vec<Attachment<'a>> {
    let mut attachments = Vec::new();
    for route in routes {
        for (index, parent) in route.parents.iter().enumerate() {
            if parent.service(&route.key.namespace).is_some_and(|name| name == service.name) {
                let ports = select_ports(service, parent);
                let (lost, shadowed) = (Vec::new(), Vec::new());
                attachments.push(Attachment { route, index, ports, lost, shadowed });
            }
        }
    }
    settle_conflicts(service, &mut attachments);
    find_shadowed(service, &mut attachments);
    attachments
}

fn select_ports(service: &Service, parent: &ParentRef) -> Result<Vec<usize>, String> {
    let name = &service.name;
    // ""Headless" Services SHOULD NOT be supported as a parentRef, because they do not implement the
    // "frontend" functionality of a service." (GEP-1294) Nor does an ExternalName.
    if service.external_name {
        return Err(format!("Service {name} is of type ExternalName; routes cannot attach to it"));
    }
    if service.headless {
        return Err(format!("Service {name} is headless; routes cannot attach to it"));
    }
    // "When both Port (experimental) and SectionName are specified, the name and port of the selected
    // port must match both specified values." With neither, all ports.
    let named = |index: &usize| {
        let port = &service.ports[*index];
        parent.port.is_none_or(|number| port.port == number)
            && parent.section_name.as_ref().is_none_or(|section| port.name == *section)
    };
    let selected: Vec<usize> = (0..service.ports.len()).filter(named).collect();
    let tcp = |index: &usize| service.ports[*index].transport == Transport::Tcp;
    let ports: Vec<usize> = selected.iter().copied().filter(tcp).collect();
    if !ports.is_empty() {
        return Ok(ports);
    }
    let mut wanted = String::new();
    if let Some(port) = parent.port {
        wanted.push_str(&format!(" {port}"));
    }
    if let Some(section) = &parent.section_name {
        wanted.push_str(&format!(" named {section}"));
    }
    Err(match selected.is_empty() {
        true => format!("Service {name} has no port{wanted}; it has {}", port_list(service)),
        false => format!("Service {name} has no TCP port{wanted}; it has {}", port_list(service)),
    })
}

/// "If multiple routes with different types both bind to the same Service and Port pair, only a single
/// route type should be applied. The rejected routes should be ignored and have the
/// `RouteConditionAccepted` status set to the (new) reason `RouteReasonConflicted`." The order of
/// [`RouteKind`] is that of the GEP: "first one wins", GRPCRoute, HTTPRoute, TLSRoute, TCPRoute
/// (GEP-1294).
///
/// A route all of whose rules are refused holds its ports too: otherwise a typo in a GRPCRoute would
/// hand its traffic to an HTTPRoute that nobody meant for it.
fn settle_conflicts(service: &Service, attachments: &mut [Attachment<'_>]) {
    let mut holders: BTreeMap<(Group<'_>, usize), RouteKind> = BTreeMap::new();
    for attachment in attachments.iter() {
        let group = Group::of(attachment.route, service);
        for port in attachment.ports.iter().flatten() {
            let holder = holders.entry((group, *port)).or_insert(attachment.route.kind);
            *holder = attachment.route.kind.max(*holder);
        }
    }
    for attachment in attachments {
        let (route, group) = (attachment.route, Group::of(attachment.route, service));
        let lost = |port: usize| {
            let holder = *holders.get(&(group, port))?;
            (holder != route.kind).then_some((port, holder))
        };
        attachment.lost = attachment.ports.iter().flatten().copied().filter_map(lost).collect();
    }
}

/// "Attaching multiple TCPRoutes to the same listener results in only one route effectively receiving
/// traffic": "the oldest Route". "All attached TCPRoutes are `Accepted`" (GEP-2644), so that the others
/// can only be told in words.
fn find_shadowed<'a>(service: &Service, attachments: &mut [Attachment<'a>]) {
    let mut first: BTreeMap<(Group<'_>, usize), &'a Route> = BTreeMap::new();
    for attachment in attachments.iter().filter(|it| it.route.kind == RouteKind::Tcp) {
        let (route, group) = (attachment.route, Group::of(attachment.route, service));
        for port in attachment.held() {
            let first = first.entry((group, port)).or_insert(route);
            if RouteOrder::of(route) < RouteOrder::of(first) {
                *first = route;
            }
        }
    }
    for attachment in attachments.iter_mut().filter(|it| it.route.kind == RouteKind::Tcp) {
        let (route, group) = (attachment.route, Group::of(attachment.route, service));
        let older = |port: usize| {
            let first = first.get(&(group, port)).filter(|first| first.key != route.key)?;
            Some((port, &first.key))
        };
        attachment.shadowed = attachment.held().filter_map(older).collect();
    }
}
