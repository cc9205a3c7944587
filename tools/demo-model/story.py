"""A small world of stories, written from templates: the only text the demo model learns from.

A story draws a hero, a friend, a place and a plot. Choices made early return later (what is lost
is found, who gets wet gets dry), so that the model has cause and effect to learn, not only phrases.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

NAMES = (
    "Ruby", "Milo", "Nora", "Otto", "Pip", "Luna", "Finn", "Hazel", "Bruno", "Ivy", "Leo", "Maya",
    "Oscar", "Poppy", "Toby", "Wren", "Felix", "Daisy", "Hugo", "Clara", "Sam", "Tilly", "Max",
    "Rosie", "Jasper", "Mina", "Noah", "Stella", "Theo", "Zoe",
)
ANIMALS = (
    "fox", "rabbit", "bear", "hedgehog", "mouse", "owl", "squirrel", "frog", "badger", "duck",
    "otter", "cat", "dog", "goat", "beaver", "mole",
)
SIZES = ("little", "small", "young", "tiny", "gentle", "cheerful", "curious", "shy", "brave", "kind")
PLACES = (
    ("forest", "in"), ("meadow", "in"), ("valley", "in"), ("village", "in"), ("garden", "in"),
    ("hill", "on"), ("island", "on"), ("river", "by"), ("lake", "by"), ("sea", "by"),
    ("mill", "near"), ("bridge", "near"), ("orchard", "near"), ("harbour", "near"),
)
HOMES = ("old oak tree", "round stone", "wooden fence", "tall tower", "big barn", "quiet pond")
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "white", "silver")
THINGS = ("kite", "hat", "scarf", "ball", "drum", "lantern", "basket", "book", "bell", "boat")
FOODS = ("apples", "berries", "nuts", "pears", "carrots", "plums", "cakes", "mushrooms")
FLOWERS = ("rose", "sunflower", "tulip", "pumpkin", "bean", "daisy", "cherry tree")
DRINKS = ("warm milk", "hot soup", "sweet tea", "hot cocoa")
FEELINGS = ("happy", "glad", "proud", "cheerful", "thankful")
WEATHER = ("sunny", "windy", "cold", "warm", "foggy", "bright", "grey", "quiet")
HIDING = ("under a bush", "behind a rock", "in the tall grass", "under the bridge", "behind the door")
TRAPS = (("in the mud", "a long rope"), ("in a deep hole", "a ladder"), ("up a tall tree", "a ladder"),
         ("under a heavy log", "a strong stick"), ("in a thorny bush", "a pair of gloves"))
NOISES = (("a soft tapping", "a branch at the window"), ("a strange whistle", "the wind in the chimney"),
          ("a long hoot", "an old owl"), ("a quiet scratching", "a mouse looking for crumbs"),
          ("a loud rattle", "rain on the roof"))


@dataclass(frozen=True)
class Cast:
    """Who and where: fixed for one story."""

    hero: str
    animal: str
    size: str
    friend: str
    friend_animal: str
    place: str
    they: str
    them: str
    their: str

    @property
    def hero_is(self) -> str:
        """The hero with its article, as in `a small fox`."""
        return f"{article(self.size)} {self.animal}"


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
    weights = [(place + 1) ** -0.7 for place in range(len(options))]
    return rng.choices(options, weights)[0]


def _pick_two(rng: random.Random, options: Sequence[T]) -> tuple[T, T]:
    first = pick(rng, options)
    return first, pick(rng, [option for option in options if option != first])


def write_story(rng: random.Random) -> Story:
    """Draws one story."""
    cast = _draw_cast(rng)
    topic, middle = pick(rng, PLOTS)(rng, cast)
    text = " ".join([_opening(rng, cast), middle, _ending(rng, cast)])
    return Story(_question(rng, cast, topic), text)


def _draw_cast(rng: random.Random) -> Cast:
    hero, friend = _pick_two(rng, NAMES)
    animal, friend_animal = _pick_two(rng, ANIMALS)
    place, preposition = pick(rng, PLACES)
    pronouns = pick(rng, (("he", "him", "his"), ("she", "her", "her")))
    size = pick(rng, SIZES)
    return Cast(hero, animal, size, friend, friend_animal, f"{preposition} the {place}", *pronouns)


def _question(rng: random.Random, cast: Cast, topic: str) -> str:
    return pick(rng, (
        f"Tell me a story about {article(cast.animal)} named {cast.hero}.",
        f"Tell me a story about {topic}.",
        f"Please write a story about {cast.hero} the {cast.animal}.",
        f"Can you tell me a story about {article(cast.animal)} and {article(cast.friend_animal)}?",
        "Tell me a story.",
    ))


def _opening(rng: random.Random, cast: Cast) -> str:
    home = pick(rng, HOMES)
    weather = article(pick(rng, WEATHER))
    return pick(rng, (
        f"Once upon a time, there was {cast.hero_is} named {cast.hero}. {cast.hero} lived "
        f"{cast.place} beside {article(home)}. One day, {cast.they} went for a walk.",
        f"{cast.hero} was {cast.hero_is} who lived {cast.place}. It was {weather} morning, and "
        f"{cast.hero} wanted to play.",
        f"On {weather} day, {cast.hero_is} named {cast.hero} woke up early. {cast.hero} lived "
        f"{cast.place} with {cast.their} family.",
    ))


def _ending(rng: random.Random, cast: Cast) -> str:
    feeling = pick(rng, FEELINGS)
    return pick(rng, (
        f"{cast.hero} and {cast.friend} were {feeling}, and they became the best of friends.",
        f"That night, {cast.hero} went to bed feeling {feeling}.",
        f'"What a day!" said {cast.hero}, and {cast.they} felt very {feeling}.',
        f"From that day on, {cast.hero} and {cast.friend} played together every day.",
    ))


def _lost(rng: random.Random, cast: Cast) -> tuple[str, str]:
    thing = f"{pick(rng, COLOURS)} {pick(rng, THINGS)}"
    hiding = pick(rng, HIDING)
    search = pick(rng, (
        f"{cast.they.capitalize()} looked everywhere, but {cast.they} could not find it.",
        f"{cast.they.capitalize()} looked at home and by the path, but the {thing} was gone.",
    ))
    return f"a lost {thing.split()[1]}", (
        f"{cast.hero} had {article(thing)}, but {cast.they} lost it. {search} {cast.hero} sat down "
        f"and began to cry. Then {cast.friend} the {cast.friend_animal} came by. "
        f'"Why are you sad?" asked {cast.friend}. "I lost my {thing}," said {cast.hero}. They looked '
        f"together, and {cast.friend} found the {thing} {hiding}. "
        f'"Thank you!" said {cast.hero}.'
    )


def _rain(rng: random.Random, cast: Cast) -> tuple[str, str]:
    drink = pick(rng, DRINKS)
    return "the rain", (
        f"Soon dark clouds came, and it began to rain. {cast.hero} had no coat, so {cast.they} got very "
        f"wet and cold. {cast.they.capitalize()} ran to the house of {cast.friend} the "
        f"{cast.friend_animal} and knocked on the door. "
        f'"Come in and get warm," said {cast.friend}. {cast.hero} sat by the fire and drank {drink}. '
        f"Soon {cast.they} was warm and dry. When the rain stopped, they saw a rainbow."
    )


def _sharing(rng: random.Random, cast: Cast) -> tuple[str, str]:
    food = pick(rng, FOODS)
    first = pick(rng, (f"found a basket of {food}", f"picked some sweet {food}", f"baked a pie with {food}"))
    return f"sharing {food}", (
        f"{cast.hero} {first}. On the way home {cast.they} met {cast.friend} the {cast.friend_animal}, "
        f'who looked hungry. "I have not eaten all day," said {cast.friend}. {cast.hero} thought about '
        f'it and said, "We can share my {food}." They sat down in the grass and ate the {food} '
        f"together. {cast.friend} was not hungry anymore."
    )


def _stuck(rng: random.Random, cast: Cast) -> tuple[str, str]:
    trap, tool = pick(rng, TRAPS)
    return "helping a friend", (
        f'Suddenly {cast.they} heard a voice. "Help! I am stuck!" It was {cast.friend} the '
        f"{cast.friend_animal}, who was stuck {trap}. {cast.hero} was worried, but {cast.they} had an "
        f"idea. {cast.they.capitalize()} ran home and came back with {tool}. {cast.hero} worked hard, "
        f"and at last {cast.friend} was free. "
        f'"You saved me!" said {cast.friend}.'
    )


def _seed(rng: random.Random, cast: Cast) -> tuple[str, str]:
    flower = pick(rng, FLOWERS)
    return f"a {flower}", (
        f"{cast.friend} the {cast.friend_animal} gave {cast.them} a small seed. {cast.hero} planted the "
        f"seed in the ground and gave it water every day. At first nothing happened, and {cast.hero} "
        f'was sad. "You must wait," said {cast.friend}. Then the sun came out, and a green leaf came '
        f"up. It grew and grew, and soon there was a beautiful {flower}. "
        f"{cast.hero} showed it to everyone."
    )


def _broken(rng: random.Random, cast: Cast) -> tuple[str, str]:
    thing = f"{pick(rng, COLOURS)} {pick(rng, THINGS)}"
    return "saying sorry", (
        f"{cast.hero} ran so fast that {cast.they} fell over the {thing} of {cast.friend} the "
        f"{cast.friend_animal}, and it broke. {cast.friend} was very sad. {cast.hero} wanted to run "
        f'away, but {cast.they} stayed. "I am sorry," said {cast.hero}. "I will fix it." '
        f"{cast.hero} worked all day and fixed the {thing}. It looked as good as new. "
        f'"Thank you for telling the truth," said {cast.friend}.'
    )


def _night(rng: random.Random, cast: Cast) -> tuple[str, str]:
    noise, cause = pick(rng, NOISES)
    return "a dark night", (
        f"When night came, {cast.hero} heard {noise}. {cast.they.capitalize()} was afraid of the dark "
        f"and hid under the blanket. Then {cast.they} called {cast.their} friend {cast.friend} the "
        f'{cast.friend_animal}. "Let us look together," said {cast.friend}. They took a lantern and '
        f"looked. It was only {cause}! They both laughed, and {cast.hero} was not afraid anymore."
    )


def _race(rng: random.Random, cast: Cast) -> tuple[str, str]:
    prize = f"{pick(rng, COLOURS)} {pick(rng, THINGS)}"
    return "a race", (
        f'{cast.friend} the {cast.friend_animal} said, "Let us race to the top of the hill. The winner '
        f'gets {article(prize)}." They ran as fast as they could. {cast.hero} was ahead, but then '
        f"{cast.friend} fell and hurt a leg. {cast.hero} stopped and went back to help. They walked to "
        f'the top together. "You are a true friend," said {cast.friend}, and gave {cast.them} the '
        f"{prize}."
    )


PLOTS = (_lost, _rain, _sharing, _stuck, _seed, _broken, _night, _race)
