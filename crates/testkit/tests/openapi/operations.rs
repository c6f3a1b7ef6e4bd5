use billing::Billing;
use billing_audit::BillingAudit;
use charging_simulator::ChargingSimulator;
use dlq_reconciler::DlqReconciler;
use event_relay::EventRelay;
use health_check::HealthCheck;
use lambda_kit::{Function, Operation};
use notification_service::NotificationService;
use ocm_sync::OcmSync;
use poi_service::PoiService;
use session_service::SessionService;
use station_service::StationService;
use telemetry_api::TelemetryApi;
use telemetry_handler::TelemetryHandler;
use telemetry_monitor::TelemetryMonitor;

/// The operations of all functions, in the order of their tables.
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
    F::ACTIONS.iter().map(|action| action.operation).collect()
}

/// The name of an operation, unique among all functions.
pub fn id(operation: &Operation) -> String {
    let Operation { function, name, .. } = operation;
    let is_ambiguous = all().iter().filter(|other| other.name == *name).count() > 1;
    if is_ambiguous { format!("{function}.{name}") } else { (*name).to_owned() }
}
