"""Language: what is kept, dropped and tagged."""

from __future__ import annotations

import socket

import pytest
from toy_steps import judged, through

from engine.config import UserError, read
from engine.corpus import Step
from engine.corpus.language import identifier

TEXTS = {
    "en": "The small grey house stands by the river, and every morning the light comes through the garden door.",
    "fr": "La petite maison grise est près de la rivière, et chaque matin la lumière entre par la porte du jardin.",
    "de": "Das kleine graue Haus steht am Fluss, und jeden Morgen kommt das Licht durch die Tür zum Garten herein.",
    "es": "La pequeña casa gris está junto al río, y cada mañana la luz entra por la puerta del jardín de la abuela.",
    "ru": "Маленький серый дом стоит у реки, и каждое утро свет проходит через дверь в сад, где растут яблони.",
    "zh": "这座灰色的小房子坐落在河边，每天早晨阳光都会透过花园的门照进来，照亮整个房间。",
    "ja": "小さな灰色の家が川のそばに建っていて、毎朝、庭の扉から光が差し込んできます。",
    "ar": "يقف البيت الرمادي الصغير بجانب النهر، وفي كل صباح يدخل الضوء من باب الحديقة إلى الغرفة.",
}


def test_listed_languages_are_kept_and_tagged():
    out = judged({"kind": "language", "languages": ["en", "de"]}, *TEXTS.values())
    assert out["language"].to_pylist() == list(TEXTS)
    assert out["reason"].to_pylist() == [None if code in ("en", "de") else f"language {code}" for code in TEXTS]
    assert min(out["confidence"].to_pylist()) > 0.65


def test_all_languages_are_kept_and_tagged_if_none_is_listed():
    out = judged({"kind": "language", "languages": []}, *TEXTS.values())
    assert out["reason"].null_count == len(TEXTS)
    assert out["kinds"].to_pylist() == [[code] for code in TEXTS]


def test_what_is_not_sure_is_dropped_unless_the_rule_is_off():
    unsure = "12345 67890"
    assert through("language", unsure)[0][1] == "language en with confidence below 65%"
    assert through({"kind": "language", "min_confidence": 0}, unsure)[0][1] is None


def test_line_ends_capitals_and_length_make_no_difference():
    for text in (TEXTS["fr"].replace(" ", "\n"), TEXTS["fr"].upper(), TEXTS["fr"] * 300,
                 "Menu " * 60 + TEXTS["fr"] * 20):
        assert identifier()(text)[0] == "fr"
        assert judged("language", text)["language"].to_pylist() == ["fr"]


def test_of_a_long_text_the_middle_is_looked_at():
    text = TEXTS["de"] * 9 + TEXTS["fr"] * 5 + TEXTS["de"] * 9
    assert judged({"kind": "language", "characters": 300}, text)["language"].to_pylist() == ["fr"]
    assert judged({"kind": "language", "characters": 0}, text)["language"].to_pylist() == ["de"]


def test_nothing_is_asked_of_the_network(monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    assert identifier()(TEXTS["de"])[0] == "de"


def test_languages_are_codes():
    assert read(Step, {"kind": "language", "languages": [" EN "]}).languages == ("en",)
    with pytest.raises(UserError, match="languages: holds 'english'; write languages as ISO codes"):
        read(Step, {"kind": "language", "languages": ["english"]})
