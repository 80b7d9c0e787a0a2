//! An answer that is kept, with what lets clients keep it too.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Bytes of a digest that name an answer: two that differ share them by no accident.
const TAG: usize = 12;

pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const JSON: &str = "application/json";

/// A body with its type and its name.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    body: Bytes,
    media_type: &'static str,
    etag: String,
}

impl Answer {
    pub(crate) fn new(media_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let digest = Sha256::digest(&body);
        let etag = format!("\"{}\"", BASE64URL_NOPAD.encode(&digest[..TAG]));
        Self {
            body,
            media_type,
            etag,
        }
    }

    pub(crate) fn json(value: &impl Serialize) -> Self {
        Self::new(JSON, serde_json::to_vec(value).unwrap_or_default())
    }

    /// The whole answer, or word that the client has it.
    pub(crate) fn to(&self, request: &HeaderMap) -> Response {
        // Clients ask each time whether theirs is still right.
        let headers = [
            (ETAG, self.etag.clone()),
            (CACHE_CONTROL, "no-cache".to_owned()),
        ];
        if self.is_known(request) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let media_type = [(CONTENT_TYPE, self.media_type)];
        (headers, media_type, self.body.clone()).into_response()
    }

    fn is_known(&self, request: &HeaderMap) -> bool {
        let tags = request.get_all(IF_NONE_MATCH).into_iter();
        tags.filter_map(|tags| tags.to_str().ok())
            .flat_map(|tags| tags.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == self.etag || tag == "*")
    }
}

/// An error as JSON: `{"error": "…"}`.
pub(crate) fn error(status: StatusCode, text: &str) -> Response {
    let body = serde_json::json!({ "error": text }).to_string();
    (status, [(CONTENT_TYPE, JSON)], body).into_response()
}
