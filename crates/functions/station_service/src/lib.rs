//! Stations and ports: create, read, change, transition.

mod commands;
mod view;

use commands::{AddPort, CreateStation, FailPort, ListStations, PortRef, StationRef, TransitionStation, UpdateStation};
use domain::actor::Actor;
use domain::error::DomainError;
use domain::id::{PortId, StationId};
use domain::session::{EndReason, Session, SessionStatus};
use domain::station::{self, Port, StationStatus};
use lambda_kit::{Answer, Context, Failure, Function, Request, Route, RouteAction, decide};
use store::{ChargingStore, LoadedStation, StationFilter, Transaction};

pub use view::{PortView, StationView};

const ACTIONS: [&str; 10] = [
    "createStation",
    "getStation",
    "listStations",
    "updateStation",
    "deleteStation",
    "transitionStation",
    "addPort",
    "removePort",
    "failPort",
    "resetPort",
];

/// The function.
#[derive(Debug)]
pub struct StationService {
    charging: ChargingStore,
}

impl Function for StationService {
    const NAME: &'static str = "station_service";
    const ROUTES: &'static [Route] = &[
        Route::new::<CreateStation>("POST /stations", RouteAction::Is("createStation")),
        Route::new::<ListStations>("GET /stations", RouteAction::Is("listStations")),
        Route::new::<StationRef>("GET /stations/{stationId}", RouteAction::Is("getStation")),
        Route::new::<UpdateStation>("PATCH /stations/{stationId}", RouteAction::Is("updateStation")),
        Route::new::<StationRef>("DELETE /stations/{stationId}", RouteAction::Is("deleteStation")),
        Route::new::<TransitionStation>("POST /stations/{stationId}/transitions", RouteAction::Is("transitionStation")),
        Route::new::<AddPort>("POST /stations/{stationId}/ports", RouteAction::Is("addPort")),
        Route::new::<FailPort>(
            "POST /stations/{stationId}/ports/{portId}/transitions",
            RouteAction::To(&[("ERROR", "failPort"), ("FREE", "resetPort")]),
        ),
    ];

    async fn handle(&self, request: Request) -> Result<Answer, Failure> {
        match request.action.as_str() {
            "createStation" => self.create(&request).await,
            "getStation" => self.get(&request).await,
            "listStations" => self.list(&request).await,
            "updateStation" => self.update(&request).await,
            "deleteStation" => self.delete(&request).await,
            "transitionStation" => self.transition(&request).await,
            "addPort" => self.add_port(&request).await,
            "removePort" => self.remove_port(&request).await,
            "failPort" => self.fail_port(&request).await,
            "resetPort" => self.reset_port(&request).await,
            _ => Err(request.unknown_action(&ACTIONS)),
        }
    }
}

impl StationService {
    /// Over these tables.
    #[must_use]
    pub fn new(charging: ChargingStore) -> Self {
        Self { charging }
    }

    async fn create(&self, request: &Request) -> Result<Answer, Failure> {
        let command: CreateStation = request.command()?;
        let actor = request.actor()?;
        station::may_configure(actor)?;
        let (station, ports) = command.station(request.context.now)?;
        self.charging.stations.insert(&station, &ports).await.map_err(|error| {
            if error.is_stale() {
                return DomainError::conflict(format!("station {} exists already", station.id)).into();
            }
            Failure::from(error)
        })?;
        let location = format!("/stations/{}", station.id);
        Answer::created(location, StationView::new(&station, Some(&ports)))
    }

    async fn get(&self, request: &Request) -> Result<Answer, Failure> {
        let StationRef { station_id } = request.command()?;
        let loaded = self.load(&station_id).await?;
        Answer::ok(StationView::new(&loaded.station, Some(&loaded.ports)))
    }

    async fn list(&self, request: &Request) -> Result<Answer, Failure> {
        let command: ListStations = request.command()?;
        let filter = command.filter()?;
        let page = self.charging.stations.list(&filter, &command.page.into()).await?;
        Answer::page(page, |station| match &filter {
            StationFilter::Near(at, ..) => {
                StationView::new(&station, None).at_distance(at.distance_km(&station.location))
            }
            StationFilter::Status(_) => StationView::new(&station, None),
        })
    }

    async fn update(&self, request: &Request) -> Result<Answer, Failure> {
        let command: UpdateStation = request.command()?;
        let actor = request.actor()?;
        let updated = decide(|| async {
            let mut loaded = self.load(&command.station_id).await?;
            let update = command.update(&loaded.station)?;
            loaded.station.update(update, actor, request.context.now)?;
            self.charging.stations.save(&loaded.station, [], &request.context.trace()).await?;
            Ok(loaded)
        });
        let loaded = updated.await?;
        Answer::ok(StationView::new(&loaded.station, Some(&loaded.ports)))
    }

    async fn delete(&self, request: &Request) -> Result<Answer, Failure> {
        let StationRef { station_id } = request.command()?;
        let actor = request.actor()?;
        station::may_configure(actor)?;
        let loaded = self.load(&station_id).await?;
        loaded.station.may_delete(actor)?;
        self.charging.stations.delete(&loaded).await?;
        Answer::ok(serde_json::json!({ "stationId": station_id, "deleted": true }))
    }

    async fn transition(&self, request: &Request) -> Result<Answer, Failure> {
        let command: TransitionStation = request.command()?;
        let actor = request.actor()?;
        let loaded = decide(|| self.try_transition(&command, actor, &request.context)).await?;
        Answer::ok(StationView::new(&loaded.station, Some(&loaded.ports)))
    }

    async fn try_transition(
        &self,
        command: &TransitionStation,
        actor: &Actor,
        context: &Context,
    ) -> Result<LoadedStation, Failure> {
        let mut loaded = self.load(&command.station_id).await?;
        let event = loaded.station.transition(command.to, actor, context.now)?;
        if command.to == StationStatus::OutOfOrder && loaded.station.charging_ports > 0 {
            self.fail_all(&mut loaded, event, actor, context).await?;
        } else {
            self.charging.stations.save(&loaded.station, [event], &context.trace()).await?;
        }
        Ok(loaded)
    }

    /// Takes a station out of order and fails the sessions that run there, with their ports, in one transaction.
    async fn fail_all(
        &self,
        loaded: &mut LoadedStation,
        event: domain::event::Event,
        actor: &Actor,
        context: &Context,
    ) -> Result<(), Failure> {
        let trace = context.trace();
        let running = loaded.station.charging_ports;
        let sessions = self.settled(loaded, context).await?;
        let mut transaction = Transaction::new();
        let stations = &self.charging.stations;
        stations.save_ending_all(&mut transaction, &loaded.station, running, [event], &trace)?;
        for (mut session, read_version) in sessions {
            session.may_fail(actor.role)?;
            session.end(SessionStatus::Failed, EndReason::StationOutOfOrder);
            session.version = read_version + 1;
            let terms = self.charging.sessions.load_terms(&session.id).await?;
            self.charging.end_session(&mut transaction, (&session, &terms), read_version, &trace.correlation_id)?;
            if let Some(port) = loaded.ports.iter_mut().find(|port| port.id == session.port_id) {
                let failed = port.fail("the station went out of order", actor.role)?;
                stations.save_port_in(&mut transaction, port, [failed], &trace)?;
            }
        }
        transaction.commit(stations.db()).await?;
        loaded.station.charging_ports = 0;
        Ok(())
    }

    /// The sessions that run at a station, metered up to now, each with the version that was read.
    async fn settled(&self, loaded: &LoadedStation, context: &Context) -> Result<Vec<(Session, u64)>, Failure> {
        let mut sessions = self.charging.running_at(loaded).await?;
        let versions: Vec<u64> = sessions.iter().map(|session| session.version).collect();
        let terms = self.charging.cost_terms(&sessions).await?;
        domain::session::advance_station(&mut sessions, context.now, |session| terms.get(&session.id));
        Ok(sessions.into_iter().zip(versions).collect())
    }

    async fn add_port(&self, request: &Request) -> Result<Answer, Failure> {
        let command: AddPort = request.command()?;
        station::may_configure(request.actor()?)?;
        let mut loaded = self.load(&command.station_id).await?;
        let port = command.port.port(&loaded.station.id);
        loaded.ports.push(port.clone());
        let station = &loaded.station;
        station::validate(station.power_kw, None, &station.model, &loaded.ports).map_err(about_new_port)?;
        self.charging.stations.add_port(station, &port).await?;
        let location = format!("/stations/{}/ports/{}", station.id, port.id);
        Answer::created(location, PortView::new(&port))
    }

    async fn remove_port(&self, request: &Request) -> Result<Answer, Failure> {
        let PortRef { station_id, port_id } = request.command()?;
        let actor = request.actor()?;
        station::may_configure(actor)?;
        let loaded = self.load(&station_id).await?;
        let port = find_port(&loaded, &port_id)?;
        port.may_remove(actor)?;
        self.charging.stations.remove_port(&loaded.station, port).await?;
        Answer::ok(serde_json::json!({ "stationId": station_id, "portId": port_id, "removed": true }))
    }

    async fn fail_port(&self, request: &Request) -> Result<Answer, Failure> {
        let command: FailPort = request.command()?;
        let role = request.actor()?.role;
        let reason = command.reason.as_deref().unwrap_or("reported by an operator");
        let failed = decide(|| async {
            let loaded = self.load(&command.station_id).await?;
            let mut port = find_port(&loaded, &command.port_id)?.clone();
            let session_id = port.session_id.clone();
            let event = port.fail(reason, role)?;
            self.fail_session_of(&loaded, (&port, event), session_id, &request.context).await?;
            Ok(port)
        });
        Answer::ok(PortView::new(&failed.await?))
    }

    async fn fail_session_of(
        &self,
        loaded: &LoadedStation,
        failed: (&Port, domain::event::Event),
        session_id: Option<domain::id::SessionId>,
        context: &Context,
    ) -> Result<(), Failure> {
        let sessions = self.settled(loaded, context).await?;
        let running = sessions.into_iter().find(|(session, _)| Some(&session.id) == session_id.as_ref());
        let (mut session, read_version) =
            running.ok_or_else(|| Failure::stale("the port's session ends at this moment"))?;
        session.end(SessionStatus::Failed, EndReason::PortFailed);
        session.version = read_version + 1;
        let terms = self.charging.sessions.load_terms(&session.id).await?;
        Ok(self.charging.fail((&session, &terms), read_version, failed, &context.trace()).await?)
    }

    async fn reset_port(&self, request: &Request) -> Result<Answer, Failure> {
        let PortRef { station_id, port_id } = request.command()?;
        let role = request.actor()?.role;
        let loaded = self.load(&station_id).await?;
        let mut port = find_port(&loaded, &port_id)?.clone();
        port.reset(role)?;
        self.charging.stations.save_port(&port).await?;
        Answer::ok(PortView::new(&port))
    }

    async fn load(&self, id: &StationId) -> Result<LoadedStation, Failure> {
        let loaded = self.charging.stations.load(id).await?;
        Ok(loaded.ok_or_else(|| DomainError::not_found("station", id))?)
    }
}

fn find_port<'a>(loaded: &'a LoadedStation, id: &PortId) -> Result<&'a Port, Failure> {
    let port = loaded.ports.iter().find(|port| port.id == *id);
    Ok(port.ok_or_else(|| DomainError::not_found(&format!("port at station {} named", loaded.station.id), id))?)
}

/// The new port is the last of the list that was checked; its caller knows it as the request itself.
fn about_new_port(error: DomainError) -> DomainError {
    let DomainError::Validation(mut errors) = error else {
        return error;
    };
    for error in &mut errors {
        error.field = error.field.rsplit("].").next().unwrap_or(&error.field).to_owned();
    }
    DomainError::Validation(errors)
}
