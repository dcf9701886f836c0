//! Transcripts of `weft-proxy explain` and `weft-proxy check` as people see them.
//!
//! Each file of `transcripts/` is one: which manifests there are (`# with PATH`, from the repository's
//! root), commands (`$ weft-proxy …`), and after each command what it prints; a status other than 0
//! stands in the last line. The commands are run and must print just that. After a change that is
//! meant, `WEFT_WRITE_TRANSCRIPTS=1 cargo test -p weft-proxy --test transcripts` writes the files anew:
//! read the difference.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository.
fn root() -> PathBuf {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it when it runs tests");
    Path::new(&here).parent().expect("a crate of the workspace").to_owned()
}

/// A transcript as its file has it, with what its commands print now.
fn play(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut played = String::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(file) = line.strip_prefix("# with ") {
            let path = root().join(file);
            // Two scenarios may have a file of one name.
            let name = path.file_name().unwrap().to_str().unwrap();
            let to = folder.path().join(name);
            let to = if to.exists() { folder.path().join(format!("{number}-{name}")) } else { to };
            fs::copy(&path, to).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        let Some(command) = line.strip_prefix("$ ") else {
            if line.starts_with('#') {
                played.push_str(&format!("{line}\n"));
            }
            continue;
        };
        let words = split(command);
        assert_eq!(words[0], "weft-proxy", "{command}");
        let output = Command::new(env!("CARGO_BIN_EXE_weft-proxy"))
            .args(&words[1..])
            .current_dir(folder.path())
            .env_clear()
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let complained = String::from_utf8(output.stderr).unwrap();
        played.push_str(&format!("\n$ {command}\n{said}{complained}"));
        if let Some(status @ 1..) = output.status.code() {
            played.push_str(&format!("[status {status}]\n"));
        }
    }
    played
}

/// Splits a command as a shell would, as far as transcripts need it.
fn split(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// As in `kubectl exec`: the container's environment is the running sidecar's.
#[test]
fn the_sidecar_s_environment_does_not_stand_in_the_way() {
    let weft = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_weft-proxy"))
            .args(arguments)
            .env("WEFT_NAMESPACE", "shop")
            .env("WEFT_MANIFESTS", "/nowhere")
            .env("WEFT_ADMIN_PORT", "1")
            .env("WEFT_LOG_LEVEL", "debug")
            .output()
            .unwrap()
    };
    let live = String::from_utf8(weft(&["explain", "http://web/"]).stderr).unwrap();
    assert!(live.contains("no sidecar answers on 127.0.0.1:1 "), "{live}");
    let manifests = root().join("tests/scenarios/1-header-canary");
    let manifests = manifests.to_str().unwrap();
    let offline = weft(&["explain", "--manifests", manifests, "http://reviews:9080/"]);
    assert!(offline.status.success(), "{}", String::from_utf8_lossy(&offline.stderr));
    assert!(weft(&["check", manifests]).status.success());
    // Without a command it is the sidecar.
    let sidecar = weft(&[]);
    let said = String::from_utf8(sidecar.stderr).unwrap();
    assert!(said.contains("the manifest folder /nowhere does not exist"), "{said}");
    assert_eq!(sidecar.status.code(), Some(1));
}

/// Plays a transcript and compares.
fn compare(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    let played = play(&text);
    if std::env::var_os("WEFT_WRITE_TRANSCRIPTS").is_some() {
        fs::write(file, &played).unwrap();
        return;
    }
    for (line, (expected, came)) in text.lines().zip(played.lines()).enumerate() {
        assert_eq!(came, expected, "{}:{}", file.display(), line + 1);
    }
    assert_eq!(played, text, "{}", file.display());
}

#[test]
fn every_transcript_is_what_its_commands_print() {
    let folder = root().join("proxy/tests/transcripts");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut transcripts: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|it| it == "txt")).collect();
    transcripts.sort();
    assert!(transcripts.len() >= 6, "{} has {transcripts:?}", folder.display());
    for transcript in transcripts {
        compare(&transcript);
    }
}
