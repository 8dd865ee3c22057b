//! Compression of answers, as Node's server does it: from 1 KB on, where the client accepts it.

use std::io::{self, Write};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, header},
};
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

/// The smallest body that is compressed, in bytes.
const SMALLEST: usize = 1024;

/// Bodies up to this size are compressed in place; larger ones would hold up other clients.
const IN_PLACE: usize = 16 * 1024;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Deflate,
}

impl Coding {
    /// The one that the client likes best; `None` if it accepts neither.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::ACCEPT_ENCODING).iter();
        let parts =
            values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let (mut gzip, mut deflate, mut any) = (None, None, None);
        for part in parts {
            let mut parameters = part.split(';').map(str::trim);
            let name = parameters.next().unwrap_or_default();
            let quality = parameters.find_map(|parameter| parameter.strip_prefix("q="));
            let quality = quality.map_or(1.0, |quality| quality.parse::<f32>().unwrap_or(0.0));
            match name.to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => gzip = Some(quality),
                "deflate" => deflate = Some(quality),
                "*" => any = Some(quality),
                _ => {}
            }
        }
        let of = |named: Option<f32>| named.or(any).unwrap_or(0.0);
        match (of(gzip), of(deflate)) {
            (gzip, deflate) if gzip > 0.0 && gzip >= deflate => Some(Self::Gzip),
            (_, deflate) if deflate > 0.0 => Some(Self::Deflate),
            _ => None,
        }
    }

    /// Its name in `Content-Encoding`.
    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        })
    }

    /// The body, compressed; `None` if it is too small, or would not get smaller.
    pub(super) async fn compress(self, body: &[Bytes]) -> Option<Bytes> {
        let size = body.iter().map(Bytes::len).sum::<usize>();
        if size < SMALLEST {
            return None;
        }
        let compressed = if size <= IN_PLACE {
            self.write(body)
        } else {
            let body = body.to_vec();
            tokio::task::spawn_blocking(move || self.write(&body)).await.ok()?
        };
        compressed.ok().filter(|compressed| compressed.len() < size)
    }

    fn write(self, body: &[Bytes]) -> io::Result<Bytes> {
        let level = Compression::fast();
        let compressed = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                body.iter().try_for_each(|piece| encoder.write_all(piece))?;
                encoder.finish()?
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                body.iter().try_for_each(|piece| encoder.write_all(piece))?;
                encoder.finish()?
            }
        };
        Ok(compressed.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::{GzDecoder, ZlibDecoder};

    use super::*;

    fn accepted(value: &'static str) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        Coding::accepted(&headers)
    }

    #[test]
    fn the_client_chooses() {
        for (value, coding) in [
            ("gzip, deflate, br", Some(Coding::Gzip)),
            ("deflate", Some(Coding::Deflate)),
            ("gzip;q=0.5, deflate", Some(Coding::Deflate)),
            ("br, *;q=0.1", Some(Coding::Gzip)),
            ("gzip;q=0, *", Some(Coding::Deflate)),
            ("gzip;q=0", None),
            ("identity", None),
            ("br", None),
            ("", None),
        ] {
            assert_eq!(accepted(value), coding, "{value}");
        }
        assert_eq!(Coding::accepted(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn what_is_large_enough_gets_smaller() {
        for size in [SMALLEST, IN_PLACE, IN_PLACE + 1, 300_000] {
            let body = [Bytes::from(vec![b'x'; size - 1]), Bytes::from_static(b"y")];
            let mut whole = Vec::new();
            let gzip = Coding::Gzip.compress(&body).await.unwrap();
            assert!(gzip.len() < size / 10);
            GzDecoder::new(&gzip[..]).read_to_end(&mut whole).unwrap();
            assert_eq!(whole, body.concat());
            whole.clear();
            let deflate = Coding::Deflate.compress(&body).await.unwrap();
            ZlibDecoder::new(&deflate[..]).read_to_end(&mut whole).unwrap();
            assert_eq!(whole, body.concat());
        }
        assert_eq!(Coding::Gzip.compress(&[Bytes::from(vec![b'x'; SMALLEST - 1])]).await, None);
        let random = (0..2000_u32).flat_map(|n| {
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &n.to_be_bytes())
                .as_ref()
                .to_vec()
        });
        assert_eq!(Coding::Gzip.compress(&[random.collect()]).await, None);
    }
}
