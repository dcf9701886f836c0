//! The gRPC echo service: its messages and methods, written by hand so that no protoc is needed.
//!
//! As a .proto file this would be `package weft.test; service Echo { rpc Unary … }`.

/// `weft.test.Echo/Unary`: one request, one reply.
pub const UNARY: &str = "/weft.test.Echo/Unary";
/// `weft.test.Echo/ServerStream`: one request, `repeat` replies.
pub const SERVER_STREAM: &str = "/weft.test.Echo/ServerStream";
/// `weft.test.Echo/ClientStream`: many requests, one reply that joins their texts with `,`.
pub const CLIENT_STREAM: &str = "/weft.test.Echo/ClientStream";
/// `weft.test.Echo/Bidi`: each request is answered at once, on the same stream.
pub const BIDI: &str = "/weft.test.Echo/Bidi";

/// What the client asks for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EchoRequest {
    /// Comes back as it is.
    #[prost(string, tag = "1")]
    pub text: String,
    /// When not 0: fail with this gRPC status code and `text` as the message.
    #[prost(int32, tag = "2")]
    pub status: i32,
    /// How many replies a server stream sends.
    #[prost(uint32, tag = "3")]
    pub repeat: u32,
}

/// What the backend answers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EchoReply {
    /// The request's text.
    #[prost(string, tag = "1")]
    pub text: String,
    /// The pod that answered.
    #[prost(string, tag = "2")]
    pub pod: String,
    /// The version of the workload that answered.
    #[prost(string, tag = "3")]
    pub version: String,
    /// The request's metadata as `name: value` lines.
    #[prost(string, repeated, tag = "4")]
    pub headers: Vec<String>,
}
