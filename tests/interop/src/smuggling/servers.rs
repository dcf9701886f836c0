//! The servers that stand behind the sidecar. Each writes a line for every request that it has read,
//! which begins with the method and the target.

use anyhow::Result;
use weft_tests::lab::{Backend, Client, Lab, Workload};

use crate::Setting;

/// A server of the corpus.
pub(super) struct Server {
    pub(super) name: &'static str,
    /// As a table names it.
    pub(super) title: &'static str,
    pub(super) port: u16,
    /// Words of its command; the first of a pair of braces is what was brought into the lab.
    command: &'static str,
    /// Where its lines are, if not on standard output.
    log: Option<&'static str>,
    /// What stands before a character in its lines that it does not write as it is.
    escape: Option<char>,
}

/// The reference comes first.
pub(super) const SERVERS: [Server; 8] = [
    Server {
        name: "strict",
        title: "RFC 9112 to the letter",
        port: 8100,
        command: "{weft-interop} strict 8100",
        log: None,
        escape: None,
    },
    Server {
        name: "nginx",
        title: "nginx",
        port: 8101,
        command: "nginx -e /tmp/nginx.err -c {servers}/nginx.conf",
        log: Some("/tmp/nginx.log"),
        escape: None,
    },
    Server {
        name: "apache",
        title: "Apache httpd",
        port: 8102,
        command: "apache2 -DFOREGROUND -f {servers}/apache2.conf",
        log: Some("/tmp/apache2.log"),
        escape: Some('\\'),
    },
    Server {
        name: "haproxy",
        title: "HAProxy",
        port: 8103,
        command: "haproxy -db -f {servers}/haproxy.cfg",
        log: None,
        escape: Some('#'),
    },
    Server {
        name: "go",
        title: "Go",
        port: 8104,
        command: "{go-server} :8104",
        log: None,
        escape: None,
    },
    Server {
        name: "node",
        title: "Node.js",
        port: 8105,
        command: "node {servers}/node.js 8105",
        log: None,
        escape: None,
    },
    Server {
        name: "python",
        title: "Python http.server",
        port: 8106,
        command: "/usr/bin/python3 {servers}/http_server.py 8106",
        log: None,
        escape: None,
    },
    Server {
        name: "aiohttp",
        title: "Python aiohttp",
        port: 8107,
        command: "/usr/bin/python3 {servers}/aiohttp_server.py 8107",
        log: None,
        escape: None,
    },
];

impl Server {
    pub(super) fn start(&self, lab: &Lab, setting: &Setting) -> Result<Backend> {
        let servers = lab.bring(&weft_tests::checkout()?.join("tests/interop/servers"))?;
        let own = lab.bring(&std::env::current_exe()?)?;
        let go = lab.bring(&setting.programs.join("go-server"))?;
        let command = self
            .command
            .replace("{servers}", &servers)
            .replace("{weft-interop}", &own)
            .replace("{go-server}", &go);
        let words: Vec<&str> = command.split(' ').collect();
        let workload = Workload::new(self.name, "v1", "default").on_port(self.port);
        lab.foreign_backend(&workload, &words)
    }

    /// The lines that it has written.
    pub(super) fn log(&self, backend: &Backend, client: &Client) -> Result<String> {
        let log = match self.log {
            Some(path) => client.exec(&["cat", path])?.success()?,
            None => backend.log(),
        };
        Ok(match self.escape {
            Some(escape) => unescaped(&log, escape),
            None => log,
        })
    }
}

/// The text with characters in place of their escapes: `xHH` or `HH` behind the escape is a byte, and
/// every other character itself.
fn unescaped(log: &str, escape: char) -> String {
    let mut bytes = Vec::with_capacity(log.len());
    let mut rest = log;
    while let Some(at) = rest.find(escape) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let digits = rest.strip_prefix('x').unwrap_or(rest);
        if let Some(byte) = digits.get(..2).and_then(|it| u8::from_str_radix(it, 16).ok()) {
            bytes.push(byte);
            rest = &digits[2..];
        } else if let Some(next) = rest.chars().next() {
            bytes.extend_from_slice(&rest.as_bytes()[..next.len_utf8()]);
            rest = &rest[next.len_utf8()..];
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}
