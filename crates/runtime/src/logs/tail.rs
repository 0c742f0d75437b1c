//! Where the last lines of a file begin.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How much is read at once, from the end backwards, bytes.
const BLOCK_BYTES: u64 = 64 * 1024;

/// The offset of the last `lines` complete lines of a file; an unfinished last line comes on top.
/// Memory stays at one block however long the file is. Blocks on the disk.
pub(crate) fn start(file: &File, lines: u64) -> io::Result<u64> {
    let mut right = file.metadata()?.len();
    let mut block = vec![0; usize::try_from(BLOCK_BYTES.min(right)).unwrap_or(0)];
    // The start is behind the newline that ends the line before the first one wanted.
    let mut newlines_to_pass = lines;
    while right > 0 {
        let left = right.saturating_sub(BLOCK_BYTES);
        let block = &mut block[..usize::try_from(right - left).unwrap_or(0)];
        match file.read_exact_at(block, left) {
            Ok(()) => {}
            // It was cut while we read; what is left is read from its beginning.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
            Err(error) => return Err(error),
        }
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if newlines_to_pass == 0 {
                return Ok(left + at as u64 + 1);
            }
            newlines_to_pass -= 1;
        }
        right = left;
    }
    Ok(0)
}
