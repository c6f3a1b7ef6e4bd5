//! Connector standards, with the names of OCPI 2.2.1 (`ConnectorType`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Every accepted name: the names of OCPI and the common short names.
const NAMES: [&str; 28] = [
    "CHADEMO",
    "CHAdeMO",
    "CHAOJI",
    "DOMESTIC_E",
    "DOMESTIC_F",
    "SCHUKO",
    "DOMESTIC_G",
    "GBT_AC",
    "GBT_DC",
    "IEC_60309_2_single_16",
    "IEC_60309_2_three_16",
    "IEC_60309_2_three_32",
    "IEC_62196_T1",
    "TYPE1",
    "Type1",
    "J1772",
    "IEC_62196_T1_COMBO",
    "CCS1",
    "IEC_62196_T2",
    "TYPE2",
    "Type2",
    "TYPE_2",
    "IEC_62196_T2_COMBO",
    "CCS2",
    "CCS",
    "CCS_2",
    "NACS",
    "TESLA_S",
];

/// The socket or plug of a port. Requests may use the name in OCPI or a common short name; responses use the name in
/// OCPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("enum" = NAMES))]
#[allow(missing_docs)] // the variants are named as in OCPI
pub enum ConnectorType {
    #[serde(rename = "CHADEMO", alias = "CHAdeMO")]
    Chademo,
    #[serde(rename = "CHAOJI")]
    Chaoji,
    #[serde(rename = "DOMESTIC_E")]
    DomesticE,
    #[serde(rename = "DOMESTIC_F", alias = "SCHUKO")]
    DomesticF,
    #[serde(rename = "DOMESTIC_G")]
    DomesticG,
    #[serde(rename = "GBT_AC")]
    GbtAc,
    #[serde(rename = "GBT_DC")]
    GbtDc,
    #[serde(rename = "IEC_60309_2_single_16")]
    Iec603092Single16,
    #[serde(rename = "IEC_60309_2_three_16")]
    Iec603092Three16,
    #[serde(rename = "IEC_60309_2_three_32")]
    Iec603092Three32,
    #[serde(rename = "IEC_62196_T1", alias = "TYPE1", alias = "Type1", alias = "J1772")]
    Iec62196T1,
    #[serde(rename = "IEC_62196_T1_COMBO", alias = "CCS1")]
    Iec62196T1Combo,
    #[serde(rename = "IEC_62196_T2", alias = "TYPE2", alias = "Type2", alias = "TYPE_2")]
    Iec62196T2,
    #[serde(rename = "IEC_62196_T2_COMBO", alias = "CCS2", alias = "CCS", alias = "CCS_2")]
    Iec62196T2Combo,
    #[serde(rename = "NACS", alias = "TESLA_S")]
    Nacs,
}
