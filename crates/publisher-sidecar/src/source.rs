//! Where the agent's bytes come from.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// Most bytes taken in one read, and so in one message of output.
const CHUNK: usize = 32 << 10;

/// A stream of bytes, in the pieces in which they came.
pub(crate) enum Source {
    /// A pipe of a child process.
    Pipe { reader: Box<dyn AsyncRead + Send + Unpin>, buffer: Box<[u8]> },
    /// A thread that reads.
    Thread(mpsc::Receiver<io::Result<Bytes>>),
}

impl Source {
    pub(crate) fn pipe(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self::Pipe { reader: Box::new(reader), buffer: vec![0; CHUNK].into() }
    }

    /// Our own standard input. It may be a file or a terminal, which cannot be waited for like a
    /// pipe; the thread that reads it instead may well be stuck in that when the process ends.
    pub(crate) fn stdin() -> io::Result<Self> {
        let (chunks, receiver) = mpsc::channel(1);
        std::thread::Builder::new().name("stdin".into()).spawn(move || {
            let mut stdin = io::stdin().lock();
            let mut buffer = vec![0; CHUNK];
            loop {
                let chunk = match stdin.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = chunk.is_err();
                if chunks.blocking_send(chunk).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Self::Thread(receiver))
    }

    /// The next bytes; none at the end. Nothing is lost if this is not awaited to its end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Pipe { reader, buffer } => {
                let count = reader.read(buffer).await?;
                Ok((count > 0).then(|| Bytes::copy_from_slice(&buffer[..count])))
            }
            Self::Thread(chunks) => chunks.recv().await.transpose(),
        }
    }
}
