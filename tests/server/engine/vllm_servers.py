"""Real vLLM servers of the tiny model, and the remote engine on them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from extracot_server.engine.base import Engine, GenerationRequest, SamplingParams
from extracot_server.engine.remote.engine import RemoteEngine
from extracot_server.engine.remote.upstream import UpstreamTimes
from tests.fixtures.tiny_model import build_tiny_model
from tests.fixtures.token_checkpoint import NEW_TOKENS, fixture_card

ARGUMENTS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "block_size": 32,
    "kv_cache_memory_bytes": 2**27,
    "max_num_seqs": 8,
}
GREEDY = SamplingParams(temperature=0.0)
ENDLESS = SamplingParams(temperature=0.0, ignore_eos=True)
START_SECONDS = 600.0
# A server that answers late on a busy machine is not taken for a lost one; one that is killed
# refuses connections at once.
PATIENT = UpstreamTimes(connect=60.0, health=60.0)


def build_token_model(folder: Path, **settings: int) -> Path:
    """The tiny model with tokens and a card; ``settings`` go to :func:`build_tiny_model`."""
    from transformers import AutoTokenizer

    build_tiny_model(folder, **settings)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert set(NEW_TOKENS) <= set(tokenizer.get_added_vocab())
    fixture_card(tokenizer).save(folder)
    return folder


@dataclass
class Server:
    """One vLLM server in a process group of its own."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def signal(self, number: int) -> None:
        """To it and its engine process."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    async def ready(self) -> None:
        """Wait until it serves."""
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient() as client:
            while True:
                assert self.process.poll() is None, self.log.read_text()[-3000:]
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"{self.url}/health")).status_code == 200:
                        return
                await asyncio.sleep(0.2)

    async def ended(self) -> int:
        """Wait until it and its engine process, which has the listener too, are gone; its port."""
        port = int(self.url.rpartition(":")[2])
        async with asyncio.timeout(START_SECONDS):
            while True:
                with contextlib.suppress(OSError):
                    socket.create_server(("127.0.0.1", port)).close()
                    if self.process.poll() is not None:
                        return port
                await asyncio.sleep(0.05)

    async def metric(self, name: str, **labels: str) -> float:
        """Sum of one of its own metrics, of the samples with these labels."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.url}/metrics")).text
        families = text_string_to_metric_families(text)
        samples = [sample for family in families for sample in family.samples]
        return sum(
            sample.value
            for sample in samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def start_server(
    model: Path, folder: Path, *flags: str, port: int = 0, pinned: bool = True
) -> Server:
    """Begin to start one, as ``extracot-serve vllm`` does; returns at once.

    vLLM pins a server's worker, which spins, to the first cores of the machine, so those of several
    servers share them however many others are idle; not where ``pinned`` is false.
    """
    with socket.create_server(("127.0.0.1", port)) as probe:
        port = probe.getsockname()[1]
    log = folder / f"server-{port}.log"
    command = [sys.executable, "-m", "extracot_server.cli", "vllm", str(model), f"--port={port}"]
    for name, value in ARGUMENTS.items():
        command += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    if not pinned:
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--disable-uvicorn-access-log", *flags],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Server(process, f"http://127.0.0.1:{port}", log)


@contextlib.asynccontextmanager
async def remote(*servers: Server, **settings: Any) -> AsyncIterator[RemoteEngine]:
    """A started engine, closed at the end."""
    engine = RemoteEngine([server.url for server in servers], **{"times": PATIENT, **settings})
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close(0)


def ask(engine: Engine, name: str = "r", max_tokens: int = 24, **more: Any) -> GenerationRequest:
    """A request in the model's own template."""
    turn = [{"role": "user", "content": "What is 12 * 3 + 4?"}]
    text = engine.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    ids = engine.tokenizer.encode(text, add_special_tokens=False)
    return GenerationRequest(name, tuple(ids), max_tokens, **{"sampling": GREEDY, **more})
