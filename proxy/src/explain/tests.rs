//! What is explained is what happens: random routes and requests, and the running sidecar. What people
//! read of it is in `tests/transcripts`.

mod live;
mod property;

use weft_gamma::resolve::Settings;

use super::{Explanation, Extent, Question, Unexplained, Words, World};
use crate::testing::Mesh;

/// What is said of a request that a pod in `default` sends, by what a mesh has in force.
fn explain(mesh: &Mesh, request: &[&str], headers: &[String]) -> Result<Explanation, Unexplained> {
    let words = Words {
        request: request.iter().map(|word| (*word).to_owned()).collect(),
        headers: headers.to_vec(),
    };
    let world = World {
        objects: &mesh.objects(),
        table: &mesh.shared.table(),
        problems: &[],
        namespace: "default",
        settings: &Settings::default(),
        max_headers: mesh.shared.limits.max_headers,
        bystanders: &[],
        extent: Extent::Whole,
    };
    super::explain(&world, &Question::parse(&words)?)
}
