//! The tables of the application, read out of the template.

use std::sync::LazyLock;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::template::resources;

/// A table as the template declares it.
#[derive(Clone, Debug, Deserialize)]
pub struct Table {
    /// The logical id of the resource. The output of the stack with the table's full name has the same id.
    #[serde(skip)]
    pub resource: String,
    /// The name without the environment.
    #[serde(rename = "TableName", deserialize_with = "without_environment")]
    pub name: String,
    /// The primary key.
    #[serde(rename = "KeySchema")]
    pub key: Key,
    /// The indexes.
    #[serde(rename = "GlobalSecondaryIndexes", default)]
    pub indexes: Vec<TableIndex>,
    /// The attributes that are part of a key.
    #[serde(rename = "AttributeDefinitions")]
    pub attributes: Vec<Attribute>,
}

/// An index of a table.
#[derive(Clone, Debug, Deserialize)]
pub struct TableIndex {
    /// The name.
    #[serde(rename = "IndexName")]
    pub name: String,
    /// The key.
    #[serde(rename = "KeySchema")]
    pub key: Key,
    /// The attributes that the index contains.
    #[serde(rename = "Projection")]
    pub projection: Projection,
}

/// The attributes of a primary key, or of the key of an index.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<KeyElement>")]
pub struct Key {
    /// The partition key.
    pub partition: String,
    /// The sort key, if there is one.
    pub sort: Option<String>,
}

/// The attributes that an index contains.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Projection {
    /// `KEYS_ONLY`, `INCLUDE` or `ALL`.
    #[serde(rename = "ProjectionType")]
    pub kind: String,
    /// The attributes in addition to the keys, if the kind is `INCLUDE`.
    #[serde(rename = "NonKeyAttributes", default)]
    pub included: Vec<String>,
}

/// An attribute that is part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Attribute {
    /// The name.
    #[serde(rename = "AttributeName")]
    pub name: String,
    /// The type: `S`, `N` or `B`.
    #[serde(rename = "AttributeType")]
    pub kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyElement {
    attribute_name: String,
    key_type: KeyType,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum KeyType {
    Hash,
    Range,
}

/// A text with variables.
#[derive(Deserialize)]
enum Text {
    #[serde(rename = "Fn::Sub")]
    Sub(String),
}

impl TryFrom<Vec<KeyElement>> for Key {
    type Error = &'static str;

    fn try_from(elements: Vec<KeyElement>) -> Result<Self, Self::Error> {
        let (mut partition, mut sort) = (None, None);
        for KeyElement { attribute_name, key_type } in elements {
            match key_type {
                KeyType::Hash => partition = Some(attribute_name),
                KeyType::Range => sort = Some(attribute_name),
            }
        }
        Ok(Self { partition: partition.ok_or("a key without a partition key")?, sort })
    }
}

fn without_environment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let Text::Sub(name) = Text::deserialize(deserializer)?;
    let base = name.strip_suffix("-${Environment}");
    base.map(str::to_owned).ok_or_else(|| D::Error::custom(format!("{name} does not end with the environment")))
}

/// Returns the tables of the application, in the order of their logical ids.
#[must_use]
pub fn tables() -> &'static [Table] {
    static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
        let tables = resources("AWS::DynamoDB::Table").into_iter().map(|(id, properties)| {
            let table = Table::deserialize(properties).expect("a table");
            Table { resource: id.to_owned(), ..table }
        });
        tables.collect()
    });
    &TABLES
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use store::keys;

    use super::*;

    #[test]
    fn the_indexes_of_the_template_are_those_that_the_store_names() {
        let named: [(&str, &[keys::Index]); 7] = [
            ("ev-stations", &keys::stations::ALL),
            ("ev-sessions", &keys::sessions::ALL),
            ("ev-users", &keys::users::ALL),
            ("ev-error-logs", &keys::error_logs::ALL),
            ("ev-billing", &keys::billing::ALL),
            ("ev-telemetry", &keys::telemetry::ALL),
            ("ev-ocm-pois", &keys::pois::ALL),
        ];
        let named: BTreeSet<_> = named
            .iter()
            .flat_map(|(table, indexes)| {
                indexes.iter().map(move |index| (*table, index.name, index.partition, Some(index.sort)))
            })
            .collect();
        let declared: BTreeSet<_> = tables()
            .iter()
            .flat_map(|table| {
                table.indexes.iter().map(move |TableIndex { name, key, .. }| {
                    (table.name.as_str(), name.as_str(), key.partition.as_str(), key.sort.as_deref())
                })
            })
            .collect();
        assert_eq!(declared, named);
    }

    #[test]
    fn the_tables_have_the_keys_that_the_store_uses() {
        for table in tables() {
            let key = (table.key.partition.as_str(), table.key.sort.as_deref());
            let expected = match table.name.as_str() {
                "ev-telemetry" => (keys::TELEMETRY_STATION, None),
                _ => (keys::PK, Some(keys::SK)),
            };
            assert_eq!(key, expected, "{}", table.name);
        }
    }
}
