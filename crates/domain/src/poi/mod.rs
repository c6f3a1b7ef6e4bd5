//! The mirror of OpenChargeMap: the points of interest (POIs) of the source and of the mirror, which records have
//! changed, and how far a synchronisation has come.

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

/// A place with charging equipment, as recorded by OpenChargeMap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Poi {
    /// The fields that a search returns.
    #[serde(flatten)]
    pub summary: PoiSummary,
    /// The other fields.
    #[serde(flatten)]
    pub details: PoiDetails,
}

/// The fields of a POI that a search returns. Ids of operators, connection types and the like refer to the reference
/// data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoiSummary {
    /// OpenChargeMap's id of the POI.
    pub ocm_id: u32,
    /// Name of the POI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Street and house number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Town.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub town: Option<String>,
    /// Postcode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postcode: Option<String>,
    /// Id of the country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country_id: Option<u32>,
    /// Geographic position. A POI without a position, or at 0° 0°, where there is no charger, can be found only by its
    /// id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Id of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_id: Option<u32>,
    /// Id of the usage type, which says who may use the POI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_type_id: Option<u32>,
    /// Id of the status type, which says whether the POI works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_type_id: Option<u32>,
    /// Number of charging points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_of_points: Option<i32>,
    /// Power of the strongest connection, kW, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_power_kw: Option<f64>,
    /// Ids of the connection types, each once.
    pub connection_type_ids: Vec<u32>,
    /// Id of the provider of the data. It determines the licence of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_provider_id: Option<u32>,
}

/// The fields of a POI that are not in its summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the fields are named as in OpenChargeMap
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
    /// OpenChargeMap's id of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Id of the connection type: the kind of plug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_type_id: Option<u32>,
    /// Id of the current type: alternating or direct current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_type_id: Option<u32>,
    /// Id of the charging level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level_id: Option<u32>,
    /// Id of the status type, which says whether the connection works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_type_id: Option<u32>,
    /// Current, A.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amps: Option<f64>,
    /// Voltage, V.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voltage: Option<f64>,
    /// Power, kW.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_kw: Option<f64>,
    /// Number of connections of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<i32>,
    /// The operator's own name of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Comments as free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comments: Option<String>,
}

/// Conditions of a search in addition to the distance.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoiFilter {
    /// Minimum power, kW: the POI must have a connection with at least this power.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 10_000.0))]
    pub min_power_kw: Option<f64>,
    /// Id of a connection type: the POI must have at least one connection of this type.
    #[serde(default)]
    #[schemars(range(max = 2_147_483_647))]
    pub connection_type_id: Option<u32>,
    /// Id of an operator: the POI must be run by this operator.
    #[serde(default)]
    #[schemars(range(max = 2_147_483_647))]
    pub operator_id: Option<u32>,
}

impl PoiFilter {
    /// Returns whether a POI satisfies the conditions. A POI with unknown power does not satisfy a minimum power.
    #[must_use]
    pub fn accepts(&self, poi: &PoiSummary) -> bool {
        self.min_power_kw.is_none_or(|least| poi.max_power_kw.is_some_and(|power| power >= least))
            && self.connection_type_id.is_none_or(|kind| poi.connection_type_ids.contains(&kind))
            && self.operator_id.is_none_or(|operator| poi.operator_id == Some(operator))
    }
}

impl Poi {
    /// Returns when the POI was last changed according to the source. A POI without such a time counts as the oldest
    /// possible.
    #[must_use]
    pub fn modified_at(&self) -> Instant {
        self.details.date_last_status_update.or(self.details.date_created).unwrap_or(Instant::UNIX_EPOCH)
    }
}
