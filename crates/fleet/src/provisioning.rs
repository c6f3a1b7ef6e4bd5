use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_iot::Client;
use aws_sdk_iot::error::ProvideErrorMetadata;
use aws_sdk_iot::types::CertificateStatus;
use backon::{ExponentialBuilder, Retryable};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::broker::{Broker, Identity, Line, LineEvent};

/// The number of devices that are provisioned or removed concurrently.
const PARALLEL: usize = 8;
/// The maximum time for an answer of the provisioning API.
const ANSWER: Duration = Duration::from_secs(30);

/// The device registry of IoT Core. It provisions and removes devices.
#[derive(Clone, Debug)]
pub struct Registry {
    client: Client,
    broker: Broker,
    template: String,
}

/// The credentials of a provisioning claim, which is valid for some minutes.
#[derive(Clone)]
struct Claim {
    certificate: String,
    private_key: String,
}

impl Registry {
    /// Creates a registry that uses this provisioning template.
    #[must_use]
    pub fn new(client: Client, broker: Broker, template: impl Into<String>) -> Self {
        Self { client, broker, template: template.into() }
    }

    /// Creates a provisioning claim, as an operator does, and registers a device for each id with it, as devices do:
    /// over MQTT, each with its own certificate and private key. `done` is called after each device.
    ///
    /// # Errors
    /// When the template, the broker or the registry refuses a device. The devices before it stay registered.
    pub async fn provision(&self, ids: &[String], done: impl Fn()) -> Result<Vec<Identity>> {
        let claim = self.claim().await?;
        let devices = stream::iter(ids.to_vec()).map(|id| {
            let claim = claim.clone();
            async move { self.register(&claim, &id).await.with_context(|| format!("provisioning of {id}")) }
        });
        devices.buffered(PARALLEL).inspect_ok(|_| done()).try_collect().await
    }

    async fn claim(&self) -> Result<Claim> {
        let claim = self.client.create_provisioning_claim().template_name(&self.template).send().await;
        let claim = claim.with_context(|| format!("no claim for the provisioning template {}", self.template))?;
        let key = claim.key_pair.and_then(|pair| pair.private_key);
        Ok(Claim {
            certificate: claim.certificate_pem.context("the claim has no certificate")?,
            private_key: key.context("the claim has no key")?,
        })
    }

    /// Runs the device's side of fleet provisioning by claim: requests a certificate, then registers with it.
    async fn register(&self, claim: &Claim, id: &str) -> Result<Identity> {
        let client_id = format!("provisioning-{}", Uuid::now_v7().simple());
        let mut line = self.broker.dial(&client_id, &claim.certificate, &claim.private_key)?;
        let created = ask(&mut line, "$aws/certificates/create/json", &json!({})).await?;
        let text = |answer: &Value, field: &str| -> Result<String> {
            Ok(answer[field].as_str().with_context(|| format!("the broker's answer has no {field}"))?.to_owned())
        };
        let topic = format!("$aws/provisioning-templates/{}/provision/json", self.template);
        let token = text(&created, "certificateOwnershipToken")?;
        let request = json!({ "certificateOwnershipToken": token, "parameters": { "StationId": id } });
        let registered = ask(&mut line, &topic, &request).await?;
        line.hang_up().await;
        Ok(Identity {
            thing: text(&registered, "thingName")?,
            certificate: text(&created, "certificatePem")?,
            private_key: text(&created, "privateKey")?,
        })
    }

    /// Removes devices and their certificates. `done` is called after each device.
    ///
    /// # Errors
    /// When the registry refuses a removal. The removal can be tried again.
    pub async fn remove(&self, things: &[String], done: impl Fn()) -> Result<()> {
        let removals = stream::iter(things.to_vec())
            .map(|thing| async move { self.remove_one(&thing).await.with_context(|| format!("removal of {thing}")) });
        removals.buffer_unordered(PARALLEL).inspect_ok(|()| done()).try_collect().await
    }

    async fn remove_one(&self, thing: &str) -> Result<()> {
        let principals = self.client.list_thing_principals().thing_name(thing).send().await?;
        for principal in principals.principals.unwrap_or_default() {
            self.remove_certificate(thing, &principal).await?;
        }
        // Detaching takes AWS a moment, during which the thing cannot be deleted.
        let delete = || async { self.client.delete_thing().thing_name(thing).send().await };
        delete.retry(patience()).when(|error| error.code() == Some("InvalidRequestException")).await?;
        Ok(())
    }

    async fn remove_certificate(&self, thing: &str, arn: &str) -> Result<()> {
        let id = arn.rsplit('/').next().unwrap_or_default();
        self.revoke(id).await?;
        let policies = self.client.list_attached_policies().target(arn).send().await?;
        for policy in policies.policies.unwrap_or_default() {
            let name = policy.policy_name.unwrap_or_default();
            self.client.detach_policy().policy_name(name).target(arn).send().await?;
        }
        self.client.detach_thing_principal().thing_name(thing).principal(arn).send().await?;
        let delete = || async { self.client.delete_certificate().certificate_id(id).send().await };
        delete.retry(patience()).when(|error| error.code() == Some("DeleteConflictException")).await?;
        Ok(())
    }

    async fn revoke(&self, certificate_id: &str) -> Result<()> {
        let update = self.client.update_certificate().certificate_id(certificate_id);
        update.new_status(CertificateStatus::Inactive).send().await?;
        Ok(())
    }

    /// Deactivates the certificates of a device. The device stays registered.
    ///
    /// # Errors
    /// When the registry refuses the change.
    pub async fn deactivate(&self, thing: &str) -> Result<()> {
        let principals = self.client.list_thing_principals().thing_name(thing).send().await?;
        for arn in principals.principals.unwrap_or_default() {
            self.revoke(arn.rsplit('/').next().unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// Returns the registered devices whose ids begin with `prefix`.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn registered(&self, prefix: &str) -> Result<Vec<String>> {
        let things = self.client.list_things().into_paginator().items().send();
        let things: Vec<_> = things.try_collect().await?;
        let names = things.into_iter().filter_map(|thing| thing.thing_name);
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    }
}

fn patience() -> ExponentialBuilder {
    ExponentialBuilder::default().with_jitter().with_min_delay(Duration::from_millis(200)).with_max_times(6)
}

/// Sends a request to a topic of the MQTT API and waits for the answer.
async fn ask(line: &mut Line, topic: &str, request: &Value) -> Result<Value> {
    let accepted = format!("{topic}/accepted");
    line.subscribe(&accepted).await?;
    line.subscribe(&format!("{topic}/rejected")).await?;
    line.publish(topic, request.to_string()).await?;
    let wait = async {
        loop {
            match line.next().await {
                LineEvent::Received(from, payload) if from.starts_with(topic) => {
                    let answer: Value = serde_json::from_slice(&payload).context("the answer is not JSON")?;
                    if from == accepted {
                        return Ok(answer);
                    }
                    bail!("refused: {}: {}", answer["errorCode"], answer["errorMessage"]);
                }
                LineEvent::Broken(reason) => bail!("the broker hung up: {reason}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(ANSWER, wait).await.with_context(|| format!("no answer to {topic}"))?
}
