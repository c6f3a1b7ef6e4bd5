use domain::live::Update;

/// A mutation `publish…` of `infrastructure/graphql/live.graphql`.
///
/// AppSync sends subscribers only the fields that the mutation selects. AppSync also compares the arguments of a
/// subscription with the selected fields of the same names. So a mutation selects all fields of its type, without
/// aliases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// The name of the field of Mutation.
    pub field: &'static str,
    /// The GraphQL document, which has the variable `input`.
    pub document: &'static str,
}

const SESSION: Mutation = Mutation {
    field: "publishSession",
    document: "mutation Publish($input: SessionUpdateInput!) { publishSession(input: $input) { \
        sessionId userId stationId portId status reason percent energyKwh cost currency startedAt endedAt occurredAt \
        version } }",
};

const STATION: Mutation = Mutation {
    field: "publishStation",
    document: "mutation Publish($input: StationUpdateInput!) { publishStation(input: $input) { \
        stationId status name ports freePorts chargingPorts portId portStatus deleted occurredAt version } }",
};

const STATION_PROGRESS: Mutation = Mutation {
    field: "publishStationProgress",
    document: "mutation Publish($input: StationProgressInput!) { publishStationProgress(input: $input) { \
        stationId at sessions { portId sessionId percent powerKw energyKwh } } }",
};

const WALLET: Mutation = Mutation {
    field: "publishWallet",
    document: "mutation Publish($input: WalletUpdateInput!) { publishWallet(input: $input) { \
        userId balance currency reason reference occurredAt version } }",
};

const SWAP_STATION: Mutation = Mutation {
    field: "publishSwapStation",
    document: "mutation Publish($input: SwapStationUpdateInput!) { publishSwapStation(input: $input) { \
        stationId status batteryAvailable batteryCharging occurredAt receivedAt } }",
};

const OPERATOR_ALERT: Mutation = Mutation {
    field: "publishOperatorAlert",
    document: "mutation Publish($input: OperatorAlertInput!) { publishOperatorAlert(input: $input) { \
        logId kind level service message occurredAt } }",
};

impl Mutation {
    /// All mutations that publish updates.
    pub const ALL: [Self; 6] = [SESSION, STATION, STATION_PROGRESS, WALLET, SWAP_STATION, OPERATOR_ALERT];

    /// Returns the mutation that publishes an update. The update is its input.
    #[must_use]
    pub fn of(update: &Update) -> Self {
        match update {
            Update::Session(_) => SESSION,
            Update::Station(_) => STATION,
            Update::StationProgress(_) => STATION_PROGRESS,
            Update::Wallet(_) => WALLET,
            Update::SwapStation(_) => SWAP_STATION,
            Update::OperatorAlert(_) => OPERATOR_ALERT,
        }
    }
}
