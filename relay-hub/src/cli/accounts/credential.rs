//! The credential that `relay-hub account add` is given: words and secrets in, what the store keeps out.

use std::path::PathBuf;

use clap::Args;
use relay_shared::{config::Problems, secret::Secret};

use super::add::parse_url;
use crate::{
    cli::{Failure, secret},
    vendor::{
        CredentialKind, Settings, VendorKind,
        oauth::{AZURE_SCOPE, entra_url, is_entra_tenant},
    },
};

#[derive(Args, Default)]
pub(super) struct CredentialWords {
    #[command(flatten)]
    pub(super) secret: SecretFrom,
    /// What the secret is. Without it an API key, at Bedrock an AWS key.
    #[arg(long, value_name = "KIND", value_parser = CredentialKind::NAMES)]
    pub(super) credential: Option<String>,
    /// OAuth 2: the client's id.
    #[arg(long, value_name = "ID")]
    pub(super) client_id: Option<String>,
    /// OAuth 2: where access tokens are asked for.
    #[arg(long, value_name = "URL", conflicts_with = "entra_tenant")]
    pub(super) token_url: Option<String>,
    /// The same at Microsoft Entra, by the tenant's id or domain.
    #[arg(long, value_name = "TENANT")]
    pub(super) entra_tenant: Option<String>,
    /// OAuth 2: what tokens are to be good for. At Azure, without it, its models.
    #[arg(long)]
    pub(super) scope: Option<String>,
    #[command(flatten)]
    pub(super) client_secret: ClientSecretFrom,
    /// AWS: the access key's id.
    #[arg(long, value_name = "ID")]
    pub(super) key_id: Option<String>,
    /// AWS: the region of the models, such as eu-central-1. Without it, what the base URL names.
    #[arg(long)]
    pub(super) aws_region: Option<String>,
    #[command(flatten)]
    pub(super) session_token: SessionTokenFrom,
}

#[derive(Args, Default)]
#[group(required = true, multiple = false)]
pub(super) struct SecretFrom {
    /// The environment variable that holds the secret.
    #[arg(long, value_name = "VAR")]
    pub(super) secret_env: Option<String>,
    /// The file that holds the secret.
    #[arg(long, value_name = "FILE")]
    pub(super) secret_file: Option<PathBuf>,
}

#[derive(Args, Default)]
#[group(multiple = false)]
pub(super) struct ClientSecretFrom {
    /// The variable that holds the client's own secret, which goes with a refresh token at some vendors.
    #[arg(long, value_name = "VAR")]
    pub(super) client_secret_env: Option<String>,
    /// The file that holds it.
    #[arg(long, value_name = "FILE")]
    pub(super) client_secret_file: Option<PathBuf>,
}

#[derive(Args, Default)]
#[group(multiple = false)]
pub(super) struct SessionTokenFrom {
    /// The variable that holds the session token of an AWS key that was lent.
    #[arg(long, value_name = "VAR")]
    pub(super) session_token_env: Option<String>,
    /// The file that holds it.
    #[arg(long, value_name = "FILE")]
    pub(super) session_token_file: Option<PathBuf>,
}

/// A credential as it was given.
pub(super) struct Given {
    pub(super) kind: CredentialKind,
    pub(super) secret: Secret<String>,
    /// The client's secret or the session token.
    pub(super) more: Option<Secret<String>>,
}

impl CredentialWords {
    /// Reads the credential; what is no secret of it goes into `settings`, and what is missing or too much into `problems`.
    ///
    /// # Errors
    /// No secret is named.
    pub(super) fn read(
        &self,
        vendor: VendorKind,
        (base_url, allows_private): (&str, bool),
        settings: &mut Settings,
        problems: &mut Problems,
    ) -> Result<Given, Failure> {
        let kind = match &self.credential {
            Some(name) => CredentialKind::parse(name),
            None => None,
        };
        let kind = kind.unwrap_or(vendor.credentials()[0]);
        if !vendor.credentials().contains(&kind) {
            let fit: Vec<_> = vendor.credentials().iter().map(|kind| kind.as_str()).collect();
            let problem = format!("{} takes no {}", vendor.as_str(), kind.as_str());
            problems.push("--credential", problem, format!("use {}", fit.join(" or ")));
        }
        self.note_misfits(kind, problems);
        match kind {
            CredentialKind::ApiKey => {}
            CredentialKind::RefreshToken | CredentialKind::ClientCredentials => {
                self.read_grant(vendor, allows_private, settings, problems)?;
            }
            CredentialKind::AwsKey => self.read_aws(base_url, settings, problems),
        }
        let SecretFrom {
            secret_env,
            secret_file,
        } = &self.secret;
        if secret_env.is_none() && secret_file.is_none() {
            return Err(Failure::usage("no secret is named").hint("use --secret-env or --secret-file"));
        }
        let mut read = |word, env: &Option<String>, file: &Option<PathBuf>, what| {
            let read = secret::read(env.as_deref(), file.as_deref(), what);
            // One that cannot be read is told with all that is wrong, and so is never used.
            read.or_else(|failure| failure.note(word, problems).map(|()| None))
        };
        let secret = read("--secret", secret_env, secret_file, kind.secret())?;
        let client = &self.client_secret;
        let client = read(
            "--client-secret",
            &client.client_secret_env,
            &client.client_secret_file,
            "the client's secret",
        )?;
        let session = &self.session_token;
        let session = read(
            "--session-token",
            &session.session_token_env,
            &session.session_token_file,
            "the session token",
        )?;
        Ok(Given {
            kind,
            secret: secret.unwrap_or_else(|| Secret::new(String::new())),
            more: client.or(session),
        })
    }

    /// Where the models of the region are.
    pub(super) fn bedrock_url(&self) -> String {
        let region = self.aws_region.as_deref().unwrap_or_default();
        format!("https://bedrock-runtime.{region}.amazonaws.com")
    }

    /// Words that belong to another kind of credential are a mistake, not decoration.
    fn note_misfits(&self, kind: CredentialKind, problems: &mut Problems) {
        let Self {
            secret: _,
            credential: _,
            client_id,
            token_url,
            entra_tenant,
            scope,
            client_secret,
            key_id,
            aws_region,
            session_token,
        } = self;
        let is_grant = matches!(kind, CredentialKind::RefreshToken | CredentialKind::ClientCredentials);
        let is_aws = kind == CredentialKind::AwsKey;
        let has_client_secret = client_secret.client_secret_env.is_some() || client_secret.client_secret_file.is_some();
        let has_session = session_token.session_token_env.is_some() || session_token.session_token_file.is_some();
        for (word, is_given, is_fit) in [
            ("--client-id", client_id.is_some(), is_grant),
            ("--token-url", token_url.is_some(), is_grant),
            ("--entra-tenant", entra_tenant.is_some(), is_grant),
            ("--scope", scope.is_some(), is_grant),
            (
                "--client-secret-…",
                has_client_secret,
                kind == CredentialKind::RefreshToken,
            ),
            ("--key-id", key_id.is_some(), is_aws),
            ("--aws-region", aws_region.is_some(), is_aws),
            ("--session-token-…", has_session, is_aws),
        ] {
            if is_given && !is_fit {
                let problem = format!("does not go with a credential of kind {}", kind.as_str());
                problems.push(word, problem, "leave it out, or name another --credential");
            }
        }
    }

    fn read_grant(
        &self,
        vendor: VendorKind,
        allows_private: bool,
        settings: &mut Settings,
        problems: &mut Problems,
    ) -> Result<(), Failure> {
        settings.client_id.clone_from(&self.client_id);
        if settings.client_id.is_none() {
            problems.push(
                "--client-id",
                "is missing",
                "the id under which the client is known to its vendor",
            );
        }
        settings.scope.clone_from(&self.scope);
        if settings.scope.is_none() && vendor == VendorKind::Azure {
            settings.scope = Some(AZURE_SCOPE.to_owned());
        }
        match (&self.token_url, &self.entra_tenant) {
            (Some(url), _) => match parse_url("token URL", url, allows_private) {
                Ok(url) => settings.token_url = Some(url),
                Err(failure) => failure.note("--token-url", problems)?,
            },
            (None, Some(tenant)) => match entra_url(tenant) {
                Ok(url) if is_entra_tenant(tenant) => settings.token_url = Some(url.to_string()),
                Ok(_) | Err(_) => problems.push(
                    "--entra-tenant",
                    "is no tenant's id or domain",
                    "such as contoso.onmicrosoft.com",
                ),
            },
            (None, None) => problems.push("--token-url", "is missing", "or, at Microsoft Entra, --entra-tenant"),
        }
        Ok(())
    }

    fn read_aws(&self, base_url: &str, settings: &mut Settings, problems: &mut Problems) {
        let is_word =
            |text: &&String| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && !text.is_empty();
        settings.key_id = self.key_id.as_ref().filter(is_word).cloned();
        let named = self.aws_region.clone().or_else(|| region_of(base_url));
        settings.region = named.as_ref().filter(is_word).cloned();
        if settings.key_id.is_none() {
            problems.push("--key-id", "is missing, or no access key's id", "such as AKIA…");
        }
        if settings.region.is_none() {
            problems.push("--aws-region", "is missing, or no region", "such as eu-central-1");
        }
    }
}

/// The region in one of Bedrock's own names: `bedrock-runtime.eu-central-1.amazonaws.com`, also of its FIPS endpoints.
fn region_of(base_url: &str) -> Option<String> {
    let host = base_url.strip_prefix("https://")?.split(['/', ':']).next()?;
    let (service, rest) = host.split_once('.')?;
    let (region, domain) = rest.split_once('.')?;
    let is_amazons = domain == "amazonaws.com" || domain == "amazonaws.com.cn";
    let is_fit = is_amazons && matches!(service, "bedrock-runtime" | "bedrock-runtime-fips");
    is_fit.then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_read_from_bedrocks_own_names_alone() {
        let region = |url| region_of(url);
        assert_eq!(
            region("https://bedrock-runtime.eu-central-1.amazonaws.com/").as_deref(),
            Some("eu-central-1")
        );
        assert_eq!(
            region("https://bedrock-runtime-fips.us-east-1.amazonaws.com").as_deref(),
            Some("us-east-1")
        );
        for other in [
            "https://bedrock.eu-central-1.amazonaws.com",
            "https://bedrock-runtime.x.example.com",
            "http://127.0.0.1:9",
        ] {
            assert_eq!(region(other), None, "{other}");
        }
    }
}
