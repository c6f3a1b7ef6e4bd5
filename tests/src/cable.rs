//! A connection to the local cloud that a test can cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};

/// A proxy on this machine. It passes connections to a server until it is pulled out.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    listener: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    is_out: bool,
    connections: Vec<AbortHandle>,
}

impl Cable {
    /// Starts a proxy to the server with this host and port.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let (server, shared) = (server.to_owned(), state.clone());
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut state = lock(&shared);
                if !state.is_out {
                    state.connections.push(tokio::spawn(pass(client, server.clone())).abort_handle());
                }
            }
        });
        Self { address, state, listener }
    }

    /// Returns the URL that has this cable in place of the server's host and port.
    #[must_use]
    pub fn instead_of(&self, server: &str, url: &str) -> String {
        assert!(url.contains(server), "{url} has not the host {server}");
        url.replacen(server, &self.address.to_string(), 1)
    }

    /// Cuts all connections. New ones are closed at once until [`plug_in`](Self::plug_in).
    pub fn pull_out(&self) {
        let mut state = lock(&self.state);
        state.is_out = true;
        for connection in state.connections.drain(..) {
            connection.abort();
        }
    }

    /// Lets new connections pass again.
    pub fn plug_in(&self) {
        lock(&self.state).is_out = false;
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.pull_out();
        self.listener.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes bytes in both directions until one side ends.
async fn pass(mut client: TcpStream, server: String) {
    if let Ok(mut server) = TcpStream::connect(server).await {
        // A connection that breaks is nothing but its end.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
