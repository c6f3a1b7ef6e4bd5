from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from local_cloud import cloud, environment, ministack_server
from local_cloud.paths import State


def test_an_address_signs_up_once(real_state: State) -> None:
    cognito = environment.client("cognito-idp", cloud.ensure_running(real_state, 0).endpoint)
    pool = cognito.create_user_pool(PoolName="users", UsernameAttributes=["email"])["UserPool"]["Id"]
    app = cognito.create_user_pool_client(UserPoolId=pool, ClientName="app")["UserPoolClient"]["ClientId"]

    def sign_up(address: str) -> bool:
        try:
            cognito.sign_up(ClientId=app, Username=address, Password="Correct-horse-1")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "UsernameExistsException"
            return False
        return True

    with ThreadPoolExecutor(25) as threads:
        for address in [f"ada-{number}@example.com" for number in range(20)]:
            assert sum(threads.map(sign_up, [address] * 25)) == 1


@pytest.mark.parametrize(
    "error",
    [
        "PreTokenGeneration error: {'errorType': 'ForbiddenError', 'errorMessage': 'the user is blocked'}",
        'PreTokenGeneration error: {"errorType": "ForbiddenError", "errorMessage": "the user is blocked", "a": null}',
    ],
)
def test_a_refused_token_says_why(error: str) -> None:
    assert ministack_server.reason(error) == "the user is blocked"
