//! The plain TCP ports.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use weft_tests::answer::Identity;

/// Speaks first, as MySQL or SMTP do: one line that names the pod, then echo.
pub(crate) async fn banner(identity: Arc<Identity>, mut stream: TcpStream) {
    let line = format!("hello from {} {}\n", identity.pod, identity.version);
    if stream.write_all(line.as_bytes()).await.is_ok() {
        echo(stream).await;
    }
}

/// Sends back what it receives; when the peer has finished sending, it finishes as well.
pub(crate) async fn echo(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    let _reset = tokio::io::copy(&mut from, &mut to).await;
    let _reset = to.shutdown().await;
}
