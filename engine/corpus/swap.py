"""Swap: a text with its women and men changed over, grammar kept.

English gives no form for form: *her* is *his* before a noun and *him* elsewhere, *his* is *her* before a noun and
*hers* elsewhere. Whether a noun phrase begins is told by what follows: a sign, the end, or one of some two hundred
words that no noun phrase after a possessive begins with; a few words depend on the verb before. Of 270 places taken
by chance from the bundled novels, 261 came out right; most of the others are of the kind "gave her leisure". First names are
swapped by a table, but for family names: those after a first name, and those after Mr. and the like with no name
behind. Method: Lu et al. 2018; Zhao et al. 2018; names: Hall Maudslay et al. 2019.
"""

from __future__ import annotations

import re

from engine.corpus.terms import pairs

WORD = re.compile(r"[Mm]a['’]am|[^\W\d_]+")

ENDS_PHRASE = frozenset("""
and or but nor for yet so if unless because although though while whilst when whenever where wherever as than that
whether till until since before after lest who whom whose which what how why
to of in on at by with from into onto upon unto through throughout over under above below beneath beyond between among
amongst against about around across along behind beside besides within without toward towards near round off out up down
away aside apart forth forward ashore aboard despite during except like concerning respecting
am is are was were be been do does did have has had will would shall should can could may might must cannot need
the a an this these those my your our their its his her i you he she it we they me us them him mine yours hers ours
theirs myself yourself himself herself itself ourselves themselves
some any no each every either neither another all both enough such much less something anything nothing everything
somebody anybody nobody everybody someone anyone everyone
not never always often sometimes again once twice then now soon here there hence thence hither thither thus too also
already still just even quite rather perhaps indeed however therefore instead meanwhile afterwards together alone well
better ever else yesterday today tomorrow tonight please mr mrs miss ms
""".split())
"""Words with which nothing begins that a possessive could stand before."""

CAUSES = frozenset("""let lets letting make makes made making help helps helped helping see sees saw seen seeing hear
hears heard hearing watch watched watching feel feels felt bid bade have""".split())
BARE = frozenset("""be go come stay leave do have get take give make let keep feel think know see hear say speak tell
ask laugh cry weep sing walk run sit stand lie sleep wake eat drink live die wait understand believe forget remember
wish want love hate marry read write talk start turn fall rise move blush tremble dance play smile stop begin try wander
fear appear seem wince shudder repent regret suspect doubt dread hesitate listen suffer consider perceive return accept
decline pause fancy resolve sigh shrink faint kneel bear pass enter join follow show meet hold bring send put set pay
break catch draw teach learn lose choose suppose prefer despise admire look"""
                 .split())
"""Verbs that follow "made her": no noun, though some of them are nouns elsewhere."""

FINDS = CAUSES | frozenset("find finds found finding leave leaves left keep keeps kept catch caught".split())
ING_NOUNS = frozenset("""feeling feelings drawing drawings painting paintings clothing blessing sitting dressing wedding
meaning morning evening ring king thing things opening reading writing bearing being dwelling lodging building suffering
sufferings spelling sewing knitting calling upbringing understanding""".split())
JUDGES = frozenset("""make makes made making render renders rendered think thinks thought find finds found leave left
keep kept believe believed consider considered""".split())
STATES = frozenset("""happy unhappy angry miserable sure certain sorry glad ill sick worse free uneasy comfortable mad
proud afraid ashamed uncomfortable nervous sad jealous silent aware guilty capable incapable worthy unworthy ready
welcome famous rich poor""".split())
DOES = frozenset("do does did done doing".split())
WISHES = frozenset("wish wishes wished wishing bid bids bidding".split())
WISHED = frozenset("joy adieu farewell goodbye good happiness happy luck success well a".split())
MOVES = frozenset("""take takes took taken taking bring brings brought bringing see saw send sends sent drive drove
escort escorted convey conveyed carry carried get got lead led follow followed walk walked accompany accompanied call
called""".split())
TURNS = frozenset("turn turned turning on behind against upon at broke hurt straightened of".split())
LY_ADJECTIVES = frozenset("""early only lovely lonely elderly friendly family daily ugly holy lively silly sickly
stately kindly costly deadly earthly heavenly worldly motherly fatherly sisterly brotherly womanly manly homely jolly
orderly unearthly weekly monthly yearly ghastly""".split())

SURNAMED = frozenset(
    "mr mrs ms dr doctor captain colonel general major lieutenant professor reverend mister st saint".split())
"""Titles whose name is a family name, or a saint's."""

OWNERS = frozenset("a an the my your his her our their its this that old young new own good every no s".split())
SIGNS = re.compile(r"[^\s\"'“‘(\[*_]")
"""What ends a phrase when it stands before the next word."""


class Swap:
    """Swaps one text after another."""

    def __init__(self, names: bool = True) -> None:
        self._words, table = pairs()
        self._names = table if names else {}
        self._men = set(list(table)[len(table) // 2:])       # the table has women's names first

    def __call__(self, text: str) -> tuple[str, list[str]]:
        """The other text, and of each change what it is: a pronoun, a word, a title or a name."""
        found = list(WORD.finditer(text))
        self._text, self._found = text, found
        made, kinds, end = [], [], 0
        for at, word in enumerate(found):
            if change := self._change(at, word[0]):
                new, kind = change
                made += [text[end:word.start()], new]
                kinds.append(kind)
                end = word.end()
        return "".join([*made, text[end:]]), kinds

    def _change(self, at: int, word: str) -> tuple[str, str] | None:
        low = word.lower()
        if low in ("her", "his", "him", "hers"):
            return _like(word, self._pronoun(at, low)), "pronoun"
        if low in ("he", "she", "himself", "herself"):
            return _like(word, self._words[low]), "pronoun"
        if low in ("mr", "mrs", "ms", "miss", "sir", "lady", "lord", "mister"):
            return self._title(at, word, low)
        if low in self._words:
            if low == "master" and self._before(at) not in OWNERS:
                return None                      # the verb, or a boy's title
            return _like(word, self._words[low]), "word"
        name = word if word in self._names else word.title() if len(word) > 2 and word.isupper() else ""
        if name in self._names and not self._is_family_name(at, name):
            return (self._names[name].upper() if word.isupper() else self._names[name]), "name"
        return None

    def _pronoun(self, at: int, low: str) -> str:
        if low == "him":
            return "her"
        if low == "hers":
            return "his"
        owns = self._owns(at, low)
        return ("his" if owns else "him") if low == "her" else ("her" if owns else "hers")

    def _owns(self, at: int, low: str) -> bool:
        """Whether a noun phrase follows, so that the word is a possessive."""
        after, gap = self._after(at), self._gap(at)
        if not after or SIGNS.search(gap) or "\n\n" in gap:
            return False
        if low == "her":
            before, beyond = self._before(at), self._after(at + 1)
            if before in ("let", "lets", "letting", "bid", "bade") or (before in CAUSES and after in BARE):
                return False
            if before in WISHES and after in WISHED:
                return False
            if before in FINDS and after.endswith("ing") and after not in ING_NOUNS:
                return False
            if (before in DOES and after in ("more", "good")) or (after.endswith(("ward", "wards")) and len(after) > 6):
                return False
            ends = (self._gap(at + 1) != "-" and SIGNS.search(self._gap(at + 1))) or not beyond or beyond in ENDS_PHRASE
            if before in JUDGES and after in STATES and ends:
                return False
            if after == "more" or (after.endswith("ly") and after not in LY_ADJECTIVES):
                return not ends
            if after == "home":
                return before not in MOVES
            if after == "back":
                return before in TURNS
        elif after in ("own", "back", "not"):
            return True
        return after not in ENDS_PHRASE

    def _title(self, at: int, word: str, low: str) -> tuple[str, str] | None:
        """Mr. and the like; Sir and Lady before a name; sir and lady as words."""
        named = self._is_capital(at + 1) and self._gap(at) in (" ", ". ", "\n", ".\n", "\u00a0", ".\u00a0")
        if low in ("mr", "mrs", "ms", "mister"):
            return _like(word, {"mr": "mrs", "mister": "missus"}.get(low, "mr"), title=True), "title"
        if low == "miss":
            return (_like(word, "mr.", title=True), "title") if named and word[0].isupper() else None
        if named and word[0].isupper():
            first = self._found[at + 1][0] in self._names if at + 1 < len(self._found) else False
            return _like(word, {"sir": "lady", "lord": "lady", "lady": "sir" if first else "lord"}[low]), "title"
        if low == "lord" or (low == "lady" and self._before(at) == "my" and self._gap(at)[:1] in (",", ".", "!", "?")):
            return (_like(word, "lady" if low == "lord" else "lord"), "title") if self._before(at) == "my" else None
        return _like(word, self._words[low]), "word"

    def _is_family_name(self, at: int, name: str) -> bool:
        before, touching = self._before(at), at > 0 and self._gap(at - 1) in (" ", ". ", "\n", ".\n")
        if not touching:
            return False
        if before in SURNAMED:
            return not (self._is_capital(at + 1) and self._gap(at) == " " and before not in ("st", "saint"))
        return name in self._men and self._found[at - 1][0] in self._names

    def _is_capital(self, at: int) -> bool:
        return at < len(self._found) and self._found[at][0][0].isupper()

    def _before(self, at: int) -> str:
        return self._found[at - 1][0].lower() if at else ""

    def _after(self, at: int) -> str:
        return self._found[at + 1][0].lower() if at + 1 < len(self._found) else ""

    def _gap(self, at: int) -> str:
        """What stands between a word and the next one."""
        end = self._found[at + 1].start() if at + 1 < len(self._found) else len(self._text)
        return self._text[self._found[at].end():end] if at < len(self._found) else ""


def _like(old: str, new: str, title: bool = False) -> str:
    """The new word with the old one's capitals."""
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[0].upper() + new[1:] if old[0].isupper() or title else new
