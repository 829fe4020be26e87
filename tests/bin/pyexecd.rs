fn main() -> std::process::ExitCode {
    pyexecd::main()
}
