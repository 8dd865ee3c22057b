//! The addresses of Redis: of each instance a server's, or that of Sentinels that know it; or nodes of a Redis Cluster.

use std::{borrow::Cow, collections::BTreeSet};

use url::Url;

/// The port of a Sentinel that names none.
const SENTINEL_PORT: u16 = 26379;

/// The port of a Redis that names none.
const REDIS_PORT: u16 = 6379;

/// The most instances.
const MOST: usize = 64;

/// The instances in a text, in their order: a JSON list, or separated by commas. What follows a comma and is no URL
/// belongs to the one before, which has several Sentinels.
pub(super) fn instances(text: &str) -> Vec<String> {
    if let Ok(list) = serde_json::from_str::<Vec<String>>(text) {
        return list.iter().map(|url| url.trim().to_owned()).collect();
    }
    let mut all = Vec::<String>::new();
    for part in text.split(',') {
        match all.last_mut() {
            Some(last) if !is_url(part) => {
                last.push(',');
                last.push_str(part);
            }
            _ => all.push(part.to_owned()),
        }
    }
    all.iter().map(|url| url.trim().to_owned()).collect()
}

fn is_url(text: &str) -> bool {
    const SCHEMES: [&str; 3] = ["", "+sentinel", "+cluster"];
    text.trim()
        .split_once("://")
        .is_some_and(|(scheme, _)| SCHEMES.iter().any(|kind| scheme_of(scheme, kind).is_some()))
}

/// The scheme of the servers of a URL whose own is of this kind.
fn scheme_of(scheme: &str, kind: &str) -> Option<&'static str> {
    match scheme.to_ascii_lowercase().strip_suffix(kind)? {
        "redis" => Some("redis"),
        "rediss" => Some("rediss"),
        _ => None,
    }
}

/// The servers at these hosts, which commas separate.
fn servers(scheme: &str, user: &str, hosts: &str, port: u16) -> Result<Vec<Url>, &'static str> {
    const UNREADABLE: &str = "a host cannot be read";
    let at = if user.is_empty() { "" } else { "@" };
    let server = |host: &str| {
        let url = Url::parse(&format!("{scheme}://{user}{at}{host}")).ok();
        // What follows a host would be passed over.
        let is_host = |url: &Url| {
            url.host_str().is_some_and(|host| !host.is_empty())
                && (url.path(), url.query(), url.fragment()) == ("", None, None)
        };
        let mut url = url.filter(is_host).ok_or(UNREADABLE)?;
        if url.port().is_none() {
            url.set_port(Some(port)).map_err(|()| UNREADABLE)?;
        }
        Ok(url)
    };
    hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).map(server).collect()
}

/// Checks the instances in a text; the error says what is wrong with which, or nothing.
pub(super) fn check(text: &str) -> Result<(), Option<Cow<'static, str>>> {
    let all = instances(text);
    if all.is_empty() {
        return Err(None);
    }
    if all.len() > MOST {
        let why = format!("there are {} instances, and {MOST} are allowed", all.len());
        return Err(Some(why.into()));
    }
    if all.len() > 1 && all.iter().any(|url| ClusterUrl::parse(url).is_some()) {
        let why = "a Redis Cluster is no instance of a list: name its nodes alone, in one URL";
        return Err(Some(why.into()));
    }
    let mut servers = Vec::new();
    for (at, url) in (1..).zip(&all) {
        let server = server_of(url).map_err(|why| match (why, all.len()) {
            (why, 1) => why.map(Cow::Borrowed),
            (why, _) => {
                let why = why.unwrap_or("it is no URL of a Redis");
                Some(format!("instance {at} of {}: {why}", all.len()).into())
            }
        })?;
        if let Some(other) = servers.iter().position(|other| *other == server) {
            let why = format!("instances {} and {at} are the same", other + 1);
            return Err(Some(why.into()));
        }
        servers.push(server);
    }
    Ok(())
}

/// What makes a server the same as another, whatever the credentials; the error says what is wrong, if it is nearly one.
fn server_of(text: &str) -> Result<(BTreeSet<String>, String), Option<&'static str>> {
    let place = |url: &Url, port| {
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        format!("{host}:{}", url.port().unwrap_or(port))
    };
    let database = |url: &Url| match url.path().trim_matches('/') {
        "" => "0".to_owned(),
        path => path.to_owned(),
    };
    if let Some(url) = SentinelUrl::parse(text) {
        let SentinelUrl { sentinels, service, redis } = url.map_err(Some)?;
        let sentinels = sentinels.iter().map(|url| place(url, SENTINEL_PORT)).collect();
        return Ok((sentinels, format!("{service}/{}", database(&redis))));
    }
    if let Some(url) = ClusterUrl::parse(text) {
        let nodes = url.map_err(Some)?.nodes;
        return Ok((nodes.iter().map(|url| place(url, REDIS_PORT)).collect(), String::new()));
    }
    let url = Url::parse(text).map_err(|_| None)?;
    let fits = matches!(url.scheme(), "redis" | "rediss")
        && url.host_str().is_some_and(|host| !host.is_empty());
    if !fits {
        return Err(None);
    }
    Ok((BTreeSet::from([place(&url, REDIS_PORT)]), database(&url)))
}

/// The instances in a text that was checked, without passwords.
pub(super) fn shown(text: &str) -> String {
    let shown = instances(text).into_iter().map(|text| {
        if let Some(Ok(url)) = SentinelUrl::parse(&text) {
            return url.shown();
        }
        if let Some(Ok(url)) = ClusterUrl::parse(&text) {
            return url.shown();
        }
        Url::parse(&text).map_or_else(
            |_| String::new(),
            |url| {
                let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
                format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
            },
        )
    });
    shown.collect::<Vec<_>>().join(",")
}

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
        let scheme = scheme_of(scheme, "+sentinel")?;
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
        let mut sentinels = servers(scheme, "", hosts, SENTINEL_PORT)?;
        for url in &mut sentinels {
            credentials(url, query)?;
        }
        if sentinels.is_empty() {
            return Err("no Sentinel is named");
        }
        let mut redis = servers(scheme, user, "localhost", REDIS_PORT)?.remove(0);
        redis.set_path(database);
        Ok(Self { sentinels, service: service.to_owned(), redis })
    }

    /// The URL without passwords.
    fn shown(&self) -> String {
        let hosts = hosts_of(&self.sentinels, SENTINEL_PORT);
        format!("{}+sentinel://{hosts}/{}", self.redis.scheme(), self.service)
    }
}

/// Some nodes of a Redis Cluster, which know the others: `redis+cluster://user:password@host:6379,host:6379`.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterUrl {
    /// The nodes, each with the credentials, which are those of all nodes.
    pub nodes: Vec<Url>,
}

impl ClusterUrl {
    /// Reads a URL whose scheme is that of a Redis Cluster; `None` for any other.
    pub fn parse(text: &str) -> Option<Result<Self, &'static str>> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme_of(scheme, "+cluster")?;
        Some(Self::parse_rest(scheme, rest))
    }

    fn parse_rest(scheme: &str, rest: &str) -> Result<Self, &'static str> {
        let (user, hosts) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, database) = hosts.split_once('/').unwrap_or((hosts, ""));
        if !matches!(database, "" | "0" | "0/") {
            return Err("a Redis Cluster has no database but 0");
        }
        let nodes = servers(scheme, user, hosts, REDIS_PORT)?;
        if nodes.is_empty() {
            Err("no node of the Redis Cluster is named")
        } else {
            Ok(Self { nodes })
        }
    }

    /// The URL without passwords.
    fn shown(&self) -> String {
        format!("{}+cluster://{}", self.nodes[0].scheme(), hosts_of(&self.nodes, REDIS_PORT))
    }
}

fn hosts_of(urls: &[Url], port: u16) -> String {
    let host = |url: &Url| {
        format!("{}:{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(port))
    };
    urls.iter().map(host).collect::<Vec<_>>().join(",")
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
            ("mymaster", "redis://me:p%40ss@localhost:6379/3")
        );
        assert_eq!(
            url.shown(),
            "redis+sentinel://a.example:26379,[::1]:5000,10.0.0.7:26380/mymaster"
        );
        let plain = SentinelUrl::parse("rediss+sentinel://a/m").unwrap().unwrap();
        assert_eq!((plain.redis.scheme(), plain.sentinels[0].scheme()), ("rediss", "rediss"));
    }

    #[test]
    fn several_instances_are_a_list() {
        for (text, all) in [
            ("redis://a", vec!["redis://a"]),
            ("redis://a, redis://b:1/2", vec!["redis://a", "redis://b:1/2"]),
            (r#"["redis://a", "rediss://b"]"#, vec!["redis://a", "rediss://b"]),
            (
                "redis+sentinel://a,b:1/m,redis+sentinel://a,b:1/n,REDIS://c",
                vec!["redis+sentinel://a,b:1/m", "redis+sentinel://a,b:1/n", "REDIS://c"],
            ),
            // A comma in a password, which one server has always been allowed.
            ("redis://:a,b@c", vec!["redis://:a,b@c"]),
        ] {
            assert_eq!(instances(text), all, "{text}");
            assert_eq!(check(text), Ok(()), "{text}");
        }
        let text = "redis://me:hunter2@a:1/0,redis+sentinel://:hunter3@b/m";
        assert_eq!(shown(text), "redis://a:1,redis+sentinel://b:26379/m");
    }

    #[test]
    fn a_redis_cluster_is_named_by_some_of_its_nodes() {
        let text = "rediss+cluster://me:p%40ss@a.example,[::1]:7000, 10.0.0.7:7001/0";
        let nodes = ClusterUrl::parse(text).unwrap().unwrap().nodes;
        let nodes = nodes.iter().map(Url::as_str).collect::<Vec<_>>();
        let expected = ["a.example:6379", "[::1]:7000", "10.0.0.7:7001"]
            .map(|host| format!("rediss://me:p%40ss@{host}"));
        assert_eq!(nodes, expected);
        assert_eq!(shown(text), "rediss+cluster://a.example:6379,[::1]:7000,10.0.0.7:7001");
        assert_eq!(instances(text), [text]);
        assert_eq!(check(text), Ok(()));
        for (text, why) in [
            ("redis+cluster://a/1", "database"),
            ("redis+cluster://,", "no node"),
            ("redis+cluster://a:x", "host"),
            ("redis+cluster://a?x=1", "host"),
            ("redis+cluster://a,redis://b", "in one URL"),
            ("redis://b,redis+cluster://a:1,b:2", "in one URL"),
            ("redis+cluster://a,redis+cluster://b", "in one URL"),
        ] {
            let error = check(text).unwrap_err().unwrap();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn an_instance_that_is_none_or_stands_twice_is_named() {
        for (text, why) in [
            ("redis://a,redis://", "instance 2 of 2"),
            (r#"["redis://a", "localhost:6379"]"#, "instance 2 of 2"),
            ("redis://a,redis+sentinel://b", "instance 2 of 2: the name of the service"),
            ("redis://a,redis://b,redis://x:y@A:6379/0", "instances 1 and 3 are the same"),
            ("redis+sentinel://a,b/m,redis+sentinel://b,a:26379/m/0", "instances 1 and 2"),
        ] {
            let error = check(text).unwrap_err().unwrap();
            assert!(error.contains(why), "{text}: {error}");
        }
        let many = (0..65).map(|n| format!("redis://h{n}")).collect::<Vec<_>>().join(",");
        assert!(check(&many).unwrap_err().unwrap().contains("64 are allowed"));
        assert_eq!(check("redis://a/1,redis://a/2"), Ok(()));
        assert_eq!((check("a,b"), check("[]")), (Err(None), Err(None)));
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
