use chrono_tz::Tz;
use domain::Instant;
use domain::battery::ModelConfig;
use domain::charging::session::{EndReason, Limits, MeterLog, Reading, Session, SessionStatus, SessionTerms, Vehicle};
use domain::id::{PortId, SessionId, StationId, UserId};
use domain::units::WattHours;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::status_shard;
use crate::dynamodb::{json, time};
use crate::error::StoreError;
use crate::keys;

// This item is what a tick writes, and it must stay under 1 KB. `createdAt` is when the session started.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    station_id: StationId,
    port_id: PortId,
    user_id: UserId,
    pub status: SessionStatus,
    /// Partition key of the status index; used for nothing else.
    #[serde(skip_deserializing)]
    status_shard: String,
    #[serde(with = "time")]
    created_at: Instant,
    #[serde(with = "time")]
    status_changed_at: Instant,
    #[serde(with = "time")]
    metered_at: Instant,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::option")]
    ended_at: Option<Instant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_reason: Option<EndReason>,
    start_percent: f64,
    charge_percent: f64,
    target_percent: f64,
    capacity_kwh: f64,
    limit_kw: f64,
    vehicle_max_kw: f64,
    station_power_kw: f64,
    model: ModelText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_cost: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_energy_kwh: Option<f64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    prepaid: bool,
    power_kw: f64,
    meter: MeterText,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbox: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    active_shard: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    active_key: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DetailsRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    tariff: String,
    time_zone: String,
    vehicle: Vehicle,
    request_fingerprint: String,
    correlation_id: String,
}

/// The readings of a meter as one short attribute, `ms:Wh:W` joined by spaces, because every byte of a tick's item
/// counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MeterText(pub MeterLog);

impl From<MeterText> for String {
    fn from(MeterText(log): MeterText) -> Self {
        let readings: Vec<String> =
            log.readings().iter().map(|r| format!("{}:{}:{}", r.offset_ms, r.register.0, r.power_w)).collect();
        readings.join(" ")
    }
}

impl TryFrom<String> for MeterText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let readings: Option<Vec<Reading>> = text.split_whitespace().map(reading).collect();
        readings.map(|readings| Self(MeterLog::new(readings))).ok_or_else(|| format!("{text:?} are no meter readings"))
    }
}

fn reading(text: &str) -> Option<Reading> {
    let mut parts = text.split(':');
    let reading = Reading {
        offset_ms: parts.next()?.parse().ok()?,
        register: WattHours(parts.next()?.parse().ok()?),
        power_w: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(reading)
}

/// A charging model as one attribute of compact JSON. As a map of `DynamoDB` types, a curve would take twice the space.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ModelText(pub ModelConfig);

impl From<ModelText> for String {
    fn from(ModelText(model): ModelText) -> Self {
        match model {
            ModelConfig::StepTaper => "STEP_TAPER".to_owned(),
            ModelConfig::TwoStageLinear(two) => {
                format!("TWO_STAGE_LINEAR {}:{}", two.transition_percent, two.cutoff_kw)
            }
            ModelConfig::MeasuredCurve(curve) => {
                let points: Vec<String> =
                    curve.points.iter().map(|point| format!("{}:{}", point.percent, point.power_kw)).collect();
                format!("MEASURED_CURVE {}", points.join(" "))
            }
        }
    }
}

impl TryFrom<String> for ModelText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        use domain::battery::{CurvePoint, MeasuredCurve, TwoStageLinear};
        let mut words = text.split_whitespace();
        let kind = words.next();
        let pairs: Option<Vec<(f64, f64)>> = words
            .map(|word| word.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?))))
            .collect();
        let model = match (kind, pairs.as_deref()) {
            (Some("STEP_TAPER"), Some([])) => Some(ModelConfig::StepTaper),
            (Some("TWO_STAGE_LINEAR"), Some([(transition_percent, cutoff_kw)])) => {
                Some(ModelConfig::TwoStageLinear(TwoStageLinear {
                    transition_percent: *transition_percent,
                    cutoff_kw: *cutoff_kw,
                }))
            }
            (Some("MEASURED_CURVE"), Some(pairs)) => {
                let points =
                    pairs.iter().map(|(percent, power_kw)| CurvePoint { percent: *percent, power_kw: *power_kw });
                Some(ModelConfig::MeasuredCurve(MeasuredCurve { points: points.collect() }))
            }
            _ => None,
        };
        model.map(Self).ok_or_else(|| format!("{text:?} is no charging model"))
    }
}

impl SessionRow {
    pub fn new(session: &Session, outbox: Option<String>) -> Self {
        let active = session.status.is_active();
        Self {
            pk: keys::session(&session.id),
            sk: keys::METADATA.to_owned(),
            station_id: session.station_id.clone(),
            port_id: session.port_id.clone(),
            user_id: session.user_id.clone(),
            status: session.status,
            status_shard: status_shard(session),
            created_at: session.started_at,
            status_changed_at: session.status_changed_at,
            metered_at: session.metered_at,
            ended_at: session.ended_at,
            end_reason: session.end_reason,
            start_percent: session.start_percent,
            charge_percent: session.charge_percent,
            target_percent: session.target_percent,
            capacity_kwh: session.battery_capacity_kwh,
            limit_kw: session.limit_kw,
            vehicle_max_kw: session.vehicle_max_kw,
            station_power_kw: session.station_power_kw,
            model: ModelText(session.model.clone()),
            max_cost: session.limits.max_cost,
            max_energy_kwh: session.limits.max_energy_kwh,
            prepaid: session.limits.prepaid,
            power_kw: session.power_kw,
            meter: MeterText(session.meter.clone()),
            version: session.version,
            outbox,
            active_shard: active.then(|| keys::active_shard(session.station_id.shard(keys::SHARDS))),
            active_key: active.then(|| keys::active_key(&session.station_id, &session.id)),
        }
    }

    pub fn into_session(self) -> Result<Session, StoreError> {
        let id = SessionId::new(keys::id_of(&self.pk)).map_err(|error| StoreError::corrupt(&self.pk, error))?;
        Ok(Session {
            id,
            station_id: self.station_id,
            port_id: self.port_id,
            user_id: self.user_id,
            status: self.status,
            started_at: self.created_at,
            status_changed_at: self.status_changed_at,
            metered_at: self.metered_at,
            ended_at: self.ended_at,
            end_reason: self.end_reason,
            start_percent: self.start_percent,
            charge_percent: self.charge_percent,
            target_percent: self.target_percent,
            battery_capacity_kwh: self.capacity_kwh,
            limit_kw: self.limit_kw,
            vehicle_max_kw: self.vehicle_max_kw,
            station_power_kw: self.station_power_kw,
            model: self.model.0,
            limits: Limits { max_cost: self.max_cost, max_energy_kwh: self.max_energy_kwh, prepaid: self.prepaid },
            power_kw: self.power_kw,
            meter: self.meter.0,
            version: self.version,
        })
    }
}

impl DetailsRow {
    pub fn new(session: &SessionId, terms: &SessionTerms) -> Result<Self, StoreError> {
        let pk = keys::session(session);
        Ok(Self {
            sk: keys::DETAILS.to_owned(),
            tariff: json(&pk, &terms.tariff)?,
            time_zone: terms.time_zone.name().to_owned(),
            vehicle: terms.vehicle,
            request_fingerprint: terms.request_fingerprint.clone(),
            correlation_id: terms.correlation_id.clone(),
            pk,
        })
    }

    pub fn into_terms(self) -> Result<SessionTerms, StoreError> {
        let time_zone: Tz = self.time_zone.parse().map_err(|error| StoreError::corrupt(&self.pk, error))?;
        let tariff = serde_json::from_str(&self.tariff).map_err(|error| StoreError::corrupt(&self.pk, error))?;
        Ok(SessionTerms {
            tariff,
            time_zone,
            vehicle: self.vehicle,
            request_fingerprint: self.request_fingerprint,
            correlation_id: self.correlation_id,
        })
    }
}
