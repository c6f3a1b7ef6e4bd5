//! State machines as tables: the transitions of every state, and the roles that may command them.

use crate::actor::Role;
use crate::error::{Conflict, DomainError, IllegalTransition};

/// A state of a state machine whose transitions are a table.
pub trait State: Copy + Eq + Sized + 'static {
    /// Name of the thing that has these states, for error messages: `station`, `port` and so on.
    const WHAT: &'static str;

    /// Every state.
    const ALL: &'static [Self];

    /// Returns the name of the state in contracts.
    fn name(self) -> &'static str;

    /// Returns the transitions from this state, each with the roles that may command it.
    fn transitions(self) -> &'static [(Self, &'static [Role])];

    /// Returns the names of the states that can be reached from this one.
    fn allowed(self) -> Vec<&'static str> {
        self.transitions().iter().map(|(to, _)| to.name()).collect()
    }

    /// Checks that `role` may move from this state to `to`.
    ///
    /// # Errors
    /// `Forbidden` if the role may not command the transition, neither from this state nor from any other; `Conflict`,
    /// naming the allowed transitions, if the state machine has no such transition.
    fn transition(self, to: Self, role: Role) -> Result<(), DomainError> {
        let ever = Self::ALL
            .iter()
            .flat_map(|from| from.transitions())
            .any(|(target, roles)| *target == to && roles.contains(&role));
        let step = self.transitions().iter().find(|(target, _)| *target == to);
        match step {
            Some((_, roles)) if roles.contains(&role) => Ok(()),
            None if ever => Err(illegal(self, to)),
            None if !reachable(to) => Err(illegal(self, to)),
            _ => Err(DomainError::Forbidden(format!(
                "role {} may not bring a {} from {} to {}",
                role_name(role),
                Self::WHAT,
                self.name(),
                to.name()
            ))),
        }
    }
}

fn reachable<S: State>(to: S) -> bool {
    S::ALL.iter().flat_map(|from| from.transitions()).any(|(target, _)| *target == to)
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Admin => "ADMIN",
        Role::TechSupport => "TECH_SUPPORT",
        Role::User => "USER",
        Role::System => "SYSTEM",
    }
}

fn illegal<S: State>(from: S, to: S) -> DomainError {
    let allowed = from.allowed();
    let hint = if allowed.is_empty() {
        format!("{} is final", from.name())
    } else {
        format!("from {} it can go to {}", from.name(), allowed.join(", "))
    };
    DomainError::Conflict(Conflict {
        message: format!("a {} cannot go from {} to {}: {hint}", S::WHAT, from.name(), to.name()),
        transition: Some(IllegalTransition { from: from.name(), to: to.name(), allowed }),
    })
}
