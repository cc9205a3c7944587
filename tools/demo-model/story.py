"""A small world of stories, written from templates: the only text the demo model learns from.

A hero has a name and a kind of animal, drawn alike often and said again and again, so that a small
model learns to take them from the prompt. Friends are a few fixed neighbours whose names
and animals no hero has, so that the two cannot be mistaken for each other. What is lost is found, who
gets wet gets dry: choices made early return later.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

SHE = ("she", "her")
HE = ("he", "his")
GIRLS = (
    "Mia", "Ruby", "Luna", "Lily", "Anna", "Emma", "Ella", "Zoe", "Nora", "Maya", "Lucy", "Rosie",
    "Clara", "Ivy", "Daisy", "Molly", "Sara", "Nina", "Eva", "Bella",
)
BOYS = (
    "Tom", "Max", "Sam", "Leo", "Ben", "Jack", "Finn", "Milo", "Toby", "Hugo", "Noah", "Felix",
    "Oscar", "Theo", "Tim", "Charlie", "Henry", "Oliver", "Rex", "Paul",
)
HEROES = tuple((name, SHE) for name in GIRLS) + tuple((name, HE) for name in BOYS)
ANIMALS = (
    "fox", "cat", "dog", "rabbit", "bear", "mouse", "squirrel", "otter", "beaver", "mole", "pony",
    "pig", "lamb", "lion",
)
FRIENDS = (
    "Otto the owl", "Hazel the hedgehog", "Bruno the badger", "Poppy the duck", "Pip the frog",
    "Tilly the turtle", "Jasper the goat", "Stella the swan",
)
PLACES = (
    "in the forest", "in the meadow", "in the valley", "in the village", "in the garden",
    "on the hill", "on the island", "by the river", "by the lake", "by the sea", "near the mill",
)
SIZES = ("little", "small", "young", "tiny", "kind", "brave")
WEATHER = ("sunny", "windy", "cold", "warm")
COLOURS = ("red", "blue", "green", "yellow")
THINGS = ("ball", "kite", "hat", "scarf", "drum", "book")
FOODS = ("apples", "berries", "nuts", "pears", "cakes")
FLOWERS = ("rose", "sunflower", "tulip", "pumpkin")
DRINKS = ("warm milk", "hot soup", "sweet tea")
FEELINGS = ("happy", "glad", "proud")
HIDING = ("under a bush", "behind a rock", "in the grass")
TRAPS = (("in the mud", "a rope"), ("up a tree", "a ladder"), ("under a log", "a stick"))
NOISES = (("a soft tapping", "a branch"), ("a strange whistle", "the wind"), ("a loud rattle", "the rain"))


@dataclass(frozen=True)
class Cast:
    """Who and where: fixed for one story."""

    hero: str
    animal: str
    size: str
    friend: str
    full_friend: str
    place: str
    they: str
    their: str

    @property
    def hero_is(self) -> str:
        """The hero with its article, as in `a small fox`."""
        return f"{article(self.size)} {self.animal}"

    @property
    def subject(self) -> str:
        """The pronoun that begins a sentence."""
        return self.they.capitalize()


@dataclass(frozen=True)
class Story:
    """A story and a question that asks for it."""

    question: str
    text: str


def article(noun: str) -> str:
    """`noun` behind the article that it sounds right with."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """Draws an option, earlier ones more often.

    Even odds would leave the trained model undecided between them, and which token is likeliest
    would hang on rounding.
    """
    weights = [1 / (place + 1) for place in range(len(options))]
    return rng.choices(options, weights)[0]


def pick_evenly(rng: random.Random, options: Sequence[T]) -> T:
    """Draws an option, all alike often but the first, which comes twice as often.

    What is to be taken from the prompt must not be worth guessing; the first option is what a model
    says that was told nothing.
    """
    return rng.choice((options[0], *options))


def pick_favourite(rng: random.Random, options: Sequence[T], animal: str) -> T:
    """Draws an option, those that a kind of animal favours more often.

    So the likeliest story is another one for every animal.
    """
    start = ANIMALS.index(animal) % len(options)
    return pick(rng, (*options[start:], *options[:start]))


def write_story(rng: random.Random) -> Story:
    """Draws one story."""
    cast = _draw_cast(rng)
    topic, middle = pick_favourite(rng, PLOTS, cast.animal)(rng, cast)
    text = " ".join([_opening(rng, cast), middle, _ending(rng, cast)])
    return Story(_question(rng, cast, topic), text)


def _draw_cast(rng: random.Random) -> Cast:
    hero, pronouns = pick_evenly(rng, HEROES)
    animal = pick_evenly(rng, ANIMALS)
    full_friend = pick_favourite(rng, FRIENDS, animal)
    place = pick_favourite(rng, PLACES, animal)
    size = pick(rng, SIZES)
    return Cast(hero, animal, size, full_friend.split()[0], full_friend, place, *pronouns)


def _question(rng: random.Random, cast: Cast, topic: str) -> str:
    return pick(rng, (
        f"Tell me a story about {article(cast.animal)} named {cast.hero}.",
        f"Tell me a story about {cast.hero} the {cast.animal}.",
        f"Please write a story about {cast.hero}.",
        f"Tell me a story about {article(cast.animal)}.",
        f"Tell me a story about {topic}.",
        "Tell me a story.",
    ))


def _opening(rng: random.Random, cast: Cast) -> str:
    lived = pick(rng, (
        f"{cast.hero} the {cast.animal} lived {cast.place}.",
        f"{cast.hero} lived {cast.place}.",
    ))
    return pick(rng, (
        f"Once upon a time, there was {cast.hero_is} named {cast.hero}. {lived}",
        f"Once upon a time, {cast.hero_is} named {cast.hero} lived {cast.place}.",
        f"There once was {cast.hero_is} named {cast.hero}. {lived}",
        f"Once there was {article(cast.animal)} named {cast.hero}. {cast.hero} was very {cast.size}.",
    ))


def _ending(rng: random.Random, cast: Cast) -> str:
    feeling = pick(rng, FEELINGS)
    return pick(rng, (
        f"{cast.hero} and {cast.friend} were {feeling}, and they became the best of friends.",
        f"That night, {cast.hero} the {cast.animal} went to bed feeling {feeling}.",
        f"From that day on, {cast.hero} and {cast.friend} played together every day.",
    ))


def _day(rng: random.Random) -> str:
    return pick(rng, ("One day", f"One {pick(rng, WEATHER)} day"))


def _lost(rng: random.Random, cast: Cast) -> tuple[str, str]:
    thing = pick(rng, THINGS)
    owned = f"{pick(rng, COLOURS)} {thing}"
    return f"a lost {thing}", (
        f"{_day(rng)}, {cast.hero} lost {cast.their} {owned}. {cast.subject} looked everywhere, but "
        f"the {thing} was gone. {cast.hero} was sad. Then {cast.full_friend} came by. "
        f'"I will help you, {cast.hero}," said {cast.friend}. {cast.friend} found the {owned} '
        f'{pick(rng, HIDING)}. "Thank you, {cast.friend}!" said {cast.hero}.'
    )


def _rain(rng: random.Random, cast: Cast) -> tuple[str, str]:
    return "the rain", (
        f"{_day(rng)}, {cast.hero} went for a walk. Then it began to rain, and {cast.hero} got very "
        f"wet. {cast.subject} ran to the house of {cast.full_friend}. "
        f'"Come in, {cast.hero}," said {cast.friend}. {cast.hero} sat by the fire and drank '
        f"{pick(rng, DRINKS)}. Soon {cast.hero} was warm and dry."
    )


def _sharing(rng: random.Random, cast: Cast) -> tuple[str, str]:
    food = pick(rng, FOODS)
    return f"sharing {food}", (
        f"{_day(rng)}, {cast.hero} found some {food}. On the way home {cast.they} met "
        f'{cast.full_friend}. "I am hungry, {cast.hero}," said {cast.friend}. '
        f'"We can share my {food}," said {cast.hero}. They sat down and ate the {food} together. '
        f'"Thank you, {cast.hero}!" said {cast.friend}.'
    )


def _stuck(rng: random.Random, cast: Cast) -> tuple[str, str]:
    trap, tool = pick(rng, TRAPS)
    return "helping a friend", (
        f'{_day(rng)}, {cast.hero} heard a voice. "Help me, {cast.hero}!" It was {cast.full_friend}, '
        f"who was stuck {trap}. {cast.hero} ran home and came back with {tool}. {cast.hero} worked "
        f'hard, and soon {cast.friend} was free. "You saved me, {cast.hero}!" said {cast.friend}.'
    )


def _seed(rng: random.Random, cast: Cast) -> tuple[str, str]:
    flower = pick(rng, FLOWERS)
    return f"a {flower}", (
        f"{_day(rng)}, {cast.full_friend} gave {cast.hero} a small seed. {cast.hero} planted the seed "
        f'and gave it water every day. "You must wait, {cast.hero}," said {cast.friend}. Then the sun '
        f"came out, and soon there was a big {flower}. {cast.hero} showed the {flower} to "
        f"{cast.friend}."
    )


def _broken(rng: random.Random, cast: Cast) -> tuple[str, str]:
    thing = pick(rng, THINGS)
    owned = f"{pick(rng, COLOURS)} {thing}"
    return "saying sorry", (
        f"{_day(rng)}, {cast.hero} fell over the {owned} of {cast.full_friend}, and it broke. "
        f'{cast.friend} was sad. "I am sorry, {cast.friend}," said {cast.hero}. "I will fix it." '
        f"{cast.hero} worked all day and fixed the {owned}. "
        f'"Thank you, {cast.hero}!" said {cast.friend}.'
    )


def _night(rng: random.Random, cast: Cast) -> tuple[str, str]:
    noise, cause = pick(rng, NOISES)
    return "a dark night", (
        f"One night, {cast.hero} heard {noise}. {cast.subject} was afraid and called "
        f'{cast.full_friend}. "Let us look together, {cast.hero}," said {cast.friend}. They took a '
        f"lantern and looked. It was only {cause}! {cast.friend} laughed, and {cast.hero} was not "
        f"afraid anymore."
    )


def _race(rng: random.Random, cast: Cast) -> tuple[str, str]:
    return "a race", (
        f'{_day(rng)}, {cast.hero} met {cast.full_friend}. "Let us race, {cast.hero}," said '
        f"{cast.friend}. They ran as fast as they could, but then {cast.friend} fell. {cast.hero} "
        f"stopped and went back to help {cast.friend}. "
        f'"You are a true friend, {cast.hero}," said {cast.friend}.'
    )


PLOTS = (_lost, _rain, _sharing, _stuck, _seed, _broken, _night, _race)
