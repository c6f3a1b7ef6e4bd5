use lambda_kit::Operation;

use crate::functions;

/// The operations of all functions, in the order of their tables.
pub fn all() -> Vec<Operation> {
    functions().into_iter().flat_map(|function| function.operations).collect()
}

/// The name of an operation, unique among all functions.
pub fn id(operation: &Operation) -> String {
    let Operation { function, name, .. } = operation;
    let is_ambiguous = all().iter().filter(|other| other.name == *name).count() > 1;
    if is_ambiguous { format!("{function}.{name}") } else { (*name).to_owned() }
}
