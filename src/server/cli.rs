//! The command line: its arguments, and the commands that are not the server itself.

use std::{io::Write, net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;

use crate::{
    auth::{
        self,
        command::{self, TokenArgs},
    },
    config::{Config, Sources},
    server::webhooks_command::WebhooksArgs,
};

/// The exit code for an invalid configuration or command line.
const EXIT_FAULTS: u8 = 2;

/// How long `health` waits for an answer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// The text below the help.
const EXAMPLES: &str = "\
Examples:
  roomcast                            run the server, then open http://localhost:3001
  PORT=8080 JWT_SECRET=... roomcast   use another port, and require tokens
  roomcast --config roomcast.toml     read the settings from a file
  roomcast --check-config             check the settings
  roomcast token --sub alice          make a token with the configured key
  roomcast webhooks list              list the webhooks that were given up
  roomcast completions bash           print completions for a shell";

/// A Socket.IO compatible room server: rooms, history, recovery, presence and tokens in one binary.
///
/// Without a command, the server runs until it gets SIGTERM or SIGINT. Settings come from environment
/// variables, else from a .env file in the working directory, else from the file of --config.
#[derive(Debug, Parser)]
#[command(name = "roomcast", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// A TOML file with settings; the names are those of the environment variables in lower case
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the configuration, print it, and exit with 0 if it is valid or 2 if it is not
    #[arg(long)]
    pub check_config: bool,

    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the binary does besides serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check whether a running server is ready; the exit code is 0 if it is, else 1
    Health(HealthArgs),
    /// Make a token for testing, or check one
    Token(TokenArgs),
    /// List, retry or discard the webhooks that a running server has given up
    ///
    /// They are kept for a week. If API_KEYS is set, its first key is sent to the server.
    #[allow(clippy::doc_markdown, reason = "help is plain text")]
    Webhooks(WebhooksArgs),
    /// Read a password from standard input and print its argon2 hash for `ADMIN_PASSWORD`
    HashPassword,
    /// Print shell completions
    ///
    /// bash:        roomcast completions bash > ~/.local/share/bash-completion/completions/roomcast
    /// zsh:         roomcast completions zsh > "${fpath[1]}/_roomcast"
    /// fish:        roomcast completions fish > ~/.config/fish/completions/roomcast.fish
    /// powershell:  roomcast completions powershell >> $PROFILE
    #[allow(rustdoc::broken_intra_doc_links, reason = "the shells' brackets are no links")]
    #[command(verbatim_doc_comment)]
    Completions(CompletionsArgs),
}

/// The arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The arguments of `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// The URL to request [default: /health/ready on this machine, at the configured port]
    #[arg(long)]
    pub url: Option<String>,
}

impl Cli {
    /// Reads the process's arguments. On an error, `--help` or `--version` it prints and exits.
    pub fn of_process() -> Self {
        let cli = Self::parse();
        if cli.check_config && cli.command.is_some() {
            let message = "--check-config stands alone: it cannot be used with a command";
            Self::command().error(ErrorKind::ArgumentConflict, message).exit();
        }
        cli
    }

    /// The configuration. If it is invalid, prints every error and returns the exit code.
    pub fn load_config(&self) -> Result<Config, ExitCode> {
        Config::load(Sources::of_process(self.config.clone())).map_err(|faults| {
            eprintln!("{faults}");
            ExitCode::from(EXIT_FAULTS)
        })
    }
}

/// `--check-config`: prints that the configuration is valid, its settings and its warnings.
pub fn check_config(config: &Config) -> ExitCode {
    println!("configuration is valid");
    for (name, value) in config.summary().into_iter().filter(|(_, value)| !value.is_empty()) {
        println!("{name}={value}");
    }
    for warning in config.warnings() {
        println!("warning: {warning}");
    }
    ExitCode::SUCCESS
}

/// `health`: prints one line, and tells by the exit code whether the server is ready.
pub async fn health(cli: &Cli, args: &HealthArgs) -> ExitCode {
    let url = match &args.url {
        Some(url) => url.clone(),
        // Exit code 1, not 2: container runtimes reserve 2.
        None => match cli.load_config() {
            Err(_) => return ExitCode::FAILURE,
            Ok(config) if config.port == 0 => {
                eprintln!("PORT is 0, so the port is not known before the server runs; give --url");
                return ExitCode::FAILURE;
            }
            Ok(config) => local_url(config.host, config.port, "/health/ready"),
        },
    };
    match ask(&url).await {
        Ok(reqwest::StatusCode::OK) => {
            println!("ready: {url}");
            ExitCode::SUCCESS
        }
        Ok(status) => {
            println!("not ready: {url} answered {status}");
            ExitCode::FAILURE
        }
        Err(why) => {
            println!("not ready: {url}: {why}");
            ExitCode::FAILURE
        }
    }
}

/// `completions`: prints a shell's completions.
pub fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "roomcast", &mut text);
    match std::io::stdout().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader, such as `head`, has closed its end.
        Err(_) => ExitCode::FAILURE,
    }
}

/// `token`: prints a signed token, or the result of checking one.
pub async fn token(config: &Config, args: &TokenArgs) -> ExitCode {
    match command::run(args, auth::Settings::of(config)).await {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// `hash-password`: prints the hash of the password on the standard input.
pub fn hash_password() -> ExitCode {
    match super::hash_password::hash_password() {
        Ok(hash) => {
            println!("{hash}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// `webhooks`: lists, retries or discards the webhooks that were given up.
pub async fn webhooks(config: &Config, args: &WebhooksArgs) -> ExitCode {
    let nearby = local_url(config.host, config.port, "");
    match super::webhooks_command::run(config, args, &nearby).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// The URL of a route of a server on `host` and `port`, as seen from the same machine.
fn local_url(host: IpAddr, port: u16, route: &str) -> String {
    // Both unspecified addresses accept IPv4's loopback, unless :: was made IPv6 only.
    let host = if host.is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { host };
    format!("http://{}{route}", std::net::SocketAddr::new(host, port))
}

/// The status that `url` answers with, or the innermost reason why it does not answer.
async fn ask(url: &str) -> Result<reqwest::StatusCode, String> {
    let answer = async {
        // The server is nearby: a proxy from the environment would only get in the way.
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(HEALTH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        client.get(url).send().await
    };
    answer.await.map(|response| response.status()).map_err(|error: reqwest::Error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        cause.to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn health_asks_where_the_server_listens() {
        let url = |host: &str| local_url(host.parse().unwrap(), 3001, "/health/ready");
        assert_eq!(url("0.0.0.0"), "http://127.0.0.1:3001/health/ready");
        assert_eq!(url("::"), "http://127.0.0.1:3001/health/ready");
        assert_eq!(url("192.0.2.7"), "http://192.0.2.7:3001/health/ready");
        assert_eq!(url("::1"), "http://[::1]:3001/health/ready");
    }
}
