//! `evoke dlq`: lists and shows dead letters, and sends them back to their queues.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result, bail};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName};
use chrono::{DateTime, Utc};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use domain::dead_letter::{Consumer, QUARANTINE_PREFIX, QuarantinedLetter, REPLAYS_ATTRIBUTE};
use indicatif::ProgressBar;
use lambda_kit::Clock;
use serde::Serialize;

use crate::stack::Stack;

/// The prefix of the records of replays in the quarantine bucket.
const RECORDS_PREFIX: &str = "replays/";
/// The replay count of a message that an operator sends back. It is so high that `dlq_reconciler` does not send the
/// message back again by itself.
const BY_HAND: u32 = 1000;

/// The messages on which a command works.
#[derive(Args)]
pub struct Filter {
    /// Only messages of this dead-letter queue.
    #[arg(long)]
    queue: Option<String>,
    /// Only messages whose body or reason contains this text.
    #[arg(long)]
    contains: Option<String>,
}

/// Options for sending messages back.
#[derive(Args)]
pub struct ReplayOptions {
    /// Show what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// The maximum number of messages to send.
    #[arg(long, default_value_t = 10)]
    max: usize,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
    /// The name of the operator, for the record.
    #[arg(long, env = "USER")]
    by: Option<String>,
}

/// The record of a replay.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    who: &'a str,
    when: DateTime<Utc>,
    letter: &'a str,
    message_id: &'a str,
    target: &'a str,
    result: &'a str,
}

/// The dead letters of a stack.
pub struct DeadLetters<'a> {
    stack: &'a Stack,
    s3: aws_sdk_s3::Client,
    sqs: aws_sdk_sqs::Client,
    bucket: &'a str,
}

struct Found {
    key: String,
    letter: QuarantinedLetter,
}

impl<'a> DeadLetters<'a> {
    pub fn of(stack: &'a Stack) -> Result<Self> {
        Ok(Self {
            s3: aws_sdk_s3::Client::new(stack.config()),
            sqs: aws_sdk_sqs::Client::new(stack.config()),
            bucket: stack.output("QuarantineBucket")?,
            stack,
        })
    }

    pub async fn list(&self, filter: &Filter) -> Result<()> {
        let mut queues = table(["dead-letter queue", "waiting", "in work"]);
        for (_, url) in self.stack.outputs().iter().filter(|(key, _)| key.ends_with("DeadLetterQueueUrl")) {
            let [waiting, in_work] = self.depth(url).await?;
            queues.add_row([url.rsplit('/').next().unwrap_or(url), &waiting, &in_work]);
        }
        println!("{queues}");
        let found = self.find(filter, usize::MAX).await?;
        let mut letters = table(["quarantined", "letter", "queue", "replays", "session", "reason"]);
        for Found { letter, .. } in &found {
            letters.add_row([
                letter.quarantined_at.format("%Y-%m-%d %H:%M:%S").to_string(),
                letter.message_id.clone(),
                letter.queue.clone(),
                letter.replays.to_string(),
                letter.unbilled.as_ref().map(ToString::to_string).unwrap_or_default(),
                letter.reason.chars().take(60).collect(),
            ]);
        }
        println!("{letters}\n{} in quarantine", found.len());
        Ok(())
    }

    pub async fn show(&self, wanted: &str) -> Result<()> {
        let all = Filter { queue: None, contains: None };
        let found = self.find(&all, usize::MAX).await?;
        let one = found.iter().find(|found| found.letter.message_id == wanted || found.key == wanted);
        let Some(Found { key, letter }) = one else {
            bail!("there is no message {wanted} in quarantine: evoke dlq list shows the messages");
        };
        println!("s3://{}/{key}\n{}", self.bucket, serde_json::to_string_pretty(letter)?);
        Ok(())
    }

    pub async fn replay(&self, filter: &Filter, replay: &ReplayOptions) -> Result<()> {
        let found = self.find(filter, replay.max).await?;
        for Found { letter, .. } in &found {
            let target = self.source(letter.consumer)?.unwrap_or("nowhere, because its consumer has no queue");
            println!("{} of {} -> {target}", letter.message_id, letter.queue);
        }
        if replay.dry_run || found.is_empty() {
            println!("{} messages, none sent", found.len());
            return Ok(());
        }
        let by = replay.by.as_deref().context("name the operator: --by NAME")?;
        if !replay.yes && !confirmed(found.len())? {
            println!("none sent");
            return Ok(());
        }
        let progress = ProgressBar::new(found.len() as u64);
        let mut sent = 0;
        for one in &found {
            sent += usize::from(self.replay_one(one, by).await?);
            progress.inc(1);
        }
        progress.finish_and_clear();
        println!("{sent} of {} messages sent; records under s3://{}/{RECORDS_PREFIX}", found.len(), self.bucket);
        Ok(())
    }

    /// Sends a message, records this, and removes the message from quarantine, in this order.
    ///
    /// If it is interrupted, the message stays in quarantine and may be sent twice. Every consumer tolerates this.
    async fn replay_one(&self, Found { key, letter }: &Found, by: &str) -> Result<bool> {
        let Some(target) = self.source(letter.consumer)? else {
            self.record(key, letter, by, "", "SKIPPED: its consumer has no queue").await?;
            return Ok(false);
        };
        let count = MessageAttributeValue::builder().data_type("Number").string_value(BY_HAND.to_string()).build()?;
        let send = self.sqs.send_message().queue_url(target).message_body(&letter.body);
        if let Err(error) = send.message_attributes(REPLAYS_ATTRIBUTE, count).send().await {
            self.record(key, letter, by, target, "FAILED: the queue did not take it").await?;
            return Err(error).context(format!("{} was not sent", letter.message_id));
        }
        self.record(key, letter, by, target, "SENT").await?;
        self.s3.delete_object().bucket(self.bucket).key(key).send().await?;
        Ok(true)
    }

    async fn record(&self, key: &str, letter: &QuarantinedLetter, who: &str, target: &str, result: &str) -> Result<()> {
        let when = (Clock::SYSTEM.0)();
        let record = Record { who, when, letter: key, message_id: &letter.message_id, target, result };
        let name = format!("{RECORDS_PREFIX}{}-{}.json", when.format("%Y%m%dT%H%M%S%.3fZ"), letter.message_id);
        let put = self.s3.put_object().bucket(self.bucket).key(name).content_type("application/json");
        put.body(ByteStream::from(serde_json::to_vec_pretty(&record)?)).send().await?;
        Ok(())
    }

    /// Returns the messages that match the filter, oldest first.
    async fn find(&self, filter: &Filter, max: usize) -> Result<Vec<Found>> {
        let prefix = format!("{QUARANTINE_PREFIX}{}", filter.queue.as_deref().unwrap_or_default());
        let mut pages = self.s3.list_objects_v2().bucket(self.bucket).prefix(prefix).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.context("the quarantine cannot be listed")?;
            for key in page.contents().iter().filter_map(|object| object.key()) {
                let letter = self.read(key).await?;
                let text = filter.contains.as_deref().unwrap_or_default();
                if letter.body.contains(text) || letter.reason.contains(text) {
                    found.push(Found { key: key.to_owned(), letter });
                }
            }
        }
        found.sort_by_key(|found| found.letter.quarantined_at);
        found.truncate(max);
        Ok(found)
    }

    async fn read(&self, key: &str) -> Result<QuarantinedLetter> {
        let object = self.s3.get_object().bucket(self.bucket).key(key).send().await?;
        let content = object.body.collect().await?.into_bytes();
        serde_json::from_slice(&content).with_context(|| format!("{key} is not a quarantined message"))
    }

    async fn depth(&self, url: &str) -> Result<[String; 2]> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let answer =
            self.sqs.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec())).send().await?;
        let attributes = answer.attributes.unwrap_or_default();
        Ok(names.map(|name| attributes.get(&name).cloned().unwrap_or_default()))
    }

    /// Returns the URL of the queue that a consumer reads, if it reads one.
    fn source(&self, consumer: Consumer) -> Result<Option<&str>> {
        source_output(consumer).map(|output| self.stack.output(output)).transpose()
    }
}

/// Returns the key of the output with the URL of the queue that a consumer reads, if it reads one.
fn source_output(consumer: Consumer) -> Option<&'static str> {
    match consumer {
        Consumer::Billing => Some("BillingQueueUrl"),
        Consumer::Notification => Some("NotificationQueueUrl"),
        Consumer::ChargingInbox => Some("ChargingInboxQueueUrl"),
        Consumer::Telemetry => Some("TelemetryQueueUrl"),
        Consumer::LivePublisher => Some("LivePublisherQueueUrl"),
        Consumer::Relay | Consumer::Schedule | Consumer::Deletion => None,
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(header);
    table
}

fn confirmed(letters: usize) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask for confirmation: use --yes, or --dry-run to see what would be sent");
    }
    print!("send {letters} messages back to their queues? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::{Value, json};
    use testkit::{resources, template};

    use super::*;

    #[test]
    fn messages_go_back_to_the_queues_that_the_template_names() {
        let functions: BTreeMap<&str, &Value> = resources("AWS::Serverless::Function").into_iter().collect();
        let variables = &functions["DlqReconcilerFunction"]["Environment"]["Variables"];
        // The function that reads the telemetry queue is put in by a condition.
        let queues =
            variables["DEAD_LETTER_QUEUES"]["Fn::Sub"][0].as_str().unwrap().replace("${TelemetryFunction}", "");
        let queues: BTreeMap<String, Value> = serde_json::from_str(&queues).unwrap();
        let mut checked = BTreeSet::new();
        for (letters, queue) in queues {
            let consumer: Consumer = serde_json::from_value(queue["consumer"].clone()).unwrap();
            let source = queue["source"].as_str().map(|source| source.trim_matches(['$', '{', '}']));
            let output = source_output(consumer);
            assert_eq!(output.is_some(), source.is_some(), "{letters}: {output:?}");
            if let Some(output) = output {
                assert_eq!(template()["Outputs"][output]["Value"], json!({ "Ref": source }), "{letters}: {output}");
                checked.insert(output);
            }
        }
        assert_eq!(checked, Consumer::ALL.into_iter().filter_map(source_output).collect::<BTreeSet<_>>());
    }
}
