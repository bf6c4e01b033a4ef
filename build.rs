//! Compiles what is not Rust: the Cap'n Proto schema, the BPF objects, and the list of reports.
//!
//! Without the `capnp` program the schema comes from a committed compiler request, so that the
//! analyzer needs nothing but cargo and a C compiler; `tests/fresh.rs` proves the request fresh.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    compile_schema(&out);
    if env::var_os("CARGO_FEATURE_ANALYZE").is_some() {
        list_reports(&out);
    }
    if env::var_os("CARGO_FEATURE_CAPTURE").is_some()
        && env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux")
    {
        compile_bpf(&out);
    }
}

fn compile_schema(out: &Path) {
    println!("cargo:rerun-if-changed=schema/trace.capnp");
    println!("cargo:rerun-if-changed=schema/trace.request");
    let request =
        fs::File::open("schema/trace.request").expect("schema/trace.request is part of the sources");
    capnpc::codegen::CodeGenerationCommand::new()
        .output_directory(out)
        .default_parent_module(vec!["schema".into()])
        .run(request)
        .expect("schema/trace.request is a compiler request: rewrite it with `make schema`");
}

/// One module for each file of `analyze/report`, and the table of their reports: a new report is one file.
fn list_reports(out: &Path) {
    println!("cargo:rerun-if-changed=analyze/report");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let mut names: Vec<String> = fs::read_dir("analyze/report")
        .expect("analyze/report is part of the sources")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| name != "mod")
        .collect();
    names.sort();
    let mut text = String::new();
    for name in &names {
        let path = root.join("analyze/report").join(format!("{name}.rs"));
        writeln!(text, "#[path = \"{}\"]\npub mod {name};", path.display()).expect("a String grows");
    }
    let all: Vec<String> = names.iter().map(|name| format!("&{name}::REPORT")).collect();
    writeln!(text, "/// Every report, by name.\npub static REPORTS: &[&Report] = &[{}];", all.join(", "))
        .expect("a String grows");
    fs::write(out.join("reports.rs"), text).expect("OUT_DIR is writable");
}

fn compile_bpf(out: &Path) {
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-env-changed=CLANG");
    let clang = find_clang();
    let headers = env::var("DEP_BPF_INCLUDE").expect("libbpf-sys says where libbpf's headers are");
    let arch = match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("x86_64") => "x86",
        Ok("aarch64") => "arm64",
        other => {
            panic!("the probes know x86_64 and aarch64, not {other:?}: add the architecture to build.rs")
        }
    };
    let mut families: Vec<PathBuf> = fs::read_dir("bpf")
        .expect("bpf is part of the sources")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_str().is_some_and(|path| path.ends_with(".bpf.c")))
        .collect();
    families.sort();
    let mut text = String::from(
        "/// Every probe family: its name and its object.\npub static FAMILIES: &[(&str, &[u8])] = &[\n",
    );
    for source in families {
        let name =
            source.file_name().and_then(|name| name.to_str()).expect("a plain name").replace(".bpf.c", "");
        let object = out.join(format!("{name}.bpf.o"));
        run_clang(&clang, arch, &headers, &source, &object);
        if name == "named" {
            continue; // the interpreter of probes that users name: no family, since it has no tables of its own
        }
        let group = name.replace('_', "-");
        writeln!(text, "    (\"{group}\", include_bytes!(\"{}\")),", object.display())
            .expect("a String grows");
    }
    text.push_str("];\n");
    fs::write(out.join("families.rs"), text).expect("OUT_DIR is writable");
}

fn run_clang(clang: &str, arch: &str, headers: &str, source: &Path, object: &Path) {
    let output = Command::new(clang)
        .args(["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror", "-Wno-unused-function"])
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .args(["-I", headers, "-I", "bpf", "-c"])
        .arg(source)
        .arg("-o")
        .arg(object)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {clang}: {error}"));
    assert!(
        output.status.success(),
        "{clang} cannot compile {} (btf_decl_tag needs clang 14 or newer):\n{}",
        source.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `$CLANG`, else plain `clang`, else the newest versioned one that a distribution may ship.
fn find_clang() -> String {
    if let Ok(clang) = env::var("CLANG") {
        return clang;
    }
    let works = |name: &String| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    std::iter::once("clang".to_owned())
        .chain((14..=24).rev().map(|version| format!("clang-{version}")))
        .find(works)
        .unwrap_or_else(|| {
            panic!(
                "no clang found: it compiles the BPF programs. Install clang 14 or newer (contrib/setup.sh does), \
                 set CLANG=/path/to/clang, or build the analyzer alone: --no-default-features --features analyze"
            )
        })
}
