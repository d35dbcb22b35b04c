//! Documents that name files and functions name real ones.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Directories without documents of ours, which may be large.
const SKIPPED: [&str; 3] = ["target", "corpus", "node_modules"];

struct Link {
    /// Where it stands, for the report.
    document: PathBuf,
    text: String,
    target: PathBuf,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every document of the repository.
fn documents() -> io::Result<Vec<PathBuf>> {
    let (mut found, mut directories) = (Vec::new(), vec![workspace()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                if !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                    directories.push(entry.path());
                }
            } else if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Links to files of the repository: `[text](target)` with a relative target.
fn links() -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    for document in documents()? {
        let text = fs::read_to_string(&document)?;
        for (before, after) in
            text.match_indices("](").filter_map(|(at, _)| Some((text.get(..at)?, text.get(at + 2..)?)))
        {
            let (Some((_, name)), Some((target, _))) = (before.rsplit_once('['), after.split_once(')')) else {
                continue;
            };
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let target = target.split_once('#').map_or(target, |(file, _)| file);
            let directory = document.parent().unwrap_or(Path::new(""));
            links.push(Link { document: document.clone(), text: name.to_owned(), target: directory.join(target) });
        }
    }
    Ok(links)
}

#[test]
fn linked_files_exist() -> io::Result<()> {
    let links = links()?;
    let documents: BTreeSet<&Path> = links.iter().map(|link| link.document.as_path()).collect();
    assert!(links.len() > 60 && documents.len() > 8, "the links are found");
    for link in links {
        assert!(link.target.exists(), "{}: [{}] leads nowhere", link.document.display(), link.text);
    }
    Ok(())
}

#[test]
fn functions_and_types_that_are_named_with_a_file_stand_in_it() -> io::Result<()> {
    for link in links()? {
        let is_source = link.target.extension().is_some_and(|extension| extension == "rs");
        let name = link.text.trim_matches('`').rsplit("::").next().unwrap_or_default().to_owned();
        let is_module = [name.clone(), format!("{name}.rs"), format!("{name}/mod.rs")]
            .iter()
            .any(|file| link.target.ends_with(file));
        if !is_source || link.text.contains('/') || is_module {
            continue;
        }
        let source = fs::read_to_string(&link.target)?;
        let stands = ["fn ", "struct ", "enum ", "trait "].iter().any(|kind| {
            source.match_indices(&format!("{kind}{name}")).any(|(at, found)| {
                let next = source.get(at + found.len()..).and_then(|rest| rest.chars().next());
                next.is_none_or(|c| !c.is_alphanumeric() && c != '_')
            })
        });
        assert!(stands, "{}: {} is not in {}", link.document.display(), link.text, link.target.display());
    }
    Ok(())
}
