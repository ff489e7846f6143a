//! `weir man` and `weir completions`: what packages install beside the binary. They are made from the
//! command line itself, so that they cannot differ from it. Their verbs are not in the help.

use clap::{Args, Command};
use clap_complete::Shell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Directory for the pages, one for each verb. Without it, the page of `weir` itself is printed.
    directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Completions {
    shell: Shell,
}

impl Man {
    /// Writes the pages of a command.
    pub(super) fn run(&self, command: Command) -> anyhow::Result<()> {
        match &self.directory {
            Some(directory) => pages(command, directory)?,
            None => clap_mangen::Man::new(command).render(&mut io::stdout())?,
        }
        Ok(())
    }
}

// clap_mangen finds the names of nested verbs, such as `weir-token-new`, once the command is built.
fn pages(mut command: Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    command.build();
    page(&command, directory)
}

fn page(command: &Command, directory: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    std::fs::write(directory.join(format!("{name}.1")), text)?;
    let shown = |verb: &&Command| !verb.is_hide_set() && verb.get_name() != "help";
    command.get_subcommands().filter(shown).try_for_each(|verb| page(verb, directory))
}

impl Completions {
    /// Prints the completions of a command.
    pub(super) fn run(&self, mut command: Command) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "weir", &mut script);
        io::stdout().write_all(&script)?;
        Ok(())
    }
}
