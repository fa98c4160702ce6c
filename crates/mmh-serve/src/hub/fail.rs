//! Failures as clients of hubs read them: a status, a code in `X-Error-Code`, and a sentence as JSON.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use mmh_core::ErrorKind;
use serde_json::json;

use crate::reply::Refusal;

pub(crate) const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");
pub(crate) const REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");

/// Why a request of a hub's client is not done.
#[derive(Debug)]
pub(crate) struct Fail {
    pub(crate) status: StatusCode,
    pub(crate) code: Option<&'static str>,
    pub(crate) text: String,
    /// In which commit something was looked for: clients remember that it is not there.
    pub(crate) commit: Option<String>,
    /// What else the body says.
    pub(crate) more: Option<(&'static str, String)>,
}

/// The result of most functions here.
pub(crate) type Outcome<T> = Result<T, Fail>;

impl Fail {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            code: None,
            text: text.into(),
            commit: None,
            more: None,
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    fn missing(code: &'static str, text: String) -> Self {
        Self {
            code: Some(code),
            ..Self::new(StatusCode::NOT_FOUND, text)
        }
    }

    /// Clients say this sentence too, and repeat any other.
    pub(crate) fn no_repo() -> Self {
        Self::missing("RepoNotFound", "repository not found".to_owned())
    }

    /// Files of a name that takes a token of its own.
    pub(crate) fn gated(id: &str, known: bool) -> Self {
        let (status, text) = match known {
            true => (StatusCode::FORBIDDEN, "this token is for other names"),
            false => (
                StatusCode::UNAUTHORIZED,
                "its files take a token (HF_TOKEN)",
            ),
        };
        Self {
            code: Some("GatedRepo"),
            ..Self::new(status, format!("{id} is gated: {text}"))
        }
    }

    /// What a client sent can be read, and cannot be.
    pub(crate) fn unprocessable(text: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, text.to_string())
    }

    pub(crate) fn no_revision(rev: &str) -> Self {
        Self::missing("RevisionNotFound", format!("there is no revision {rev}"))
    }

    pub(crate) fn no_entry(path: &str, commit: String) -> Self {
        Self {
            commit: Some(commit),
            ..Self::missing("EntryNotFound", format!("there is no file {path}"))
        }
    }

    /// No such endpoint.
    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "this server has no such endpoint")
    }
}

impl From<mmh_repo::Error> for Fail {
    fn from(error: mmh_repo::Error) -> Self {
        let status = StatusCode::from_u16(error.kind().http_status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = error.to_string();
        Self::new(status, text)
    }
}

impl From<mmh_core::Error> for Fail {
    fn from(error: mmh_core::Error) -> Self {
        mmh_repo::Error::from(error).into()
    }
}

impl From<Refusal> for Fail {
    fn from(refusal: Refusal) -> Self {
        let (status, text) = refusal.into_parts();
        Self::new(status, text)
    }
}

/// A file of the server's own failed.
pub(crate) fn of_io(what: &'static str) -> impl FnOnce(std::io::Error) -> Fail {
    move |error| {
        let kind = ErrorKind::of_io(&error);
        let status = match kind {
            // What clients named is not what is missing here.
            ErrorKind::NotFound => StatusCode::INTERNAL_SERVER_ERROR,
            kind => StatusCode::from_u16(kind.http_status()).unwrap_or_default(),
        };
        Fail::new(status, format!("cannot {what}: {error}"))
    }
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.text });
        if let (Some((key, value)), Some(body)) = (self.more, body.as_object_mut()) {
            body.insert(key.to_owned(), value.into());
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/json; charset=utf-8");
        headers.insert(CONTENT_TYPE, kind);
        // A header has no characters of other lands, and no lines.
        let text: String = self
            .text
            .chars()
            .filter(|c| (' '..='~').contains(c))
            .collect();
        if let Ok(text) = HeaderValue::try_from(text) {
            headers.insert(ERROR_MESSAGE, text);
        }
        if let Some(code) = self.code {
            headers.insert(ERROR_CODE, HeaderValue::from_static(code));
        }
        if let Some(Ok(commit)) = self.commit.map(HeaderValue::try_from) {
            headers.insert(REPO_COMMIT, commit);
        }
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
    fn failures_have_the_codes_that_clients_know() {
        let response = Fail::no_entry("ä\nx", "1".repeat(40)).into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[ERROR_CODE], "EntryNotFound");
        assert_eq!(response.headers()[REPO_COMMIT], "1".repeat(40).as_str());
        assert_eq!(response.headers()[ERROR_MESSAGE], "there is no file x");
        let missing = Fail::no_repo().into_response();
        assert_eq!(missing.headers()[ERROR_CODE], "RepoNotFound");
        let missing = Fail::no_revision("r").into_response();
        assert_eq!(missing.headers()[ERROR_CODE], "RevisionNotFound");
    }

    #[test]
    fn statuses_follow_the_table_of_kinds() {
        let conflict = mmh_repo::Error::Conflict("x".to_owned());
        assert_eq!(Fail::from(conflict).status, StatusCode::CONFLICT);
        let unknown = Refusal::with_status(StatusCode::UNAUTHORIZED, ErrorKind::Denied, "who?");
        let response = Fail::from(unknown).into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        let full = of_io("write")(std::io::ErrorKind::StorageFull.into());
        assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
