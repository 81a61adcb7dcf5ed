//! The words and flags of the program: one file per command, each a thin shell over the library. Only this folder
//! prints: results on stdout, everything else on stderr.

mod analyse;
mod circuit;
mod compare;
mod flags;
mod generate;
mod list;
mod plot;
mod progress;
mod record;
mod report;
mod run;
mod train;
mod verify;

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};
use crate::show;

/// Open up a language model: record, lesion and stimulate it, and see which components drive its predictions
#[derive(Debug, Parser)]
#[command(
    name = "glassbox",
    version,
    max_term_width = 100,
    after_help = "Examples:
  glassbox report                                     what drives the bundled model's predictions: a page to open
  glassbox report --prompt 'When Mary and John went to the store , John gave a drink to'
  glassbox report --model path/to/gpt2 --prompt 'The capital of France is' --corrupt 'The capital of Italy is' \\
                  --answer ' Paris' --wrong ' Rome'
  glassbox run probes/ioi.toml task.n=32              a study, with one setting changed
  glassbox patch --task ioi --format csv              one method, as data on stdout
  glassbox compare early late                         two finished runs side by side
  glassbox list analyses"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Report(report::Report),
    Run(run::Run),
    Predict(analyse::Predict),
    Lens(analyse::Lens),
    Attribution(analyse::Attribution),
    Patch(analyse::Patch),
    Path(analyse::Path),
    Atp(analyse::Atp),
    Ablate(analyse::Ablate),
    Edges(analyse::Edges),
    Knockout(analyse::Knockout),
    Trace(analyse::Trace),
    Repair(analyse::Repair),
    Steer(analyse::Steer),
    Circuit(Box<circuit::Circuit>),
    Heads(analyse::Heads),
    Weights(analyse::Weights),
    Probe(analyse::Probe),
    Generate(generate::Generate),
    Record(record::Record),
    Train(train::Train),
    Compare(compare::Compare),
    Plot(Box<plot::Plot>),
    Verify(verify::Verify),
    List(list::List),
}

/// Parses the command line, runs the command, and prints what went wrong. Exit codes: 0, 1 failure, 2 usage, 130
/// interrupted.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Report(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Predict(command) => command.run(),
        Command::Lens(command) => command.run(),
        Command::Attribution(command) => command.run(),
        Command::Patch(command) => command.run(),
        Command::Path(command) => command.run(),
        Command::Atp(command) => command.run(),
        Command::Ablate(command) => command.run(),
        Command::Edges(command) => command.run(),
        Command::Knockout(command) => command.run(),
        Command::Trace(command) => command.run(),
        Command::Repair(command) => command.run(),
        Command::Steer(command) => command.run(),
        Command::Circuit(command) => command.run(),
        Command::Heads(command) => command.run(),
        Command::Weights(command) => command.run(),
        Command::Probe(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Record(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Plot(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::List(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // names of tensors, prompts and paths stand in it as they were found
            remark(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Says a line on stderr; where nobody listens, it is lost.
fn remark(line: &str) {
    drop(writeln!(std::io::stderr(), "{}", show::inert(line)));
}

/// Prints data on stdout. A reader that closed the pipe (`| head`) has seen enough: that is no error. On a terminal, where it
/// is to be looked at, characters of tokens that would act on the screen are shown instead; anywhere else the bytes go out
/// as they are.
fn print(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let bytes = match std::str::from_utf8(bytes) {
        Ok(text) if out.is_terminal() => Cow::Owned(show::inert(text).into_bytes()),
        _ => Cow::Borrowed(bytes),
    };
    match out.write_all(&bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            let full = "is the disk full, or the target not writable?";
            Err(Error::file("write", std::path::Path::new("standard output"), e, full))
        }
        _ => Ok(()),
    }
}
