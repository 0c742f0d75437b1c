//! Growth of volumes: folders are as large as anybody wants, so only the request is looked at.

use tonic::Status;

use crate::volumes::Volumes;

impl Volumes {
    /// Whether a volume that is staged or published at a path can grow.
    pub(crate) fn check_expandable(&self, volume: &str, path: &str) -> Result<(), Status> {
        if volume.is_empty() || path.is_empty() {
            return Err(Status::invalid_argument("the volume or its path is missing"));
        }
        match self.is_at(volume, path) {
            true => Ok(()),
            false => Err(Status::not_found(format!("{volume} is not at {path}"))),
        }
    }
}
