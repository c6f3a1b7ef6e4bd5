//! Stations and ports: create, read, change, transition.

mod commands;
mod view;

use commands::{AddPort, CreateStation, FailPort, ListStations, PortRef, StationRef, TransitionStation, UpdateStation};
use domain::charging::site::{Changes, Site};
use domain::charging::station::{self, Port};
use domain::error::DomainError;
use domain::id::{PortId, StationId};
use lambda_kit::{Answer, Context, Failure, Function, Request, Route, RouteAction, decide};
use store::{ChargingStore, LoadedStation, StationFilter};

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
            let site = self.site(&command.station_id).await?;
            let update = command.update(&site.station)?;
            self.commit(site, |site| site.update(update, actor, request.context.now), &request.context).await
        });
        let site = updated.await?;
        Answer::ok(StationView::new(&site.station, Some(&site.ports)))
    }

    async fn delete(&self, request: &Request) -> Result<Answer, Failure> {
        let StationRef { station_id } = request.command()?;
        let actor = request.actor()?;
        station::may_configure(actor)?;
        let deleted = decide(|| async {
            let loaded = self.load(&station_id).await?;
            loaded.station.may_delete(actor)?;
            Ok(self.charging.stations.delete(&loaded).await?)
        });
        deleted.await?;
        Answer::ok(serde_json::json!({ "stationId": station_id, "deleted": true }))
    }

    async fn transition(&self, request: &Request) -> Result<Answer, Failure> {
        let command: TransitionStation = request.command()?;
        let actor = request.actor()?;
        let transitioned = decide(|| async {
            let site = self.site(&command.station_id).await?;
            let transition = |site: &mut Site| site.transition(command.to, actor, request.context.now);
            self.commit(site, transition, &request.context).await
        });
        let site = transitioned.await?;
        Answer::ok(StationView::new(&site.station, Some(&site.ports)))
    }

    async fn add_port(&self, request: &Request) -> Result<Answer, Failure> {
        let command: AddPort = request.command()?;
        station::may_configure(request.actor()?)?;
        let added = decide(|| async {
            let mut loaded = self.load(&command.station_id).await?;
            let port = command.port.port(&loaded.station.id);
            loaded.ports.push(port.clone());
            let station = &loaded.station;
            station::validate(station.power_kw, None, &station.model, &loaded.ports).map_err(about_new_port)?;
            self.charging.stations.add_port(station, &port).await?;
            Ok(port)
        });
        let port = added.await?;
        let location = format!("/stations/{}/ports/{}", port.station_id, port.id);
        Answer::created(location, PortView::new(&port))
    }

    async fn remove_port(&self, request: &Request) -> Result<Answer, Failure> {
        let PortRef { station_id, port_id } = request.command()?;
        let actor = request.actor()?;
        station::may_configure(actor)?;
        let removed = decide(|| async {
            let loaded = self.load(&station_id).await?;
            let port = find_port(&loaded, &port_id)?;
            port.may_remove(actor)?;
            Ok(self.charging.stations.remove_port(&loaded.station, port).await?)
        });
        removed.await?;
        Answer::ok(serde_json::json!({ "stationId": station_id, "portId": port_id, "removed": true }))
    }

    async fn fail_port(&self, request: &Request) -> Result<Answer, Failure> {
        let command: FailPort = request.command()?;
        let role = request.actor()?.role;
        let reason = command.reason.as_deref().unwrap_or("reported by an operator");
        let failed = decide(|| async {
            let site = self.site(&command.station_id).await?;
            let fail = |site: &mut Site| site.fail_port(&command.port_id, reason, role, request.context.now);
            self.commit(site, fail, &request.context).await
        });
        let site = failed.await?;
        Answer::ok(PortView::new(site.port(&command.port_id)?))
    }

    /// Decides a command on a site, commits what it changes, and answers the site as it is then.
    async fn commit(
        &self,
        mut site: Site,
        decide: impl FnOnce(&mut Site) -> Result<Changes, DomainError>,
        context: &Context,
    ) -> Result<Site, Failure> {
        let changes = decide(&mut site)?;
        self.charging.commit(&changes, &context.event_context()).await?;
        Ok(site)
    }

    async fn reset_port(&self, request: &Request) -> Result<Answer, Failure> {
        let PortRef { station_id, port_id } = request.command()?;
        let role = request.actor()?.role;
        let reset = decide(|| async {
            let loaded = self.load(&station_id).await?;
            let mut port = find_port(&loaded, &port_id)?.clone();
            port.reset(role)?;
            self.charging.stations.save_port(&port).await?;
            Ok(port)
        });
        Answer::ok(PortView::new(&reset.await?))
    }

    async fn site(&self, id: &StationId) -> Result<Site, Failure> {
        let site = self.charging.load_site(id).await?;
        Ok(site.ok_or_else(|| DomainError::not_found("station", id))?)
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
