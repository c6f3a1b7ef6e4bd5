from collections.abc import Iterator

import pytest

from local_cloud import cloud
from local_cloud.paths import State
from local_cloud.tests.appsync.stack import Api
from local_cloud.tests.conftest import EVOKE, script


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MiniStack with the extensions of the local cloud."""
    folder = tmp_path_factory.mktemp("appsync")
    state = State(folder / "state")
    state.folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cloud, "EVOKE", script(folder / "evoke", EVOKE))
        try:
            yield cloud.ensure_running(state, 0).endpoint
        finally:
            cloud.stop(state)


@pytest.fixture(scope="session")
def api(endpoint: str) -> Api:
    return Api.deployed(endpoint, "appsync")
