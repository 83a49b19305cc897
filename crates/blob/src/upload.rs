//! Writing an object in parts, so that a block never lies whole in memory.

use bytes::Bytes;
use object_store::MultipartUpload;

use crate::{Blob, BlobError};

/// An object being written in parts. Dropped without [`Upload::finish`] it leaves no object; call [`Upload::abort`] to give
/// back the parts at once.
#[derive(Debug)]
pub struct Upload {
    blob: Blob,
    path: String,
    upload: Box<dyn MultipartUpload>,
}

impl Upload {
    /// The least size of a part but the last one, by the rules of S3.
    pub const MIN_PART: usize = 5 << 20;

    pub(crate) fn new(blob: Blob, path: &str, upload: Box<dyn MultipartUpload>) -> Self {
        Self { blob, path: path.to_owned(), upload }
    }

    /// Writes the next part: at least [`Upload::MIN_PART`] bytes unless it is the last; all but the last of equal size.
    pub async fn part(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.upload.put_part(bytes.into()).await.map_err(|e| self.blob.failed("upload", &self.path, e))
    }

    /// Makes the object visible. Durable when it returns.
    pub async fn finish(mut self) -> Result<(), BlobError> {
        self.upload.complete().await.map_err(|e| self.blob.failed("upload", &self.path, e))?;
        Ok(())
    }

    /// Throws the parts away.
    pub async fn abort(mut self) -> Result<(), BlobError> {
        self.upload.abort().await.map_err(|e| self.blob.failed("abort", &self.path, e))
    }
}
