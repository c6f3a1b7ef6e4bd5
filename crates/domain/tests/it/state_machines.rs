//! Tests every state x state x role of every state machine against a table.

use domain::accounts::UserStatus;
use domain::actor::Role::{self, Admin, System, TechSupport, User};
use domain::billing::InvoiceStatus;
use domain::charging::session::SessionStatus;
use domain::charging::station::{PortStatus, StationStatus};
use domain::error::DomainError;
use domain::machine::State;
use domain::notifications::LogStatus;

const ALL: &[Role] = &[Admin, TechSupport, User, System];

/// Checks that every transition that is not in `table` is refused: as forbidden if the role can never command the
/// target state, and otherwise as a conflict that names the allowed transitions.
fn check<S: State + std::fmt::Debug>(table: &[(S, S, &[Role])]) {
    let ever = |to: S, role: Role| table.iter().any(|(_, target, roles)| *target == to && roles.contains(&role));
    let reachable = |to: S| table.iter().any(|(_, target, _)| *target == to);
    for from in S::ALL {
        for to in S::ALL {
            for role in Role::ALL {
                let listed = table.iter().find(|(f, t, _)| f == from && t == to);
                let result = from.transition(*to, role);
                let what = format!("{from:?} -> {to:?} by {role:?}: {result:?}");
                match listed {
                    Some((_, _, roles)) if roles.contains(&role) => {
                        assert!(result.is_ok(), "{what}");
                    }
                    Some(_) => assert!(matches!(result, Err(DomainError::Forbidden(_))), "{what}"),
                    None if reachable(*to) && !ever(*to, role) => {
                        assert!(matches!(result, Err(DomainError::Forbidden(_))), "{what}");
                    }
                    None => {
                        let Err(DomainError::Conflict(conflict)) = result else { panic!("{what}") };
                        let refused = conflict.transition.expect("a refused transition");
                        assert_eq!((refused.from, refused.to), (from.name(), to.name()));
                        let allowed: Vec<&str> =
                            table.iter().filter(|(f, ..)| f == from).map(|(_, t, _)| t.name()).collect();
                        assert_eq!(refused.allowed, allowed, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn stations() {
    use StationStatus::{Active, Maintenance, New, OutOfOrder};
    check(&[
        (New, Active, &[Admin]),
        (Active, Maintenance, &[TechSupport, Admin]),
        (Active, OutOfOrder, &[TechSupport, Admin]),
        (Maintenance, Active, &[TechSupport, Admin]),
        (OutOfOrder, Active, &[TechSupport, Admin]),
    ]);
}

#[test]
fn ports() {
    use PortStatus::{Charging, Error, Free};
    check(&[
        (Free, Charging, ALL),
        (Charging, Free, ALL),
        (Charging, Error, &[TechSupport, Admin, System]),
        (Error, Free, &[TechSupport, Admin]),
    ]);
}

#[test]
fn sessions() {
    use SessionStatus::{Completed, Failed, InProgress, Interrupted, Started};
    check(&[
        (Started, InProgress, &[System]),
        (Started, Interrupted, ALL),
        (Started, Failed, &[TechSupport, Admin, System]),
        (InProgress, InProgress, &[System]),
        (InProgress, Completed, &[System]),
        (InProgress, Interrupted, ALL),
        (InProgress, Failed, &[TechSupport, Admin, System]),
    ]);
    for last in [Completed, Interrupted, Failed] {
        assert!(!last.is_active() && last.transitions().is_empty());
    }
}

#[test]
fn users() {
    use UserStatus::{Active, Blocked, Deleted, Deleting, Unconfirmed};
    let staff: &[Role] = &[TechSupport, Admin, System];
    check(&[
        (Unconfirmed, Active, &[System]),
        (Unconfirmed, Blocked, staff),
        (Unconfirmed, Deleting, ALL),
        (Active, Blocked, staff),
        (Active, Deleting, ALL),
        (Blocked, Active, staff),
        (Blocked, Deleting, ALL),
        (Deleting, Unconfirmed, &[System]),
        (Deleting, Active, &[System]),
        (Deleting, Blocked, &[System]),
        (Deleting, Deleting, ALL),
        (Deleting, Deleted, &[System]),
    ]);
    let user = domain::id::UserId::new("u-1").unwrap();
    for status in UserStatus::ALL {
        let may = status.may_charge(&user);
        assert_eq!(may.is_ok(), matches!(status, Unconfirmed | Active), "{status:?}: {may:?}");
        assert!(matches!(may, Ok(()) | Err(DomainError::Forbidden(_))), "{status:?}: {may:?}");
    }
}

#[test]
fn log_entries() {
    use LogStatus::{Acknowledged, Open, Resolved};
    check(&[
        (Open, Acknowledged, &[TechSupport, Admin]),
        (Open, Resolved, &[TechSupport, Admin]),
        (Acknowledged, Resolved, &[TechSupport, Admin]),
    ]);
}

#[test]
fn state_names_match_their_serialised_form() {
    fn names<S: State + serde::Serialize>() {
        for state in S::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }
    names::<StationStatus>();
    names::<PortStatus>();
    names::<SessionStatus>();
    names::<UserStatus>();
    names::<LogStatus>();
}

#[test]
fn invoices() {
    use InvoiceStatus::{Credited, Open, Paid};
    check(&[(Open, Paid, ALL), (Open, Credited, &[Admin]), (Paid, Credited, &[Admin])]);
}
