//! Probes that have a name: `-e dns` instead of the functions that look names up.
//!
//! A preset is nothing but specs, written as a user would write them. What a machine does not have of it (an older
//! library, a function that came later) is left out; when it has none of it, the first error says why.

use super::place::{Names, Place};
use super::spec::Spec;
use super::value::nearest;
use anyhow::{Context as _, Result, bail};

/// Specs under one name.
pub struct Preset {
    /// What `-e` calls it.
    pub name: &'static str,
    /// What it records.
    pub doc: &'static str,
    /// What it stands for.
    pub specs: &'static [&'static str],
    /// Too much, and of too many, for the whole system: `--pid`, COMMAND or another filter must say of whom.
    pub needs_filter: bool,
}

/// All of them.
pub const PRESETS: [Preset; 6] = [
    Preset {
        name: "dns",
        doc: "host names that programs look up through the C library (gethostlatency)",
        specs: &["ur:c:getaddrinfo(host=arg1:str) {ret=i32}", "ur:c:gethostbyname*(host=arg1:str) {ret=ptr}"],
        needs_filter: false,
    },
    Preset {
        name: "bash",
        doc: "lines typed into bash (bashreadline)",
        specs: &["ur:bash:readline {ret=str[256]}"],
        needs_filter: false,
    },
    Preset {
        name: "ssl",
        doc: "reads and writes of OpenSSL, GnuTLS and NSS, their lengths and never their content (sslsniff)",
        specs: &[
            "ur:ssl:SSL_read(ssl=arg1, size=arg3:i32) {ret=i32}",
            "ur:ssl:SSL_write(ssl=arg1, size=arg3:i32) {ret=i32}",
            "ur:ssl:SSL_read_ex(ssl=arg1, size=arg3, done=*arg4:u64) {ret=i32}",
            "ur:ssl:SSL_write_ex(ssl=arg1, size=arg3, done=*arg4:u64) {ret=i32}",
            "ur:gnutls:gnutls_record_recv(ssl=arg1, size=arg3) {ret=i64}",
            "ur:gnutls:gnutls_record_send(ssl=arg1, size=arg3) {ret=i64}",
            "ur:nspr4:PR_Read(ssl=arg1, size=arg3:i32) {ret=i32}",
            "ur:nspr4:PR_Write(ssl=arg1, size=arg3:i32) {ret=i32}",
            "ur:nspr4:PR_Recv(ssl=arg1, size=arg3:i32) {ret=i32}",
            "ur:nspr4:PR_Send(ssl=arg1, size=arg3:i32) {ret=i32}",
        ],
        needs_filter: false,
    },
    Preset {
        name: "mysql",
        doc: "queries of MariaDB and MySQL, the first 256 bytes of each, and how long it took (dbslower)",
        specs: &[
            "query=ur:mariadbd:_Z16dispatch_command19enum_server_command*(command=arg1:u32, length=arg4:u32, \
             text=arg3:bytes[length,256]) /command == 3/ {ret=i32}",
            "query=ur:mysqld:_Z16dispatch_commandP3THDPK8COM_DATA*(command=arg3:u32, length=arg2+8:u32, \
             text=arg2+0:bytes[length,256]) /command == 3/ {ret=i32}",
        ],
        needs_filter: false,
    },
    Preset {
        name: "malloc",
        doc: "each allocation and release of memory, with --pid or COMMAND",
        specs: &[
            "ur:c:malloc(size=arg1) {ret=ptr}",
            "ur:c:calloc(count=arg1, size=arg2) {ret=ptr}",
            "ur:c:realloc(old=arg1, size=arg2) {ret=ptr}",
            "ur:c:aligned_alloc(size=arg2) {ret=ptr}",
            "ur:c:posix_memalign(address=*arg1:u64, size=arg3) {ret=i32}",
            "u:c:free(address=arg1) /address != 0/",
        ],
        needs_filter: true,
    },
    Preset {
        name: "memleak",
        doc: "the same with user stacks (memleak)",
        specs: &[
            "ur:c:malloc(size=arg1) {ret=ptr, ustack}",
            "ur:c:calloc(count=arg1, size=arg2) {ret=ptr, ustack}",
            "ur:c:realloc(old=arg1, size=arg2) {ret=ptr, ustack}",
            "ur:c:aligned_alloc(size=arg2) {ret=ptr, ustack}",
            "ur:c:posix_memalign(address=*arg1:u64, size=arg3) {ret=i32, ustack}",
            "u:c:free(address=arg1) /address != 0/",
        ],
        needs_filter: true,
    },
];

/// The probes of one word of `-e`: of a preset those that this machine has; `filtered`: the recording is of some tasks.
///
/// # Errors
/// For a word that is neither a preset nor a spec, and for places that do not exist here.
pub fn resolve(word: &str, names: &Names, filtered: bool) -> Result<Vec<(Spec, Place)>> {
    if word.contains(':') {
        return of_spec(word, names);
    }
    let Some(preset) = PRESETS.iter().find(|preset| preset.name == word) else {
        bail!(
            "there is no preset '{word}'{}; a probe is written as in t:sched:sched_switch; the presets are\n{}",
            nearest(word, PRESETS.iter().map(|preset| preset.name)),
            list()
        );
    };
    if preset.needs_filter && !filtered {
        bail!(
            "preset '{word}' is for some processes: give --pid, --tid, --comm, --uid, --cgroup or a COMMAND"
        );
    }
    let mut found = Vec::new();
    let mut first = None;
    for spec in preset.specs {
        match of_spec(spec, names) {
            Ok(probes) => found.extend(probes),
            Err(reason) => first = first.or(Some(reason)),
        }
    }
    match first {
        Some(reason) if found.is_empty() => Err(reason).with_context(|| format!("preset '{word}'")),
        _ => Ok(found),
    }
}

/// One probe, or, of a pattern of events, one for each.
fn of_spec(text: &str, names: &Names) -> Result<Vec<(Spec, Place)>> {
    let specs = names.each(Spec::parse(text)?)?;
    let several = specs.len() > 1;
    let resolve = |spec: Spec| {
        let place = names.resolve(&spec);
        let place = if several { place.with_context(|| spec.target.0.clone())? } else { place? };
        Ok((spec, place))
    };
    specs.into_iter().map(resolve).collect()
}

/// A line for each.
#[must_use]
pub fn list() -> String {
    let lines = PRESETS.iter().map(|preset| format!("  {:<7} {}", preset.name, preset.doc));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_well_formed() {
        for text in PRESETS.iter().flat_map(|preset| preset.specs) {
            Spec::parse(text).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
    }

    #[test]
    fn a_word_is_a_preset_or_is_explained() {
        let names = Names::new(None);
        let functions = resolve("dns", &names, false).expect("every C library looks names up");
        assert_eq!(functions[0].1.functions, ["getaddrinfo"]);
        let error = |word, filtered| format!("{:#}", resolve(word, &names, filtered).expect_err(word));
        assert!(error("dsn", true).contains("dns     host names"), "{}", error("dsn", true));
        assert!(
            error("dsn", true).starts_with("there is no preset 'dsn', the nearest name is dns;"),
            "{}",
            error("dsn", true)
        );
        assert!(error("malloc", false).contains("--pid"), "{}", error("malloc", false));
        assert_eq!(resolve("malloc", &names, true).expect("every C library allocates").len(), 6);
    }
}
