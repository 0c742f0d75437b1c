//! What a request says about who sends it, beside the connection's certificate: a password, a
//! token, a token from a file, or whatever a plugin hands out.

mod exec;
mod token;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, StatusCode};
use tower::{BoxError, Service};

pub(crate) use exec::ExecPlugin;
pub use exec::{ExecError, ExecPluginEvent};
pub(crate) use token::TokenFile;
pub use token::TokenFileError;

/// Where the `Authorization` of a request comes from.
pub(crate) enum Credentials {
    /// There is none: a certificate or nothing.
    None,
    /// Always the same.
    Fixed(HeaderValue),
    /// A file, read again every minute.
    File(TokenFile),
    /// A program.
    Exec(ExecPlugin),
}

/// Which of the credentials that changed over time a request was sent with.
type Generation = u64;

impl Credentials {
    async fn header(&self) -> Result<(Option<HeaderValue>, Generation), BoxError> {
        match self {
            Self::None => Ok((None, 0)),
            Self::Fixed(header) => Ok((Some(header.clone()), 0)),
            Self::File(file) => {
                let (header, generation) = file.header().await;
                Ok((Some(header), generation))
            }
            Self::Exec(plugin) => Ok(plugin.header().await?),
        }
    }

    /// The server did not know the sender: the next request has to look for newer credentials.
    async fn refused(&self, generation: Generation) {
        match self {
            Self::None | Self::Fixed(_) => {}
            Self::File(file) => file.refused(generation).await,
            Self::Exec(plugin) => plugin.refused(generation).await,
        }
    }
}

/// A bearer token as a header that is never printed.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let mut header = HeaderValue::from_str(&format!("Bearer {}", token.trim()))?;
    header.set_sensitive(true);
    Ok(header)
}

/// User and password as a header that is never printed.
pub(crate) fn basic(user: &str, password: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut header = HeaderValue::from_str(&format!("Basic {pair}"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// The layer that puts them into requests.
#[derive(Clone)]
pub(crate) struct Authenticate<S> {
    pub(crate) inner: S,
    pub(crate) credentials: Arc<Credentials>,
}

impl<S, B, R> Service<Request<B>> for Authenticate<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The clone stays behind; the one that was asked whether it is ready is used.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let credentials = self.credentials.clone();
        Box::pin(async move {
            let (header, generation) = credentials.header().await?;
            if let Some(header) = header {
                request.headers_mut().insert(AUTHORIZATION, header);
            }
            let answer = inner.call(request).await?;
            if answer.status() == StatusCode::UNAUTHORIZED {
                credentials.refused(generation).await;
            }
            Ok(answer)
        })
    }
}
