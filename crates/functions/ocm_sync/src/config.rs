use lambda_kit::{ConfigError, Env, FromEnv};

/// The configuration of `ocm_sync`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the table of the OpenChargeMap mirror, e.g. `ev-ocm-pois-dev`.
    ///
    /// Environment variable `POIS_TABLE`.
    pub pois_table: String,
    /// The URL of OpenChargeMap's API, e.g. `https://api.openchargemap.io`.
    ///
    /// Environment variable `OCM_BASE_URL`.
    pub base_url: String,
    /// The number of records on a page, e.g. `5000`.
    ///
    /// Environment variable `OCM_PAGE_SIZE`.
    pub page_size: u32,
    /// The name of the parameter of the AWS Systems Manager that contains the API key, e.g. `/evoke/ocm-api-key`.
    ///
    /// Environment variable `OCM_API_KEY_PARAMETER`.
    pub api_key_parameter: String,
}

impl FromEnv for Config {
    const VARIABLES: &'static [&'static str] =
        &["POIS_TABLE", "OCM_BASE_URL", "OCM_PAGE_SIZE", "OCM_API_KEY_PARAMETER"];

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            pois_table: env.required("POIS_TABLE")?,
            base_url: env.required("OCM_BASE_URL")?,
            page_size: env.parsed("OCM_PAGE_SIZE")?,
            api_key_parameter: env.required("OCM_API_KEY_PARAMETER")?,
        })
    }
}
