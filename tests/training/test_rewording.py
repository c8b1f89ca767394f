"""Test questions told again with other names, pronouns and nouns are found; others are not."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.config.problems import Contamination
from extracot_training.math_text.normalise import template_words
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.contamination import Hit, TestIndex
from extracot_training.stages.problems.rewording import Rewordings, similarity
from extracot_training.synthetic import Generator

# A test question, and the same with name, pronoun and one noun exchanged (the last: all of them in
# small letters, so that no name can be told).
REWORDED = [
    (
        "Nora picks 14 plums on Monday. She gives 5 plums to her neighbour and eats 2 plums. How "
        "many plums does Nora have left?",
        "Omar picks 14 figs on Monday. He gives 5 figs to his neighbour and eats 2 figs. How many "
        "figs does Omar have left?",
    ),
    (
        "A shop sells candles at 4 dollars each. Ivan buys 6 candles and pays with a 50 dollar "
        "note. He then returns 1 candle. How much money does he have in the end?",
        "A shop sells lamps at 4 dollars each. Lena buys 6 lamps and pays with a 50 dollar note. "
        "She then returns 1 lamp. How much money does she have in the end?",
    ),
    (
        "Tara reads 20 pages of her novel every day. After 8 days she has 40 pages of the novel "
        "left. How many pages does the novel have?",
        "Paul reads 20 pages of his manual every day. After 8 days he has 40 pages of the manual "
        "left. How many pages does the manual have?",
    ),
    (
        "every morning ben feeds 3 cups of grain to each of his 12 goats. his sack holds 90 cups "
        "of grain. after how many mornings must he buy a new sack for his goats?",
        "every morning ida feeds 3 cups of grain to each of her 12 ducks. her sack holds 90 cups "
        "of grain. after how many mornings must she buy a new sack for her ducks?",
    ),
]


def hits(test: str, question: str, **settings: object) -> list[Hit]:
    index = TestIndex("t", [(7, test)], Contamination.model_validate(settings), {})
    problem = Problem(
        id="p", question=question, answer="1", source="s", license="MIT", split="train"
    )
    return index.hits(problem)


@pytest.mark.parametrize(("test", "question"), REWORDED)
def test_name_pronoun_and_one_noun_exchanged(test: str, question: str) -> None:
    (hit,) = hits(test, question)
    assert (hit.kind, hit.row) == ("reworded", 7) and hit.share >= 0.75
    numbers = question.replace("4", "9").replace("8", "6").replace("12", "17")
    assert [hit.kind for hit in hits(test, numbers)] == ["reworded"]
    assert hits(test, numbers, mask_numbers=False) == []
    assert hits(test, question, mask_numbers=False)[0].kind == "reworded"
    assert hits(test, question, reworded=None) == []


def test_the_four_are_not_copies_of_each_other() -> None:
    for number, (test, _) in enumerate(REWORDED):
        assert not [hits(test, other) for _, other in REWORDED[:number] if hits(test, other)]


def test_short_questions_are_left_to_the_other_tests() -> None:
    assert hits("What is the sum of 3 and 4?", "What is the product of 3 and 4?") == []


def test_stories_of_other_families_are_not_copies() -> None:
    """31 families against each other: those with their own words are told apart."""
    made = {one.family: one.question for one in Generator(seed=5, max_number=100).make(400)}
    assert len(made) > 20
    for family, question in made.items():
        others = Rewordings(same_numbers=False)
        for number, (name, other) in enumerate(made.items()):
            if name != family:
                others.add(number, other)
        assert others.closest(question)[1] < 0.75, family


@pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed"
)
def test_templates_of_gsm_symbolic_are_told_apart() -> None:
    import reasoning_gym

    def drawn(seed: int) -> dict[int, str]:
        data = reasoning_gym.create_dataset("gsm_symbolic", size=300, seed=seed)
        return {data.task_indices[i]: str(data[i]["question"])[:-74] for i in range(300)}

    tests = Rewordings(same_numbers=False)
    for function, question in drawn(1).items():
        tests.add(function, question)
    found = {function: tests.closest(question) for function, question in drawn(7).items()}
    assert all(row == function for function, (row, share) in found.items() if share >= 0.5)
    again = sum(share >= 0.75 for _, share in found.values())
    assert again > 0.6 * len(found)


@given(st.lists(st.sampled_from("abcd"), max_size=9), st.lists(st.sampled_from("abcd"), max_size=9))
def test_similarity_is_a_share(first: list[str], second: list[str]) -> None:
    assert 0 <= similarity(first, second) <= 1
    assert similarity(first, first) == 1.0


def test_names_and_pronouns_are_masked() -> None:
    told = "On Monday Ann's brother met Bob. Bob gave him 3 pens."
    found = " ".join(template_words(told))
    assert found == "on @ @ s brother met @ @ gave ~ # pens"


# A question in a script without spaces; the same with one character edited, and with other names.
UNSPACED = [
    (
        "小明有12个苹果，他给了小红3个苹果，又从商店买了5个苹果，请问小明现在一共有多少个苹果？",
        "小明有12个苹果，他给了小红3个苹果，又从商店买了5个苹果，请问小明现在总共有多少个苹果？",
        "王强有12个苹果，他给了李丽3个苹果，又从商店买了5个苹果，请问王强现在一共有多少个苹果？",
    ),
    (
        "たろうさんはりんごを12個もっています。はなこさんに3個あげました。りんごは何個のこりますか。",
        "たろうさんはりんごを12個もっていた。はなこさんに3個あげました。りんごは何個のこりますか。",
        "けんじさんはりんごを12個もっています。ゆみこさんに3個あげました。りんごは何個のこりますか。",
    ),
    (
        "สมชายมีแอปเปิล 12 ผล เขาให้เพื่อน 3 ผล แล้วซื้อเพิ่มอีก 5 ผล เขามีแอปเปิลทั้งหมดกี่ผล",
        "สมชายมีแอปเปิล 12 ผล เขาให้เพื่อน 3 ผล แล้วซื้อเพิ่มอีก 5 ผล เขามีแอปเปิลรวมหมดกี่ผล",
        "วิชัยมีแอปเปิล 12 ผล เขาให้เพื่อน 3 ผล แล้วซื้อเพิ่มอีก 5 ผล เขามีแอปเปิลทั้งหมดกี่ผล",
    ),
]


@pytest.mark.parametrize(("test", "edited", "renamed"), UNSPACED)
def test_scripts_without_spaces_are_compared_by_characters(
    test: str, edited: str, renamed: str
) -> None:
    for question in (edited, renamed):
        assert hits(test, question), question
        assert hits(test, question.replace("12", "47")), "the same template"
        assert not hits(test, question.replace("12", "47"), mask_numbers=False, threshold=1.0)
    for other, *_ in UNSPACED:
        assert other == test or hits(test, other) == []
    others = "一辆汽车每小时行驶60公里，行驶4小时后离目的地还有80公里，全程一共多少公里？"
    assert hits(test, others) == []


def test_spaced_scripts_without_capitals_of_ours_have_words_and_names() -> None:
    """Every Russian word behind a space, and every Korean one, counted as a name."""
    assert template_words("Вчера у Маши было 5 яблок")[2:] == ["@", "было", "#", "яблок"]
    assert template_words("영희는 사과를 5개 샀다") == ["영희는", "사과를", "#", "개", "샀다"]
    test = (
        "Вчера Маша купила 5 красных яблок и 7 зелёных груш на рынке, а потом отдала 3 яблока "
        "брату. Сколько фруктов осталось?"
    )
    other = (
        "Поезд идёт из города со скоростью 60 километров в час и проходит за 4 часа весь путь до "
        "станции. Какова длина этого пути?"
    )
    assert hits(test, other) == []
    assert [hit.kind for hit in hits(test, test.replace("Маша", "Лена").replace("5", "8"))]
