//! Hashes of files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::ContentHash;

/// The hash of a file's content, of the kind that `like` is.
pub(super) fn of_file(path: &Path, like: &ContentHash) -> io::Result<String> {
    let mut file = File::open(path)?;
    if like.is_sha256() {
        return digest(Sha256::new(), &mut file);
    }
    // Git hashes a header before the content.
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", file.metadata()?.len()));
    digest(hasher, &mut file)
}

fn digest<D: Digest>(mut hasher: D, reader: &mut impl Read) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The first 16 hexadecimal digits of a text's SHA-256, for names that tell texts apart.
pub(super) fn short(text: &[u8]) -> String {
    let mut hash = hex(&Sha256::digest(text));
    hash.truncate(16);
    hash
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values by `sha256sum` and `git hash-object`.
    #[test]
    fn files_hash_as_git_and_sha256sum_do() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("hello");
        std::fs::write(&file, "hello\n").unwrap();
        for expected in [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ] {
            let like = ContentHash::try_from(expected.to_owned()).unwrap();
            assert_eq!(of_file(&file, &like).unwrap(), expected);
        }
    }
}
