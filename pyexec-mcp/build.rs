//! Links the program at a fixed address: without relocations to apply at start it starts sooner, and the memory of many
//! supervisors is shared (figures in BENCHMARKS.md). The price is no address randomisation of the program's own text;
//! libraries, heap and stack keep theirs.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-no-pie");
}
