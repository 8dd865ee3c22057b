//! The configuration and the command line, as whoever runs the binary sees them.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::support::process::Ran;

/// The bcrypt hash of "changeit".
const HASH: &str = "$2b$10$heqvAkYMez.Va6Et2uXInOnkCT6/uQj1brkrbyG3LpopDklcq7ZOS";

/// The binary in an empty directory with an empty environment.
struct Roomcast {
    directory: TempDir,
    command: Command,
}

fn roomcast() -> Roomcast {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_roomcast"));
    command.env_clear().current_dir(directory.path());
    Roomcast { directory, command }
}

impl Roomcast {
    fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.directory.path().join(name), text).unwrap();
        self
    }

    fn run(mut self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command.args(arguments).output().unwrap())
    }

    fn check(self) -> Ran {
        self.run(&["--check-config"])
    }
}

#[test]
fn every_fault_is_printed_at_once() {
    let ran = roomcast()
        .env("PORT", "99999")
        .env("HISTORY_TTL", "soon")
        .env("JWT_SECRET", "hunter2")
        .env("JWT_JWKS_URL", "https://login.example/jwks")
        .env("ADMIN_USERNAME", "admin")
        .env("JWT_ISUER", "hunter2")
        .env("REDIS_URL", "http://:hunter2@redis")
        .file(".env", "MAX_PAYLOAD=0\nAPI_KEYSS=hunter2\n")
        .file("roomcast.toml", "prot = 1\nsend_timeout = 0\n")
        .run(&["--config", "roomcast.toml"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert_eq!(ran.stdout, "");
    let expected = [
        r#"prot: there is no such setting; did you mean "port"? (from roomcast.toml)"#,
        "API_KEYSS: there is no such setting; did you mean API_KEYS? (from .env)",
        "JWT_ISUER: there is no such setting; did you mean JWT_ISSUER? (from the environment)",
        r#"PORT: "99999" is not allowed; expected a port from 1 to 65535, or 0 for a free one (from the environment)"#,
        r#"MAX_PAYLOAD: "0" is not allowed; expected a size greater than 0, such as 65536 (bytes), 64KB, 1MB or 1GB (from .env)"#,
        r#"SEND_TIMEOUT: "0" is not allowed; expected a duration greater than 0 and up to 3650d, such as 500ms, 5s, 10m, 24h, 7d or 30 (seconds) (from roomcast.toml)"#,
        "REDIS_URL: [redacted] is not allowed; expected a URL such as redis://localhost:6379/0, or rediss:// for TLS; with Sentinels redis+sentinel://host1:26379,host2:26379/mymaster; several instances as a list, separated by commas or in JSON; a Redis Cluster as redis+cluster://host1:6379,host2:6379 (from the environment)",
        r#"HISTORY_TTL: "soon" is not allowed; expected a duration up to 3650d, such as 10m, 24h or 7d, or 0 for no age limit (from the environment)"#,
        "JWT_SECRET, JWT_JWKS_URL: JWT_JWKS_URL stands alone: the issuer's keys verify all tokens (from the environment)",
        "ADMIN_USERNAME: needs ADMIN_PASSWORD as well; set both or neither (from the environment)",
    ];
    assert_eq!(ran.stderr.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn check_config_finds_the_same_faults() {
    let ran = roomcast().env("PLAYGROUND", "perhaps").check();
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.stderr.starts_with("PLAYGROUND: \"perhaps\" is not allowed; expected true or false"),
        "{ran:?}"
    );
    assert_eq!(ran.stdout, "");
}

#[test]
fn the_defaults_are_valid() {
    let ran = roomcast().check();
    assert!(ran.stdout.starts_with("configuration is valid\n"), "{ran:?}");
    ran.has("PORT=3001");
    ran.has("WEBSOCKET_NAMESPACE=/,/chat");
    ran.has("MAX_PAYLOAD=1MB");
}

#[test]
fn the_environment_wins_over_dotenv_over_toml_over_the_defaults() {
    let toml = "history_size = 1\nqueue_size = 1\nmax_rooms = 1\n";
    let all = || roomcast().file("r.toml", toml).file(".env", "HISTORY_SIZE=2\nQUEUE_SIZE=2\n");
    let ran = all().env("HISTORY_SIZE", "3").run(&["--check-config", "--config", "r.toml"]);
    for line in ["HISTORY_SIZE=3", "QUEUE_SIZE=2", "MAX_ROOMS=1", "RECOVERY_LIMIT=1000"] {
        ran.has(line);
    }
    // Without --config the TOML file is not read; an empty variable counts as unset.
    let ran = all().env("HISTORY_SIZE", "").check();
    for line in ["HISTORY_SIZE=2", "MAX_ROOMS=1000000"] {
        ran.has(line);
    }
}

#[test]
fn a_second_name_is_heard_where_the_first_is_not_said() {
    roomcast().env("WS_PORT", "4000").check().has("PORT=4000");
    roomcast().env("WS_PORT", "4000").env("PORT", "4001").check().has("PORT=4001");
    roomcast().env("WS_PORT", "4000").file(".env", "PORT=4001").check().has("PORT=4001");
    roomcast().env("WS_REDIS_URL", "redis://one").check().has("REDIS_URL=redis://one");
}

#[test]
fn the_example_is_a_valid_configuration() {
    roomcast().file(".env", include_str!("../../.env.example")).check().has("PORT=3001");
}

#[test]
fn a_configuration_file_that_is_not_there_is_a_fault() {
    let ran = roomcast().run(&["--config", "nowhere.toml"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.stderr.starts_with("nowhere.toml: the configuration file cannot be read"),
        "{ran:?}"
    );
}

#[test]
fn secrets_are_never_printed() {
    let secrets = |roomcast: Roomcast| {
        roomcast
            .env("JWT_SECRET", "hunter2")
            .env("API_KEYS", "hunter2")
            .env("ADMIN_USERNAME", "admin")
            .env("ADMIN_PASSWORD", HASH)
            .env("REDIS_URL", "redis://:hunter2@redis:6379")
    };
    let valid = secrets(roomcast()).check();
    valid.has("REDIS_URL=redis://redis:6379");
    valid.has("JWT_SECRET=[redacted]");
    let faulty = secrets(roomcast())
        .env("API_KEYS", "hunter2 hunter2")
        .env("STORE_URL", "redis://:hunter2@redis")
        .file(".env", "X=hunter2 hunter2")
        .file("r.toml", "x = 'hunter2")
        .run(&["--config", "r.toml"]);
    assert_eq!((faulty.code, faulty.stderr.lines().count()), (Some(2), 4), "{faulty:?}");
    for ran in [valid, faulty] {
        for secret in ["hunter2", HASH] {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{ran:?}");
        }
    }
}

#[test]
fn a_password_is_hashed_and_the_hash_is_taken() {
    let hash = |input: &str| {
        let mut asked = roomcast().env("PORT", "x");
        let command = asked.command.arg("hash-password");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ran::of(&child.wait_with_output().unwrap())
    };
    let made = hash("open sesame\n");
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""), "{made:?}");
    assert!(made.stdout.starts_with("$argon2id$") && made.stdout.ends_with('\n'), "{made:?}");
    let line = format!("ADMIN_USERNAME=admin\nADMIN_PASSWORD='{}'\n", made.stdout.trim());
    roomcast().file(".env", &line).check().has("ADMIN_PASSWORD=[redacted]");

    let empty = hash("\n");
    assert_eq!((empty.code, empty.stdout.as_str()), (Some(1), ""), "{empty:?}");
    assert!(empty.stderr.starts_with("the password is empty"), "{empty:?}");

    let plain = roomcast().env("ADMIN_USERNAME", "admin").env("ADMIN_PASSWORD", "hunter2").check();
    assert_eq!(plain.code, Some(2), "{plain:?}");
    assert!(plain.stderr.contains("`roomcast hash-password` makes one"), "{plain:?}");
    assert!(!plain.stderr.contains("hunter2"), "{plain:?}");
}

#[test]
fn help_and_version_need_no_configuration() {
    let help = roomcast().env("PORT", "x").run(&["--help"]);
    assert_eq!(help.code, Some(0), "{help:?}");
    for word in ["--config <FILE>", "--check-config", "health", "--version"] {
        assert!(help.stdout.contains(word), "no {word} in {help:?}");
    }
    let version = roomcast().env("PORT", "x").run(&["--version"]);
    assert_eq!(version.stdout, format!("roomcast {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_a_fault() {
    assert_eq!(roomcast().run(&["--prot", "1"]).code, Some(2));
    let ran = roomcast().run(&["--check-config", "health"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("--check-config stands alone"), "{ran:?}");
}

/// Answers one request with `status`; gives the port, and on joining the request line.
fn answering(status: &'static str) -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answered = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
        let request = lines.next().unwrap();
        lines.find(String::is_empty).unwrap();
        write!(&stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .unwrap();
        request
    });
    (port, answered)
}

#[test]
fn health_asks_the_configured_port() {
    for (status, code) in [("200 OK", 0), ("503 Service Unavailable", 1), ("204 No Content", 1)] {
        let (port, answered) = answering(status);
        let ran = roomcast().env("PORT", &port.to_string()).run(&["health"]);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
        assert_eq!(answered.join().unwrap(), "GET /health/ready HTTP/1.1");
    }
}

#[test]
fn health_asks_the_url_that_it_is_given() {
    let (port, answered) = answering("200 OK");
    // Neither a faulty configuration nor a proxy is in its way.
    let ran = roomcast().env("PORT", "x").env("HTTP_PROXY", "http://127.0.0.1:1").run(&[
        "health",
        "--url",
        &format!("http://127.0.0.1:{port}/health/live"),
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(answered.join().unwrap(), "GET /health/live HTTP/1.1");
}

#[test]
fn health_fails_where_nobody_listens() {
    // Port 1 rather than one that was free a moment ago: another test may have it by now.
    let ran = roomcast().env("PORT", "1").run(&["health"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.starts_with("not ready: "), "{ran:?}");
    assert_eq!(roomcast().env("PORT", "0").run(&["health"]).code, Some(1));
}

#[test]
fn a_port_that_is_taken_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ran =
        roomcast().env("HOST", "127.0.0.1").env("PORT", &port).env("STORE_URL", "memory:").run(&[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr.starts_with("roomcast cannot start: ") && ran.stderr.contains(&port),
        "{ran:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_signal_stops_the_server_gracefully() {
    for signal in ["TERM", "INT"] {
        let mut server = roomcast()
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("STORE_URL", "memory:")
            .env("LOG_FORMAT", "json")
            .env("JWT_SECRET", "hunter2");
        let mut child = server.command.stdout(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());

        let mut start = String::new();
        log.read_line(&mut start).unwrap();
        let line: serde_json::Value = serde_json::from_str(&start).unwrap();
        assert_eq!(line["message"], "starting");
        assert!(line["config"].as_str().unwrap().starts_with("PORT=0 HOST=127.0.0.1 "), "{start}");
        assert!(!start.contains("hunter2"), "{start}");

        let killed = Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
        assert!(rest.contains(&format!("SIG{signal}")) && rest.contains("\"stopped\""), "{rest}");
    }
}

#[test]
fn the_log_has_no_colours_where_it_is_not_a_terminal() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let run = |filter: &str| {
        roomcast()
            .env("HOST", "127.0.0.1")
            .env("PORT", &port)
            .env("STORE_URL", "memory:")
            .env("RUST_LOG", filter)
            .run(&[])
    };
    let said = run("info");
    assert!(said.stdout.contains("starting") && !said.stdout.contains('\u{1b}'), "{said:?}");
    assert_eq!(run("off").stdout, "");
}

#[test]
fn completions_need_no_configuration() {
    for (shell, sign) in [
        ("bash", "complete -F _roomcast"),
        ("zsh", "#compdef roomcast"),
        ("fish", "complete -c roomcast"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let ran = roomcast().env("PORT", "nonsense").run(&["completions", shell]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(ran.stdout.contains(sign) && ran.stdout.contains("check-config"), "{shell}");
    }
    let ran = roomcast().run(&["completions", "tcsh"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("possible values: bash"), "{ran:?}");
}

#[test]
fn the_help_shows_how_it_is_called() {
    let ran = roomcast().run(&["--help"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for line in ["Usage: roomcast [OPTIONS] [COMMAND]", "Examples:", "  completions  "] {
        assert!(ran.stdout.contains(line), "no {line} in {ran:?}");
    }
}
