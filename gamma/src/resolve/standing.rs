//! What became of the routes that name a Service as their parent, and of those that nearly do: for
//! people who ask why a route does nothing.
//!
//! It adds words to the attachments that [`super::resolve_parent`] is made from, and decides nothing.

use super::{Pass, Settings, routes_of, verdict};
use crate::attach::{Attachment, Group};
use crate::condition::Verdict;
use crate::object::{NamespacedName, ObjectKey, Objects, Service};
use crate::reference::ParentRef;
use crate::route::{Route, RouteKind};

/// What became of a route on one port of a Service, for the clients of one namespace.
#[derive(Clone, Debug)]
pub struct Standing<'a> {
    /// The route.
    pub route: &'a Route,
    /// The parentRef that this is about: of several to one Service, the one that gets furthest.
    pub parent: &'a ParentRef,
    /// What became of it.
    pub place: Place,
    /// What its status says for the parentRef; None where that is to something else.
    pub verdict: Option<Verdict>,
}

/// What became of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its rules are among those that requests or connections are held against.
    Applies,
    /// It applies, and this older TCPRoute takes all connections.
    Shadowed(ObjectKey),
    /// It is the Service's own (a producer route), and the client's namespace has routes for the
    /// Service itself (consumer routes), which stand in its place.
    Overridden,
    /// It is of another namespace (a consumer route), for the clients there.
    OtherClients,
    /// Routes of this other kind hold the port.
    Conflicted(RouteKind),
    /// Its parentRef selects other ports of the Service.
    OtherPort,
    /// It is accepted for no port: the verdict says why.
    NotAccepted,
    /// Its parentRef means something else; in words, with what to write instead.
    OtherParent(String),
}

/// What became of every route that names `service` as its parent or nearly does, on the port with
/// index `port` of the Service and for clients in the namespace `client`: those that apply first, in
/// the order in which they are merged.
pub fn standings<'a>(
    objects: &'a Objects,
    service: &'a Service,
    port: usize,
    client: &str,
    settings: &Settings,
) -> Vec<Standing<'a>> {
    let routes = routes_of(objects, &service.name);
    let pass = Pass::new(objects, service, &routes, settings);
    let resolved = service.ports.get(port).map(|it| pass.port(port, it));
    let producers_apply =
        resolved.is_some_and(|it| std::ptr::eq(it.for_client(client), &raw const it.producer));
    let mut standings: Vec<Standing<'a>> = Vec::new();
    for attachment in &pass.attachments {
        let standing = Standing {
            route: attachment.route,
            parent: attachment.parent(),
            place: place(attachment, service, port, client, producers_apply),
            verdict: Some(verdict::of(attachment, pass.route_rules(attachment), service)),
        };
        match standings.iter_mut().find(|other| other.route.key == standing.route.key) {
            Some(other) if rank(&standing.place) < rank(&other.place) => *other = standing,
            Some(_) => {}
            None => standings.push(standing),
        }
    }
    for route in objects.routes.values() {
        if let Some((parent, why)) = near_miss(route, &service.name, objects) {
            let place = Place::OtherParent(why);
            standings.push(Standing { route, parent, place, verdict: None });
        }
    }
    standings.sort_by_key(|it| rank(&it.place));
    standings
}

/// The parentRef of a route that was probably meant for the Service, and what to write instead;
/// None where the route names the Service, or nothing like it.
pub fn near_miss<'a>(
    route: &'a Route,
    service: &NamespacedName,
    objects: &Objects,
) -> Option<(&'a ParentRef, String)> {
    let namespace = &route.key.namespace;
    if route.parent_services().any(|it| it == *service) {
        return None;
    }
    let of_that_name = route.parents.iter().filter(|it| it.name == service.name);
    of_that_name
        .filter_map(|parent| Some((parent, miss(parent, namespace, service, objects)?)))
        .next()
}

fn miss(
    parent: &ParentRef,
    namespace: &str,
    service: &NamespacedName,
    objects: &Objects,
) -> Option<String> {
    if let Some(other) = parent.service(namespace) {
        // Who names a namespace, or a Service that there is, means it.
        let meant = parent.namespace.is_some() || objects.services.contains_key(&other);
        return (!meant).then(|| {
            format!(
                "its parentRef means Service {other}, as one without a namespace is of the route's \
                 own; add namespace: {}",
                service.namespace
            )
        });
    }
    if parent.namespace.as_deref().unwrap_or(namespace) != service.namespace {
        return None;
    }
    Some(match parent.kind.as_deref() {
        Some("Service") => format!(
            "its parentRef is of group {}, which has no Services; write group: \"\"",
            parent.group.as_deref().unwrap_or_default()
        ),
        kind => format!(
            "its parentRef is a {}{}; write group: \"\" and kind: Service",
            kind.unwrap_or("Gateway"),
            if kind.is_none() { ", as one without a kind is" } else { "" },
        ),
    })
}

fn place(
    attachment: &Attachment<'_>,
    service: &Service,
    port: usize,
    client: &str,
    producers_apply: bool,
) -> Place {
    match &attachment.ports {
        Err(_) => return Place::NotAccepted,
        Ok(ports) if !ports.contains(&port) => return Place::OtherPort,
        Ok(_) => {}
    }
    if let Some((_, holder)) = attachment.lost.iter().find(|(lost, _)| *lost == port) {
        return Place::Conflicted(*holder);
    }
    let older = attachment.shadowed.iter().find(|(shadowed, _)| *shadowed == port);
    let applies = || match older {
        Some((_, older)) => Place::Shadowed((*older).clone()),
        None => Place::Applies,
    };
    match Group::of(attachment.route, service) {
        Group::Producer if producers_apply => applies(),
        Group::Producer => Place::Overridden,
        Group::Consumer(namespace) if namespace == client => applies(),
        Group::Consumer(_) => Place::OtherClients,
    }
}

/// How far a route got: the least is the furthest.
fn rank(place: &Place) -> usize {
    match place {
        Place::Applies => 0,
        Place::Shadowed(_) => 1,
        Place::Overridden => 2,
        Place::OtherClients => 3,
        Place::Conflicted(_) => 4,
        Place::OtherPort => 5,
        Place::NotAccepted => 6,
        Place::OtherParent(_) => 7,
    }
}

impl Place {
    /// A word for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Place::Applies => "applies",
            Place::Overridden => "overridden",
            Place::OtherClients => "otherClients",
            Place::Shadowed(_) => "shadowed",
            Place::Conflicted(_) => "conflicted",
            Place::OtherPort => "otherPort",
            Place::NotAccepted => "notAccepted",
            Place::OtherParent(_) => "otherParent",
        }
    }
}
