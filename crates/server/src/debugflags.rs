//! `PUT /debug/flags/v`: the log's verbosity, changed while the node runs.

use http::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use crate::answer::{self, Answer};
use crate::number;
use crate::ports::ProcessPorts;

/// More than any number takes.
const MAX_BODY_BYTES: usize = 1024;

/// Sets the verbosity to the number in the body. Texts and status codes are upstream's, down to the
/// status for a wrong method.
pub(crate) async fn answer<P: ProcessPorts>(ports: &P, request: Request<Incoming>) -> Answer {
    if *request.method() != Method::PUT {
        return plain(StatusCode::NOT_ACCEPTABLE, "unsupported http method");
    }
    let body = match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let reason = match error.is::<LengthLimitError>() {
                true => "more than any number takes".to_owned(),
                false => error.to_string(),
            };
            return plain(StatusCode::BAD_REQUEST, &format!("error reading request body: {reason}"));
        }
    };
    let text = String::from_utf8_lossy(&body);
    match verbosity(&text) {
        Ok(level) => {
            ports.set_verbosity(level);
            plain(StatusCode::OK, &format!("successfully set klog.logging.verbosity to {text}"))
        }
        Err(error) => plain(StatusCode::BAD_REQUEST, &error),
    }
}

/// A level fits into 32 bits with a sign, and is told of in other words if it is too large for the sign alone.
fn verbosity(text: &str) -> Result<u32, String> {
    let level: u32 = number::unsigned(text)?;
    if i32::try_from(level).is_err() {
        return Err(format!(
            "failed set klog.logging.verbosity {text}: strconv.ParseInt: parsing {text:?}: value out of range"
        ));
    }
    Ok(level)
}

fn plain(status: StatusCode, line: &str) -> Answer {
    let mut answer = answer::text(status, format!("{line}\n"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_go_reads_them() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("10", Ok(10)),
            ("007", Ok(7)),
            ("2147483647", Ok(2_147_483_647)),
            ("", Err("strconv.ParseUint: parsing \"\": invalid syntax")),
            ("+1", Err("strconv.ParseUint: parsing \"+1\": invalid syntax")),
            ("-1", Err("strconv.ParseUint: parsing \"-1\": invalid syntax")),
            ("4\n", Err("strconv.ParseUint: parsing \"4\\n\": invalid syntax")),
            ("4294967296", Err("strconv.ParseUint: parsing \"4294967296\": value out of range")),
            (
                "2147483648",
                Err(
                    "failed set klog.logging.verbosity 2147483648: strconv.ParseInt: parsing \"2147483648\": value out of range",
                ),
            ),
        ] {
            assert_eq!(verbosity(text), expected.map_err(str::to_owned), "{text}");
        }
    }
}
