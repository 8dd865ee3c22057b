//! Requests to an application's backend: what handlers and webhooks have in common.

use std::time::Duration;

use reqwest::{
    Body, Client, RequestBuilder,
    header::{CONTENT_TYPE, HeaderValue},
    redirect,
};
use url::Url;

use crate::{
    auth::signer::{self, Signer},
    config::SigningSecrets,
    protocol::error_chain::error_chain,
};

/// How long a connection is kept that is not used. Node closes its own after 5 s, and a request that is sent
/// just then would be lost.
const IDLE: Duration = Duration::from_secs(4);

/// How often an HTTP/2 connection is probed, and how long the answer may take. A request that takes too long does not
/// end such a connection, so without probes a dead one would be asked again and again.
const PROBE: Duration = Duration::from_secs(2);

/// An address of the backend's, and the connections to it.
#[derive(Debug)]
pub(super) struct BackendClient {
    client: Client,
    url: Url,
    signer: Option<Signer>,
}

impl BackendClient {
    /// A client that posts to `url`, and signs with `secrets` if there are some.
    ///
    /// # Errors
    /// When requests cannot be made at all, as the machine has no root certificates.
    pub(super) fn new(url: &str, secrets: &SigningSecrets) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        let mut builder = Client::builder()
            // A redirect could lead anywhere, inside our network too.
            .redirect(redirect::Policy::none())
            // The client's default repeats what an HTTP/2 backend has refused before it looked at it, as the connection ends
            // (GOAWAY, REFUSED_STREAM), and nothing else: with anything else the backend may have begun.
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(PROBE)
            .http2_keep_alive_timeout(PROBE)
            .http2_keep_alive_while_idle(true)
            .user_agent(concat!("roomcast/", env!("CARGO_PKG_VERSION")));
        if url.scheme() == "http" {
            // Plain HTTP needs no root certificates, which the machine may lack.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| error_chain(&error))?;
        Ok(Self { client, url, signer: Signer::new(secrets) })
    }

    /// A request with this JSON, signed at the time `seconds` since 1970.
    pub(super) fn post(
        &self,
        id: &str,
        seconds: i64,
        json: impl Into<Body> + AsRef<[u8]>,
    ) -> RequestBuilder {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, JSON);
        if let Some(signer) = &self.signer {
            request = request
                .header(signer::ID, id)
                .header(signer::TIMESTAMP, seconds)
                .header(signer::SIGNATURE, signer.sign(id, seconds, json.as_ref()));
        }
        request.body(json)
    }
}
