//! The binary `pyexec-mcp`. All code is in the library, so that the end-to-end tests can build the same program.

fn main() -> std::process::ExitCode {
    pyexec_mcp::main()
}
