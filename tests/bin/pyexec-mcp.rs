fn main() -> std::process::ExitCode {
    pyexec_mcp::main()
}
