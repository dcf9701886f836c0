//! The access log: one line for each request, and for each connection that passes unread, written by a
//! thread of its own.
//!
//! Workers hand lines over and never wait: when whoever reads standard output stalls, lines are
//! dropped and counted, requests go on.

mod connection;

use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::AccessLogFormat;
use crate::metrics::Metrics;

pub use self::connection::ConnectionRecord;

/// What is said of a request. Empty fields and those that are None are left out of the line.
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// When the request's head had been read.
    pub time: SystemTime,
    pub method: &'a str,
    /// As the client sent it, with the query.
    pub path: &'a str,
    pub host: &'a str,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`.
    pub protocol: &'a str,
    pub client: Option<SocketAddr>,
    /// The original destination of the connection.
    pub destination: Option<SocketAddr>,
    pub parent_namespace: &'a str,
    pub parent_name: &'a str,
    pub parent_port: u16,
    pub route_kind: &'a str,
    pub route_namespace: &'a str,
    pub route_name: &'a str,
    pub rule: &'a str,
    pub rule_name: &'a str,
    pub backend_namespace: &'a str,
    pub backend_name: &'a str,
    pub backend_port: &'a str,
    /// The address that the request was sent to.
    pub endpoint: Option<SocketAddr>,
    /// How often it was sent again; left out where it was not.
    pub retries: u32,
    /// 0 where no response was made.
    pub status: u16,
    pub grpc_status: Option<u8>,
    pub reason: &'a str,
    pub duration: Duration,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// `x-request-id` of the request.
    pub request_id: &'a str,
}

/// Where workers leave the lines. Clones lead to the same writer.
#[derive(Clone, Debug)]
pub struct AccessLog {
    on: Option<Arc<Lines>>,
}

#[derive(Debug)]
struct Lines {
    json: bool,
    queue: SyncSender<Message>,
    queued_bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

enum Message {
    Line(String),
    /// Answered when all lines before it have been written.
    Flush(SyncSender<()>),
}

impl AccessLog {
    /// One that nobody writes.
    pub fn off() -> AccessLog {
        AccessLog { on: None }
    }

    /// Writes to standard output if the format says so.
    pub fn start(format: AccessLogFormat, metrics: Arc<Metrics>) -> std::io::Result<AccessLog> {
        AccessLog::start_to(Box::new(std::io::stdout()), format, metrics)
    }

    fn start_to(
        out: Box<dyn Write + Send>,
        format: AccessLogFormat,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<AccessLog> {
        let json = match format {
            AccessLogFormat::Off => return Ok(AccessLog::off()),
            AccessLogFormat::Text => false,
            AccessLogFormat::Json => true,
        };
        let (queue, lines) = sync_channel(MAX_QUEUED_LINES);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            out,
            lines,
            queued_bytes: Arc::clone(&queued_bytes),
            metrics: Arc::clone(&metrics),
        };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run())?;
        Ok(AccessLog { on: Some(Arc::new(Lines { json, queue, queued_bytes, metrics })) })
    }

    /// Whether it is worth while to put a record together.
    pub fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// Hands a request's line over; never waits.
    pub fn write(&self, record: &AccessRecord<'_>) {
        self.write_fields(fields(record));
    }

    /// Hands a connection's line over; never waits.
    pub fn write_connection(&self, record: &ConnectionRecord<'_>) {
        self.write_fields(connection::fields(record));
    }

    fn write_fields<'a>(&self, fields: impl IntoIterator<Item = Field<'a>>) {
        let Some(lines) = &self.on else { return };
        let line = if lines.json { json_line(fields) } else { text_line(fields) };
        let bytes = line.len();
        if lines.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= MAX_QUEUED_BYTES
            && lines.queue.try_send(Message::Line(line)).is_ok()
        {
            return;
        }
        lines.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        lines.metrics.access_log_dropped(1);
    }

    /// Waits, so long at most, until everything handed over has been written: for the process's end.
    pub fn flush(&self, at_most: Duration) {
        let Some(lines) = &self.on else { return };
        let deadline = std::time::Instant::now() + at_most;
        let (done, is_done) = sync_channel(1);
        let mut message = Message::Flush(done);
        // A full queue is one that nobody reads: try for as long as allowed.
        while let Err(TrySendError::Full(back)) = lines.queue.try_send(message) {
            if std::time::Instant::now() >= deadline {
                return;
            }
            message = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let _ = is_done.recv_timeout(left);
    }
}

/// What may wait for a stalled reader; the bytes bound the memory, whatever the paths' length.
const MAX_QUEUED_LINES: usize = 8192;
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;
/// Lines are written together up to this size.
const BATCH_BYTES: usize = 64 * 1024;

/// The thread that writes.
struct Writer {
    out: Box<dyn Write + Send>,
    lines: Receiver<Message>,
    queued_bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Writer {
    /// Until all handles have gone and everything has been written.
    fn run(mut self) {
        let mut batch = Batch { text: String::with_capacity(BATCH_BYTES), lines: 0 };
        while let Ok(first) = self.lines.recv() {
            let mut next = Ok(first);
            loop {
                match next {
                    Ok(Message::Line(line)) => {
                        self.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
                        batch.text.push_str(&line);
                        batch.lines += 1;
                        if batch.text.len() >= BATCH_BYTES {
                            self.write(&mut batch);
                        }
                    }
                    Ok(Message::Flush(done)) => {
                        self.write(&mut batch);
                        let _ = done.send(());
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
                next = self.lines.try_recv();
            }
            self.write(&mut batch);
        }
    }

    fn write(&mut self, batch: &mut Batch) {
        let written = self.out.write_all(batch.text.as_bytes()).and_then(|()| self.out.flush());
        if written.is_err() {
            // Standard output is closed or its disk full. There may be better times.
            self.metrics.access_log_dropped(batch.lines);
        }
        batch.text.clear();
        batch.lines = 0;
    }
}

struct Batch {
    text: String,
    lines: u64,
}

enum Value<'a> {
    Text(&'a str),
    Address(SocketAddr),
    Integer(u64),
    Milliseconds(Duration),
    Time(SystemTime),
}

/// A field of a line, the same for both formats; None is left out.
type Field<'a> = (&'static str, Option<Value<'a>>);

fn text(value: &str) -> Option<Value<'_>> {
    (!value.is_empty()).then_some(Value::Text(value))
}

/// The fields of a request's line in their order.
fn fields<'a>(record: &AccessRecord<'a>) -> [Field<'a>; 27] {
    let address = |value: Option<SocketAddr>| value.map(Value::Address);
    let integer = |value: u64| Some(Value::Integer(value));
    let has_parent = !record.parent_name.is_empty();
    [
        ("time", Some(Value::Time(record.time))),
        ("method", text(record.method)),
        ("path", text(record.path)),
        ("host", text(record.host)),
        ("protocol", text(record.protocol)),
        ("client", address(record.client)),
        ("destination", address(record.destination)),
        ("parent_namespace", text(record.parent_namespace)),
        ("parent_name", text(record.parent_name)),
        ("parent_port", has_parent.then_some(Value::Integer(record.parent_port.into()))),
        ("route_kind", text(record.route_kind)),
        ("route_namespace", text(record.route_namespace)),
        ("route_name", text(record.route_name)),
        ("rule", text(record.rule)),
        ("rule_name", text(record.rule_name)),
        ("backend_namespace", text(record.backend_namespace)),
        ("backend_name", text(record.backend_name)),
        ("backend_port", text(record.backend_port)),
        ("endpoint", address(record.endpoint)),
        ("retries", Some(record.retries.into()).filter(|it| *it > 0).map(Value::Integer)),
        ("status", integer(record.status.into())),
        ("grpc_status", record.grpc_status.map(|status| Value::Integer(status.into()))),
        ("reason", text(record.reason)),
        ("duration_ms", Some(Value::Milliseconds(record.duration))),
        ("request_bytes", integer(record.request_bytes)),
        ("response_bytes", integer(record.response_bytes)),
        ("request_id", text(record.request_id)),
    ]
}

/// `name=value` pairs with a space between; a value that would break this form is quoted as in JSON.
fn text_line<'a>(fields: impl IntoIterator<Item = Field<'a>>) -> String {
    let mut line = String::with_capacity(LINE_BYTES);
    for (name, value) in fields {
        let Some(value) = value else { continue };
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(name);
        line.push('=');
        match value {
            Value::Text(text) if is_plain(text) => push_shortened(&mut line, text),
            value => push_value(&mut line, value, false),
        }
    }
    line.push('\n');
    line
}

fn json_line<'a>(fields: impl IntoIterator<Item = Field<'a>>) -> String {
    let mut line = String::with_capacity(LINE_BYTES);
    for (name, value) in fields {
        let Some(value) = value else { continue };
        line.push(if line.is_empty() { '{' } else { ',' });
        line.push('"');
        line.push_str(name);
        line.push_str("\":");
        push_value(&mut line, value, true);
    }
    line.push_str("}\n");
    line
}

/// What most lines have room in.
const LINE_BYTES: usize = 768;

/// Texts are quoted always, times and addresses where the format wants it. Writing to a string does
/// not fail.
fn push_value(line: &mut String, value: Value<'_>, quote: bool) {
    let quotation = if quote { "\"" } else { "" };
    let _ = match value {
        Value::Text(text) => {
            push_quoted(line, text);
            Ok(())
        }
        Value::Address(address) => write!(line, "{quotation}{address}{quotation}"),
        Value::Integer(number) => write!(line, "{number}"),
        Value::Milliseconds(duration) => write!(line, "{:.3}", duration.as_secs_f64() * 1e3),
        Value::Time(time) => {
            line.push_str(quotation);
            push_time(line, time);
            line.push_str(quotation);
            Ok(())
        }
    };
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

fn push_quoted(line: &mut String, text: &str) {
    let mut shortened = String::new();
    push_shortened(&mut shortened, text);
    match serde_json::to_string(&shortened) {
        Ok(quoted) => line.push_str(&quoted),
        Err(_) => line.push_str("\"\""),
    }
}

/// A path may have 64 KiB; a line shall not.
fn push_shortened(line: &mut String, text: &str) {
    if text.len() <= MAX_TEXT_BYTES {
        line.push_str(text);
    } else {
        line.push_str(&text[..text.floor_char_boundary(MAX_TEXT_BYTES)]);
        line.push('…');
    }
}

const MAX_TEXT_BYTES: usize = 2048;

/// RFC 3339, UTC, with milliseconds.
fn push_time(line: &mut String, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let _ = write!(
        line,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    );
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01. Counts in years that
/// begin in March, so that the leap day is the last, and in eras of 400 years, which are all alike.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_since_march + 2) / 5 + 1;
    let month =
        if months_since_march < 10 { months_since_march + 3 } else { months_since_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests;
