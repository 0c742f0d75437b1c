//! What happens to the node's credentials, for whoever counts it.

use std::sync::Arc;

use crate::certificates::RotationNews;
use crate::credentials::PluginNews;

/// Something happened to a credential.
#[derive(Clone, Debug)]
pub enum IdentityNews {
    /// To the client certificate that is rotated.
    Client(RotationNews),
    /// To what an exec plugin hands out.
    Plugin(PluginNews),
}

/// Hears of it. Called from requests and tasks: must not block.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<dyn Fn(IdentityNews) + Send + Sync>>);

impl Observer {
    /// One that calls a function.
    pub fn new(hear: impl Fn(IdentityNews) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    pub(crate) fn tell(&self, news: IdentityNews) {
        if let Some(hear) = &self.0 {
            hear(news);
        }
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}
