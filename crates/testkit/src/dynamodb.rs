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
use crate::tables::{Key, Table, TableIndex, tables};

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
        for table in tables() {
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

async fn create(client: &Client, table: &Table) {
    let attributes = table.attributes.iter().map(|attribute| {
        let kind = ScalarAttributeType::from(attribute.kind.as_str());
        AttributeDefinition::builder()
            .attribute_name(&attribute.name)
            .attribute_type(kind)
            .build()
            .expect("an attribute")
    });
    let request = client
        .create_table()
        .table_name(&table.name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(schema(&table.key)))
        .set_attribute_definitions(Some(attributes.collect()));
    let indexes: Vec<_> = table.indexes.iter().map(index).collect();
    let request = request.set_global_secondary_indexes((!indexes.is_empty()).then_some(indexes));
    request.send().await.expect("a created table");
}

fn index(index: &TableIndex) -> GlobalSecondaryIndex {
    let included = &index.projection.included;
    let projection = Projection::builder()
        .projection_type(ProjectionType::from(index.projection.kind.as_str()))
        .set_non_key_attributes((!included.is_empty()).then(|| included.clone()))
        .build();
    GlobalSecondaryIndex::builder()
        .index_name(&index.name)
        .set_key_schema(Some(schema(&index.key)))
        .projection(projection)
        .build()
        .expect("an index")
}

fn schema(key: &Key) -> Vec<KeySchemaElement> {
    let element = |name: &str, kind: KeyType| {
        KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("a part of a key")
    };
    let sort = key.sort.as_deref().map(|name| element(name, KeyType::Range));
    std::iter::once(element(&key.partition, KeyType::Hash)).chain(sort).collect()
}
