//! The committed corpus on a stable compiler, and that it is what the vectors make it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use damselfly_fuzz::{broker_model, client_broker, decode, roundtrip, seeds, splits, topic_oracle};

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// With `DAMSELFLY_WRITE_SEEDS` in the environment the seeds are written, otherwise they have to be there already.
#[test]
fn seeds_are_those_of_the_vectors() {
    for (target, seeds) in seeds::all() {
        let directory = corpus(target);
        let mut kept = BTreeSet::new();
        for (name, content) in seeds {
            let path = directory.join(format!("seed-{name}"));
            if std::env::var_os("DAMSELFLY_WRITE_SEEDS").is_some() {
                fs::create_dir_all(&directory).unwrap();
                fs::write(&path, &content).unwrap();
            }
            let found = fs::read(&path).unwrap_or_default();
            assert_eq!(found, content, "{}: write the seeds again, see fuzz/README.md", path.display());
            kept.insert(path);
        }
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let is_seed = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"));
            assert!(!is_seed || kept.contains(&path), "{} is no seed any more", path.display());
        }
    }
}

/// Every file of the corpus keeps the laws: the seeds, and what the fuzzer has found over time.
#[test]
fn the_corpus_keeps_the_laws() {
    let targets: [(&str, fn(&[u8])); 6] = [
        ("broker_model", broker_model::run),
        ("client_broker", client_broker::run),
        ("decode", decode::run),
        ("roundtrip", roundtrip::run),
        ("splits", splits::run),
        ("topic_oracle", topic_oracle::run),
    ];
    for (target, run) in targets {
        for entry in fs::read_dir(corpus(target)).unwrap() {
            run(&fs::read(entry.unwrap().path()).unwrap());
        }
    }
}
