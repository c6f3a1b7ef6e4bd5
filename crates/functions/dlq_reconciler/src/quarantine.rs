use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use domain::dead_letter::QuarantinedLetter;
use lambda_kit::Failure;

/// The bucket in which poison is kept, one object for each message.
#[derive(Clone, Debug)]
pub struct Quarantine {
    client: Client,
    bucket: String,
}

impl Quarantine {
    /// In this bucket.
    #[must_use]
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    /// Keeps a letter under its key. The same letter again is the same object.
    ///
    /// # Errors
    /// Unavailable when the bucket does not take it.
    pub async fn keep(&self, letter: &QuarantinedLetter) -> Result<(), Failure> {
        let json = serde_json::to_vec_pretty(letter).map_err(Failure::internal)?;
        let put = self.client.put_object().bucket(&self.bucket).key(letter.key()).content_type("application/json");
        put.body(ByteStream::from(json))
            .send()
            .await
            .map_err(|error| Failure::unavailable(aws_sdk_s3::error::DisplayErrorContext(error)))?;
        Ok(())
    }
}
