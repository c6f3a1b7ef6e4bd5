//! The mirror of OpenChargeMap: what a point of interest (POI) is there and here, which records have changed, and how
//! far a synchronisation has come.

mod events;
pub mod mirror;
mod record;
pub mod reference;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::geo::Location;

pub use events::OcmSyncCompleted;
pub use record::{LARGEST_RECORD, Record, RecordError, id_of, time_of};

/// A place with charging equipment, as OpenChargeMap knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Poi {
    /// What a search answers.
    #[serde(flatten)]
    pub summary: PoiSummary,
    /// The rest.
    #[serde(flatten)]
    pub details: PoiDetails,
}

/// What a search answers of a POI. Ids of operators, connection types and the like are those of the reference data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoiSummary {
    /// OpenChargeMap's id.
    pub ocm_id: u32,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Street and number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Town.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub town: Option<String>,
    /// Postcode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postcode: Option<String>,
    /// Country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country_id: Option<u32>,
    /// Where it is. Without it, or at 0° 0°, where no charger is, it can be found by its id alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Who runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_id: Option<u32>,
    /// Who may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_type_id: Option<u32>,
    /// Whether it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_type_id: Option<u32>,
    /// Charging points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_of_points: Option<i32>,
    /// Power of its strongest connection, kW, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_power_kw: Option<f64>,
    /// Types of its connections, each once.
    pub connection_type_ids: Vec<u32>,
    /// Who provided the data, which says under which licence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_provider_id: Option<u32>,
}

/// What is known of a POI beyond its summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // OpenChargeMap's own names
pub struct PoiDetails {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_line2: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_or_province: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_comments: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact_telephone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub related_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operators_reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_providers_reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_cost: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub general_comments: Option<String>,
    pub connections: Vec<Connection>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_quality_level: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submission_status_type_id: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_created: Option<Instant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_planned: Option<Instant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_last_verified: Option<Instant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_last_confirmed: Option<Instant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_last_status_update: Option<Instant>,
}

/// Connections of one kind at a POI.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// OpenChargeMap's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Kind of plug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_type_id: Option<u32>,
    /// Alternating or direct current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_type_id: Option<u32>,
    /// Charging level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level_id: Option<u32>,
    /// Whether it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_type_id: Option<u32>,
    /// A.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amps: Option<f64>,
    /// V.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voltage: Option<f64>,
    /// kW.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_kw: Option<f64>,
    /// How many of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<i32>,
    /// The operator's own name of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comments: Option<String>,
}

/// What a search asks of a POI beyond lying near.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoiFilter {
    /// At least one connection of this power, kW.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 10_000.0))]
    pub min_power_kw: Option<f64>,
    /// At least one connection of this type.
    #[serde(default)]
    #[schemars(range(max = 2_147_483_647))]
    pub connection_type_id: Option<u32>,
    /// Run by this operator.
    #[serde(default)]
    #[schemars(range(max = 2_147_483_647))]
    pub operator_id: Option<u32>,
}

impl PoiFilter {
    /// Whether a POI is what is asked for. Where its power is not known, it has none.
    #[must_use]
    pub fn accepts(&self, poi: &PoiSummary) -> bool {
        self.min_power_kw.is_none_or(|least| poi.max_power_kw.is_some_and(|power| power >= least))
            && self.connection_type_id.is_none_or(|kind| poi.connection_type_ids.contains(&kind))
            && self.operator_id.is_none_or(|operator| poi.operator_id == Some(operator))
    }
}

impl Poi {
    /// When the source says it was last changed; what does not say it is as old as can be.
    #[must_use]
    pub fn modified_at(&self) -> Instant {
        self.details.date_last_status_update.or(self.details.date_created).unwrap_or(Instant::UNIX_EPOCH)
    }
}
