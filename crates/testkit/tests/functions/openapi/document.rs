//! The `OpenAPI` document, made from the tables of actions and from recorded requests and answers.

use std::collections::{BTreeMap, BTreeSet};

use domain::accounts::Scope;
use domain::error::{DomainError, FieldError};
use lambda_kit::{Code, Failure, Operation};
use schemars::SchemaGenerator;
use schemars::generate::{Contract, SchemaSettings};
use serde_json::{Map, Value, json};

use super::examples::Example;
use super::operations::id;

const SCHEMAS: &str = "#/components/schemas/";
const SCHEME: &str = "cognito";
const TOKEN_PATH: &str = "/auth/token";

/// The document. `examples` has one for every routed action, by its id.
pub fn document(operations: &[Operation], examples: &BTreeMap<String, Example>) -> Value {
    let mut schemas = Schemas::new();
    let mut routes: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        if let Some(route) = operation.route {
            routes.entry(route.key).or_default().push(operation);
        }
    }
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (key, operations) in &routes {
        let (method, path) = key.split_once(' ').expect("a method and a path");
        let entry = paths.entry(path.to_owned()).or_default();
        entry.insert(method.to_lowercase(), schemas.operation(path, operations, examples));
    }
    let tags: Vec<Value> = operations
        .iter()
        .filter(|operation| operation.route.is_some())
        .map(|operation| operation.function)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|function| json!({ "name": function }))
        .collect();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Evoke",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The HTTP API of an EV charging network. Ids are opaque. Times are RFC 3339 in UTC. Money is \
                a decimal string beside an ISO 4217 currency. Energy is kWh, power is kW. Lists answer `nextToken`: \
                pass it to get the next page.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "servers": [{ "url": "/", "description": "The output HttpApiUrl of the stack" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": { SCHEME: security_scheme() },
            "headers": {
                "CorrelationId": {
                    "description": "The id that logs and events of this request carry: the one that was sent, or a new one",
                    "schema": { "type": "string" }
                }
            },
            "responses": errors(operations),
            "schemas": {}
        }
    });
    let definitions = schemas.finish(&mut document);
    document["components"]["schemas"] = definitions;
    document
}

/// The schema of the answer of each operation that has an example, by its id.
pub fn answer_schemas(document: &Value) -> Vec<(String, Value)> {
    let operations = document["paths"].as_object().expect("paths").values().filter_map(Value::as_object);
    let contents = operations.flat_map(|operations| operations.values()).flat_map(|operation| {
        let responses = operation["responses"].as_object().expect("responses").iter();
        responses
            .filter(|(status, _)| status.starts_with('2'))
            .map(|(_, response)| &response["content"]["application/json"])
    });
    contents
        .flat_map(|content| {
            let mut schema = content["schema"].clone();
            schema["components"] = document["components"].clone();
            content["examples"].as_object().expect("examples").keys().map(move |id| (id.clone(), schema.clone()))
        })
        .collect()
}

/// The schemas of arguments and answers. A type that is read and written can have two.
struct Schemas {
    input: SchemaGenerator,
    output: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let generator = |contract: Contract| {
            let settings = SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
                settings.contract = contract;
            });
            settings.into_generator()
        };
        Self { input: generator(Contract::Deserialize), output: generator(Contract::Serialize) }
    }

    fn operation(&mut self, path: &str, operations: &[&Operation], examples: &BTreeMap<String, Example>) -> Value {
        let first = operations[0];
        let ids: Vec<String> = operations.iter().map(|operation| id(operation)).collect();
        let lines = |text: fn(&Operation) -> &str| {
            let texts: Vec<&str> = operations.iter().map(|operation| text(operation)).collect();
            texts.join(" ")
        };
        let mut parameters = vec![json!({
            "name": "x-correlation-id", "in": "header", "required": false,
            "description": "Up to 128 printable ASCII characters without spaces. Anything else is replaced by a new id.",
            "schema": { "type": "string" }
        })];
        let (mut bodies, mut answers) = (Vec::new(), Vec::new());
        let (mut request_examples, mut answer_examples) = (Map::new(), Map::new());
        for operation in operations {
            let id = id(operation);
            let example = examples.get(&id).unwrap_or_else(|| panic!("{id} has no example"));
            let arguments = self.arguments(operation);
            let in_path: Vec<&str> = path.split('/').filter_map(placeholder).collect();
            if parameters.len() == 1 {
                parameters.extend(parameters_of(operation, &arguments, &in_path, example));
            }
            if let Some(body) = body(operation, &arguments, &in_path) {
                bodies.push(body);
            }
            if let Some(request) = &example.body {
                request_examples.insert(id.clone(), json!({ "value": request }));
            }
            let answer = (operation.answer)(&mut self.output).to_value();
            if !answers.contains(&answer) {
                answers.push(answer);
            }
            answer_examples.insert(id, json!({ "value": example.answer }));
        }
        let mut responses = json!({
            first.status.to_string(): {
                "description": "Success",
                "headers": success_headers(first.status),
                "content": { "application/json": { "schema": any_of(answers), "examples": answer_examples } }
            }
        });
        if first.name == "health" {
            responses["503"] = json!({
                "description": "No table can be reached",
                "headers": success_headers(200),
                "content": { "application/json": { "schema": responses["200"]["content"]["application/json"]["schema"] } }
            });
        } else if first.is_oauth {
            for status in OAUTH_ERRORS {
                responses[status] = json!({ "$ref": "#/components/responses/OAuthError" });
            }
        } else {
            let is_open = first.route.is_some_and(|route| route.is_open());
            for (status, name) in ERRORS.into_iter().filter(|(status, _)| !(is_open && *status == "401")) {
                responses[status] = json!({ "$ref": format!("#/components/responses/{name}") });
            }
        }
        let mut value = json!({
            "operationId": joined(&ids),
            "tags": [first.function],
            "summary": lines(|operation| operation.about),
            "description": format!("Allowed: {}.", first.by),
            "parameters": parameters,
            "responses": responses
        });
        if !bodies.is_empty() {
            let required = bodies.iter().any(|body| body.get("required").is_some());
            let content = json!({ "schema": any_of(bodies), "examples": request_examples });
            let mut contents = json!({ "application/json": content });
            if first.is_oauth {
                contents["application/x-www-form-urlencoded"] = form(content);
            }
            value["requestBody"] = json!({ "required": required, "content": contents });
        }
        value["security"] = security(operations);
        value
    }

    /// The schema of an action's arguments, not a reference to it.
    fn arguments(&mut self, operation: &Operation) -> Value {
        let schema = (operation.arguments)(&mut self.input).to_value();
        let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(SCHEMAS));
        name.map_or(schema.clone(), |name| self.input.definitions()[name].clone())
    }

    /// The definitions that `document` refers to. Where a type is read in another form than it is written, its
    /// arguments are renamed, in the document as well.
    fn finish(mut self, document: &mut Value) -> Value {
        let input = self.input.take_definitions(true);
        let output = self.output.take_definitions(true);
        let is_other = |name: &str| output.get(name).is_some_and(|other| *other != input[name]);
        let renamed: BTreeSet<String> = input.keys().filter(|name| is_other(name)).cloned().collect();
        let mut definitions: BTreeMap<String, Value> = output.into_iter().collect();
        for (name, mut definition) in input {
            rename(&mut definition, &renamed);
            let name = if renamed.contains(&name) { format!("{name}Input") } else { name };
            definitions.insert(name, definition);
        }
        for path in document["paths"].as_object_mut().expect("paths").values_mut() {
            for operation in path.as_object_mut().expect("operations").values_mut() {
                for part in ["parameters", "requestBody"] {
                    if let Some(part) = operation.get_mut(part) {
                        rename(part, &renamed);
                    }
                }
            }
        }
        definitions.insert("Problem".to_owned(), problem_schema());
        let mut used = BTreeSet::new();
        let mut open = references(document);
        while let Some(name) = open.pop() {
            if used.insert(name.clone()) {
                open.extend(references(&definitions[&name]));
            }
        }
        definitions.retain(|name, _| used.contains(name));
        json!(definitions)
    }
}

/// What a route requires: its scope, or no token at all. API Gateway knows one scope for a route, whatever its actions.
fn security(operations: &[&Operation]) -> Value {
    let scopes: BTreeSet<Option<Scope>> =
        operations.iter().filter_map(|operation| Some(operation.route?.scope)).collect();
    assert_eq!(scopes.len(), 1, "the actions of {} require different scopes", operations[0].name);
    let scopes: Vec<Value> = scopes.into_iter().flatten().map(|scope| json!({ SCHEME: [scope.in_token()] })).collect();
    json!(scopes)
}

fn security_scheme() -> Value {
    let scopes: Map<String, Value> = Scope::ALL
        .into_iter()
        .map(|scope| {
            (scope.in_token(), json!(format!("{} in the area {}", scope.access().name(), scope.area().name())))
        })
        .collect();
    let flow = json!({ "tokenUrl": TOKEN_PATH, "refreshUrl": TOKEN_PATH, "scopes": scopes });
    json!({
        "type": "oauth2",
        "description": "An access token of the stack's user pool, as a bearer token. An id token is refused, because it \
            has no scopes. A token has the scopes that the role of its user has, or those of its machine client. The \
            groups ADMIN and TECH_SUPPORT give a role; everybody else is a USER.",
        "flows": { "password": flow, "clientCredentials": flow }
    })
}

/// The errors of a token endpoint, by status.
const OAUTH_ERRORS: [&str; 5] = ["400", "401", "429", "500", "503"];

/// The errors of every route, by status, with their names among the document's responses.
const ERRORS: [(&str, &str); 8] = [
    ("400", "ValidationError"),
    ("401", "Unauthorized"),
    ("403", "ForbiddenError"),
    ("404", "NotFoundError"),
    ("409", "ConflictError"),
    ("429", "TooManyRequestsError"),
    ("500", "InternalError"),
    ("503", "UnavailableError"),
];

fn errors(operations: &[Operation]) -> Value {
    let mut responses = Map::new();
    for code in Code::ALL {
        let failure = match code {
            Code::Validation => Failure::invalid_fields(vec![
                FieldError::new("powerKw", "must be 0.001 or more"),
                FieldError::new("ports[0].connectorType", "is required"),
            ]),
            Code::NotFound => DomainError::not_found("station", "station-9").into(),
            Code::Forbidden => Failure::Forbidden("this is for the role ADMIN".to_owned()),
            Code::Conflict => DomainError::conflict("port port-1 is CHARGING").into(),
            Code::TooManyRequests => Failure::TooManyRequests("too many requests; try again in a moment".to_owned()),
            Code::Unavailable => Failure::unavailable(""),
            Code::Internal => Failure::internal(""),
        };
        let mut content = json!({
            "application/problem+json": {
                "schema": { "$ref": format!("{SCHEMAS}Problem") },
                "example": failure.into_problem("0198e2f4-0000-7000-8000-000000000000")
            }
        });
        // API Gateway answers these itself as well, in its own form.
        if [403, 404, 429, 500, 503].contains(&code.status()) {
            content["application/json"] = gateway_message();
        }
        responses.insert(code.name().to_owned(), json!({ "description": meaning(code), "content": content }));
    }
    responses.insert(
        "Unauthorized".to_owned(),
        json!({
            "description": "The token is missing, expired or not of this user pool. API Gateway answers.",
            "content": { "application/json": gateway_message() }
        }),
    );
    if operations.iter().any(|operation| operation.is_oauth) {
        responses.insert("OAuthError".to_owned(), oauth_error());
    }
    Value::Object(responses)
}

/// RFC 6749, section 5.2.
fn oauth_error() -> Value {
    let codes = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "invalid_scope",
        "unsupported_grant_type",
        "temporarily_unavailable",
        "server_error",
    ];
    let error = json!({
        "type": "object", "required": ["error"],
        "properties": { "error": { "enum": codes }, "error_description": { "type": "string" } }
    });
    // API Gateway answers some statuses itself as well, in its own form.
    let schema = json!({ "anyOf": [error, gateway_message()["schema"]] });
    let example = json!({ "error": "invalid_grant", "error_description": "the address or the password is wrong" });
    json!({
        "description": "The token endpoint refuses the request in the form of RFC 6749.",
        "content": { "application/json": { "schema": schema, "example": example } }
    })
}

fn meaning(code: Code) -> &'static str {
    match code {
        Code::Validation => "The request is wrong. `errors` names every failing field.",
        Code::Forbidden => "The token lacks the scope, the role may not do this, or the resource is somebody else's.",
        Code::NotFound => "There is no such resource.",
        Code::Conflict => "The request contradicts the present state.",
        Code::TooManyRequests => "There were too many requests.",
        Code::Unavailable => "A dependency is busy or cannot be reached. Try again in a moment.",
        Code::Internal => "Something failed on our side.",
    }
}

fn gateway_message() -> Value {
    json!({
        "schema": { "type": "object", "properties": { "message": { "type": ["string", "null"] } } },
        "example": { "message": "Unauthorized" }
    })
}

/// RFC 9457, with the extensions of this API.
fn problem_schema() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "description": "A problem document (RFC 9457)",
        "required": ["type", "title", "status", "code", "detail", "correlationId"],
        "properties": {
            "type": text, "title": text, "status": { "type": "integer" },
            "code": { "enum": codes },
            "detail": { "type": "string", "description": "What was wrong, and what would be right" },
            "correlationId": text,
            "errors": {
                "type": "array", "description": "Every failing field of a ValidationError",
                "items": {
                    "type": "object", "required": ["field", "message"], "properties": { "field": text, "message": text }
                }
            },
            "from": { "type": "string", "description": "The present state, where a transition was refused" },
            "to": { "type": "string", "description": "The state that was asked for" },
            "allowed": { "type": "array", "items": text, "description": "The states that can be reached" }
        }
    })
}

/// `failPortOrResetPort`, where several actions share a route.
fn joined(ids: &[String]) -> String {
    let (first, others) = ids.split_first().expect("an action");
    let capital = |id: &String| format!("Or{}{}", id[..1].to_uppercase(), &id[1..]);
    first.clone() + &others.iter().map(capital).collect::<String>()
}

fn success_headers(status: u16) -> Value {
    let mut headers = json!({ "x-correlation-id": { "$ref": "#/components/headers/CorrelationId" } });
    if status == 201 {
        headers["Location"] = json!({ "description": "Where the new resource is", "schema": { "type": "string" } });
    }
    headers
}

fn placeholder(part: &str) -> Option<&str> {
    part.strip_prefix('{')?.strip_suffix('}')
}

fn has_body(operation: &Operation) -> bool {
    operation.route.is_some_and(|route| !route.key.starts_with("GET ") && !route.key.starts_with("DELETE "))
}

fn parameters_of(operation: &Operation, arguments: &Value, in_path: &[&str], example: &Example) -> Vec<Value> {
    let properties = arguments["properties"].as_object().cloned().unwrap_or_default();
    let required = names(&arguments["required"]);
    let mut parameters = Vec::new();
    for (name, schema) in &properties {
        let place = if in_path.contains(&name.as_str()) {
            "path"
        } else if has_body(operation) {
            continue;
        } else {
            "query"
        };
        let mut parameter = json!({
            "name": name, "in": place, "required": place == "path" || required.contains(name),
            "schema": without_null(schema.clone())
        });
        if let Some(value) = example.parameter(name) {
            parameter["example"] = value.clone();
        }
        if let Some(description) = schema.get("description") {
            parameter["description"] = description.clone();
        }
        parameters.push(parameter);
    }
    // Where the key is required, the body has it: a document cannot require one of two.
    if properties.contains_key("idempotencyKey") && !required.contains("idempotencyKey") {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The same as `idempotencyKey` in the body: the same key by the same user has the same effect once",
            "schema": { "type": "string", "pattern": "^[ -~]{1,255}$" }
        }));
    }
    parameters
}

/// The schema of the body: the arguments without those of the path; none if nothing is left.
fn body(operation: &Operation, arguments: &Value, in_path: &[&str]) -> Option<Value> {
    let mut body = arguments.clone();
    let to = operation.route.and_then(|route| route.to);
    if let Some(to) = to {
        body["properties"]["to"] = json!({ "const": to });
        let mut required = names(&body["required"]);
        required.insert("to".to_owned());
        body["required"] = json!(required);
    }
    let properties = body.get_mut("properties")?.as_object_mut()?;
    properties.retain(|name, _| !in_path.contains(&name.as_str()));
    if properties.is_empty() || !has_body(operation) {
        return None;
    }
    let required = names(&body["required"]);
    let required: Vec<&String> = required.iter().filter(|name| !in_path.contains(&name.as_str())).collect();
    if required.is_empty() {
        body.as_object_mut()?.remove("required");
    } else {
        body["required"] = json!(required);
    }
    Some(body)
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// A query cannot say null: an optional parameter is left out.
fn without_null(mut schema: Value) -> Value {
    let Some(fields) = schema.as_object_mut() else { return schema };
    fields.remove("default");
    fields.remove("description");
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            fields["type"] = only.clone();
        }
    }
    if let Some(Value::Array(choices)) = fields.get_mut("enum") {
        choices.retain(|choice| !choice.is_null());
    }
    if let Some(Value::Array(branches)) = fields.get_mut("anyOf") {
        branches.retain(|branch| branch["type"] != "null");
        if let [only] = branches.as_slice() {
            return only.clone();
        }
    }
    schema
}

fn any_of(mut schemas: Vec<Value>) -> Value {
    if schemas.len() == 1 { schemas.remove(0) } else { json!({ "oneOf": schemas }) }
}

/// Renames references to these definitions.
fn rename(value: &mut Value, renamed: &BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let target = field.as_str().and_then(|text| text.strip_prefix(SCHEMAS)).map(str::to_owned);
                match target {
                    Some(target) if name == "$ref" && renamed.contains(&target) => {
                        *field = json!(format!("{SCHEMAS}{target}Input"));
                    }
                    _ => rename(field, renamed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, renamed)),
        _ => {}
    }
}

/// The definitions that a value refers to.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, field)| match field.as_str().and_then(|text| text.strip_prefix(SCHEMAS)) {
                Some(target) if name == "$ref" => vec![target.to_owned()],
                _ => references(field),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// The body of a form with these fields. An empty field of a form counts as left out (RFC 6749, section 3.2).
fn form(mut content: Value) -> Value {
    let fields = content["schema"]["properties"].as_object_mut().expect("the fields of the form");
    for field in fields.values_mut().filter_map(Value::as_object_mut) {
        field.remove("minLength");
    }
    content
}
