use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use domain::dead_letter::QuarantinedLetter;
use lambda_kit::{AwsError, Failure};

/// The bucket for invalid messages, one object for each message.
#[derive(Clone, Debug)]
pub struct Quarantine {
    client: Client,
    bucket: String,
}

impl Quarantine {
    /// Creates the quarantine in this bucket.
    #[must_use]
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    /// Stores a message under its key. Storing the same message again writes the same object.
    ///
    /// # Errors
    /// [`Code::Unavailable`](lambda_kit::Code::Unavailable) when S3 does not accept the object, and
    /// [`Code::Internal`](lambda_kit::Code::Internal) when the message cannot be serialized.
    pub async fn keep(&self, letter: &QuarantinedLetter) -> Result<(), Failure> {
        let json = serde_json::to_vec_pretty(letter).map_err(Failure::internal)?;
        let put = self.client.put_object().bucket(&self.bucket).key(letter.key()).content_type("application/json");
        let put = put.body(ByteStream::from(json)).send().await;
        put.map(|_| ()).map_err(AwsError::from).map_err(Failure::unavailable)
    }
}
