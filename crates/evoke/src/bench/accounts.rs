//! `evoke bench login`.

use std::time::Instant;

use anyhow::{Context, Result};
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use domain::accounts::{Language, NewUser, NewVehicle, RegistrationNumber, User, Vehicle};
use domain::actor::Role;
use domain::id::UserId;
use reqwest::Method;
use serde_json::json;
use store::{Db, EventContext, UserStore};
use uuid::Uuid;

use super::{Server, percentiles};
use crate::api::{Account, Api};
use crate::stack::Stack;

/// The number of registrations whose units are counted.
const REGISTRATIONS: u32 = 100;

/// Signs a new user in on the deployed stack, one sign-in after the other, and counts the units of registrations.
pub async fn login(stack: &Stack, count: u32) -> Result<()> {
    let api = Api::of(stack)?;
    let id = Uuid::new_v4().simple().to_string();
    let (email, password) = (format!("bench-{id}@example.com"), format!("Bench-1-{id}"));
    api.register(&json!({ "email": email, "name": "Bench", "password": password })).await?;
    let progress = indicatif::ProgressBar::new(count.max(1).into());
    let (mut sign_ins, mut requests) = (Vec::new(), Vec::new());
    let mut account: Option<Account> = None;
    for _ in 0..count.max(1) {
        let watch = Instant::now();
        let signed_in = api.log_in(&email, &password).await?;
        sign_ins.push(milliseconds(watch));
        let watch = Instant::now();
        api.get(&signed_in, "/account").await?;
        requests.push(milliseconds(watch));
        account = Some(signed_in);
        progress.inc(1);
    }
    progress.finish_and_clear();
    api.call(Method::DELETE, "/account", account.as_ref(), None).await?;

    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["request", "first ms", "p50 ms", "p99 ms"]);
    for (request, times) in [("POST /auth/login", sign_ins), ("GET /account", requests)] {
        let first = times.first().copied().context("nothing was measured")?;
        let [p50, p99] = percentiles(times, [50, 99]);
        table.add_row([request.to_owned(), format!("{first:.0}"), format!("{p50:.1}"), format!("{p99:.1}")]);
    }
    println!("{table}");
    println!("{} requests each, in turns. Every figure includes API Gateway.", count.max(1));
    println!("{}", registrations().await?);
    println!("Units of DynamoDB per registration, as account_service writes it after the sign-up in the user pool.");
    Ok(())
}

fn milliseconds(watch: Instant) -> f64 {
    watch.elapsed().as_secs_f64() * 1000.0
}

/// Counts the units of registrations with the embedded DynamoDB: without a vehicle, and with one.
async fn registrations() -> Result<Table> {
    let mut server = Server::start().await?;
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["registration", "items", "table write units", "index write units"]);
    for (what, items, has_vehicle) in [("without a vehicle", 1, false), ("with a vehicle", 3, true)] {
        let db = Db::new(server.client());
        let users = UserStore::new(db.clone(), "ev-users");
        for number in 0..REGISTRATIONS {
            register(&users, number, has_vehicle).await?;
        }
        let units = db.capacity().units();
        let per = |units: f64| format!("{:.2}", units / f64::from(REGISTRATIONS));
        table.add_row([what.to_owned(), items.to_string(), per(units.table_write), per(units.index_write)]);
    }
    server.child.kill().await?;
    Ok(table)
}

/// Registers a user, as `register` of `account_service` does after the sign-up in the user pool.
async fn register(users: &UserStore, number: u32, has_vehicle: bool) -> Result<()> {
    let now: domain::Instant = "2026-03-03T10:00:00Z".parse()?;
    let id = Uuid::new_v4();
    let user = NewUser {
        id: UserId::new(id.to_string())?,
        email: Some(format!("{id}@example.com")),
        name: Some("Erika Musterfrau".to_owned()),
        role: Role::User,
        language: Language::De,
        confirmed: true,
        client: None,
    };
    let vehicle = NewVehicle {
        brand: "Volkswagen".to_owned(),
        model: "ID.3".to_owned(),
        battery_capacity_kwh: 58.0,
        max_power_kw: Some(120.0),
        registration_number: Some(RegistrationNumber::new(&format!("B EV {number}"))?),
    };
    let vehicle = has_vehicle.then(|| Vehicle::new(Uuid::now_v7().into(), vehicle)).transpose()?;
    let context = EventContext { correlation_id: "bench".to_owned(), now };
    Ok(users.insert(&User::register(user, now), vehicle.as_ref(), &context).await?)
}
