//! Scopes: what a token allows its bearer to do, by area of the API.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::actor::Role;
use crate::error::DomainError;

/// Identifier of the resource server of the user pool, which precedes each scope in a token.
pub const RESOURCE_SERVER: &str = "evoke";

/// An area of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    /// Stations, their ports, and charge points of others.
    Stations,
    /// Charging sessions and quotes.
    Sessions,
    /// Invoices, wallets and payments.
    Billing,
    /// Car parks.
    Parking,
    /// The error log, and other tools of those who run the network.
    Operations,
    /// Simulation runs.
    Runs,
    /// Battery-swap stations.
    Telemetry,
    /// Accounts, vehicles, customers and machine clients.
    Accounts,
}

impl Area {
    /// Every area.
    pub const ALL: [Self; 8] = [
        Self::Stations,
        Self::Sessions,
        Self::Billing,
        Self::Parking,
        Self::Operations,
        Self::Runs,
        Self::Telemetry,
        Self::Accounts,
    ];

    /// Returns the name of the area in a scope.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stations => "stations",
            Self::Sessions => "sessions",
            Self::Billing => "billing",
            Self::Parking => "parking",
            Self::Operations => "operations",
            Self::Runs => "runs",
            Self::Telemetry => "telemetry",
            Self::Accounts => "accounts",
        }
    }
}

/// A kind of access to an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Requests that only read.
    Read,
    /// Requests that change something.
    Write,
}

impl Access {
    /// Returns the name of the access in a scope.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// A scope, written `stations:read`. A token has scopes, and each route of the API requires one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Scope {
    area: Area,
    access: Access,
}

impl Scope {
    /// Every scope, by area.
    pub const ALL: [Self; 2 * Area::ALL.len()] = {
        let mut all = [Self::read(Area::Stations); 2 * Area::ALL.len()];
        let mut index = 0;
        while index < Area::ALL.len() {
            all[2 * index] = Self::read(Area::ALL[index]);
            all[2 * index + 1] = Self::write(Area::ALL[index]);
            index += 1;
        }
        all
    };

    /// Returns the scope that allows reading an area.
    #[must_use]
    pub const fn read(area: Area) -> Self {
        Self { area, access: Access::Read }
    }

    /// Returns the scope that allows changing an area. It does not include reading.
    #[must_use]
    pub const fn write(area: Area) -> Self {
        Self { area, access: Access::Write }
    }

    /// Returns the area of the scope.
    #[must_use]
    pub const fn area(self) -> Area {
        self.area
    }

    /// Returns the kind of access that the scope allows.
    #[must_use]
    pub const fn access(self) -> Access {
        self.access
    }

    /// Returns the scopes that a role has, by area.
    pub fn of(role: Role) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |scope| scope.is_of(role))
    }

    /// Returns whether a role has the scope.
    #[must_use]
    pub fn is_of(self, role: Role) -> bool {
        role.is_staff() || (self != Self::write(Area::Stations) && self.area != Area::Operations)
    }

    /// Returns the scope as tokens and the routes of API Gateway name it: `evoke/stations:read`.
    #[must_use]
    pub fn in_token(self) -> String {
        format!("{RESOURCE_SERVER}/{self}")
    }

    fn parse(text: &str) -> Result<Self, String> {
        let scope = Self::ALL.into_iter().find(|scope| scope.to_string() == text);
        scope.ok_or_else(|| format!("must be one of {}", Self::ALL.map(|scope| scope.to_string()).join(", ")))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.area.name(), self.access.name())
    }
}

impl FromStr for Scope {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        Self::parse(text).map_err(|message| DomainError::invalid("scope", message))
    }
}

impl TryFrom<String> for Scope {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

impl JsonSchema for Scope {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Scope".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Self::ALL.map(|scope| scope.to_string()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(role: Role) -> Vec<String> {
        Scope::of(role).map(|scope| scope.to_string()).collect()
    }

    #[test]
    fn every_scope_is_read_as_it_is_written() {
        for scope in Scope::ALL {
            assert_eq!(scope.to_string().parse::<Scope>(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).ok(), Some(scope.to_string().into()));
            assert_eq!(serde_json::from_value::<Scope>(scope.to_string().into()).ok(), Some(scope));
        }
        let unique: std::collections::BTreeSet<String> = Scope::ALL.iter().map(Scope::to_string).collect();
        assert_eq!(unique.len(), 16);
        assert_eq!(Scope::write(Area::Billing).to_string(), "billing:write");
        assert_eq!(Scope::read(Area::Stations).in_token(), "evoke/stations:read");
    }

    #[test]
    fn an_unknown_scope_is_refused_by_name() {
        let unknown = [
            "",
            "stations",
            "stations:",
            ":read",
            "stations:admin",
            "Stations:read",
            "evoke/stations:read",
            " runs:read",
        ];
        for text in unknown {
            let Err(DomainError::Validation(errors)) = text.parse::<Scope>() else { panic!("{text:?} was taken") };
            assert_eq!(errors.len(), 1);
            assert_eq!(errors[0].field, "scope");
            assert!(errors[0].message.starts_with("must be one of stations:read, stations:write, sessions:read"));
            assert!(serde_json::from_value::<Scope>(text.into()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_user_has_all_scopes_but_those_of_the_staff() {
        let user = [
            "stations:read",
            "sessions:read",
            "sessions:write",
            "billing:read",
            "billing:write",
            "parking:read",
            "parking:write",
            "runs:read",
            "runs:write",
            "telemetry:read",
            "telemetry:write",
            "accounts:read",
            "accounts:write",
        ];
        assert_eq!(names(Role::User), user);
        for role in [Role::TechSupport, Role::Admin, Role::System] {
            assert_eq!(Scope::of(role).collect::<Vec<_>>(), Scope::ALL);
        }
    }
}
