//! What is committed although a program makes it is what the program would make.

use super::tools::{output, tools};
use capnp::message::{Builder, ReaderOptions};
use capnp::schema_capnp::code_generator_request;
use capnp::serialize;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// The build makes Rust from the request, so that it needs no `capnp`. The request says which version made
/// it: the same version must make the same bytes; another one, the same definitions.
#[test]
fn the_committed_request_is_that_of_the_schema() {
    if !tools(&["capnp"]) {
        return;
    }
    let root = env!("CARGO_MANIFEST_DIR");
    let old = fs::read(format!("{root}/schema/trace.request")).expect("part of the sources");
    let new =
        output(Command::new("capnp").args(["compile", "-o-", "schema/trace.capnp"]).current_dir(root), b"");
    let ((old_version, old_nodes), (new_version, new_nodes)) = (request(&old), request(&new));
    assert!(
        old_nodes == new_nodes,
        "schema/trace.capnp changed: `make schema` rewrites schema/trace.request"
    );
    if old_version == new_version {
        assert!(
            old == new,
            "a comment in schema/trace.capnp changed: `make schema` rewrites schema/trace.request"
        );
    } else {
        eprintln!(
            "the request is by capnp {old_version:?}, here is {new_version:?}: compared the definitions only"
        );
    }
}

/// The compiler's version, and each definition by its id in the form that does not depend on the compiler's.
fn request(mut bytes: &[u8]) -> ((u16, u8, u8), BTreeMap<u64, Vec<u8>>) {
    let message = serialize::read_message(&mut bytes, ReaderOptions::new()).expect("a request");
    let request: code_generator_request::Reader = message.get_root().expect("a request");
    let version = request.get_capnp_version().expect("a version");
    let version = (version.get_major(), version.get_minor(), version.get_micro());
    let nodes = request.get_nodes().expect("nodes").iter().map(|node| {
        let mut canonical = Builder::new_default();
        canonical.set_root_canonical(node).expect("a node");
        (node.get_id(), serialize::write_message_to_words(&canonical))
    });
    (version, nodes.collect())
}
