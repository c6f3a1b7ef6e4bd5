use billing::Billing;
use billing_audit::BillingAudit;
use charging_simulator::ChargingSimulator;
use dlq_reconciler::DlqReconciler;
use event_relay::EventRelay;
use health_check::HealthCheck;
use lambda_kit::{Function, Route};
use notification_service::NotificationService;
use ocm_sync::OcmSync;
use poi_service::PoiService;
use schemars::{Schema, SchemaGenerator};
use session_service::SessionService;
use station_service::StationService;
use telemetry_api::TelemetryApi;
use telemetry_handler::TelemetryHandler;
use telemetry_monitor::TelemetryMonitor;

/// An action of any function.
#[derive(Clone, Copy)]
pub struct Operation {
    pub function: &'static str,
    pub name: &'static str,
    pub by: &'static str,
    pub about: &'static str,
    pub route: Option<Route>,
    pub status: u16,
    pub arguments: fn(&mut SchemaGenerator) -> Schema,
    pub answer: fn(&mut SchemaGenerator) -> Schema,
}

/// The actions of all functions, in the order of their tables.
pub fn all() -> Vec<Operation> {
    [
        of::<StationService>(),
        of::<SessionService>(),
        of::<Billing>(),
        of::<NotificationService>(),
        of::<TelemetryApi>(),
        of::<PoiService>(),
        of::<HealthCheck>(),
        of::<ChargingSimulator>(),
        of::<TelemetryHandler>(),
        of::<TelemetryMonitor>(),
        of::<OcmSync>(),
        of::<BillingAudit>(),
        of::<EventRelay>(),
        of::<DlqReconciler>(),
    ]
    .concat()
}

fn of<F: Function>() -> Vec<Operation> {
    let operation = |action: &lambda_kit::Action<F>| Operation {
        function: F::NAME,
        name: action.name,
        by: action.by,
        about: action.about,
        route: action.route,
        status: action.status,
        arguments: action.arguments,
        answer: action.answer,
    };
    F::ACTIONS.iter().map(operation).collect()
}

impl Operation {
    /// The name, unique among all functions.
    pub fn id(&self) -> String {
        let is_ambiguous = all().iter().filter(|other| other.name == self.name).count() > 1;
        if is_ambiguous { format!("{}.{}", self.function, self.name) } else { self.name.to_owned() }
    }
}
