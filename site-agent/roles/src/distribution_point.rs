//! `distributionPoint`: a content folder over HTTP, with ranges, ETags and conditional requests.
//!
//! tower-http's `ServeDir` does the protocol (RFC 9110: 206, 304, 412, 416, strong ETags from size and
//! time in nanoseconds); `confined` keeps it in the folder. Added here: `If-Range`, and
//! `/health`, which hides a file of that name. It lists no folders and takes no content.

use std::io;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{IF_MATCH, IF_RANGE, RANGE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use tower_http::services::ServeDir;
use tower_http::services::fs::DefaultServeDirFallback;

use crate::RoleError;
use crate::confined::Confined;

/// Read from disk and sent at a time.
const CHUNK: usize = 64 * 1024;

type Files = ServeDir<DefaultServeDirFallback, Confined>;

#[derive(Debug, Clone)]
struct Point {
    folder: Confined,
    files: Files,
}

/// Its HTTP interface over the folder `content`.
///
/// # Errors
/// [`RoleError::Content`] when there is no such folder.
pub fn router(content: &Path) -> Result<Router, RoleError> {
    let folder = Confined::open(content).map_err(|source| RoleError::Content {
        path: content.to_owned(),
        source,
    })?;
    let files = ServeDir::with_backend(PathBuf::new(), folder.clone())
        .append_index_html_on_directories(false)
        .ignore_multi_range_requests(true)
        .with_buf_chunk_size(CHUNK);
    Ok(Router::new()
        .route("/health", get(health))
        .fallback(serve)
        .with_state(Point { folder, files }))
}

async fn health(State(point): State<Point>) -> Response {
    let readable = point.folder.is_readable();
    let status = if readable {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::json!({ "role": "distributionPoint", "content": readable });
    (status, Json(body)).into_response()
}

async fn serve(State(mut point): State<Point>, request: Request) -> Response {
    let answer = match on_condition(request.headers()) {
        Condition::None => point.files.try_call(request).await.map(into_answer),
        Condition::Whole => whole(&mut point.files, request).await,
        Condition::Tag(tag) => if_unchanged(&mut point.files, request, tag).await,
    };
    answer.unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::PermissionDenied => StatusCode::NOT_FOUND.into_response(),
        _ => {
            // A disk that fails belongs into the instance's log.
            eprintln!("content can't be read: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    })
}

/// What `If-Range` makes of a request (RFC 9110 section 13.1.5).
enum Condition {
    /// Nothing.
    None,
    /// The range counts if this is the content's tag.
    Tag(HeaderValue),
    /// The range does not count: a date is no strong validator here, a weak tag never is.
    Whole,
}

fn on_condition(headers: &HeaderMap) -> Condition {
    let Some(tag) = headers.get(IF_RANGE) else {
        return Condition::None;
    };
    if headers.contains_key(IF_MATCH) || !tag.as_bytes().starts_with(b"\"") {
        return Condition::Whole;
    }
    Condition::Tag(tag.clone())
}

async fn whole(files: &mut Files, mut request: Request) -> io::Result<Response> {
    request.headers_mut().remove(RANGE);
    files.try_call(request).await.map(into_answer)
}

/// The range under `If-Match`, so that no change can come between the look and the reading; the
/// whole if that fails.
async fn if_unchanged(
    files: &mut Files,
    request: Request,
    tag: HeaderValue,
) -> io::Result<Response> {
    let (parts, _) = request.into_parts();
    let mut ranged = Request::from_parts(parts.clone(), Body::empty());
    ranged.headers_mut().insert(IF_MATCH, tag);
    let answer = files.try_call(ranged).await?;
    if answer.status() != StatusCode::PRECONDITION_FAILED {
        return Ok(into_answer(answer));
    }
    whole(files, Request::from_parts(parts, Body::empty())).await
}

fn into_answer<B>(answer: axum::http::Response<B>) -> Response
where
    B: hyper::body::Body<Data = hyper::body::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    answer.map(Body::new)
}
