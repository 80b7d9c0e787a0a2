//! The binary, apart from the configuration of whoever runs the tests.

use std::process::{Command, Stdio};

pub(crate) fn bwscan() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bwscan"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("BWSCAN_") {
            command.env_remove(variable);
        }
    }
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    command.stdin(Stdio::null());
    command
}
