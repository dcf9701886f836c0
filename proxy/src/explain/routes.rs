//! The routes that name a Service, or nearly do, and what became of each.

use weft_gamma::condition::Verdict;
use weft_gamma::object::{Kind, Service};
use weft_gamma::resolve::{self, Place, Standing};
use weft_gamma::route;

use super::World;
use super::answer::Route;
use crate::source::SourceProblem;
use crate::table::Destination;

/// Every route that has to do with the destination, those that apply first.
pub(super) fn all(
    world: &World<'_>,
    service: &Service,
    destination: &Destination,
    is_stream: bool,
) -> Vec<Route> {
    let Some(port) = service.ports.iter().position(|it| *it == destination.port) else {
        return Vec::new();
    };
    let standings =
        resolve::standings(world.objects, service, port, world.namespace, world.settings);
    let mut routes: Vec<Route> =
        standings.iter().map(|it| describe(it, world, destination, is_stream)).collect();
    for bystander in world.bystanders {
        if world.objects.routes.contains_key(&bystander.key) {
            continue;
        }
        let (place, because) = if bystander.parent_services().any(|name| name == service.name) {
            let because =
                "the sidecar has not taken it over yet: it waits for what the route refers to";
            ("notInForce", because.to_owned())
        } else if let Some((_, why)) = resolve::near_miss(bystander, &service.name, world.objects) {
            ("otherParent", why)
        } else {
            continue;
        };
        routes.push(left_out(bystander, place, because));
    }
    routes
}

/// The problems of the source that may have to do with the Service: with its routes, with itself,
/// or with nothing in particular. What the routes' conditions say is not said again.
pub(super) fn problems(world: &World<'_>, service: &Service) -> Vec<String> {
    let concerns = |object: &weft_gamma::object::ObjectKey| match object.kind {
        Kind::Service | Kind::EndpointSlice => {
            object.namespace == service.name.namespace
                && object.name.starts_with(&service.name.name)
        }
        Kind::ReferenceGrant => true,
        Kind::BackendTrafficPolicy => object.namespace == service.name.namespace,
        _ => world
            .objects
            .routes
            .get(object)
            .is_none_or(|route| route.parent_services().any(|name| name == service.name)),
    };
    // Those of policies stand nowhere else.
    let is_told = |it: &SourceProblem| {
        let is_of_policy =
            it.object.as_ref().is_some_and(|it| it.kind == Kind::BackendTrafficPolicy);
        it.is_refusal(world.objects) && !is_of_policy
    };
    world
        .problems
        .iter()
        .filter(|it| it.object.as_ref().is_none_or(concerns) && !is_told(it))
        .map(ToString::to_string)
        .collect()
}

fn describe(
    standing: &Standing<'_>,
    world: &World<'_>,
    destination: &Destination,
    is_stream: bool,
) -> Route {
    let Standing { route, parent, place, verdict } = standing;
    let producer = route.key.namespace == destination.service.namespace;
    let port = destination.port.port;
    let is_other = route.kind.is_of_streams() != is_stream;
    let because = match place {
        Place::Applies if is_other && is_stream => {
            "is attached, and holds for requests: this connection is not read".to_owned()
        }
        Place::Applies if is_other => {
            "is attached, and holds for what passes unread: of this connection, requests are read"
                .to_owned()
        }
        Place::Applies if producer => "for clients of every namespace (producer route)".to_owned(),
        Place::Applies => {
            format!("for clients of namespace {} (consumer route)", route.key.namespace)
        }
        Place::Overridden => format!(
            "namespace {} has routes of its own for this Service, which take its place",
            world.namespace
        ),
        Place::OtherClients => {
            format!("for clients of namespace {} only (consumer route)", route.key.namespace)
        }
        Place::Conflicted(kind) => {
            format!("the port has routes of one kind only, and routes of kind {kind} hold it")
        }
        Place::Shadowed(older) => format!("{older} is older, and takes all connections"),
        Place::OtherPort => format!("its parentRef is {parent}, not port {port}"),
        Place::NotAccepted => "is not accepted".to_owned(),
        Place::OtherParent(why) => why.clone(),
    };
    Route {
        route: route.key.to_string(),
        applies: *place == Place::Applies && !is_other,
        place: match place {
            Place::Applies if is_other => "otherTraffic",
            place => place.as_str(),
        },
        because,
        rules: route.rules.len(),
        complaints: verdict.as_ref().map(complaints).unwrap_or_default(),
    }
}

fn left_out(route: &route::Route, place: &'static str, because: String) -> Route {
    Route {
        route: route.key.to_string(),
        applies: false,
        place,
        because,
        rules: route.rules.len(),
        complaints: Vec::new(),
    }
}

/// The conditions that are not as they should be.
fn complaints(verdict: &Verdict) -> Vec<String> {
    let bad = verdict.conditions.iter().filter(|it| it.is_complaint());
    bad.map(|it| format!("{}={} ({}): {}", it.kind, it.status_str(), it.reason, it.message))
        .collect()
}
