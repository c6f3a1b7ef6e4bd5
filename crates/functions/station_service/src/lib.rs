//! The `station_service` Lambda: creates, returns, changes and transitions charging stations and their ports.

mod commands;
mod config;
mod view;

use commands::{
    AddPort, CreateStation, DeletedStation, FailPort, ListStations, PortRef, RemovedPort, StationRef,
    TransitionStation, UpdateStation,
};
use domain::accounts::{Area, Scope};
use domain::charging::site::{Changes, Site};
use domain::charging::station::{
    self, Port, PortAdded, PortRemoved, PortReset, Station, StationCreated, StationDeleted,
};
use domain::error::DomainError;
use domain::id::{PortId, StationId};
use lambda_kit::{Action, Answer, Context, Failure, Function, ListOf, Request, action, retry_while_stale};
use store::{ChargingStore, LoadedStation, StationFilter};

pub use config::Config;
pub use view::{PortView, StationView};

/// The `station_service` function.
#[derive(Debug)]
pub struct StationService {
    charging: ChargingStore,
}

impl Function for StationService {
    const NAME: &'static str = "station_service";
    const ACTIONS: &'static [Action<Self>] = &[
        action!("createStation", CreateStation => StationView, Self::create)
            .by("ADMIN")
            .about("Creates a station with its ports. The station has the status NEW.")
            .at("POST /stations", Scope::write(Area::Stations))
            .creates()
            .mutation(),
        action!("getStation", StationRef => StationView, Self::get)
            .by("anyone")
            .about("Returns a station with its ports.")
            .at("GET /stations/{stationId}", Scope::read(Area::Stations))
            .query("station"),
        action!("listStations", ListStations => ListOf<StationView>, Self::list)
            .by("anyone")
            .about(
                "Lists the stations that have `status` (default ACTIVE). With `latitude` and `longitude`, it lists the \
                 stations within `radiusKm` (default 10) of that place. The nearest station comes first. A search \
                 near a place returns every status unless `status` is given.",
            )
            .at("GET /stations", Scope::read(Area::Stations))
            .query("stations")
            .with_api_key(),
        action!("updateStation", UpdateStation => StationView, Self::update)
            .by("ADMIN")
            .about("Changes only the fields given. `powerKw` and `chargingModel` change only while no session runs.")
            .at("PATCH /stations/{stationId}", Scope::write(Area::Stations))
            .mutation(),
        action!("deleteStation", StationRef => DeletedStation, Self::delete)
            .by("ADMIN")
            .about("Deletes a station at which no session runs.")
            .at("DELETE /stations/{stationId}", Scope::write(Area::Stations))
            .mutation(),
        action!("transitionStation", TransitionStation => StationView, Self::transition)
            .by("ADMIN, TECH_SUPPORT")
            .about("Brings a station to the status `to`. Only ADMIN may commission a NEW station.")
            .at("POST /stations/{stationId}/transitions", Scope::write(Area::Stations))
            .mutation(),
        action!("addPort", AddPort => PortView, Self::add_port)
            .by("ADMIN")
            .about("Adds a port to a station.")
            .at("POST /stations/{stationId}/ports", Scope::write(Area::Stations))
            .creates()
            .mutation(),
        action!("removePort", PortRef => RemovedPort, Self::remove_port)
            .by("ADMIN")
            .about("Removes a port at which no session runs.")
            .mutation()
            .scope(Scope::write(Area::Stations)),
        action!("failPort", FailPort => PortView, Self::fail_port)
            .by("TECH_SUPPORT, ADMIN, SYSTEM")
            .about("Brings a charging port to ERROR. The session at the port fails.")
            .at_transition(
                "POST /stations/{stationId}/ports/{portId}/transitions",
                "ERROR",
                Scope::write(Area::Stations),
            )
            .mutation(),
        action!("resetPort", PortRef => PortView, Self::reset_port)
            .by("TECH_SUPPORT, ADMIN")
            .about("Brings a port from ERROR back to FREE.")
            .at_transition(
                "POST /stations/{stationId}/ports/{portId}/transitions",
                "FREE",
                Scope::write(Area::Stations),
            )
            .mutation(),
    ];
}

impl StationService {
    /// Creates the function.
    #[must_use]
    pub fn new(charging: ChargingStore) -> Self {
        Self { charging }
    }

    async fn create(&self, command: CreateStation, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        station::may_configure(actor)?;
        let is_named = command.station_id.is_some();
        let (mut station, ports) = command.station(request.context.now)?;
        if is_named {
            // Subscribers of a deleted station with this id know its last version, so the new station continues there.
            let deleted = self.charging.stations.deleted_version(&station.id).await?;
            station.version = deleted.map_or(station.version, |deleted| deleted + 1);
        }
        let created = StationCreated::new(&station, &ports);
        let context = request.context.event_context();
        self.charging.stations.insert(&station, &ports, created, &context).await.map_err(|error| {
            if error.is_stale() {
                return DomainError::conflict(format!("station {} exists already", station.id)).into();
            }
            Failure::from(error)
        })?;
        let location = format!("/stations/{}", station.id);
        Answer::created(location, StationView::new(&station, Some(&ports)))
    }

    async fn get(&self, StationRef { station_id }: StationRef, _: &Request) -> Result<Answer, Failure> {
        let loaded = self.load(&station_id).await?;
        Answer::ok(StationView::new(&loaded.station, Some(&loaded.ports)))
    }

    async fn list(&self, command: ListStations, _: &Request) -> Result<Answer, Failure> {
        let filter = command.filter()?;
        let page = self.charging.stations.list(&filter, &command.page.into()).await?;
        Answer::page(page, |station| match &filter {
            StationFilter::Near(at, ..) => {
                StationView::new(&station, None).at_distance(at.distance_km(&station.location))
            }
            StationFilter::Status(_) => StationView::new(&station, None),
        })
    }

    async fn update(&self, command: UpdateStation, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        command.check()?;
        let updated = retry_while_stale(|| async {
            let site = self.site(&command.station_id).await?;
            let update = command.update(&site.station)?;
            self.commit(site, |site| site.update(update, actor, request.context.now), &request.context).await
        });
        let site = updated.await?;
        Answer::ok(StationView::new(&site.station, Some(&site.ports)))
    }

    async fn delete(&self, StationRef { station_id }: StationRef, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        station::may_configure(actor)?;
        let deleted = retry_while_stale(|| async {
            let loaded = self.load(&station_id).await?;
            loaded.station.may_delete(actor)?;
            let deleted = StationDeleted::new(&loaded.station);
            Ok(self.charging.stations.delete(&loaded, deleted, &request.context.event_context()).await?)
        });
        deleted.await?;
        Answer::ok(DeletedStation { station_id, deleted: true })
    }

    async fn transition(&self, command: TransitionStation, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        let transitioned = retry_while_stale(|| async {
            let site = self.site(&command.station_id).await?;
            let transition = |site: &mut Site| site.transition(command.to, actor, request.context.now);
            self.commit(site, transition, &request.context).await
        });
        let site = transitioned.await?;
        Answer::ok(StationView::new(&site.station, Some(&site.ports)))
    }

    async fn add_port(&self, command: AddPort, request: &Request) -> Result<Answer, Failure> {
        station::may_configure(request.actor()?)?;
        let added = retry_while_stale(|| async {
            let mut loaded = self.load(&command.station_id).await?;
            let port = command.port.port(&loaded.station.id);
            loaded.ports.push(port.clone());
            let station = &loaded.station;
            station::validate(station.power_kw, None, &station.model, &loaded.ports).map_err(about_new_port)?;
            let added = PortAdded::new(station, &port, &loaded.ports);
            self.charging.stations.add_port(station, &port, added, &request.context.event_context()).await?;
            Ok(port)
        });
        let port = added.await?;
        let location = format!("/stations/{}/ports/{}", port.station_id, port.id);
        Answer::created(location, PortView::new(&port))
    }

    async fn remove_port(
        &self,
        PortRef { station_id, port_id }: PortRef,
        request: &Request,
    ) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        station::may_configure(actor)?;
        let removed = retry_while_stale(|| async {
            let LoadedStation { station, mut ports } = self.load(&station_id).await?;
            let port = ports.remove(index_of(&station, &ports, &port_id)?);
            port.may_remove(actor)?;
            let removed = PortRemoved::new(&station, &port, &ports);
            let context = request.context.event_context();
            Ok(self.charging.stations.remove_port(&station, &port, removed, &context).await?)
        });
        removed.await?;
        Answer::ok(RemovedPort { station_id, port_id, removed: true })
    }

    async fn fail_port(&self, command: FailPort, request: &Request) -> Result<Answer, Failure> {
        let role = request.actor()?.role;
        let reason = command.reason.as_deref().unwrap_or("reported by an operator");
        let failed = retry_while_stale(|| async {
            let site = self.site(&command.station_id).await?;
            let fail = |site: &mut Site| site.fail_port(&command.port_id, reason, role, request.context.now);
            self.commit(site, fail, &request.context).await
        });
        let site = failed.await?;
        Answer::ok(PortView::new(site.port(&command.port_id)?))
    }

    /// Runs a command on a site, commits its changes, and returns the changed site.
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

    async fn reset_port(&self, PortRef { station_id, port_id }: PortRef, request: &Request) -> Result<Answer, Failure> {
        let role = request.actor()?.role;
        let reset = retry_while_stale(|| async {
            let LoadedStation { station, mut ports } = self.load(&station_id).await?;
            let index = index_of(&station, &ports, &port_id)?;
            ports[index].reset(role)?;
            let port = ports[index].clone();
            let reset = PortReset::new(&station, &port, &ports);
            self.charging.stations.reset_port(&station, &port, reset, &request.context.event_context()).await?;
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

fn index_of(station: &Station, ports: &[Port], id: &PortId) -> Result<usize, Failure> {
    let index = ports.iter().position(|port| port.id == *id);
    Ok(index.ok_or_else(|| DomainError::not_found(&format!("port at station {} named", station.id), id))?)
}

/// Makes errors about the new port name the fields of the request. The rules see the new port as the last of the list;
/// its caller sees it as the request itself.
fn about_new_port(error: DomainError) -> DomainError {
    let DomainError::Validation(mut errors) = error else {
        return error;
    };
    for error in &mut errors {
        error.field = error.field.rsplit("].").next().unwrap_or(&error.field).to_owned();
    }
    DomainError::Validation(errors)
}
