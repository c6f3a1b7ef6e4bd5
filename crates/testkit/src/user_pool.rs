use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant as Stopwatch};
use std::{fs, thread};

use aws_config::SdkConfig;
use aws_sdk_cognitoidentityprovider::Client;
use aws_sdk_cognitoidentityprovider::types::{
    ExplicitAuthFlowsType, PasswordPolicyType, PreventUserExistenceErrorTypes, TimeUnitsType, TokenValidityUnitsType,
    UserPoolPolicyType, UsernameAttributeType, VerifiedAttributeType,
};
use serde_json::Value;

use crate::aws::sdk_config;
use crate::faults::FaultyHttp;
use crate::template::resources;

/// Where the tools of requirements.txt are.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv/bin");
/// A cold MiniStack answers within half a second. A machine that builds at the same time takes longer.
const START: Duration = Duration::from_mins(1);
/// How often another port is tried, if something else has taken the first one.
const STARTS: u32 = 3;
/// Runs a program until the standard input of the shell ends, which is when this process ends, however it ends. Then it
/// stops the program and removes its folder.
const UNTIL_THE_TEST_ENDS: &str =
    r#""$1" </dev/null & program=$!; cat >/dev/null; kill "$program" 2>/dev/null; wait "$program"; rm -rf "$2""#;

/// A user pool with an app client and the groups of the template, in a MiniStack of the test binary's own.
///
/// The pool has no trigger: its access tokens have no scopes of the API.
#[derive(Clone, Debug)]
pub struct LocalCognito {
    sdk: SdkConfig,
    /// The id of the user pool.
    pub pool: String,
    /// The id of its app client.
    pub app_client: String,
}

/// A MiniStack that runs until this process ends.
struct MiniStack {
    port: u16,
    /// Its standard input is the one whose end stops MiniStack.
    _shell: Child,
}

impl LocalCognito {
    /// The code that confirms an address. MiniStack always mails this one.
    pub const CONFIRMATION_CODE: &'static str = "123456";
    /// The code for a new password. MiniStack always mails this one.
    pub const RESET_CODE: &'static str = "654321";

    /// Creates a user pool. The first one of a test binary starts MiniStack.
    pub async fn new() -> Self {
        static MINISTACK: OnceLock<MiniStack> = OnceLock::new();
        let port = MINISTACK.get_or_init(MiniStack::start).port;
        let sdk = sdk_config(&format!("http://127.0.0.1:{port}"));
        let client = Client::new(&sdk);
        let pool = create_pool(&client).await;
        let app_client = create_app_client(&client, &pool).await;
        for (_, group) in resources("AWS::Cognito::UserPoolGroup") {
            let name = group["GroupName"].as_str().expect("a name");
            client.create_group().user_pool_id(&pool).group_name(name).send().await.expect("a created group");
        }
        Self { sdk, pool, app_client }
    }

    /// Returns a client of Cognito.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.sdk)
    }

    /// Returns a client of Cognito whose calls get the faults of `http`.
    #[must_use]
    pub fn client_with(&self, http: &FaultyHttp) -> Client {
        Client::new(&self.sdk.clone().into_builder().http_client(http.clone()).build())
    }

    /// Returns the number of users of the pool.
    pub async fn users(&self) -> usize {
        let list = self.client().list_users().user_pool_id(&self.pool).send().await;
        list.expect("a list of users").users().len()
    }
}

async fn create_pool(client: &Client) -> String {
    let template = property("AWS::Cognito::UserPool", "Policies");
    let rules = &template["PasswordPolicy"];
    let requires = |name: &str| rules[name].as_bool().expect("a rule for passwords");
    let length = rules["MinimumLength"].as_i64().and_then(|length| i32::try_from(length).ok());
    let passwords = PasswordPolicyType::builder()
        .minimum_length(length.expect("the least length of a password"))
        .require_lowercase(requires("RequireLowercase"))
        .require_uppercase(requires("RequireUppercase"))
        .require_numbers(requires("RequireNumbers"))
        .require_symbols(requires("RequireSymbols"))
        .build();
    let created = client
        .create_user_pool()
        .pool_name("ev-users-test")
        .username_attributes(UsernameAttributeType::Email)
        .auto_verified_attributes(VerifiedAttributeType::Email)
        .policies(UserPoolPolicyType::builder().password_policy(passwords).build())
        .send()
        .await
        .expect("a created user pool");
    created.user_pool.and_then(|pool| pool.id).expect("a user pool with an id")
}

async fn create_app_client(client: &Client, pool: &str) -> String {
    let created = client
        .create_user_pool_client()
        .user_pool_id(pool)
        .client_name("ev-app-test")
        .explicit_auth_flows(ExplicitAuthFlowsType::AllowAdminUserPasswordAuth)
        .explicit_auth_flows(ExplicitAuthFlowsType::AllowRefreshTokenAuth)
        .prevent_user_existence_errors(PreventUserExistenceErrorTypes::Enabled)
        .access_token_validity(15)
        .token_validity_units(TokenValidityUnitsType::builder().access_token(TimeUnitsType::Minutes).build())
        .enable_token_revocation(true)
        .send()
        .await
        .expect("a created app client");
    created.user_pool_client.and_then(|client| client.client_id).expect("an app client with an id")
}

fn property(kind: &str, name: &str) -> &'static Value {
    let (_, properties) = resources(kind).into_iter().next().unwrap_or_else(|| panic!("the template has no {kind}"));
    &properties[name]
}

impl MiniStack {
    fn start() -> Self {
        let program = Path::new(TOOLS).join("ministack");
        assert!(program.exists(), "run `make template`: {} is missing", program.display());
        let mut log = PathBuf::new();
        for _ in 0..STARTS {
            let folder = tempfile::tempdir().expect("a folder").keep();
            log = folder.join("log");
            let port = free_port();
            let mut shell = start(&program, &folder, port);
            if is_ready(port, &mut shell) {
                return Self { port, _shell: shell };
            }
        }
        let text = fs::read_to_string(&log).unwrap_or_default();
        panic!("MiniStack was not ready within {START:?}: {text}");
    }
}

fn start(program: &Path, folder: &Path, port: u16) -> Child {
    let log = fs::File::create(folder.join("log")).expect("a log");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", UNTIL_THE_TEST_ENDS, "sh"]).arg(program).arg(folder);
    shell.env_clear().envs(["PATH", "HOME"].into_iter().filter_map(|name| Some((name, of_process(name)?))));
    shell.envs([
        ("AUTH", "true"), // it checks codes and tokens as AWS does
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("BIND_HOST", "127.0.0.1"),
        ("IOT_MTLS_ENABLED", "0"),
        ("LOG_LEVEL", "WARNING"),
    ]);
    shell.env("GATEWAY_PORT", port.to_string()).env("STATE_DIR", folder.join("state"));
    shell.stdin(Stdio::piped()).stdout(log.try_clone().expect("a log")).stderr(log);
    shell.spawn().expect("a shell")
}

#[allow(clippy::disallowed_methods)] // a program needs them to start, and they are no settings
fn of_process(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Waits until MiniStack answers. Returns false if it does not in time.
fn is_ready(port: u16, shell: &mut Child) -> bool {
    let began = Stopwatch::now();
    while began.elapsed() < START && shell.try_wait().is_ok_and(|ended| ended.is_none()) {
        if answers(port) {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

fn answers(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let request = format!("GET /_ministack/ready HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.lines().next().is_some_and(|status| status.contains(" 200"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_test_has_a_user_pool_of_its_own() {
        let (first, second) = (LocalCognito::new().await, LocalCognito::new().await);
        assert_ne!((&first.pool, &first.app_client), (&second.pool, &second.app_client));
        let sign_up = first.client().sign_up().client_id(&first.app_client).username("ada@example.com");
        sign_up.password("Correct-Horse-9").send().await.expect("a user");
        assert_eq!((first.users().await, second.users().await), (1, 0));
    }

    /// MiniStack ends when the standard input of its shell does.
    #[test]
    fn ministack_ends_with_the_test_binary() {
        let MiniStack { port, _shell: mut shell } = MiniStack::start();
        assert!(answers(port));
        drop(shell.stdin.take());
        shell.wait().expect("an end");
        assert!(!answers(port));
    }
}
