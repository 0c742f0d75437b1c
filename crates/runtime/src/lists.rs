//! The lists a runtime gives: each as a whole, or in chunks, which may be longer than a message can be.
//!
//! Chunks are the feature gate `CRIListStreaming`. A runtime whose service does not know one of these calls is asked for
//! whole lists from then on.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::{Response, Status, Streaming};
use tracing::info;

use crate::client::Runtime;
use crate::error::RuntimeError;

/// Whether lists are asked for in chunks, by service; the two may be two programs.
#[derive(Debug)]
pub(crate) struct Chunks {
    pub(crate) runtime: AtomicBool,
    pub(crate) images: AtomicBool,
}

impl Chunks {
    pub(crate) fn new(are_wanted: bool) -> Self {
        Self { runtime: AtomicBool::new(are_wanted), images: AtomicBool::new(are_wanted) }
    }
}

/// A list, as it is asked for. The library's futures take kilobytes: they come boxed, and the one that is not needed goes
/// at once.
pub(crate) struct List<'a, C, W> {
    /// The call for chunks, and the one for the whole.
    pub(crate) calls: (&'static str, &'static str),
    /// What it is a list of.
    pub(crate) object: &'a str,
    /// Whether its service is asked for chunks.
    pub(crate) has_chunks: &'a AtomicBool,
    /// The chunks.
    pub(crate) chunks: C,
    /// The whole.
    pub(crate) whole: W,
}

impl Runtime {
    /// Asks for a list. The deadline is that of an ordinary call, for all chunks together.
    pub(crate) async fn list<'a, Chunk, Whole, Item, C, W>(
        &'a self,
        list: List<'a, C, W>,
        of_chunk: fn(Chunk) -> Vec<Item>,
        of_whole: fn(Whole) -> Vec<Item>,
    ) -> Result<Vec<Item>, RuntimeError>
    where
        Item: Send + 'a,
        Chunk: Send + 'a,
        Whole: Send + 'a,
        C: Future<Output = Result<Response<Streaming<Chunk>>, Status>> + Send + 'a,
        W: Future<Output = Result<Response<Whole>, Status>> + Send + 'a,
    {
        let List { calls, object, has_chunks, chunks, whole } = list;
        if has_chunks.load(Ordering::Relaxed) {
            match self.call(calls.0, object, collected(chunks, of_chunk)).await {
                Err(error) if error.is_unimplemented() => {
                    info!(
                        call = calls.0,
                        "Runtime does not support CRI list streaming; falling back to unary lists"
                    );
                    has_chunks.store(false, Ordering::Relaxed);
                }
                done => return done,
            }
        } else {
            drop(chunks);
        }
        self.call(calls.1, object, whole).await.map(of_whole)
    }
}

async fn collected<Chunk, Item>(
    chunks: impl Future<Output = Result<Response<Streaming<Chunk>>, Status>>,
    of_chunk: fn(Chunk) -> Vec<Item>,
) -> Result<Response<Vec<Item>>, Status> {
    let mut chunks = chunks.await?.into_inner();
    let mut all = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        all.extend(of_chunk(chunk));
    }
    Ok(Response::new(all))
}
