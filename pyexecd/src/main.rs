use std::process::ExitCode;

fn main() -> ExitCode {
    pyexecd::main()
}
