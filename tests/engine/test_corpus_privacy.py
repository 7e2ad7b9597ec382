"""Privacy: what is found of each kind and what is not, what is done about it, and how often novels are mistaken."""

from __future__ import annotations

import random
import re
import string

import pytest
from toy_prose import prose
from toy_steps import judged, through

from engine.config import read
from engine.corpus import CorpusConfig
from engine.corpus.columns import column, compute
from engine.corpus.passages import cut
from engine.corpus.personal import IBANS, KINDS, is_card, is_iban
from engine.corpus.pipeline import preview
from engine.workspace import ASSETS

OFF = dict.fromkeys(KINDS, "keep")
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\nabc+/=\n-----END RSA PRIVATE KEY-----"

FOUND = {
    "email": ["jane.doe+news@mail.example.co.uk", "J_99@x-y.org", "müller@web.de"],
    "phone": ["+1 202-555-0143", "(212) 555-2368", "212-555-2368", "1-800-555-2368", "+49 30 901820", "020 7946 0958",
              "+442079460958", "030/1234567", "0612-345678"],
    "ip": ["8.8.8.8", "151.101.65.140", "2607:f8b0:4005:805::200e", "2a00:1450:4001:81b:0:0:0:200e"],
    "card": ["4111 1111 1111 1111", "4111111111111111", "5500-0000-0000-0004", "3782 822463 10005", "6011000990139424",
             "3530111333300000", "2223003122003222"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "FR14 2004 1010 0505 0001 3M02 606",
             "NO9386011117947", "MT84MALT011000012345MTLCAST001S"],
    "key": [KEY, "AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1B2" * 9, "xoxb-1234567890-abcdef",
            "sk_" + "live_4eC39HqLyjWDarjtT1zdp7", "sk-proj-abcDEF123456ghiJKL789", "hf_" + "aB3dE" * 7,
            "AIza" + "Sy1_-" * 7, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4"],
    "address": ["12 Gracechurch Street", "1600 Pennsylvania Avenue, Washington, DC 20500", "221B Baker Street",
                "5 N. Main St.", "Hauptstraße 12, 10115 Berlin", "10 rue de Rivoli, 75001 Paris"],
}
NOT_FOUND = {
    "email": ["@someone said so", "a@b", "me @ home.org", "user@localhost", "5@2.5"],
    "phone": ["1815-06-18 and 18.06.1815", "1,234,567,890", "3.14159265358979", "1234567890", "in 1914-1918",
              "100-200-3000", "978-0-306-40615-7", "10.1000/182 and 0-19-852663-6", "12:30:45", "555-2368"],
    "ip": ["192.168.0.1", "127.0.0.1", "10.1.2.3", "300.1.2.3", "version 2.1.3.4", "v1.2.3.4", "1.2.3.4.5", "12:30:45",
           "std::vector", "fe80::1", "::1", "a::b", "00:1B:44:11:3A:B7", "Genesis 1:1:2"],
    "card": ["4111 1111 1111 1112", "1234567812345670", "0000000000000000", "4111111111111111.5", "41111111111111110",
             "1605312000000000", "5555555555555555"],
    "iban": ["DE89 3704 0044 0532 0130 01", "XX89370400440532013000", "DE8937040044053201300",
             "GB82west12345698765432"],
    "key": ["sk-this-is-a-css-class-name", "task-1234567890abcdefghijk", "AKIA is a prefix", "password = getpass()",
            "the secret: nobody knew", "eyJust a word"],
    "address": ["In 1815 the Emperor", "100 Years of Solitude", "chapter 12 the Street", "3 Men in a Boat"],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_found_and_replaced_and_nothing_beside(kind, text):
    step = {"kind": "privacy", **OFF, kind: "placeholder"}
    for before, after in (("", ""), ("See ", " now."), ("(", ")"), ("x\n", "\ny"), ("it: ", ", or")):
        out = judged(step, before + text + after)
        assert out["text"].to_pylist() == [f"{before}[{kind.upper()}]{after}"]
        assert out["kinds"].to_pylist() == [[KINDS[kind].name]]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in NOT_FOUND.items() for text in texts])
def test_not_mistaken(kind, text):
    sentence = f"He wrote {text} there."
    assert through({"kind": "privacy", **OFF, kind: "placeholder"}, sentence) == [(sentence, None)]


def test_what_stands_before_and_tells_is_kept():
    out = through("privacy", "Tel.: 5552368 7", 'password = "hunter2hunter2"', "api_key: 'a1b2c3d4e5'", "Fax 555 2368")
    assert [text for text, _ in out] == ["Tel.: [PHONE]", 'password = "[KEY]"', "api_key: '[KEY]'", "Fax [PHONE]"]


def test_actions():
    text = "Write to jane@mail.example.org or 8.8.8.8, jane@mail.example.org."
    step = {"kind": "privacy", **OFF}
    assert through({**step, "email": "mask"}, text)[0][0] == \
        "Write to ****@****.*******.*** or 8.8.8.8, ****@****.*******.***."
    assert through({**step, "email": "drop"}, text) == [(text, "holds personal data: e-mail address")]
    assert through(step, text) == [(text, None)]
    out = judged({**step, "email": "mask", "ip": "placeholder"}, "nothing", text)
    assert out["kinds"].to_pylist() == [[], ["e-mail address", "e-mail address", "IP address"]]
    assert out["text"].to_pylist()[0] == "nothing"


def test_the_ledger_counts_by_kind(workspace):
    (workspace.place("corpora") / "mine.txt").write_text(f"{prose(5)} jane@mail.org, joe@mail.org and 8.8.8.8")
    (workspace.place("corpora") / "more.txt").write_text(prose(5, 1))
    config = read(CorpusConfig, {"sources": [{"path": "corpora/*.txt"}], "steps": ["privacy"]})
    (step,) = preview(config, workspace)["steps"]
    assert (step["edited"], step["kinds"]) == (1, {"e-mail address": 2, "IP address": 1})


def test_gates_let_nothing_by():
    texts = [f"so {text} it" for kind in FOUND for text in FOUND[kind]]
    gates = compute(judged("privacy", *texts).set_column(1, "text", [texts]),
                    {name: column("text").regexp(kind.gate) for name, kind in KINDS.items()}).to_pydict()
    for name, kind in KINDS.items():
        for text, let in zip(texts, gates[name], strict=True):
            assert let or not kind.sub(text, str)[1], (name, text)


def test_check_digits_against_their_definition():
    dice = random.Random(0)
    for _ in range(300):
        number = "4" + "".join(dice.choices(string.digits, k=14))
        good = [d for d in string.digits if luhn(number + d)]
        assert len(good) == 1
        assert [d for d in string.digits if is_card(number + d)] == good
    for size, countries in IBANS.items():
        for country in countries.split():
            account = "".join(dice.choices(string.digits + string.ascii_uppercase, k=size - 4))
            check = 98 - int("".join(str(int(c, 36)) for c in f"{account}{country}00")) % 97
            assert is_iban(f"{country}{check:02d}{account}")
            assert not is_iban(f"{country}{check % 97 + 1:02d}{account}") or check % 97 + 1 == check + 97


def luhn(number: str) -> bool:
    """The check by its table: every second digit from the right is doubled, and its digits added."""
    total = sum(map(int, number[-1::-2])) + sum(int(c) for d in number[-2::-2] for c in str(2 * int(d)))
    return total % 10 == 0


def test_planted_data_is_found_in_prose_and_novels_are_not_mistaken():
    novels = sorted((ASSETS / "corpora/novels").glob("*.txt"))
    passages = [piece for path in novels for piece in cut(path.read_text(), 2000)]
    out = judged({"kind": "privacy", "address": "placeholder"}, *passages)
    assert sum(map(len, out["kinds"].to_pylist())) == 0, "in 4.6 MB of prose"
    dice = random.Random(0)
    planted = dice.sample(range(len(passages)), 400)
    kinds = [dice.choice(list(FOUND)) for _ in planted]
    for at, kind in zip(planted, kinds, strict=True):
        words = passages[at].split(" ")
        words.insert(dice.randrange(len(words)), dice.choice(FOUND[kind]))
        passages[at] = " ".join(words)
    found = judged({"kind": "privacy", "address": "placeholder"}, *passages)["kinds"].to_pylist()
    right = sum(found[at] == [KINDS[kind].name] for at, kind in zip(planted, kinds, strict=True))
    assert right >= 396


def test_random_numbers_are_seldom_cards():
    dice = random.Random(0)
    numbers = ["".join(dice.choices(string.digits, k=16)) for _ in range(20_000)]
    assert sum(map(is_card, numbers)) < 0.04 * len(numbers)
    assert not any(is_card(f"{1_600_000_000_000 + 977 * n:013d}") for n in range(20_000)), "a time in milliseconds"
    assert not any(re.search(KINDS["card"].pattern, f"978{n:010d}") for n in range(0, 20_000, 7)), "a book's number"
