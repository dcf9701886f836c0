//! What takes bytes from others, given any bytes: fuzz targets.
//!
//! Each target is a function that takes bytes and panics when something does not hold. libFuzzer calls
//! it (`make fuzz`), and so does a test on the stable toolchain, with every file of `corpus/` and a few
//! thousand variations of them.
//!
//! | target | its bytes are | what holds |
//! |---|---|---|
//! | [`manifests`] | a file of manifests, YAML or JSON | [`table`] |
//! | [`routes`] | decisions: routes that an author could have written | [`table`] |
//! | [`request`] | what a client sends on a connection | the backend reads the requests that were counted, to the letter |
//! | [`answer`] | what an endpoint answers | it is read alike however it comes, and as hyper's client reads it |
//! | [`detection`] | the first bytes of a connection | what was found stays found; the server name is the one that a TLS server sees |
//! | [`admission`] | an AdmissionReview, or a pod | the patch applies, adds only, and is made once |
//! | [`path`] | a request's path and what replaces it | the result is a path, and the one of a plain reference |

pub mod admission;
pub mod answer;
pub mod detection;
pub mod manifests;
pub mod path;
pub mod request;
pub mod routes;
pub mod table;

/// What is given any bytes, and panics when something does not hold.
pub type Target = fn(&[u8]);

/// All targets, by the names of their programs and folders of the corpus.
pub const TARGETS: [(&str, Target); 7] = [
    ("manifests", manifests::run),
    ("routes", routes::run),
    ("request", request::run),
    ("answer", answer::run),
    ("detection", detection::run),
    ("admission", admission::run),
    ("path", path::run),
];
