//! `evoke watch`: shows a session or a station live, by subscriptions of the GraphQL API.
//!
//! The command reads the state by a query, and then follows the updates. Whenever the connection was broken, the
//! command reads the state again.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use appsync::{Authorization, Credentials, Error, Event, GraphQlError, Subscription, Update};
use clap::Args;
use console::Term;
use futures::StreamExt;

use crate::api::Api;
use crate::graphql::{GraphQl, Session, Station, is_not_found};
use crate::live::{Effect, LiveSession, LiveStation};
use crate::stack::Stack;
use crate::view::View;

/// The pause after a failed read.
const AGAIN: Duration = Duration::from_secs(2);

/// What to watch, and as whom.
#[derive(Args)]
pub struct Options {
    /// The id of a session or of a station.
    id: String,
    /// The e-mail address with which you sign in.
    #[arg(long, env = "EVOKE_EMAIL")]
    email: Option<String>,
    /// The password. Better set the environment variable, or let the command ask for the password.
    #[arg(long, env = "EVOKE_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// An access token, in place of a sign-in. The view ends when the API no longer accepts it.
    #[arg(long, env = "EVOKE_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl Options {
    async fn credentials(&self, stack: &Stack) -> Result<Arc<dyn Credentials>> {
        if let Some(token) = &self.token {
            return Ok(Arc::new(Authorization::Token(token.clone())));
        }
        let email = self.email.as_ref().context("say who watches: --email, or --token")?;
        let password = self.password.clone().map_or_else(|| ask(email), Ok)?;
        Ok(Arc::new(Api::of(stack)?.sign_in(email, &password).await?))
    }
}

/// Asks for a password, which is not shown.
fn ask(email: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask for the password: set EVOKE_PASSWORD");
    }
    let terminal = Term::stderr();
    terminal.write_str(&format!("password of {email}: "))?;
    Ok(terminal.read_secure_line()?)
}

/// Shows a session until it ends, or a station until it is deleted. Ctrl-C ends the view earlier.
pub async fn run(stack: &Stack, options: &Options) -> Result<()> {
    let graphql = GraphQl::new(stack, options.credentials(stack).await?)?;
    let found = match graphql.session(&options.id).await {
        Err(error) if is_not_found(&error) => Watched::Station(Box::new(
            graphql.station(&options.id).await.with_context(|| format!("no session or station {}", options.id))?,
        )),
        session => Watched::Session(Box::new(session?)),
    };
    let shown = async {
        match found {
            Watched::Session(session) => follow(&graphql, SessionView::new(*session)).await,
            Watched::Station(station) => follow(&graphql, StationView::new(*station)).await,
        }
    };
    tokio::select! {
        end = Box::pin(shown) => end,
        interrupt = tokio::signal::ctrl_c() => Ok(interrupt?),
    }
}

enum Watched {
    Session(Box<Session>),
    Station(Box<Station>),
}

/// What is shown, and how it follows the updates.
trait Shown {
    /// Returns the subscriptions for it.
    fn subscriptions(&self) -> Vec<Subscription>;

    /// Takes an update.
    fn update(&mut self, update: &Update) -> Effect;

    /// Reads the current state. The cost of a running session is known only in this way: its progress has no cost.
    async fn read(&mut self, graphql: &GraphQl) -> Result<()>;

    /// Returns whether the state must be read after this update, because the update lacks values.
    fn wants_read_after(&self, update: &Update) -> bool;

    /// Draws it, beside the state of the connection.
    fn draw(&mut self, connection: &str);

    /// Returns whether nothing more can happen.
    fn is_over(&self) -> bool;

    /// Ends the drawing.
    fn finish(&self);
}

/// Shows something until it is over.
async fn follow(graphql: &GraphQl, mut shown: impl Shown) -> Result<()> {
    let mut live = graphql.subscribe(shown.subscriptions());
    let mut connection = "connecting".to_owned();
    // Whether the state must be read again. A read that fails is repeated later.
    let mut is_outdated = false;
    shown.draw(&connection);
    while !shown.is_over() {
        match tokio::time::timeout(AGAIN, live.next()).await {
            Ok(Some(Event::Started)) => {
                "live".clone_into(&mut connection);
                is_outdated = true;
            }
            Ok(Some(Event::Update(update))) => {
                let effect = shown.update(&update);
                is_outdated |= effect == Effect::Unknown || shown.wants_read_after(&update);
            }
            Ok(Some(Event::Unreadable(_))) => is_outdated = true,
            Ok(Some(Event::Interrupted(reason))) => connection = format!("not connected ({reason})"),
            Ok(Some(Event::Refused(errors))) => return Err(Error::Refused(errors).into()),
            Ok(None) => bail!("the subscription has ended"),
            Err(_) if is_outdated => {}
            Err(_) => continue,
        }
        shown.draw(&connection);
        if is_outdated {
            match shown.read(graphql).await {
                Ok(()) => {
                    is_outdated = false;
                    shown.draw(&connection);
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => shown.draw(&format!("{connection}, but not up to date ({error:#})")),
            }
        }
    }
    shown.finish();
    Ok(())
}

/// Returns whether a request would fail again in the same way.
fn is_final(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Error>();
    matches!(refused, Some(Error::Refused(errors)) if !errors.iter().all(GraphQlError::is_temporary))
}

/// Prints a line if the output is no terminal and the line is another one than the last.
#[derive(Default)]
struct Lines {
    last: Vec<String>,
}

impl Lines {
    fn print(&mut self, lines: Vec<String>) {
        for line in lines.iter().filter(|line| !self.last.contains(line)) {
            println!("{line}");
        }
        self.last = lines;
    }
}

struct SessionView {
    live: LiveSession,
    view: View,
    lines: Lines,
}

impl SessionView {
    fn new(session: Session) -> Self {
        let mut view = View::new();
        view.add([format!("to {} %", session.target_percent)]);
        Self { live: LiveSession::new(session), view, lines: Lines::default() }
    }
}

impl Shown for SessionView {
    fn subscriptions(&self) -> Vec<Subscription> {
        let Session { session_id, station_id, .. } = self.live.known();
        vec![Subscription::session(session_id), Subscription::progress_at(station_id)]
    }

    fn update(&mut self, update: &Update) -> Effect {
        match update {
            Update::SessionChanged(update) => self.live.change(update),
            Update::StationProgress(progress) => self.live.progress(progress),
            _ => Effect::Nothing,
        }
    }

    async fn read(&mut self, graphql: &GraphQl) -> Result<()> {
        let session = graphql.session(&self.live.known().session_id).await?;
        self.live.read(session);
        Ok(())
    }

    fn wants_read_after(&self, update: &Update) -> bool {
        // Progress has no cost, and an end has no state of charge.
        matches!(update, Update::StationProgress(_) | Update::SessionChanged(_))
    }

    fn draw(&mut self, connection: &str) {
        let Session { session_id, station_id, port_id, charge_percent, end_reason, .. } = self.live.known();
        let reason = end_reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
        let headline = format!("session {session_id} at {station_id}, {port_id}: {connection}");
        let line = format!("{}{reason}", self.live.line());
        if self.view.is_drawn() {
            self.view.headline(headline);
            self.view.set(0, *charge_percent, line);
        } else {
            self.lines.print(vec![headline, line]);
        }
    }

    fn is_over(&self) -> bool {
        !self.live.is_active()
    }

    fn finish(&self) {
        self.view.finish();
    }
}

struct StationView {
    live: LiveStation,
    view: View,
    /// The names of the rows that are drawn.
    rows: Vec<String>,
    lines: Lines,
}

impl StationView {
    fn new(station: Station) -> Self {
        Self { live: LiveStation::new(station), view: View::new(), rows: Vec::new(), lines: Lines::default() }
    }
}

impl Shown for StationView {
    fn subscriptions(&self) -> Vec<Subscription> {
        vec![Subscription::station(self.live.id()), Subscription::progress_at(self.live.id())]
    }

    fn update(&mut self, update: &Update) -> Effect {
        match update {
            Update::StationChanged(update) => self.live.change(update),
            Update::StationProgress(progress) => self.live.progress(progress),
            _ => Effect::Nothing,
        }
    }

    async fn read(&mut self, graphql: &GraphQl) -> Result<()> {
        let station = graphql.station(self.live.id()).await?;
        self.live.read(station);
        Ok(())
    }

    fn wants_read_after(&self, _: &Update) -> bool {
        false
    }

    fn draw(&mut self, connection: &str) {
        let headline = format!("{}: {connection}", self.live.headline());
        let rows = self.live.rows();
        if !self.view.is_drawn() {
            let rows = rows.iter().map(|(name, line, _)| format!("  {name:22} {}", line.trim_start()));
            self.lines.print(std::iter::once(headline).chain(rows).collect());
            return;
        }
        let names: Vec<String> = rows.iter().map(|(name, ..)| name.clone()).collect();
        if names != self.rows {
            self.view.clear();
            self.view.add(names.iter().cloned());
            self.rows = names;
        }
        self.view.headline(headline);
        for (row, (_, line, percent)) in rows.into_iter().enumerate() {
            self.view.set(row, percent, line);
        }
    }

    fn is_over(&self) -> bool {
        self.live.is_deleted()
    }

    fn finish(&self) {
        self.view.finish();
    }
}
