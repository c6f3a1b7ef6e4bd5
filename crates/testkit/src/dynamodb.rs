use std::net::SocketAddr;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use store::{BillingStore, ChargingStore, Db, ErrorLogStore, PoiStore, TelemetryStore, UserStore};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::aws::sdk_config;

/// A table as the template declares it. An end-to-end test compares these declarations with the deployed tables.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The name without the environment.
    pub name: &'static str,
    /// The partition key, and the sort key if the table has one.
    pub key: (&'static str, Option<&'static str>),
    /// The indexes, each with its name, partition key and sort key.
    pub indexes: &'static [(&'static str, &'static str, &'static str)],
    /// The attribute that the indexes project in addition to the keys, if any.
    pub included: Option<&'static str>,
}

/// The key of a table of aggregates.
const AGGREGATE: (&str, Option<&str>) = ("PK", Some("SK"));

/// The tables of the application.
pub const TABLES: [Table; 7] = [
    Table {
        name: "ev-stations",
        key: AGGREGATE,
        indexes: &[("status-index", "status", "stationId"), ("cell-index", "cell", "stationId")],
        included: None,
    },
    Table {
        name: "ev-sessions",
        key: AGGREGATE,
        indexes: &[
            ("userId-index", "userId", "createdAt"),
            ("stationId-index", "stationId", "createdAt"),
            ("status-index", "statusShard", "statusChangedAt"),
            ("active-index", "activeShard", "activeKey"),
        ],
        included: None,
    },
    Table { name: "ev-users", key: AGGREGATE, indexes: &[], included: None },
    Table {
        name: "ev-error-logs",
        key: AGGREGATE,
        indexes: &[
            ("level-index", "levelShard", "SK"),
            ("service-index", "serviceShard", "SK"),
            ("status-index", "statusShard", "SK"),
        ],
        included: None,
    },
    Table {
        name: "ev-billing",
        key: AGGREGATE,
        indexes: &[("userId-index", "userId", "createdAt"), ("status-index", "status", "createdAt")],
        included: None,
    },
    Table {
        name: "ev-telemetry",
        key: ("station_id", None),
        indexes: &[("fleet-index", "fleet", "station_id")],
        included: None,
    },
    Table {
        name: "ev-ocm-pois",
        key: AGGREGATE,
        indexes: &[("cell-index", "cell", "PK"), ("country-index", "country", "PK")],
        included: Some("summary"),
    },
];

/// DynamoDB in this process, on a free port and in memory, with the tables of the application. It stops when this value
/// is dropped.
#[derive(Debug)]
pub struct EmbeddedDynamoDb {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl EmbeddedDynamoDb {
    /// Starts DynamoDB and creates the tables.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let database = dynoxide::Database::memory().expect("an in-memory database");
        let server = tokio::spawn(dynoxide::server::serve_on(listener, database));
        let embedded = Self { address, server };
        let client = embedded.client();
        for table in TABLES {
            create(&client, table).await;
        }
        embedded
    }

    /// Returns the URL of the endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns a client.
    #[must_use]
    pub fn client(&self) -> Client {
        Self::client_at(&self.endpoint())
    }

    /// Returns a client for a DynamoDB at another endpoint.
    #[must_use]
    pub fn client_at(endpoint: &str) -> Client {
        Client::new(&sdk_config(endpoint))
    }

    /// Returns the store of stations and sessions. It has its own client, so that its capacity is counted separately.
    #[must_use]
    pub fn charging(&self) -> ChargingStore {
        ChargingStore::new(self.client(), "ev-stations", "ev-sessions")
    }

    /// Returns the store of users.
    #[must_use]
    pub fn users(&self) -> UserStore {
        UserStore::new(Db::new(self.client()), "ev-users")
    }

    /// Returns the store of the OpenChargeMap mirror.
    #[must_use]
    pub fn pois(&self) -> PoiStore {
        PoiStore::new(Db::new(self.client()), "ev-ocm-pois")
    }

    /// Returns the store of invoices and wallets.
    #[must_use]
    pub fn billing(&self) -> BillingStore {
        BillingStore::new(Db::new(self.client()), "ev-billing")
    }

    /// Returns the store of the states of battery-swap stations.
    #[must_use]
    pub fn telemetry(&self) -> TelemetryStore {
        TelemetryStore::new(Db::new(self.client()), "ev-telemetry")
    }

    /// Returns the store of the error log.
    #[must_use]
    pub fn error_logs(&self) -> ErrorLogStore {
        ErrorLogStore::new(Db::new(self.client()), "ev-error-logs", chrono::TimeDelta::days(90))
    }

    /// Returns all items of a table.
    pub async fn items(&self, table: &str) -> Vec<std::collections::HashMap<String, AttributeValue>> {
        #[allow(clippy::disallowed_methods)] // a test may scan
        let scan = self.client().scan().table_name(table).consistent_read(true);
        scan.into_paginator().items().send().try_collect().await.expect("a readable table")
    }

    /// Blocks a user.
    pub async fn block_user(&self, user: &str) {
        self.client()
            .put_item()
            .table_name("ev-users")
            .item("PK", AttributeValue::S(format!("USER#{user}")))
            .item("SK", AttributeValue::S("METADATA".to_owned()))
            .item("blocked", AttributeValue::Bool(true))
            .send()
            .await
            .expect("a written user");
    }
}

impl Drop for EmbeddedDynamoDb {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn create(client: &Client, table: Table) {
    let key = |name: &str, kind: KeyType| {
        KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("a key")
    };
    let (partition, sort) = table.key;
    let mut attributes = vec![partition];
    attributes.extend(sort);
    let mut request = client
        .create_table()
        .table_name(table.name)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key(partition, KeyType::Hash));
    if let Some(sort) = sort {
        request = request.key_schema(key(sort, KeyType::Range));
    }
    for (name, partition, sort) in table.indexes {
        attributes.extend([*partition, *sort]);
        let index = GlobalSecondaryIndex::builder()
            .index_name(*name)
            .key_schema(key(partition, KeyType::Hash))
            .key_schema(key(sort, KeyType::Range))
            .projection(match table.included {
                Some(attribute) => {
                    Projection::builder().projection_type(ProjectionType::Include).non_key_attributes(attribute).build()
                }
                None => Projection::builder().projection_type(ProjectionType::KeysOnly).build(),
            })
            .build()
            .expect("an index");
        request = request.global_secondary_indexes(index);
    }
    attributes.sort_unstable();
    attributes.dedup();
    for name in attributes {
        let attribute =
            AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build();
        request = request.attribute_definitions(attribute.expect("an attribute"));
    }
    request.send().await.expect("a created table");
}
