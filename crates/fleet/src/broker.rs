use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const KEEP_ALIVE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: u64 = 10;
/// The maximum message size of AWS IoT, bytes.
const LARGEST_PACKET: usize = 128 * 1024;
/// The maximum number of unacknowledged messages on a connection.
const IN_FLIGHT: usize = 100;

/// The MQTT broker of IoT Core.
#[derive(Clone, Debug)]
pub struct Broker {
    host: String,
    port: u16,
    roots: Arc<RootCertStore>,
}

/// The identity of a device.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name of the thing, which is the id of the station.
    pub thing: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key, PEM.
    pub private_key: String,
}

/// A connection to the broker.
#[derive(Debug)]
pub struct Line {
    client: AsyncClient,
    events: mpsc::Receiver<LineEvent>,
    poll: JoinHandle<()>,
}

/// An event on a connection.
#[derive(Debug)]
pub enum LineEvent {
    /// The broker accepted the connection.
    Connected,
    /// A message was sent with this packet id. Messages are sent in the order of publishing.
    Sent(u16),
    /// The broker acknowledged the message with this packet id.
    Acknowledged(u16),
    /// A message arrived: its topic and payload.
    Received(String, Vec<u8>),
    /// The connection broke, for this reason. It is the last event.
    Broken(String),
}

impl Broker {
    /// Creates a broker at this address. Its certificate is verified with these root certificates (PEM), or with those
    /// of the system.
    ///
    /// # Errors
    /// When there are no root certificates, or they cannot be parsed.
    pub fn new(host: impl Into<String>, port: u16, roots: Option<&[u8]>) -> Result<Self> {
        let mut store = RootCertStore::empty();
        match roots {
            Some(pem) => {
                for root in CertificateDer::pem_slice_iter(pem) {
                    store.add(root.context("a root certificate cannot be read")?)?;
                }
            }
            None => {
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        anyhow::ensure!(!store.is_empty(), "there are no root certificates to know the broker by");
        Ok(Self { host: host.into(), port, roots: Arc::new(store) })
    }

    /// Connects as `client_id` with this certificate and private key (PEM). The events of the connection tell whether
    /// the broker accepts it.
    ///
    /// # Errors
    /// When the certificate or the key cannot be parsed.
    pub fn dial(&self, client_id: &str, certificate: &str, private_key: &str) -> Result<Line> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<_, _>>()
            .context("the certificate cannot be read")?;
        let key = PrivateKeyDer::from_pem_slice(private_key.as_bytes()).context("the private key cannot be read")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(chain, key)?;
        let mut options = MqttOptions::new(client_id, &self.host, self.port);
        options.set_keep_alive(KEEP_ALIVE).set_clean_session(true).set_max_packet_size(LARGEST_PACKET, LARGEST_PACKET);
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))));
        let (client, mut event_loop) = AsyncClient::new(options, IN_FLIGHT);
        event_loop.network_options.set_connection_timeout(CONNECT_TIMEOUT);
        let (sender, events) = mpsc::channel(IN_FLIGHT);
        let poll = tokio::spawn(poll(event_loop, sender));
        Ok(Line { client, events, poll })
    }
}

impl Line {
    /// Publishes a message with the quality of service "at least once".
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) -> Result<()> {
        Ok(self.client.publish(topic, QoS::AtLeastOnce, false, payload).await?)
    }

    /// Subscribes to a topic.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn subscribe(&self, topic: &str) -> Result<()> {
        Ok(self.client.subscribe(topic, QoS::AtLeastOnce).await?)
    }

    /// Waits for the next event. After the last one it returns [`LineEvent::Broken`].
    pub async fn next(&mut self) -> LineEvent {
        self.events.recv().await.unwrap_or_else(|| LineEvent::Broken("closed".to_owned()))
    }

    /// Disconnects, if the connection still exists.
    pub async fn hang_up(mut self) {
        if self.client.disconnect().await.is_ok() {
            while !matches!(self.next().await, LineEvent::Broken(_)) {}
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.poll.abort();
    }
}

/// Runs one connection until it breaks. The device decides which messages are sent again.
async fn poll(mut event_loop: EventLoop, events: mpsc::Sender<LineEvent>) {
    loop {
        let event = match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => LineEvent::Connected,
            Ok(Event::Outgoing(Outgoing::Publish(id))) => LineEvent::Sent(id),
            Ok(Event::Incoming(Packet::PubAck(ack))) => LineEvent::Acknowledged(ack.pkid),
            Ok(Event::Incoming(Packet::Publish(message))) => {
                LineEvent::Received(message.topic, message.payload.to_vec())
            }
            Ok(Event::Incoming(Packet::Disconnect) | Event::Outgoing(Outgoing::Disconnect)) => {
                LineEvent::Broken("disconnected".to_owned())
            }
            Ok(_) => continue,
            Err(error) => LineEvent::Broken(error.to_string()),
        };
        let broken = matches!(event, LineEvent::Broken(_));
        if events.send(event).await.is_err() || broken {
            return;
        }
    }
}
