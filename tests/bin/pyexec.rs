fn main() -> std::process::ExitCode {
    pyexec_cli::main()
}
