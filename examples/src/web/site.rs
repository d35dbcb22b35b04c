use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

/// One file that the program carries in itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// The path that asks for it, with its `/`.
    pub path: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// What is in it.
    pub body: &'static str,
}

/// The files, what they may load, and what the program tells them.
#[derive(Clone, Debug)]
pub struct Site {
    files: &'static [File],
    config: Bytes,
    policy: HeaderValue,
}

impl Site {
    /// `/` is `/index.html`. The page may connect to `websocket` (`ws://...`), which `/config.json` tells it, and load
    /// nothing that does not come from here. `None` if the address cannot stand in a header.
    pub fn new(files: &'static [File], websocket: &str) -> Option<Self> {
        let origin = websocket.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        // In a policy these end the source, and what follows could be anything.
        if origin.contains([';', ',', ' ', '\'']) {
            return None;
        }
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self' {origin}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let config = serde_json::json!({ "websocket": websocket }).to_string();
        Some(Self { files, config: config.into(), policy: HeaderValue::try_from(policy).ok()? })
    }

    /// The answer to one request; its body is not looked at.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let mut response = self.find(request);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        let always = [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ];
        for (name, value) in always {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn find<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !names_this_machine(request) {
            return text(StatusCode::FORBIDDEN, "ask for 127.0.0.1, [::1] or localhost\n");
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let path = match request.uri().path() {
            "/" => "/index.html",
            "/config.json" => return whole(StatusCode::OK, "application/json", self.config.clone()),
            path => path,
        };
        match self.files.iter().find(|file| file.path == path) {
            Some(file) => whole(StatusCode::OK, file.media_type, Bytes::from_static(file.body.as_bytes())),
            None => text(StatusCode::NOT_FOUND, "there is no such file\n"),
        }
    }
}

/// A page from elsewhere whose name was made to mean 127.0.0.1 still names itself: every `Host` has to be one of this
/// machine, and a request line with a whole address likewise.
fn names_this_machine<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter().map(HeaderValue::to_str);
    let (Some(Ok(host)), None) = (hosts.next(), hosts.next()) else { return false };
    let is_ours = |host: &str| {
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            if is_port { name } else { host }
        });
        name == "127.0.0.1" || name == "[::1]" || name.eq_ignore_ascii_case("localhost")
    };
    is_ours(host) && request.uri().host().is_none_or(is_ours)
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    whole(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn whole(status: StatusCode, media_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
