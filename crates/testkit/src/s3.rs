use std::net::SocketAddr;

use aws_sdk_s3::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::aws::sdk_config;

/// S3 in this process, on a free port, over a temporary folder. It stops when this value is dropped.
#[derive(Debug)]
pub struct EmbeddedS3 {
    address: SocketAddr,
    server: JoinHandle<()>,
    _folder: TempDir,
}

impl EmbeddedS3 {
    /// Starts S3 with one bucket.
    pub async fn start(bucket: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).expect("a file system"));
        builder.set_auth(SimpleAuth::from_single("test", "test"));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        let embedded = Self { address, server, _folder: folder };
        embedded.client().create_bucket().bucket(bucket).send().await.expect("a bucket");
        embedded
    }

    /// Returns a client.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&sdk_config(&self.endpoint()))
    }

    /// Returns the URL of the endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the keys and contents of all objects in a bucket.
    pub async fn objects(&self, bucket: &str) -> Vec<(String, Vec<u8>)> {
        let client = self.client();
        let (mut objects, mut start) = (Vec::new(), None);
        loop {
            let list = client.list_objects_v2().bucket(bucket).set_start_after(start.take());
            let list = list.send().await.expect("a readable bucket");
            for key in list.contents().iter().filter_map(|object| object.key()) {
                let object = client.get_object().bucket(bucket).key(key).send().await.expect("an object");
                objects.push((key.to_owned(), object.body.collect().await.expect("its content").to_vec()));
                start = Some(key.to_owned());
            }
            if start.is_none() {
                return objects;
            }
        }
    }
}

impl Drop for EmbeddedS3 {
    fn drop(&mut self) {
        self.server.abort();
    }
}
