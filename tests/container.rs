//! `contrib/Containerfile` and what else says how the recorder runs in a container.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of capabilities behind each `before`.
fn capabilities(text: &str, before: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
    text.split(before).skip(1).map(name).collect()
}

/// The folder that `make dist` fills is all that the build sees.
#[test]
fn what_it_copies_is_what_make_dist_makes() {
    let (recipe, makefile) = (read("contrib/Containerfile"), read("Makefile"));
    assert!(recipe.contains("make dist && podman build -f contrib/Containerfile -t tapedeck dist\n"));
    let copied: Vec<&str> = recipe.lines().filter_map(|line| line.strip_prefix("COPY ")).collect();
    assert!(!copied.is_empty());
    for line in copied {
        let source = line.split_whitespace().find(|word| !word.starts_with("--")).expect("a source");
        let made = |line: &str| line.contains("install ") && line.ends_with(&format!(" dist/{source}"));
        assert!(makefile.lines().any(|line| made(line.trim_end_matches(['\\', ';', ' ']))), "dist/{source}");
    }
}

#[test]
fn it_gets_the_capabilities_that_the_readme_names() {
    let (recipe, readme) = (read("contrib/Containerfile"), read("README.md"));
    let given = capabilities(&recipe, "--cap-add=");
    let paragraph = readme.split("\n\n").find(|paragraph| paragraph.contains("contrib/Containerfile"));
    let paragraph = paragraph.expect("the README mentions it");
    let sentence = paragraph.split_once("`contrib/Containerfile`").expect("it is there").1;
    let named = capabilities(sentence.split(". ").next().expect("a sentence"), "CAP_");
    assert!(!given.is_empty() && given == named, "{given:?}, the README names {named:?}");
}
