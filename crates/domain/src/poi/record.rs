use std::borrow::Cow;

use chrono::{DateTime, NaiveDateTime};
use serde::{Deserialize, Deserializer, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{Connection, Poi, PoiDetails, PoiSummary};
use crate::Instant;
use crate::geo::Location;

/// The maximum size of a record, bytes. `DynamoDB` accepts items of up to 400 KB; no POI is larger than this limit.
pub const LARGEST_RECORD: usize = 256 * 1024;
/// The largest valid id. OpenChargeMap's ids are positive `int`s.
const LARGEST_ID: u32 = i32::MAX as u32;

/// Why a record cannot be parsed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The record is not JSON, or a field does not have the type that the API gives it.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The id is not valid.
    #[error("ID: must be from 1 to 2147483647, not {0}")]
    Id(u32),
    /// The record is too large to be stored.
    #[error("is larger than 256 KB")]
    TooLarge,
}

/// A record of OpenChargeMap's API, with the fields that are mirrored. Compact and verbose answers give the same
/// record: null fields are treated as missing, and nested reference data is ignored.
///
/// <https://openchargemap.org/site/develop/api>
#[derive(Debug, Deserialize, Serialize)]
pub struct Record<'a> {
    /// OpenChargeMap's id of the POI.
    #[serde(rename = "ID")]
    pub id: u32,
    #[serde(rename = "UUID", borrow)]
    uuid: Option<Text<'a>>,
    #[serde(rename = "DataProviderID")]
    data_provider_id: Option<u32>,
    #[serde(rename = "DataProvidersReference", borrow)]
    data_providers_reference: Option<Text<'a>>,
    #[serde(rename = "OperatorID")]
    operator_id: Option<u32>,
    #[serde(rename = "OperatorsReference", borrow)]
    operators_reference: Option<Text<'a>>,
    #[serde(rename = "UsageTypeID")]
    usage_type_id: Option<u32>,
    #[serde(rename = "UsageCost", borrow)]
    usage_cost: Option<Text<'a>>,
    #[serde(rename = "AddressInfo", borrow)]
    address_info: AddressInfo<'a>,
    #[serde(rename = "Connections", borrow)]
    connections: Option<Vec<ConnectionInfo<'a>>>,
    #[serde(rename = "NumberOfPoints")]
    number_of_points: Option<i32>,
    #[serde(rename = "GeneralComments", borrow)]
    general_comments: Option<Text<'a>>,
    #[serde(rename = "StatusTypeID")]
    status_type_id: Option<u32>,
    #[serde(rename = "DataQualityLevel")]
    data_quality_level: Option<i32>,
    #[serde(rename = "SubmissionStatusTypeID")]
    submission_status_type_id: Option<u32>,
    #[serde(rename = "DateCreated", default, deserialize_with = "time")]
    date_created: Option<Instant>,
    #[serde(rename = "DatePlanned", default, deserialize_with = "time")]
    date_planned: Option<Instant>,
    #[serde(rename = "DateLastVerified", default, deserialize_with = "time")]
    date_last_verified: Option<Instant>,
    #[serde(rename = "DateLastConfirmed", default, deserialize_with = "time")]
    date_last_confirmed: Option<Instant>,
    #[serde(rename = "DateLastStatusUpdate", default, deserialize_with = "time")]
    date_last_status_update: Option<Instant>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AddressInfo<'a> {
    #[serde(borrow)]
    title: Option<Text<'a>>,
    #[serde(borrow)]
    address_line1: Option<Text<'a>>,
    #[serde(borrow)]
    address_line2: Option<Text<'a>>,
    #[serde(borrow)]
    town: Option<Text<'a>>,
    #[serde(borrow)]
    state_or_province: Option<Text<'a>>,
    #[serde(borrow)]
    postcode: Option<Text<'a>>,
    #[serde(rename = "CountryID")]
    country_id: Option<u32>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    #[serde(borrow)]
    contact_telephone1: Option<Text<'a>>,
    #[serde(borrow)]
    access_comments: Option<Text<'a>>,
    #[serde(rename = "RelatedURL", borrow)]
    related_url: Option<Text<'a>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct ConnectionInfo<'a> {
    #[serde(rename = "ID")]
    id: Option<u32>,
    #[serde(rename = "ConnectionTypeID")]
    connection_type_id: Option<u32>,
    #[serde(rename = "Reference", borrow)]
    reference: Option<Text<'a>>,
    #[serde(rename = "StatusTypeID")]
    status_type_id: Option<u32>,
    #[serde(rename = "LevelID")]
    level_id: Option<u32>,
    #[serde(rename = "Amps")]
    amps: Option<f64>,
    #[serde(rename = "Voltage")]
    voltage: Option<f64>,
    #[serde(rename = "PowerKW")]
    power_kw: Option<f64>,
    #[serde(rename = "CurrentTypeID")]
    current_type_id: Option<u32>,
    #[serde(rename = "Quantity")]
    quantity: Option<i32>,
    #[serde(rename = "Comments", borrow)]
    comments: Option<Text<'a>>,
}

/// Text that borrows from the response body if it contains no escapes. (An `Option<Cow<str>>` would always be copied.)
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Record<'a> {
    /// Parses one element of the API's array.
    ///
    /// # Errors
    /// A [`RecordError`] that says what cannot be parsed, and where.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        if bytes.len() > LARGEST_RECORD {
            return Err(RecordError::TooLarge);
        }
        let record: Self = serde_json::from_slice(bytes)?;
        if record.id == 0 || record.id > LARGEST_ID {
            return Err(RecordError::Id(record.id));
        }
        Ok(record)
    }

    /// Returns a hash of all mirrored fields (XXH3, 64 bits). Records with the same hash are the same POI. `scratch` is
    /// a buffer that the function reuses.
    #[must_use]
    pub fn hash(&self, scratch: &mut Vec<u8>) -> u64 {
        scratch.clear();
        // Writing to memory cannot fail, and all fields are types that JSON has.
        let _ = serde_json::to_writer(&mut *scratch, self);
        xxh3_64(scratch)
    }

    /// Converts the record to a POI.
    #[must_use]
    pub fn into_poi(self) -> Poi {
        let connections: Vec<Connection> =
            self.connections.unwrap_or_default().into_iter().map(ConnectionInfo::into_connection).collect();
        let mut connection_type_ids: Vec<u32> = connections.iter().filter_map(|one| one.connection_type_id).collect();
        connection_type_ids.sort_unstable();
        connection_type_ids.dedup();
        let address = self.address_info;
        let summary = PoiSummary {
            ocm_id: self.id,
            title: owned(address.title),
            address: owned(address.address_line1),
            town: owned(address.town),
            postcode: owned(address.postcode),
            country_id: address.country_id,
            location: location(address.latitude, address.longitude),
            operator_id: self.operator_id,
            usage_type_id: self.usage_type_id,
            status_type_id: self.status_type_id,
            number_of_points: self.number_of_points,
            max_power_kw: connections.iter().filter_map(|one| one.power_kw).max_by(f64::total_cmp),
            connection_type_ids,
            data_provider_id: self.data_provider_id,
        };
        let details = PoiDetails {
            uuid: owned(self.uuid),
            address_line2: owned(address.address_line2),
            state_or_province: owned(address.state_or_province),
            access_comments: owned(address.access_comments),
            contact_telephone: owned(address.contact_telephone1),
            related_url: owned(address.related_url),
            operators_reference: owned(self.operators_reference),
            data_providers_reference: owned(self.data_providers_reference),
            usage_cost: owned(self.usage_cost),
            general_comments: owned(self.general_comments),
            connections,
            data_quality_level: self.data_quality_level,
            submission_status_type_id: self.submission_status_type_id,
            date_created: self.date_created,
            date_planned: self.date_planned,
            date_last_verified: self.date_last_verified,
            date_last_confirmed: self.date_last_confirmed,
            date_last_status_update: self.date_last_status_update,
        };
        Poi { summary, details }
    }
}

impl ConnectionInfo<'_> {
    fn into_connection(self) -> Connection {
        Connection {
            id: self.id,
            connection_type_id: self.connection_type_id,
            current_type_id: self.current_type_id,
            level_id: self.level_id,
            status_type_id: self.status_type_id,
            amps: self.amps,
            voltage: self.voltage,
            power_kw: self.power_kw,
            quantity: self.quantity,
            reference: owned(self.reference),
            comments: owned(self.comments),
        }
    }
}

/// Returns the id of a record that cannot be parsed, if at least the id can be read.
#[must_use]
pub fn id_of(bytes: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct OnlyId {
        #[serde(rename = "ID")]
        id: u32,
    }
    let only: OnlyId = serde_json::from_slice(bytes).ok()?;
    (1..=LARGEST_ID).contains(&only.id).then_some(only.id)
}

/// Trims the text, because the data often has trailing blanks. Returns `None` if no text is left.
fn owned(text: Option<Text<'_>>) -> Option<String> {
    text.map(|text| text.0.trim().to_owned()).filter(|text| !text.is_empty())
}

fn location(latitude: Option<f64>, longitude: Option<f64>) -> Option<Location> {
    let (latitude, longitude) = (latitude?, longitude?);
    let nowhere = latitude == 0.0 && longitude == 0.0;
    if nowhere { None } else { Location::new(latitude, longitude).ok() }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Instant>, D::Error> {
    let Some(Text(text)) = Option::<Text<'de>>::deserialize(deserializer)? else { return Ok(None) };
    time_of(&text).map(Some).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no time")))
}

/// Parses a time as the API writes it, with or without a time zone. A time without a zone is in UTC.
#[must_use]
pub fn time_of(text: &str) -> Option<Instant> {
    let with_zone = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    with_zone.or_else(|| text.parse::<NaiveDateTime>().ok().map(|at| at.and_utc()))
}
