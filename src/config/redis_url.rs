//! The address of Redis: a server's, or that of Sentinels that know it.

use url::Url;

/// The port of a Sentinel that names none.
const SENTINEL_PORT: u16 = 26379;

/// Sentinels, and what they watch: `redis+sentinel://user:password@host:26379,host:26379/service/database`.
#[derive(Clone, PartialEq, Eq)]
pub struct SentinelUrl {
    /// The Sentinels, each with the credentials for Sentinels.
    pub sentinels: Vec<Url>,
    /// The name under which they know the server.
    pub service: String,
    /// The server's URL, with a host that stands for the one that they name.
    pub redis: Url,
}

impl SentinelUrl {
    /// Reads a URL whose scheme is that of Sentinels; `None` for any other.
    pub fn parse(text: &str) -> Option<Result<Self, &'static str>> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "redis+sentinel" => "redis",
            "rediss+sentinel" => "rediss",
            _ => return None,
        };
        Some(Self::parse_rest(scheme, rest))
    }

    fn parse_rest(scheme: &str, rest: &str) -> Result<Self, &'static str> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').ok_or("the name of the service is missing")?;
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (service, database) = path.split_once('/').unwrap_or((path, ""));
        let database = database.trim_end_matches('/');
        if service.is_empty() {
            return Err("the name of the service is missing");
        }
        if !database.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err("the database is no number");
        }
        let at = |user: &str, host: &str| {
            let at = if user.is_empty() { "" } else { "@" };
            Url::parse(&format!("{scheme}://{user}{at}{host}"))
                .ok()
                .filter(|url| url.host_str().is_some_and(|host| !host.is_empty()))
                .ok_or("a host cannot be read")
        };
        let mut sentinels = Vec::new();
        for host in hosts.split(',').map(str::trim).filter(|host| !host.is_empty()) {
            let mut url = at("", host)?;
            if url.port().is_none() {
                url.set_port(Some(SENTINEL_PORT)).map_err(|()| "a host cannot be read")?;
            }
            credentials(&mut url, query)?;
            sentinels.push(url);
        }
        if sentinels.is_empty() {
            return Err("no Sentinel is named");
        }
        let mut redis = at(user, "localhost")?;
        redis.set_path(database);
        Ok(Self { sentinels, service: service.to_owned(), redis })
    }

    /// The URL without passwords.
    pub(super) fn shown(&self) -> String {
        let host = |url: &Url| {
            let port = url.port().unwrap_or(SENTINEL_PORT);
            format!("{}:{port}", url.host_str().unwrap_or_default())
        };
        let hosts = self.sentinels.iter().map(host).collect::<Vec<_>>().join(",");
        format!("{}+sentinel://{hosts}/{}", self.redis.scheme(), self.service)
    }
}

/// Sets the credentials for Sentinels, which are others than those for the server.
fn credentials(url: &mut Url, query: &str) -> Result<(), &'static str> {
    const WRONG: &str = "after ? there may be sentinel_username and sentinel_password";
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "sentinel_username" => url.set_username(&value).map_err(|()| WRONG)?,
            "sentinel_password" => url.set_password(Some(&value)).map_err(|()| WRONG)?,
            _ => return Err(WRONG),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_the_service_and_the_servers_own_credentials_are_told_apart() {
        let text = "redis+sentinel://me:p%40ss@a.example,[::1]:5000, 10.0.0.7:26380/mymaster/3?sentinel_password=s";
        let url = SentinelUrl::parse(text).unwrap().unwrap();
        let sentinels = url.sentinels.iter().map(Url::as_str).collect::<Vec<_>>();
        assert_eq!(
            sentinels,
            ["redis://:s@a.example:26379", "redis://:s@[::1]:5000", "redis://:s@10.0.0.7:26380"]
        );
        assert_eq!(
            (&*url.service, url.redis.as_str()),
            ("mymaster", "redis://me:p%40ss@localhost/3")
        );
        assert_eq!(
            url.shown(),
            "redis+sentinel://a.example:26379,[::1]:5000,10.0.0.7:26380/mymaster"
        );
        let plain = SentinelUrl::parse("rediss+sentinel://a/m").unwrap().unwrap();
        assert_eq!((plain.redis.scheme(), plain.sentinels[0].scheme()), ("rediss", "rediss"));
    }

    #[test]
    fn what_is_missing_is_said() {
        for (text, why) in [
            ("redis+sentinel://a:1", "service"),
            ("redis+sentinel://a:1/", "service"),
            ("redis+sentinel:///m", "Sentinel"),
            ("redis+sentinel://,/m", "Sentinel"),
            ("redis+sentinel://a:x/m", "host"),
            ("redis+sentinel://a/m/x", "database"),
            ("redis+sentinel://a/m?x=1", "sentinel_username"),
        ] {
            let error = SentinelUrl::parse(text).unwrap().err().unwrap();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(SentinelUrl::parse("redis://a/1").is_none() && SentinelUrl::parse("a").is_none());
    }
}
