"""Short stories of people who walk about and carry things, and questions on where things are.

No two Chinese names, places and objects share a character, and every English one follows a space wherever it stands:
otherwise a small model can't tell which of two to copy.
"""

from dataclasses import dataclass

from minimind.atlas.exercises import Exercise, exact
from minimind.atlas.facts import Language
from minimind.atlas.splits import Split, draw
from minimind.atlas.wording import SPACE
from minimind.random import Random

PEOPLE: dict[Language, tuple[str, ...]] = {
    "en": ("Tom", "Anna", "Ben", "Lily", "Jack", "Mary", "Sam", "Emma", "Leo", "Nina", "Paul", "Rose"),
    "zh": ("王伟", "李娜", "张强", "刘洋", "陈静", "杨帆", "赵磊", "周敏", "吴迪", "徐丽", "孙波", "马超"),
}
PLACES: dict[Language, tuple[str, ...]] = {
    "en": ("kitchen", "garden", "bedroom", "school", "shop", "station", "hall", "market", "museum", "bank"),
    "zh": ("厨房", "花园", "卧室", "学校", "商店", "车站", "大厅", "广场", "河边", "银行"),
}
OBJECTS: dict[Language, tuple[str, ...]] = {
    "en": ("apple", "umbrella", "ball", "cup", "key", "scarf", "pen", "lamp", "box", "phone", "bag", "coin"),
    "zh": ("苹果", "雨伞", "皮球", "茶杯", "钥匙", "围巾", "钢笔", "台灯", "木箱", "手机", "背包", "硬币"),
}
COUNTABLE: dict[Language, tuple[str, ...]] = {
    "en": ("apples", "balls", "cups", "keys", "pens", "lamps", "bags", "coins"),
    "zh": ("苹果", "皮球", "茶杯", "木箱", "背包"),
}
_MOVES: dict[Language, tuple[str, ...]] = {
    "en": ("{p} went to the {l}.", "{p} walked to the {l}."),
    "zh": ("{p}去了{l}。", "{p}来到{l}。"),
}
_TAKES: dict[Language, str] = {"en": "{p} took the {o}.", "zh": "{p}拿起了{o}。"}
_STORY: dict[Language, str] = {"en": "Story: ", "zh": "故事："}
_LOOK: dict[Language, str] = {"en": "Look: ", "zh": "看："}
_WITH: dict[Language, str] = {"en": "the {o} is with {p}.", "zh": "{o}在{p}手里。"}
_QUESTION: dict[Language, str] = {"en": "Question: where is {x}?", "zh": "问题：{x}在哪里？"}
_NOW: dict[Language, str] = {"en": "Now {x} is in the ", "zh": "现在{x}在"}
_END: dict[Language, str] = {"en": "{l}.", "zh": "{l}。"}


@dataclass(frozen=True)
class Story:
    """What was told, and for each person and object, named as in a question, its place and the evidence for it."""

    language: Language
    sentences: tuple[str, ...]
    place: dict[str, str]
    evidence: dict[str, str]

    @property
    def text(self) -> str:
        return _STORY[self.language] + SPACE[self.language].join(self.sentences)

    def question(self, subject: str) -> str:
        return _QUESTION[self.language].format(x=subject)

    def working(self, subject: str) -> str:
        """The evidence, restated: who has the object, and all the ways that this person went, in order."""
        return _LOOK[self.language] + self.evidence[subject]

    def beginning(self, subject: str) -> str:
        """The answer up to the place."""
        return _NOW[self.language].format(x=subject)

    def ending(self, place: str) -> str:
        return _END[self.language].format(l=place)

    def answer(self, subject: str) -> str:
        return self.beginning(subject) + self.ending(self.place[subject])


def tell(random: Random, language: Language, split: Split) -> Story:
    """A story of the split."""
    return draw(random, split, lambda r: _tell(r, language), lambda story: ("story", *story.sentences))


def _tell(random: Random, language: Language) -> Story:
    people = random.sample(PEOPLE[language], random.between(2, 3))
    objects = random.sample(OBJECTS[language], 2)
    place: dict[str, str] = {}
    moves: dict[str, list[str]] = {person: [] for person in people}
    holder: dict[str, str] = {}
    sentences: list[str] = []

    def move(person: str) -> None:
        place[person] = random.choice([x for x in PLACES[language] if x != place.get(person)])
        moves[person].append(random.choice(_MOVES[language]).format(p=person, l=place[person]))
        sentences.append(moves[person][-1])

    def take(person: str) -> None:
        thing = objects[len(holder)]
        holder[thing] = person
        sentences.append(_TAKES[language].format(p=person, o=thing))

    for person in people:
        move(person)
    for _ in range(random.between(1, 3)):
        person = random.choice(people)
        if len(holder) < len(objects) and random.chance(50):
            take(person)
        else:
            move(person)

    evidence = {person: SPACE[language].join(told) for person, told in moves.items()}
    for thing, person in holder.items():
        subject = f"the {thing}" if language == "en" else thing
        place[subject] = place[person]
        evidence[subject] = _WITH[language].format(o=thing, p=person) + SPACE[language] + evidence[person]
    return Story(language, tuple(sentences), place, evidence)


def draw_subject(random: Random, story: Story) -> str:
    """A person, or, as often where there is one, an object."""
    people = [subject for subject in story.place if subject in PEOPLE[story.language]]
    objects = [subject for subject in story.place if subject not in PEOPLE[story.language]]
    return random.choice(objects if objects and random.chance(50) else people)


def reading(random: Random, language: Language, split: Split) -> Exercise:
    """A story, and a question on where somebody or something is."""
    story = tell(random, language, split)
    subject = draw_subject(random, story)
    question = f"{story.text}\n{story.question(subject)}"
    return exact("reading", language, question, story.answer(subject), story.working(subject))
