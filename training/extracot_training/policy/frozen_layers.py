"""The lowest layers of a model, which do not learn: run without gradients, or skipped where their
states are known.

What is computed below the border is a function of a row's tokens alone, so it can be kept
(:mod:`extracot_training.policy.state_cache`). The states at the border are rounded to bfloat16,
kept or not: whether they are kept changes nothing. Works on any decoder that is a list of layers,
with adapters or without; knows no trainer and no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from extracot_training.errors import ConfigError


class FrozenLayers:
    """The lowest ``count`` layers of ``model``, and all that they build on (embeddings, a tied
    output matrix included): from now on none of it learns.

    Raises :class:`ConfigError` where the model has no such layers, or none would be left.
    """

    def __init__(self, model: Any, count: int) -> None:
        layers = layers_of(model)
        if not 0 < count < len(layers):
            raise ConfigError(
                f"setting 'freeze_layers': want at most {len(layers) - 1}, for the model has "
                f"{len(layers)} layers, not {count}",
                key="freeze_layers",
            )
        self._count = count
        self._in_tuple = False
        self._given: Tensor | None = None
        self._reached: Tensor | None = None
        self._below_alone = False
        self.width = int(model.config.get_text_config().hidden_size)
        self.parameters = _freeze(model, layers, count)
        if not any(values.requires_grad for values in model.parameters()):
            raise ConfigError(
                f"setting 'freeze_layers': nothing is left to train above {count} layers",
                key="freeze_layers",
            )
        for at, layer in enumerate(layers):
            layer.forward = partial(self._through, at, layer.forward)
        self.below(model, {"input_ids": _some_ids(model)})  # tells how a layer returns its states

    def below(self, model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """The states at the border, (rows, length, width) in bfloat16, without dropout; the layers
        above do nothing."""
        training = model.training
        model.eval()
        self._below_alone = True
        try:
            with torch.no_grad():
                model(**inputs, use_cache=False, logits_to_keep=1)
        finally:
            self._below_alone = False
            model.train(training)
        reached, self._reached = self._reached, None
        assert reached is not None  # every pass goes through every layer
        return reached

    @contextmanager
    def going_on_from(self, states: Tensor) -> Iterator[None]:
        """A pass of the model takes these for what its frozen layers make."""
        self._given = states
        try:
            yield
        finally:
            self._given = None

    def _through(self, at: int, own: Any, *args: Any, **kwargs: Any) -> Any:
        """In place of a layer's ``forward``."""
        states = args[0] if args else kwargs["hidden_states"]
        if at >= self._count:
            return self._returned(states) if self._below_alone else own(*args, **kwargs)
        last = at == self._count - 1
        if self._given is not None:
            return self._returned(self._given.to(states.dtype) if last else states)
        with torch.no_grad():
            made = own(*args, **kwargs)
        if not last:
            return made
        self._in_tuple = isinstance(made, tuple)
        reached = (made[0] if self._in_tuple else made).to(torch.bfloat16)
        if self._below_alone:
            self._reached = reached
        return self._returned(reached.to(states.dtype))

    def _returned(self, states: Tensor) -> Any:
        return (states,) if self._in_tuple else states


def layers_of(model: Any) -> nn.ModuleList:
    """The decoder's layers, lowest first. Raises :class:`ConfigError` where there is no list of
    as many as the model's settings say."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ConfigError(
        f"setting 'freeze_layers': {type(model).__name__} has no list of its layers; want 0",
        key="freeze_layers",
    )


def _freeze(model: Any, layers: nn.ModuleList, count: int) -> tuple[nn.Parameter, ...]:
    """Everything that the states at the border depend on, and all else in the layers below it."""
    learning = [values for values in model.parameters() if values.requires_grad]
    reached: list[Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        reached.append(output[0] if isinstance(output, tuple) else output)

    hook = layers[count - 1].register_forward_hook(keep)
    training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            model(input_ids=_some_ids(model), use_cache=False)
    finally:
        model.train(training)
        hook.remove()
    if learning and reached[0].requires_grad:
        found = torch.autograd.grad(reached[0].float().sum(), learning, allow_unused=True)
        for values, gradient in zip(learning, found, strict=True):
            values.requires_grad_(gradient is None)
    layers[:count].requires_grad_(False)  # experts that no token went to as well
    kept = {id(values) for values in model.parameters() if values.requires_grad}
    return tuple(values for values in model.parameters() if id(values) not in kept)


def _some_ids(model: Any) -> Tensor:
    return torch.ones((1, 2), dtype=torch.long, device=model.device)
