"""MiniStack, with behaviour of AWS that MiniStack lacks. The local cloud runs this file as a program.

The program replaces functions of the pinned version of MiniStack, and fails at the start if one of them is missing.

AppSync: see `local_cloud.appsync`.

EventBridge: if the function of a rule fails, Lambda repeats the invocation, and in the end sends the event to the
destination for failures. MiniStack does this for other asynchronous invocations, but loses the event of a rule.

IoT Core accepts a device only when it is ready for TLS. MiniStack makes its certificate when the first device
connects, and makes that device wait. Until Python 3.11.2, it also loses the first message of each device that
connects meanwhile: asyncio reads from a new connection although reading is paused, and nothing takes the message.

Cognito:

- Only one user can sign up with an e-mail address. MiniStack checks whether an address is taken and adds the user in
  two steps, so several concurrent requests may succeed.
- If the trigger of the user pool refuses a token, the request fails with the error that AWS answers. MiniStack answers
  an internal error, and clients would repeat the request.
"""

import ast
import contextlib
import json
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from ministack import app  # type: ignore[import-untyped]
from ministack.core.responses import error_response_json  # type: ignore[import-untyped]
from ministack.services import cognito, eventbridge, iot, lambda_svc  # type: ignore[import-untyped]


class TriggerRefused(Exception):
    """The trigger of the user pool refused the token."""


def extend() -> None:
    lock = threading.Lock()
    for name in ("_sign_up", "_admin_create_user"):
        setattr(cognito, name, one_at_a_time(getattr(cognito, name), lock))
    cognito._apply_pretoken_trigger = marking_refusals(cognito._apply_pretoken_trigger)
    cognito._run_idp_handler = answering_refusals(cognito._run_idp_handler)
    eventbridge._dispatch_to_lambda = repeating_failures(eventbridge._dispatch_to_lambda)
    # Also called after a reset, which makes a new certificate.
    iot._mtls_start_locked = when_ready_for_tls(iot._mtls_start_locked, iot._mtls_context)


def repeating_failures(dispatch: Callable[[str, str], None]) -> Callable[[str, str], None]:
    find, record_of = lambda_svc._get_func_record_for_ref, lambda_svc._execution_record_for_config
    invoke = lambda_svc.invoke_async_with_retry

    def dispatch_again(arn: str, payload: str) -> None:
        function, configuration, _ = find(arn)
        if function and configuration:
            invoke(record_of(function, configuration), json.loads(payload))
        else:
            dispatch(arn, payload)  # logs that the function is missing

    return dispatch_again


def when_ready_for_tls(
    listen: Callable[[], Coroutine[Any, Any, None]], tls_context: Callable[[], Coroutine[Any, Any, Any]]
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Makes the certificate before the port is opened. `/_ministack/ready` waits for the port."""

    async def start() -> None:
        await tls_context()
        await listen()

    return start


def one_at_a_time(handler: Callable[..., Any], lock: threading.Lock) -> Callable[..., Any]:
    def handle(*arguments: Any) -> Any:
        with lock:
            return handler(*arguments)

    return handle


def marking_refusals(apply: Callable[..., Any]) -> Callable[..., Any]:
    def marked(*arguments: Any, **named: Any) -> Any:
        try:
            return apply(*arguments, **named)
        except Exception as error:
            raise TriggerRefused(reason(str(error))) from error

    return marked


def reason(error: str) -> str:
    """Returns the errorMessage of the function, from MiniStack's text about the failed invocation."""
    _, _, answer = error.partition("PreTokenGeneration error: ")
    with contextlib.suppress(ValueError, SyntaxError):
        parsed = ast.literal_eval(answer)
        parsed = json.loads(parsed) if isinstance(parsed, str) else parsed
        if isinstance(parsed, dict):
            return str(parsed.get("errorMessage", error))
    with contextlib.suppress(ValueError):
        return str(json.loads(answer)["errorMessage"])
    return error


def answering_refusals(run: Callable[..., Any]) -> Callable[..., Any]:
    def handle(*arguments: Any) -> Any:
        try:
            return run(*arguments)
        except TriggerRefused as error:
            return error_response_json(
                "UserLambdaValidationException", f"PreTokenGeneration failed with error {error}.", 400
            )

    return handle


if __name__ == "__main__":
    # The local cloud isolates the program from the folder of this file. At the end of the path, the package can take
    # the place of no module that MiniStack imports.
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    from local_cloud import appsync

    extend()
    appsync.install()
    app.main()
