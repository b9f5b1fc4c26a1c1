//! Where things are in object storage. Pure.
//!
//! `{url}/runs/{run}/segments/{number:08}-{16 hex digits}.parquet` and `{url}/runs/{run}/log/{number:08}.json`.

use object_store::path::Path;
use runcast_protocol::RunId;

/// Characters of a segment's checksum that its name carries.
const HASH_IN_NAME: usize = 16;

/// The places below one root.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    root: Path,
}

impl Names {
    pub(crate) fn below(root: &Path) -> Self {
        Self { root: root.clone().join("runs") }
    }

    /// What holds a folder for each run.
    pub(crate) fn runs(&self) -> &Path {
        &self.root
    }

    /// All that belongs to a run.
    pub(crate) fn run(&self, run: &RunId) -> Path {
        self.root.clone().join(folder(run))
    }

    pub(crate) fn log(&self, run: &RunId) -> Path {
        self.run(run).join("log")
    }

    pub(crate) fn commit(&self, run: &RunId, number: u64) -> Path {
        self.log(run).join(format!("{number:08}.json"))
    }

    pub(crate) fn segments(&self, run: &RunId) -> Path {
        self.run(run).join("segments")
    }

    pub(crate) fn segment(&self, run: &RunId, name: &str) -> Path {
        self.segments(run).join(name)
    }
}

/// The name of the segment that commit `number` is to publish.
pub(crate) fn segment(number: u64, sha256: &str) -> String {
    format!("{number:08}-{}.parquet", sha256.get(..HASH_IN_NAME).unwrap_or(sha256))
}

/// The commit's number that an object's or a temporary file's name begins with.
pub(crate) fn number(name: &str) -> Option<u64> {
    let end = name.find(|c: char| !c.is_ascii_digit())?;
    let marked = matches!(name.as_bytes()[end], b'-' | b'.');
    name.get(..end).filter(|digits| marked && digits.len() >= 8)?.parse().ok()
}

/// A run's folder. `.` and `..` are run ids, but no names of folders; `=` is in no run id.
fn folder(run: &RunId) -> &str {
    match run.as_str() {
        "." => "=dot",
        ".." => "=dotdot",
        name => name,
    }
}

/// The run whose folder it is; none for what is not ours.
pub(crate) fn run(folder: &str) -> Option<RunId> {
    let name = match folder {
        "=dot" => ".",
        "=dotdot" => "..",
        "." | ".." => return None,
        name => name,
    };
    RunId::new(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_run_reaches_out_of_its_folder() {
        let names = Names::below(&Path::from("a/b"));
        for name in [".", "..", "...", "-", "a.b", "x"] {
            let id = RunId::new(name).unwrap();
            let path = names.commit(&id, 1);
            let parts: Vec<_> = path.parts().map(|part| part.as_ref().to_owned()).collect();
            assert_eq!(parts.len(), 6, "{path}");
            assert!(parts.iter().all(|part| part != "." && part != ".."), "{path}");
            assert_eq!(run(&parts[3]), Some(id));
        }
        assert_eq!(
            names.commit(&RunId::new("..").unwrap(), 1).as_ref(),
            "a/b/runs/=dotdot/log/00000001.json"
        );
        assert_eq!(run(".."), None);
        assert_eq!(run("a b"), None);
    }

    #[test]
    fn names_say_their_number() {
        assert_eq!(segment(7, &"ab".repeat(32)), "00000007-abababababababab.parquet");
        assert_eq!(number("00000007-abababababababab.parquet"), Some(7));
        assert_eq!(number("00000007.json#1"), Some(7));
        for other in ["", "readme", "7.json", "00000007", "x00000007.json", "00000007#1"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
