//! `weir bench link`: delivery modes side by side, each over its own emulated link.

mod arguments;
mod emulator;
mod figures;
mod guest;
mod host;
mod lane;
mod mode;
mod model;
mod namespaces;
mod plan;
mod publisher;
mod receiver;
mod report;
mod runs;

pub(crate) use arguments::Arguments;

use super::units::usage;
use std::process::ExitCode;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    usage(arguments.check());
    host::check()?;
    if let (true, Some(program)) = (arguments.inside, &arguments.run) {
        return guest::run(program, &arguments.spec(), arguments.seed);
    }
    if arguments.inside {
        return runs::run(arguments).map(|()| ExitCode::SUCCESS);
    }
    // The process inside has printed its error.
    let code = namespaces::enter()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(1).into())
}
