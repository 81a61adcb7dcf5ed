//! The program: see `glassbox --help`.

fn main() -> std::process::ExitCode {
    glassbox::command::main()
}
