//! Where the built programs are.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The programs that a lab needs.
const PROGRAMS: [&str; 4] = ["weft-proxy", "weft-init", "weft-echo", "weft-client"];

/// The folder with the built programs: `WEFT_BIN_DIR` (the Makefile sets it), else the folder of
/// the running program or the one above it (a test stands in `target/debug/deps`).
pub(super) fn folder() -> Result<PathBuf> {
    let candidates = if let Some(given) = std::env::var_os("WEFT_BIN_DIR") {
        // Relative to the checkout, not to the package in which cargo starts a test.
        vec![crate::checkout()?.join(given)]
    } else {
        let own = std::env::current_exe().context("the running program has no path")?;
        own.ancestors().skip(1).take(2).map(Path::to_path_buf).collect()
    };
    let complete = |folder: &&PathBuf| PROGRAMS.iter().all(|name| folder.join(name).is_file());
    match candidates.iter().find(complete) {
        Some(folder) => Ok(folder.canonicalize()?),
        None => bail!(
            "{} are needed in {}: run `make build`, or `cargo build --bins` before `cargo test`, \
             or set WEFT_BIN_DIR",
            PROGRAMS.join(", "),
            candidates.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" or ")
        ),
    }
}

/// The script that makes the programs visible in the lab. A bind mount costs nothing, but a tight
/// umask may have left files that only their owner may run; then they are copied.
pub(super) fn mount_script(folder: &Path) -> Result<String> {
    let open = |path: &Path| -> Result<bool> {
        Ok(path.metadata()?.permissions().mode() & 0o005 == 0o005)
    };
    let mut all_open = open(folder)?;
    for name in PROGRAMS {
        all_open &= open(&folder.join(name))?;
    }
    let folder = shell_quote(&folder.display().to_string());
    if all_open {
        return Ok(format!("mount --bind {folder} /run/weft/bin"));
    }
    let names = PROGRAMS.join(" ");
    Ok(format!("(cd {folder} && install -m 0755 {names} /run/weft/bin/)"))
}

/// A word that the shell takes as it is.
pub(super) fn shell_quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
