"""Profiles: which family a model is of, what is read from files, and what does not fit."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest

from extracot_server.cli import main
from extracot_server.config.setting_values import SettingsError
from extracot_server.config.settings import Settings
from extracot_server.profiles.choice import Choice, check_settings, choose
from extracot_server.profiles.fit import MAX_CLOSING_TOKENS, ModelFacts
from extracot_server.profiles.profile import Profile, Switch
from extracot_server.profiles.profile_file import built_in, own_profiles
from tests.extracot import zoo
from tests.extracot.real_templates import TEMPLATES

FAMILY_OF = {
    "ByteDance-Seed-OSS": "seed-oss",
    "GLM-4.6": "glm-4.5",
    "HuggingFaceTB-SmolLM3-3B": "smollm3",
    "MiniMax-M2": "minimax-m2",
    "StepFun3.5-Flash": "step-3.5",
    "deepseek-ai-DeepSeek-V3.1": "deepseek-v3.1",
    "ibm-granite-granite-3.3-2B-Instruct": "granite-3.3",
    "mistralai-Ministral-3-14B-Reasoning-2512": "magistral",
    "poolside-Laguna-XS.2": "laguna",
    **dict.fromkeys(("deepseek_r1_distill", "deepseekv3"), "deepseek-r1"),
    **dict.fromkeys([name for name in TEMPLATES if name.startswith("gemma4")], "gemma-4"),
    "diffusion_gemma": "gemma-4",
    "glm4moe": "glm-4.5",
    "gptoss": "gpt-oss",
    **dict.fromkeys([name for name in TEMPLATES if name.startswith("nemotron_3")], "nemotron-3"),
    "qwen3": "qwen3",
    **dict.fromkeys(("qwen3_5_think", "qwen3_5_nothink", "qwen3_6"), "qwen3.5"),
    "qwen3_8": "qwen3.8",
}
# Whose licences let nobody store them here: checked where CHAT_TEMPLATES names their folder.
ARCHIVED = {
    "Cohere2MoE": "command-a",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": "command-r7b",
    "GLM-4.7-Flash": "glm-4.7",
    "Kimi-K2-Thinking": "kimi-k2-thinking",
    "Kimi-K3": "unknown",
    "MiniMax-M3": "minimax-m3",
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": "nemotron-3",
    "NVIDIA-Nemotron-Nano-v2": "nemotron-nano-v2",
    "Qwen-Qwen3-0.6B": "qwen3",
    "Qwen3.5-4B": "qwen3.5",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": "deepseek-r1",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "deepseek-r1",
    "deepseek-ai-DeepSeek-V3.2": "deepseek-v3.2",
    "deepseek-ai-DeepSeek-V4": "deepseek-v4",
    "deepseek-ai-DeepSeek-V4-Flash-0731": "deepseek-v4",
    "google-gemma-4-31B-it": "gemma-4",
    "google-gemma-4-31B-it-interleaved": "gemma-4",
    "inclusionai-ling-3.0-flash": "ling-3",
    "openai-gpt-oss-120b": "gpt-oss",
    "llama-cpp-deepseek-r1": "deepseek-r1",
    "poolside-Laguna-S-2.1": "laguna",
    "poolside-Laguna-XS-2.1": "laguna",
    "tencent-Hy3": "hy3",
}
FAMILY_OF |= {name: family for name, family in ARCHIVED.items() if name in TEMPLATES}
THINKS = {"enable_thinking": Switch(True, False)}
SWITCHES: dict[str, dict[str, Switch]] = {
    **{name: {} for name in ("deepseek-r1", "gpt-oss", "magistral", "minimax-m2", "step-3.5")},
    **{name: {"thinking": Switch(True, False)} for name in ("deepseek-v3.1", "granite-3.3")},
    "seed-oss": {"thinking_budget": Switch(None, 0)},
}
EFFORTS = {
    "gptoss": ("low", "medium", "high"),
    "nemotron_3_super": ("low", "high"),
    "nemotron_3_ultra": ("medium", "high"),
    "qwen3_8": ("low", "medium", "xhigh"),
}


def facts(name: str, model_type: str | None = None) -> ModelFacts:
    """A model with one of the published templates."""
    return ModelFacts(TEMPLATES[name].tokenizer, model_type)


def chosen(name: str, model_type: str | None = None) -> Profile:
    return choose(None, None, facts(name, model_type)).profile


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_tells_its_family_or_none(name: str) -> None:
    profile = chosen(name)
    family = FAMILY_OF.get(name, "unknown")
    assert profile.name == family
    if family != "unknown" and name not in ARCHIVED:
        assert dict(profile.switches) == SWITCHES.get(family, THINKS)
        assert profile.efforts == EFFORTS.get(name, ())


def test_the_configuration_has_to_agree() -> None:
    assert chosen("qwen3", "qwen3_moe").name == "qwen3"
    assert chosen("qwen3", "llama").name == "unknown"
    # A distilled DeepSeek is a Qwen by its configuration and a DeepSeek by its template.
    for model_type in ("qwen2", "qwen3", "llama", "deepseek_v3"):
        assert chosen("deepseek_r1_distill", model_type).name == "deepseek-r1"
    # A ChatML template with think tags says nothing by itself.
    plain = ModelFacts(zoo.tokenizer("bytes", "qwen3"))
    assert choose(None, None, plain).profile.name == "unknown"
    qwen2 = ModelFacts(zoo.tokenizer("bytes", "qwen3"), "qwen2", ("Qwen2ForCausalLM",))
    assert choose(None, None, qwen2).profile.name == "qwq"


# The second edition of Gemma 4's template kept none; Kimi's puts turns into a list of its own,
# which the sandbox of transformers forbids as soon as there is a call.
OTHERWISE = {"gemma4_v2", "Kimi-K2-Thinking"}


@pytest.mark.parametrize(
    "name", [n for n, family in FAMILY_OF.items() if family != "unknown" and n not in OTHERWISE]
)
def test_which_earlier_reasoning_a_template_keeps(name: str) -> None:
    traits = TEMPLATES[name].renderer.traits
    assert chosen(name).keeps_reasoning == traits.keeps_reasoning


def test_every_family_says_where_its_facts_come_from() -> None:
    families = built_in()
    names = [profile.name for profile in families]
    assert len(set(names)) == len(names) >= 20
    for profile in families:
        assert "template" in profile.source
        assert profile.match.template or profile.match.tokens
        assert profile.baseline and profile.baseline_source
        assert bool(profile.sampling) == bool(profile.sampling_source)
        assert len(profile.closing) <= MAX_CLOSING_TOKENS  # so it is short enough for any tokenizer


OWN = """
name: mine
source: tried out
match: {template: ["im_start"]}
tags: {start: "<think>", end: "</think>"}
single: true
closing: That is all I may think.
switches: {enable_thinking: {on: true, off: false}}
baseline: {tokens: 700, source: measured on my traffic}
"""


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_profile_of_ones_own_comes_before_a_family(tmp_path: Path) -> None:
    for place in (written(tmp_path, OWN), tmp_path):
        found = choose(None, place, facts("qwen3", "qwen3"))
        assert (found.profile.name, found.profile.baseline) == ("mine", 700)
        assert found.profile.switches["enable_thinking"] == Switch(True, False)
        assert choose("qwen3", place, facts("qwen3")).profile.name == "qwen3"
        assert choose("none", place, facts("qwen3")).profile.name == "unknown"
    # One of its own by the name of a family replaces it.
    written(tmp_path, OWN.replace("mine", "qwen3"))
    assert choose("qwen3", tmp_path, facts("qwen3")).profile.baseline == 700


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name: mine", "name: Mine!", "name: string should match"),
        ("name: mine", "name: none", "name: none is no name"),
        ("source: tried out", "", "source is missing"),
        ("single: true", "sigle: true", "unknown key sigle; did you mean single?"),
        ("single: true", "single: 7", "single: input should be a valid boolean"),
        ("start:", "begin:", "unknown key tags.begin"),
        ('start: "<think>", ', "", "tags.start is missing"),
        ('end: "</think>"', 'end: "<think>"', "they have to differ"),
        ('end: "</think>"', 'end: "</think>", closes: "so"', "does not close a block"),
        ('end: "</think>"', 'end: "</think>", opens: "so"', "does not open a block"),
        ("on: true, off: false", "", "switches.enable_thinking: give on, off or both"),
        ("on: true, off: false", "on: 1, off: 1", "on and off are the same"),
        ("on: true, off: false", "in: true", "unknown key switches.enable_thinking.in"),
        ("enable_thinking:", "messages:", "switch messages: is not a variable"),
        ("on: true", 'on: "<|im_end|>"', "must be a word"),
        ("on: true", "on: [1]", "switches.enable_thinking.on: must be true, false, a number"),
        ("single: true", "efforts: [low, low]", "efforts: one is listed twice"),
        ("single: true", "efforts: [1]", "efforts: must be a list of words"),
        ("single: true", "efforts: {low: {x: [1]}}", "efforts.low.x: must be true, false"),
        ("single: true", "efforts: {low: 3}", "efforts.low: input should be a valid dictionary"),
        ("That is all", "That </think> is all", "closing holds the think tag </think>"),
        ("That is all", "So <think> is all", "closing holds the think tag <think>"),
        ("tokens: 700", "tokens: 0", "baseline.tokens: input should be greater"),
        ("tokens: 700, source", "tokens: 700, sorce", "unknown key baseline.sorce; did you mean"),
        ("single: true", "sampling: {source: us}", "sampling: give temperature, top_p"),
        ("single: true", "sampling: {top_p: 0.9}", "sampling.source is missing"),
        ("single: true", "sampling: {temprature: 1, source: us}", "did you mean temperature?"),
        ("single: true", "sampling: {temperature: 3, source: us}", "sampling.temperature: input"),
        ("single: true", "sampling: {temperature: .nan, source: us}", "sampling.temperature: in"),
        ("single: true", "sampling: {top_k: 2.5, source: us}", "sampling.top_k: input should be"),
        ("single: true", "sampling: {min_p: true, source: us}", "sampling.min_p: input should be"),
        (OWN, "- a\n- b", "must hold `key: value` lines"),
        (OWN, "a: [", "is not YAML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in OWN
    path = written(tmp_path, OWN.replace(old, new, 1))
    with pytest.raises(SettingsError) as caught:
        own_profiles(path)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    assert says in text


def test_files_that_are_not_there_or_disagree(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no \.yaml file is in it"):
        own_profiles(tmp_path)
    with pytest.raises(SettingsError, match="No such file"):
        own_profiles(tmp_path / "nowhere.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is not text"):
        own_profiles(tmp_path)
    written(tmp_path, OWN, "a.yaml")
    written(tmp_path, OWN, "b.yaml")
    with pytest.raises(SettingsError, match="two profiles are named mine"):
        own_profiles(tmp_path)
    written(tmp_path, OWN.replace("mine", "other"), "b.yaml")
    with pytest.raises(SettingsError, match="mine, other all match this model: name one"):
        choose(None, tmp_path, facts("qwen3"))


LONG = " ".join(["word"] * 70)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("enable_thinking:", "enable_thought:", "unknown switch enable_thought"),
        ("That is all I may think.", "<|im_end|>", "its closing holds the token <|im_end|>"),
        ("That is all I may think.", LONG, "its closing is 70 tokens, at most 64"),
        ('"<think>"', '"<thought>"', "its tag <thought> is 3 tokens here, and single is true"),
        ("single: true", "efforts: [low]", "unknown switch reasoning_effort"),
        ("single: true", "budget_switch: tokens", "unknown switch tokens"),
        ("single: true", "hidden: ['<x>']", "hidden: <x> is not one token here"),
        ("single: true", "ends_reasoning: ['<x>']", "ends_reasoning: <x> is not one token here"),
        ('["im_start"]', '["im_start"], tokens: ["<|x|>"]', "the tokenizer has no token <|x|>"),
    ],
)
def test_a_profile_of_ones_own_has_to_fit(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = written(tmp_path, OWN.replace(old, new, 1))
    with pytest.raises(SettingsError) as caught:
        choose("mine", path, facts("qwen3"))
    assert str(caught.value).startswith("profile mine does not fit this model: ")
    assert says in str(caught.value)


def test_an_effort_that_the_template_refuses_does_not_fit(tmp_path: Path) -> None:
    text = OWN.replace("single: true", "efforts: [low, high]")
    with pytest.raises(SettingsError, match="efforts: the chat template refuses high"):
        choose("mine", written(tmp_path, text), facts("qwen3_8"))


def test_a_family_by_name_is_cut_down_to_the_model() -> None:
    assert choose("qwen3.8", None, facts("qwen3")).profile.efforts == ()
    with pytest.raises(SettingsError, match=r"gpt-oss does not fit .* has no token <\|channel\|>"):
        choose("gpt-oss", None, facts("qwen3"))


def test_a_family_whose_tags_are_no_tokens_is_said_and_not_used() -> None:
    tokenizer: Any = copy.deepcopy(zoo.plain_tokenizer())
    tokenizer.chat_template = TEMPLATES["qwen3"].text
    found: Choice = choose(None, None, ModelFacts(tokenizer))
    assert found.profile.name == "unknown"
    assert "looks like qwen3, but its tag <think> is" in found.reason


def test_an_unknown_name_ends_the_start_with_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError, match="did you mean qwen3"):
        check_settings("qwen_3", None)
    words = ["--engine", "scripted", "--port", "0"]
    assert main([*words, "--profile", "gptoss"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("extracot-serve: error: profile: there is no 'gptoss'; did you mean gpt")
    assert main([*words, "--profiles", "/nowhere/at/all"]) == 2
    assert "No such file" in capsys.readouterr().err.strip().splitlines()[-1]
    assert main([*words, "--profile", "gpt-oss"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "profile gpt-oss does not fit this model" in line


def test_the_settings_are_of_each_model() -> None:
    models = [{"name": "a", "engine": "scripted", "profile": "none"}, {"name": "b"}]
    a, b = Settings(engine="scripted", profile="qwen3", models=models).served_models()
    assert (a.profile, b.profile) == ("none", "qwen3")


def test_which_profile_is_used_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    from tests.server.live import serve

    with caplog.at_level(logging.INFO, "extracot.server"), serve(card="none"):
        pass
    said = [record.message for record in caplog.records if "profile" in record.message]
    assert said == [
        "scripted: no profile (no known family): think tags <think> and </think>, "
        "caps of the settings' baseline"
    ]
