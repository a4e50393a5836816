//! A connection whose client has to take what it asked for, at a least pace. Knows bytes and time, not HTTP.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// What a client has to take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Over so long,
    pub(crate) stretch: Duration,
    /// so many bytes.
    pub(crate) bytes: u64,
}

/// A connection that breaks when its client takes too little of what waits for it. Only time in which something waits
/// counts: an idle connection is not slow.
#[derive(Debug)]
pub(crate) struct Taking<S> {
    inner: S,
    pace: Pace,
    /// Ends the stretch. Made once, when something has to wait first.
    due: Option<Pin<Box<Sleep>>>,
    /// Since when something waits.
    since: Option<Instant>,
    /// How long something waited in this stretch before that.
    waited: Duration,
    /// What was taken in it.
    taken: u64,
}

impl<S> Taking<S> {
    pub(crate) fn new(inner: S, pace: Pace) -> Self {
        Self { inner, pace, due: None, since: None, waited: Duration::ZERO, taken: 0 }
    }

    /// Takes the result of a write over: one that has to wait is watched, others only counted.
    fn watched(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let Poll::Ready(written) = written else { return self.wait(cx) };
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        if !self.waited.is_zero() {
            self.taken += *written.as_ref().unwrap_or(&0) as u64;
        }
        Poll::Ready(written)
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let due = self.due.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.pace.stretch)));
            if self.since.is_none() {
                let now = Instant::now();
                self.since = Some(now);
                due.as_mut().reset(now + self.pace.stretch.saturating_sub(self.waited));
            }
            // Many short waits make a long one, for which no timer ever fires.
            if self.waited < self.pace.stretch {
                std::task::ready!(due.as_mut().poll(cx));
            }
            if self.taken < self.pace.bytes {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client takes too little",
                )));
            }
            (self.since, self.waited, self.taken) = (None, Duration::ZERO, 0);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taking<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taking<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watched(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair(bytes: u64) -> (Taking<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        (Taking::new(near, Pace { stretch: Duration::from_millis(200), bytes }), far)
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_breaks_the_connection() {
        let (mut near, _far) = pair(1);
        let error = near.write_all(&[0; 1_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_trickles_breaks_it_too_and_one_that_reads_does_not() {
        let (mut near, mut far) = pair(1 << 40);
        let trickle = tokio::spawn(async move { while far.read_u8().await.is_ok() {} });
        let trickled = near.write_all(&vec![0; 20_000_000]).await;
        assert_eq!(trickled.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(near);
        trickle.await.unwrap();
        let (mut near, mut far) = pair(1);
        let reading = tokio::spawn(async move { far.read_to_end(&mut Vec::new()).await.unwrap() });
        near.write_all(&[0; 100_000]).await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(reading.await.unwrap(), 100_000);
    }
}
