use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use weft_gamma::object::{Kind, NamespacedName, ObjectKey};

use super::*;
use crate::metrics::MetricsSettings;

/// Longer than any test runs, so that what happens is not the poll's doing.
const NEVER: Duration = Duration::from_secs(3600);

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: default\nspec:\n  \
         clusterIP: 10.96.0.1\n  ports:\n  - name: http\n    port: {port}\n"
    )
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.objects.services.keys().map(|name| name.name.as_str()).collect()
}

fn port(snapshot: &Snapshot, name: &str) -> u16 {
    let name = NamespacedName { namespace: "default".into(), name: name.into() };
    snapshot.objects.services[&name].ports[0].port
}

fn said(snapshot: &Snapshot) -> String {
    snapshot.problems.iter().fold(String::new(), |mut all, problem| {
        let _ = writeln!(all, "{problem}");
        all
    })
}

fn metrics() -> Arc<Metrics> {
    Metrics::new(&MetricsSettings::default())
}

/// A source that runs on a folder of its own.
struct Running {
    dir: TempDir,
    snapshots: UnboundedReceiver<Snapshot>,
    task: JoinHandle<()>,
    metrics: Arc<Metrics>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn start(files: &[(&str, &str)]) -> Running {
        Running::start_with(files, Pace { poll: NEVER, ..Pace::default() })
    }

    fn start_with(files: &[(&str, &str)], pace: Pace) -> Running {
        let dir = TempDir::new().unwrap();
        for (name, text) in files {
            write(&dir.path().join("manifests").join(name), text);
        }
        let folder = dir.path().join("manifests");
        fs::create_dir_all(&folder).unwrap();
        let metrics = metrics();
        let mut source = ManifestSource::new(folder, Arc::clone(&metrics)).unwrap();
        source.pace = pace;
        let (publish, snapshots) = unbounded_channel();
        let task = tokio::spawn(source.run(move |snapshot| {
            let _ = publish.send(snapshot);
        }));
        Running { dir, snapshots, task, metrics }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("manifests").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        write(&self.path(name), text);
    }

    async fn next(&mut self) -> Snapshot {
        let next = tokio::time::timeout(Duration::from_secs(20), self.snapshots.recv());
        next.await.expect("nothing was published").unwrap()
    }

    /// What is published once it is so; a burst may come in parts.
    async fn until(&mut self, so: impl Fn(&Snapshot) -> bool) -> Snapshot {
        loop {
            let snapshot = self.next().await;
            if so(&snapshot) {
                return snapshot;
            }
        }
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Replaces a file at once, as careful editors do.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

#[tokio::test]
async fn reads_every_manifest_below_the_folder() {
    let json = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "json"},
                   "spec": {"clusterIP": "10.96.0.2", "ports": [{"port": 80}]}}"#;
    let mut running = Running::start(&[
        ("b.yaml", &format!("# two\n---\n{}---\n{}", service("one", 80), service("two", 80))),
        ("a.yml", &service("yml", 80)),
        ("deep/er/c.json", json),
        ("notes.txt", "kind: Service"),
        (".hidden.yaml", &service("hidden", 80)),
        ("..data/d.yaml", &service("data", 80)),
    ]);
    let snapshot = running.next().await;
    assert_eq!(names(&snapshot), ["json", "one", "two", "yml"]);
    assert_eq!(snapshot.problems, []);
}

#[tokio::test]
async fn lists_are_read() {
    let items = service("one", 80).replace('\n', "\n  ");
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}", items.trim_end());
    let mut running = Running::start(&[("list.yaml", &list)]);
    let snapshot = running.next().await;
    assert_eq!(names(&snapshot), ["one"], "{}", said(&snapshot));
}

#[tokio::test]
async fn a_change_is_published() {
    let mut running = Running::start(&[("a.yaml", &service("a", 80))]);
    assert_eq!(port(&running.next().await, "a"), 80);
    running.write("a.yaml", &service("a", 81));
    let snapshot = running.until(|snapshot| port(snapshot, "a") == 81).await;
    assert_eq!(snapshot.problems, []);
    replace(&running.path("a.yaml"), &service("a", 82));
    running.until(|snapshot| port(snapshot, "a") == 82).await;
    running.write("b.yaml", &service("b", 80));
    running.until(|snapshot| names(snapshot) == ["a", "b"]).await;
}

#[tokio::test]
async fn a_deleted_file_takes_its_objects_with_it() {
    let mut running =
        Running::start(&[("a.yaml", &service("a", 80)), ("b.yaml", &service("b", 80))]);
    assert_eq!(names(&running.next().await), ["a", "b"]);
    fs::remove_file(running.path("a.yaml")).unwrap();
    assert_eq!(names(&running.next().await), ["b"]);
}

#[tokio::test]
async fn new_folders_are_watched() {
    let mut running = Running::start(&[("a.yaml", &service("a", 80))]);
    running.next().await;
    running.write("new/er/b.yaml", &service("b", 80));
    running.until(|snapshot| names(snapshot) == ["a", "b"]).await;
    running.write("new/er/b.yaml", &service("b", 81));
    running.until(|snapshot| port(snapshot, "b") == 81).await;
    fs::rename(running.path("new"), running.dir.path().join("elsewhere")).unwrap();
    running.until(|snapshot| names(snapshot) == ["a"]).await;
}

#[tokio::test]
async fn a_broken_document_hides_nothing_else() {
    let text = format!("{}---\nkind: [\n---\n{}", service("one", 80), service("two", 80));
    let mut running = Running::start(&[("a.yaml", &text), ("b.yaml", &service("b", 80))]);
    let snapshot = running.next().await;
    assert_eq!(names(&snapshot), ["b", "one", "two"]);
    let [problem] = snapshot.problems.as_slice() else { panic!("{}", said(&snapshot)) };
    assert_eq!(problem.file, Some(running.path("a.yaml")));
    // The service has ten lines; the parser notices at the end of the line or of the document.
    assert!((11..=14).contains(&problem.line.unwrap()), "{problem}");
    assert!(problem.message.starts_with("is not YAML: "), "{problem}");
}

#[tokio::test]
async fn a_file_that_breaks_keeps_what_it_last_said() {
    let two = |port| format!("{}---\n{}", service("one", port), service("two", port));
    let mut running = Running::start(&[("a.yaml", &two(80)), ("b.yaml", &service("b", 80))]);
    running.next().await;

    // The first document has changed and counts; the second cannot be read.
    let half = format!("{}---\nkind: \"Serv", service("one", 81));
    replace(&running.path("a.yaml"), &half);
    let snapshot = running.until(|snapshot| !snapshot.problems.is_empty()).await;
    assert_eq!(names(&snapshot), ["b", "one", "two"]);
    assert_eq!((port(&snapshot, "one"), port(&snapshot, "two")), (81, 80));
    assert!(said(&snapshot).contains("1 objects stay in force"), "{}", said(&snapshot));

    // Other files go on being read meanwhile.
    replace(&running.path("b.yaml"), &service("b", 81));
    let snapshot = running.until(|snapshot| port(snapshot, "b") == 81).await;
    assert_eq!(names(&snapshot), ["b", "one", "two"]);

    // Whatever it says once it can be read counts alone.
    replace(&running.path("a.yaml"), &service("one", 82));
    let snapshot = running.until(|snapshot| port(snapshot, "one") == 82).await;
    assert_eq!(names(&snapshot), ["b", "one"]);
    assert_eq!(snapshot.problems, []);
}

#[tokio::test]
async fn a_broken_file_that_is_deleted_is_gone() {
    let mut running = Running::start(&[("a.yaml", &service("a", 80))]);
    running.next().await;
    replace(&running.path("a.yaml"), "kind: [");
    let snapshot = running.until(|snapshot| !snapshot.problems.is_empty()).await;
    assert_eq!(names(&snapshot), ["a"]);
    fs::remove_file(running.path("a.yaml")).unwrap();
    let snapshot = running.until(|snapshot| snapshot.objects.services.is_empty()).await;
    assert!(said(&snapshot).contains("everything is passed through"), "{}", said(&snapshot));
}

#[tokio::test]
async fn an_emptied_file_keeps_its_objects_until_it_is_deleted() {
    let mut running = Running::start(&[("a.yaml", &service("a", 80))]);
    running.next().await;
    fs::write(running.path("a.yaml"), "").unwrap();
    let snapshot = running.next().await;
    assert_eq!(names(&snapshot), ["a"]);
    assert!(said(&snapshot).contains("is empty"), "{}", said(&snapshot));
    // A comment is a will of its own.
    fs::write(running.path("a.yaml"), "# nothing any more\n").unwrap();
    running.until(|snapshot| snapshot.objects.services.is_empty()).await;
}

#[tokio::test]
async fn of_duplicates_the_first_file_counts() {
    let twice = format!("{}---\n{}", service("b", 80), service("b", 81));
    let mut running = Running::start(&[
        ("1.yaml", &service("a", 80)),
        ("2.yaml", &service("a", 81)),
        ("3.yaml", &twice),
    ]);
    let snapshot = running.next().await;
    assert_eq!((port(&snapshot, "a"), port(&snapshot, "b")), (80, 80));
    let [first, second] = snapshot.problems.as_slice() else { panic!("{}", said(&snapshot)) };
    let key = ObjectKey { kind: Kind::Service, namespace: "default".into(), name: "a".into() };
    assert_eq!((&first.file, &first.object), (&Some(running.path("2.yaml")), &Some(key)));
    assert!(first.message.contains("1.yaml:1"), "{first}");
    assert_eq!((&second.file, second.line), (&Some(running.path("3.yaml")), Some(11)));
    assert!(second.message.contains("3.yaml:1"), "{second}");

    // When the first goes, the second takes its place.
    fs::remove_file(running.path("1.yaml")).unwrap();
    let snapshot = running.until(|snapshot| port(snapshot, "a") == 81).await;
    assert_eq!(snapshot.problems.len(), 1);
}

#[tokio::test]
async fn a_problem_names_file_line_object_and_field() {
    let text = format!("{}---\n{}    targetPort: 8080\n", service("a", 80), service("b", 80))
        .replace("name: b\n  namespace: default\n", "name: b\n")
        .replace(
            "- name: http\n    port: 80\n    targetPort",
            "- name: http\n    port: {}\n    targetPort",
        );
    let mut running = Running::start(&[("a.yaml", &text)]);
    let snapshot = running.next().await;
    let problem = snapshot.problems.first().unwrap();
    assert!(problem.field.starts_with("spec.ports[0].port"), "{problem:?}");
    let name = problem.object.as_ref().map(|key| key.name.as_str());
    assert_eq!((name, problem.line), (Some("b"), Some(20)), "{problem}\n{text}");
    let start =
        format!("{}:20: Service default/b: spec.ports[0].port", running.path("a.yaml").display());
    assert!(problem.to_string().starts_with(&start), "{problem}");
    assert!(names(&snapshot).contains(&"a"));
}

#[test]
fn a_missing_folder_is_an_error_at_the_start() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("missing");
    let error = ManifestSource::new(&missing, metrics()).unwrap_err().to_string();
    assert!(error.ends_with("missing does not exist: name an existing one"), "{error}");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = ManifestSource::new(&file, metrics()).unwrap_err().to_string();
    assert!(error.contains("is not a folder"), "{error}");
}

#[tokio::test]
async fn a_folder_that_disappears_is_waited_for() {
    let mut running = Running::start(&[("a.yaml", &service("a", 80))]);
    running.next().await;
    assert!(running.metrics.encode().contains("\nweft_source_connected 1\n"));
    let (folder, away) = (running.path(""), running.dir.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    let snapshot = running.until(|snapshot| !snapshot.problems.is_empty()).await;
    assert_eq!(names(&snapshot), ["a"]);
    assert!(said(&snapshot).contains("stays in force"), "{}", said(&snapshot));
    assert!(running.metrics.encode().contains("\nweft_source_connected 0\n"));

    // It comes back by another one of the same name, which is then watched.
    write(&running.path("b.yaml"), &service("b", 80));
    running.until(|snapshot| names(snapshot) == ["b"] && snapshot.problems.is_empty()).await;
    running.write("b.yaml", &service("b", 81));
    running.until(|snapshot| port(snapshot, "b") == 81).await;
}

#[tokio::test]
async fn an_empty_folder_is_a_snapshot_with_a_warning() {
    let mut running = Running::start(&[]);
    let snapshot = running.next().await;
    assert!(snapshot.objects.services.is_empty());
    assert!(said(&snapshot).contains("holds no Services and no routes"), "{}", said(&snapshot));
    running.write("a.yaml", &service("a", 80));
    let snapshot = running.until(|snapshot| names(snapshot) == ["a"]).await;
    assert_eq!(snapshot.problems, []);
}

/// A ConfigMap's files are links into a hidden folder that is exchanged as a whole.
#[tokio::test]
async fn a_mounted_config_map_is_followed() {
    let mut running = Running::start(&[
        ("..1/a.yaml", &service("a", 80)),
        ("..1/sub/b.yaml", &service("b", 80)),
        ("..2/a.yaml", &service("a", 81)),
        ("..2/sub/b.yaml", &service("b", 81)),
        ("..3/a.yaml", &service("a", 82)),
    ]);
    running.next().await;
    symlink("..1", running.path("..data")).unwrap();
    symlink("..data/a.yaml", running.path("a.yaml")).unwrap();
    symlink("..data/sub", running.path("sub")).unwrap();
    running.until(|snapshot| names(snapshot) == ["a", "b"]).await;
    for (target, expected) in [("..2", 81), ("..1", 80), ("..2", 81)] {
        symlink(target, running.path("..data_tmp")).unwrap();
        fs::rename(running.path("..data_tmp"), running.path("..data")).unwrap();
        let snapshot = running.until(|snapshot| port(snapshot, "a") == expected).await;
        assert_eq!(port(&snapshot, "b"), expected);
        assert_eq!(snapshot.problems, []);
    }
}

/// What a link leads to outside the folder changes without an event.
#[tokio::test]
async fn what_tells_no_event_is_polled() {
    let poll = Duration::from_millis(20);
    let mut running =
        Running::start_with(&[("b.yaml", &service("b", 80))], Pace { poll, ..Pace::default() });
    running.next().await;
    let outside = running.dir.path().join("outside.yaml");
    fs::write(&outside, service("a", 80)).unwrap();
    symlink(&outside, running.path("a.yaml")).unwrap();
    running.until(|snapshot| names(snapshot) == ["a", "b"]).await;
    fs::write(&outside, service("a", 81)).unwrap();
    running.until(|snapshot| port(snapshot, "a") == 81).await;
    fs::remove_file(&outside).unwrap();
    let snapshot = running.until(|snapshot| !snapshot.problems.is_empty()).await;
    assert_eq!(names(&snapshot), ["a", "b"]);
    assert!(said(&snapshot).contains("leads nowhere"), "{}", said(&snapshot));
}

#[tokio::test]
async fn what_is_no_file_of_text_is_reported() {
    let mut running = Running::start(&[("a.yaml", &service("a", 80)), ("latin.yaml", "")]);
    running.next().await;
    fs::write(running.path("latin.yaml"), b"# one\nname: caf\xe9\n").unwrap();
    let pipe = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&running.path("pipe.yaml"), pipe).unwrap();
    symlink(".", running.path("loop")).unwrap();
    let snapshot = running.until(|snapshot| snapshot.problems.len() == 2).await;
    let said = said(&snapshot);
    assert!(said.contains("latin.yaml:2: is not UTF-8"), "{said}");
    assert!(said.contains("pipe.yaml: is not a regular file"), "{said}");
    assert_eq!(names(&snapshot), ["a"]);
}

#[test]
fn nothing_new_is_no_news() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, service("a", 80)).unwrap();
    let mut reader = Reader::new(dir.path());
    let mut read = || reader.read(&folder::list(dir.path()));
    assert!(read(), "the first time");
    assert!(!read(), "nothing was touched");
    fs::write(&file, service("a", 80)).unwrap();
    assert!(!read(), "written, with the same text");
    fs::write(dir.path().join("notes.txt"), "").unwrap();
    assert!(!read(), "a file of another kind");
    fs::write(&file, service("a", 81)).unwrap();
    assert!(read(), "another text of the same length within the same tick of the clock");
    fs::write(&file, "kind: [").unwrap();
    assert!(read(), "broken");
    assert!(!read(), "still broken in the same way");
    assert!(reader.has_unreadable());
}
