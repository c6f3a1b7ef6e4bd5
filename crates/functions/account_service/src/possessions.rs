//! What a user has: vehicles and charging tokens. The user may have no row, and nobody is looked up in the user pool.

use domain::accounts::Vehicle;
use domain::error::DomainError;
use lambda_kit::{Answer, Failure, Request};
use store::Page;
use uuid::Uuid;

use crate::AccountService;
use crate::commands::{AddToken, AddVehicle, OwnerRef, TokenRef, VehicleRef};

impl AccountService {
    pub(crate) async fn add_vehicle(&self, command: AddVehicle, request: &Request) -> Result<Answer, Failure> {
        let owner = self.on_behalf_of(command.user_id.as_ref(), request).await?;
        let vehicle = Vehicle::new(Uuid::now_v7().into(), command.vehicle)?;
        self.users.add_vehicle(&owner, &vehicle).await?;
        Answer::created(format!("/customers/{owner}/vehicles/{}", vehicle.id), vehicle)
    }

    pub(crate) async fn list_vehicles(&self, command: OwnerRef, request: &Request) -> Result<Answer, Failure> {
        let owner = self.on_behalf_of(command.user_id.as_ref(), request).await?;
        let items = self.users.vehicles(&owner).await?;
        Answer::page(Page { items, next_token: None }, |vehicle| vehicle)
    }

    pub(crate) async fn remove_vehicle(&self, command: VehicleRef, request: &Request) -> Result<Answer, Failure> {
        let owner = self.on_behalf_of(command.user_id.as_ref(), request).await?;
        let vehicle = self.users.vehicle(&owner, &command.vehicle_id).await?;
        let vehicle = vehicle.ok_or_else(|| DomainError::not_found("vehicle", &command.vehicle_id))?;
        self.users.remove_vehicle(&owner, &vehicle.id).await?;
        Answer::ok(vehicle)
    }

    pub(crate) async fn add_token(&self, command: AddToken, request: &Request) -> Result<Answer, Failure> {
        let owner = self.on_behalf_of(command.user_id.as_ref(), request).await?;
        let token = command.token();
        self.users.add_token(&owner, &token).await?;
        Answer::created(format!("/customers/{owner}/tokens"), token)
    }

    pub(crate) async fn list_tokens(&self, command: OwnerRef, request: &Request) -> Result<Answer, Failure> {
        let owner = self.on_behalf_of(command.user_id.as_ref(), request).await?;
        let items = self.users.tokens(&owner).await?;
        Answer::page(Page { items, next_token: None }, |token| token)
    }

    pub(crate) async fn remove_token(&self, command: TokenRef, request: &Request) -> Result<Answer, Failure> {
        let owner = self.on_behalf_of(command.user_id.as_ref(), request).await?;
        let token = self.users.token(&command.token_id).await?.filter(|(of, _)| *of == owner);
        let (_, token) = token.ok_or_else(|| command.token_id.unknown())?;
        self.users.remove_token(&owner, &token.id).await?;
        Answer::ok(token)
    }
}
