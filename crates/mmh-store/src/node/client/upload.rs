//! Sending a long object to a node: one request, whose body is the parts in the order in which
//! they were handed over. The node publishes it when it has all of it.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt};
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use reqwest::{Body, Method};
use tokio::sync::{mpsc, oneshot};

use super::{Node, generic, put_result};

/// What the body is made of.
enum Part {
    /// Bytes, and whom to tell that they are on their way.
    Bytes(Bytes, oneshot::Sender<()>),
    /// Nothing more comes. Without it the body breaks off and the node forgets it.
    End,
}

/// Why an upload failed: the engine's errors cannot be copied, but several parts may ask.
type Failure = std::sync::Arc<std::sync::Mutex<Option<object_store::Error>>>;

/// An upload under way.
pub(super) struct Upload {
    parts: Option<mpsc::UnboundedSender<Part>>,
    answer: Shared<BoxFuture<'static, std::result::Result<(), Failure>>>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").finish_non_exhaustive()
    }
}

/// Begins to send an object.
pub(super) fn begin(node: Node, name: String) -> Upload {
    let (parts, receiver) = mpsc::unbounded_channel();
    let body = futures::stream::unfold(Some(receiver), |receiver| async {
        let mut receiver: mpsc::UnboundedReceiver<Part> = receiver?;
        match receiver.recv().await {
            Some(Part::Bytes(bytes, taken)) => {
                // Whoever sent it may have given up.
                let _nobody_waits = taken.send(()).is_err();
                Some((Ok(bytes), Some(receiver)))
            }
            Some(Part::End) => None,
            None => Some((Err(std::io::Error::other("the upload was given up")), None)),
        }
    });
    let sent = async move {
        let put = node.object(Method::PUT, &name);
        let put = put.body(Body::wrap_stream(body.boxed()));
        let answered = node.ask_once(&name, put).await;
        answered
            .map(drop)
            .map_err(|error| Failure::new(std::sync::Mutex::new(Some(error))))
    };
    // On its own, so that it goes on while nobody asks for its answer.
    let sent = tokio::spawn(sent).map(|joined| match joined {
        Ok(answer) => answer,
        Err(stopped) => Err(Failure::new(std::sync::Mutex::new(Some(stopped.into())))),
    });
    Upload {
        parts: Some(parts),
        answer: sent.boxed().shared(),
    }
}

/// The first who asks is told why; the others that it failed.
fn told(failure: &Failure) -> object_store::Error {
    let mut error = failure
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    error
        .take()
        .unwrap_or_else(|| generic("the upload failed".to_owned()))
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (sender, taken) = oneshot::channel();
        let part = Part::Bytes(data.into(), sender);
        let sent = self
            .parts
            .as_ref()
            .is_some_and(|parts| parts.send(part).is_ok());
        let answer = self.answer.clone();
        Box::pin(async move {
            if sent && taken.await.is_ok() {
                return Ok(());
            }
            // The node answered before it had everything.
            match answer.await {
                Ok(()) => Err(generic("the node ended the upload early".to_owned())),
                Err(failure) => Err(told(&failure)),
            }
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if let Some(parts) = self.parts.take() {
            // If nobody receives it the answer says why.
            let _answered_already = parts.send(Part::End).is_err();
        }
        match self.answer.clone().await {
            Ok(()) => Ok(put_result()),
            Err(failure) => Err(told(&failure)),
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts = None;
        // It breaks off, which is what was wanted.
        let _failed = self.answer.clone().await.is_err();
        Ok(())
    }
}
