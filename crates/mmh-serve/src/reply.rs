//! Refusals: each has a kind, from which its status follows by the one table of `mmh-core`, and a
//! sentence.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use mmh_core::ErrorKind;
use mmh_store::node::wire::KIND;

/// What a handler returns.
pub(crate) type Reply = Result<Response, Refusal>;

/// Why a request is not done.
#[derive(Debug)]
pub(crate) struct Refusal {
    kind: ErrorKind,
    status: StatusCode,
    text: String,
}

impl Refusal {
    /// A refusal with the status of its kind.
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(kind.http_status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::with_status(status, kind, text)
    }

    /// A refusal that HTTP has a status of its own for.
    pub(crate) fn with_status(
        status: StatusCode,
        kind: ErrorKind,
        text: impl Into<String>,
    ) -> Self {
        let text = text.into();
        Self { kind, status, text }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, text)
    }

    /// Its status and its sentence.
    pub(crate) fn into_parts(self) -> (StatusCode, String) {
        (self.status, self.text)
    }

    pub(crate) fn missing() -> Self {
        Self::new(ErrorKind::NotFound, "there is no such object")
    }
}

impl From<mmh_store::Error> for Refusal {
    fn from(error: mmh_store::Error) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

/// An engine's failure: its kind decides. That of a create is not passed through here.
impl From<object_store::Error> for Refusal {
    fn from(source: object_store::Error) -> Self {
        if matches!(source, object_store::Error::NotFound { .. }) {
            return Self::missing();
        }
        let place = "the repository".to_owned();
        mmh_store::Error::Engine { place, source }.into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.text + "\n"));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(CONTENT_TYPE, plain);
        headers.insert(KIND, HeaderValue::from_static(self.kind.as_str()));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_follow_the_table_of_kinds() {
        for (kind, status) in [
            (ErrorKind::NotFound, 404),
            (ErrorKind::Invalid, 400),
            (ErrorKind::Denied, 403),
            (ErrorKind::Conflict, 409),
            (ErrorKind::Unavailable, 503),
            (ErrorKind::Corrupt, 500),
        ] {
            let response = Refusal::new(kind, "x").into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()[KIND], kind.as_str());
        }
        let path = "mmh/x".to_owned();
        let source = "gone".into();
        let missing = Refusal::from(object_store::Error::NotFound { path, source });
        assert_eq!(missing.into_response().status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn who_is_not_known_is_asked_for_a_token() {
        let refusal =
            Refusal::with_status(StatusCode::UNAUTHORIZED, ErrorKind::Denied, "who are you?");
        let response = refusal.into_response();
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
    }
}
