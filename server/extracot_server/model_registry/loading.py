"""From settings to a served model: which engine, which card, which renderer.

Imports an engine only when it is asked for, so that start-up stays quick. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from extracot.card import CARD_FILENAME, BudgetCard, tokenizer_hash
from extracot.errors import CardError
from extracot.prompt import PromptRenderer
from extracot_server.budget.resolve import BudgetPolicy, policy_level
from extracot_server.config import in_force
from extracot_server.config.model_settings import ModelSettings, check_name
from extracot_server.config.offers import Offers
from extracot_server.config.setting_values import SettingsError
from extracot_server.config.settings import Settings
from extracot_server.config.upstreams_file import UpstreamsError, UpstreamsFile, read_upstreams
from extracot_server.engine.base import Engine
from extracot_server.engine.lora import AdapterEngine
from extracot_server.generation.answer_formats import CALL_OPENERS
from extracot_server.generation.closing import Closing, ClosingError, make_closing
from extracot_server.generation.defaults import (
    ReplyDefaults,
    card_max_tokens,
    card_sampling,
    measured_bound,
)
from extracot_server.generation.detokenize import detokenizer_factory
from extracot_server.generation.request import ModelRuntime, ServedModel
from extracot_server.model_registry.bundled import BUNDLED
from extracot_server.model_registry.family import (
    assumed_tokens,
    call_reader,
    profile_of,
    single_ids,
    tool_parser_of,
)
from extracot_server.model_registry.resolving import resolve_default, resolve_model
from extracot_server.profiles.choice import check_settings
from extracot_server.profiles.profile import Profile


def build_engine(server: Settings, settings: ModelSettings) -> Engine:
    """The engine of one model, not started; a bundled model is prepared on first use."""
    if settings.engine == "scripted":
        from extracot_server.engine.scripted.engine import ScriptedEngine

        return ScriptedEngine(adapters=settings.lora)
    if settings.engine in ("remote", "openai"):
        return _remote_engine(server, settings)
    from extracot_server.engine.vllm.engine import VllmEngine

    resolved = resolve_model if "model" in settings.model_fields_set else resolve_default
    return VllmEngine(
        str(resolved(settings.model)),
        engine_args=settings.vllm,
        shutdown_grace=server.grace_seconds,
        stall_seconds=server.engine_stall_seconds,
        served_name=settings.served_model_name or _last_part(settings.model) or None,
        adapters=settings.lora,
        grammar_backend=settings.grammar_backend,
    )


def _remote_engine(server: Settings, settings: ModelSettings) -> Engine:
    from extracot_server.engine.openai.engine import OpenAIEngine
    from extracot_server.engine.remote.engine import RemoteEngine
    from extracot_server.engine.remote.upstream import UpstreamTimes

    named = "model" in settings.model_fields_set
    tokenizer = settings.tokenizer
    file = file_in_force(settings)
    openai = partial(OpenAIEngine, offers=settings.upstream_offers)
    build: Callable[..., RemoteEngine] = openai if settings.engine == "openai" else RemoteEngine
    return build(
        file.upstreams or settings.upstream,
        canary=file.canary.upstreams if file.canary is not None else (),
        model=settings.model if named else None,
        tokenizer_path=str(resolve_model(tokenizer)) if tokenizer is not None else None,
        api_key=None if file.upstreams else settings.upstream_keys(),
        health_seconds=server.health_interval_seconds,
        times=UpstreamTimes(silence=settings.upstream_timeout_seconds),
    )


def read_file(settings: ModelSettings, text: str | None = None) -> UpstreamsFile:
    """What a model's upstreams file says, or said with this ``text``; nothing without a file.
    Raises ``UpstreamsError``."""
    if settings.upstreams is None:
        return UpstreamsFile()
    try:
        (key,) = settings.upstream_keys()
    except ValueError as error:
        raise UpstreamsError(str(error)) from None
    remote = settings.has_upstreams
    return read_upstreams(settings.upstreams, remote=remote, api_key=key, text=text)


def file_in_force(settings: ModelSettings) -> UpstreamsFile:
    """What a start goes by: the file, or what siblings of this worker have of it where they refused
    what it says now. Raises ``UpstreamsError``."""
    try:
        return read_file(settings)
    except UpstreamsError as error:
        text = None if settings.upstreams is None else in_force.text_of(settings.upstreams)
        if text is None:
            raise
        return replace(read_file(settings, text), refused=str(error))


def check_files(settings: ModelSettings, engine: Engine) -> None:
    """Read card and profiles before the engine starts, which may take minutes.

    Raises :class:`~extracot.errors.CardError` where the card is broken or the named one is not
    there, :class:`~extracot_server.config.setting_values.SettingsError` for a wrong profile.
    """
    check_settings(settings.profile, settings.profiles)
    folder = getattr(engine, "source", None) if settings.engine == "vllm" else None
    _card_file(settings, folder)


def _card_file(settings: ModelSettings, folder: str | None) -> BudgetCard | None:
    """The card the settings name, else the one in the folder, else none."""
    if settings.card is not None:
        return None if settings.card == "none" else BudgetCard.load(Path(settings.card))
    if folder is not None and (Path(folder) / CARD_FILENAME).is_file():
        return BudgetCard.load(Path(folder))
    return None


def load_card(settings: ModelSettings, engine: Engine) -> BudgetCard | None:
    """The card the settings name, else the one beside the weights; ``None`` means cap mode.

    Raises :class:`~extracot.errors.CardError` in one line where a card does not fit the tokenizer.
    """
    if engine.info.kind == "openai":
        return None  # whatever lies where its server has the model from
    if (
        settings.card is None
        and engine.info.kind == "scripted"
        and not isinstance(engine, AdapterEngine)
    ):
        from extracot_server.engine.scripted.engine import scripted_card

        card: BudgetCard | None = scripted_card()
    else:
        card = _card_file(settings, getattr(engine, "source", engine.info.model))
    if card is not None:
        card.check_model(served_name(settings, engine), _last_part(engine.info.model))
        card.check_tokenizer(engine.tokenizer)
    return card


def serve_models(settings: ModelSettings, engine: Engine) -> list[ServedModel]:
    """A started engine's model, and each of its adapters as one more.

    An adapter has the card in its own folder or none (cap mode): its model's card says nothing of
    what the adapter does to lengths. Of an adapter's, errors say whose they are.
    """
    served = [serve_model(settings, engine)]
    for name, folder in getattr(engine, "adapters", {}).items():
        own = settings.model_copy(update={"served_model_name": name, "card": None, "lora": {}})
        try:
            served.append(serve_model(own, AdapterEngine(engine, name, folder)))
        except CardError as error:
            raise CardError(f"adapter {name}: {error}") from None
        except SettingsError as error:
            raise SettingsError(f"adapter {name}: {error}") from None
    return served


def serve_model(settings: ModelSettings, engine: Engine) -> ServedModel:
    """Join a started engine with its card, renderer and the operator's policy."""
    card = load_card(settings, engine)
    chooser = policy_level(card)
    if chooser is None:
        _refuse_auto(settings)
    name = served_name(settings, engine, card)
    profile = profile_of(name, settings, engine, card)
    offers: Offers | None = getattr(engine, "offers", None)
    if offers is not None and offers.efforts:
        profile = replace(profile, efforts=offers.efforts, effort_switches=MappingProxyType({}))
    tags = profile.tags
    if card is None:
        instruction, system = settings.instruction, settings.system_prompt
        control: dict[str, int] = {}
    else:
        instruction, system = card.instruction, card.system_prompt
        levels = [*card.levels, *([chooser] if chooser is not None else [])]
        control = dict(level.control() for level in levels) if card.is_trained else {}
    renderer = PromptRenderer(
        engine.tokenizer,
        tags=tags,
        instruction=instruction,
        system_prompt=system,
        control_tokens=tuple(control),
    )
    # Editions of a family differ: what this model's own template does is what is shown.
    profile = replace(profile, keeps_reasoning=renderer.traits.keeps_reasoning)
    spelled = (tags.start, tags.end, tags.begins_answer or "")
    tools = ModelRuntime(
        engine=engine,
        renderer=renderer,
        tags=tags,
        new_detokenizer=detokenizer_factory(engine.tokenizer, spelled),
        control_ids=frozenset(control.values()) | single_ids(profile.hidden, engine),
        new_plain_detokenizer=detokenizer_factory(engine.tokenizer, show_special=True),
        new_call_reader=call_reader(settings, profile, engine),
        call_opener=CALL_OPENERS.get(
            (tool_parser_of(settings, profile) or "").removeprefix("vllm:")
        ),
        tokenizer_hash=tokenizer_hash(engine.tokenizer),
        instruction=instruction,
        system_prompt=system,
        profile=profile,
        ending_ids=single_ids(profile.ends_reasoning, engine),
    )
    return ServedModel(
        name=name,
        runtime=tools,
        card=card,
        policy=BudgetPolicy(
            default=settings.default_budget,
            floor=settings.budget_floor,
            ceiling=settings.budget_ceiling,
            reasoning_tokens_ceiling=settings.reasoning_tokens_ceiling,
            efforts=settings.reasoning_effort_map,
            assumed_baseline=assumed_tokens(settings, profile),
            answer_reserve=settings.answer_reserve_tokens,
            grace_tokens=settings.grace_tokens,
            can_skip=offers is None or offers.can_skip or "none" in profile.efforts,
        ),
        open_think=settings.open_think,
        closing=_closing(settings, card, tools),
        loop_tokens=settings.loop_tokens,
        assumes_setting="assumed_reasoning_tokens" in settings.model_fields_set,
        defaults=_defaults(settings, card, profile),
        offers=offers,
    )


def _closing(settings: ModelSettings, card: BudgetCard | None, runtime: ModelRuntime) -> Closing:
    """The operator's closing, else the profile's; a model with trained levels ends by itself."""
    text, profile, whose = settings.closing, runtime.profile, "closing"
    if text is None:
        learnt = card is not None and card.is_trained
        text, whose = "" if learnt else profile.closing, f"profile {profile.name}: closing"
    reserved = profile.ends_reasoning
    try:
        return make_closing(text, runtime.renderer, runtime.engine.tokenizer, reserved)
    except ClosingError as error:
        raise SettingsError(f"{whose} {error}") from None


def _defaults(settings: ModelSettings, card: BudgetCard | None, profile: Profile) -> ReplyDefaults:
    """Sampling of the card, else of the bundled model, else of the profile. The bound is the
    setting's, else the card's, the bundled model's, or by what was measured of the model.

    Raises :class:`~extracot.errors.CardError` for sampling that cannot be.
    """
    own = settings.engine in ("vllm", "remote")
    bundled = BUNDLED.get(settings.model.lower()) if own else None
    sampling: Mapping[str, float] = {} if card is None else card_sampling(card)
    bounds = [settings.default_max_tokens, None if card is None else card_max_tokens(card)]
    if bundled is not None:
        sampling = sampling or bundled.sampling
        bounds.append(bundled.default_max_tokens)
    if card is not None:
        bounds.append(measured_bound(card, assumed_tokens(settings, profile)))
    bound = next((found for found in bounds if found is not None), None)
    return ReplyDefaults(sampling or profile.sampling, bound)


def _refuse_auto(settings: ModelSettings) -> None:
    """What no request could use is an operator's mistake, so it is said before any comes."""
    efforts = [name for name, value in settings.reasoning_effort_map.items() if value == "auto"]
    named = ["default_budget"] if settings.default_budget == "auto" else []
    named += [f"reasoning_effort_map.{name}" for name in efforts]
    if named:
        raise SettingsError(f"{named[0]} is auto, but this model has no policy token")


def served_name(settings: ModelSettings, engine: Engine, card: BudgetCard | None = None) -> str:
    """The name clients use: the setting, else that on a trained model's card, else the last part of
    the model's path or id. Raises :class:`~extracot.errors.CardError` for what is no name."""
    if settings.served_model_name:
        return settings.served_model_name
    if card is not None and card.is_trained and card.model is not None:
        try:
            return check_name(card.model)
        except ValueError as error:
            raise CardError(str(error), field="model") from None
    if settings.engine == "scripted":
        return engine.info.model
    if settings.engine in ("remote", "openai"):
        return _last_part(engine.info.model)
    return _last_part(settings.model) or engine.info.model


def _last_part(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1]
