//! JSON lines, read as they are asked for: an upload of any length needs the memory of one line.

use std::{fs::File, os::fd::AsFd};

use bytes::Bytes;
use futures::Stream;
use sinew::wire::Problem;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use crate::error::Error;

/// Lines that were not read yet.
pub(super) struct Lines {
    reader: Box<dyn AsyncBufRead + Send + Unpin>,
    read: u64,
}

/// Opens a file, or standard input where its name is `-`.
pub(super) fn open(name: &str) -> Result<Lines, Error> {
    let reader = match name {
        "-" => file(std::io::stdin().as_fd().try_clone_to_owned().map(File::from), "/dev/stdin")?,
        path => file(File::open(path), path)?,
    };
    Ok(Lines { reader, read: 0 })
}

fn file(opened: std::io::Result<File>, name: &str) -> Result<Box<dyn AsyncBufRead + Send + Unpin>, Error> {
    let file = opened.map_err(|error| Error::unreadable(name.as_ref(), &error))?;
    Ok(Box::new(BufReader::new(tokio::fs::File::from_std(file))))
}

impl Lines {
    /// Returns the items; a line that is no JSON ends them with an error that says where it stands.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, Problem>> + Send + 'static {
        futures::stream::unfold(Some(self), |lines| async move {
            let mut lines = lines?;
            match lines.next().await {
                Some(Ok(item)) => Some((Ok(item), Some(lines))),
                Some(Err(problem)) => Some((Err(problem), None)),
                None => None,
            }
        })
    }

    /// Returns the next line that has something in it.
    async fn next(&mut self) -> Option<Result<Bytes, Problem>> {
        loop {
            let mut line = Vec::new();
            self.read += 1;
            match self.reader.read_until(b'\n', &mut line).await {
                Ok(0) => return None,
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => return Some(self.check(line)),
                Err(error) => return Some(Err(unreadable(format!("line {}: {error}", self.read)))),
            }
        }
    }

    fn check(&self, line: Vec<u8>) -> Result<Bytes, Problem> {
        match serde_json::from_slice::<serde::de::IgnoredAny>(&line) {
            Ok(_) => Ok(line.into()),
            Err(error) => Err(unreadable(format!("line {} is not JSON: {error}", self.read))),
        }
    }
}

fn unreadable(detail: String) -> Problem {
    Problem::new(400, "unreadable-upload", "the items cannot be read").detail(detail)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn lines_are_items_and_a_mistake_is_the_last() {
        let text: &[u8] = b"{\"a\":1}\n\n [2]\nthree\n4\n";
        let lines = Lines { reader: Box::new(text), read: 0 };
        let items: Vec<_> = lines.into_stream().collect().await;
        assert_eq!(items.len(), 3);
        assert_eq!(items[1].as_ref().unwrap().trim_ascii(), b"[2]");
        let detail = items[2].as_ref().unwrap_err().detail.clone().unwrap();
        assert!(detail.starts_with("line 4 is not JSON"), "{detail}");
    }
}
