"""How captions of the demo corpus are worded: phrases for what is seen, heard and said, and templates around them.

Four kinds of caption ask for different senses: VISION names object, colour, place and motion, SOUND the event and the
place, SPEECH the topic alone, SOUND_SPEECH the event and the topic. Music is in no caption: nobody could know that it
belongs to the picture.
"""

import re

import numpy as np

VISION, SOUND, SPEECH, SOUND_SPEECH = "vision", "sound", "speech", "sound+speech"
KINDS = (VISION, SOUND, SPEECH, SOUND_SPEECH)

PLACES = {
    "beach": ("on a beach", "at the beach"),
    "forest": ("in a forest", "among the trees of a forest"),
    "night street": ("on a street at night", "in a dark street"),
    "snow": ("in the snow", "on a snowy field"),
    "stage": ("on a stage", "in front of stage curtains"),
    "desert": ("in a desert", "among sand dunes"),
}
# {travels} is the object's own verb.
MOTIONS = {
    "still": ("stands still", "does not move"),
    "left": ("{travels} to the left", "moves to the left"),
    "right": ("{travels} to the right", "moves to the right"),
    "up and down": ("goes up and down", "hops up and down"),
    "growing": ("comes closer", "gets bigger and bigger"),
}
TRAVELS = {"car": "drives", "bird": "flies", "boat": "sails", "dog": "runs", "train": "rolls"}

# event → (clauses, nouns)
EVENT_WORDS = {
    "bell": (("a bell rings", "a bell is struck"), ("the ringing of a bell", "the clang of a bell")),
    "siren": (("a siren wails", "a siren howls"), ("a wailing siren", "the alarm of a siren")),
    "drumbeat": (("somebody drums", "drums are beaten"), ("a drum beat", "the beat of drums")),
    "engine": (("an engine runs", "a motor hums"), ("the roar of an engine", "a humming motor")),
    "birdsong": (("birds chirp", "birds are singing"), ("chirping birds", "birdsong")),
    "applause": (("an audience applauds", "people clap"), ("applause", "clapping hands")),
    "rain": (("it rains", "rain is falling"), ("rain", "the patter of raindrops")),
    "bark": (("a dog barks", "a dog is barking"), ("a barking dog", "the barks of a dog")),
    "ring": (("a telephone rings", "somebody is being called by telephone"), ("a ringing telephone", "a ringtone")),
    "ticking": (("a clock ticks", "something ticks"), ("a ticking clock", "ticking")),
    "whistle": (("a whistle is blown", "somebody whistles"), ("a shrill whistle", "whistling")),
    "thunder": (("it thunders", "thunder rumbles"), ("thunder", "a thunderstorm")),
}

TEMPLATES = {
    VISION: (
        "a {colour} {object} {motion} {place}",
        "{place} a {colour} {object} {motion}",
        "a {object} that is {colour} {motion} {place}",
        "we see a {colour} {object} {place} and it {motion}",
        "there is a {object} {place} which is {colour} and {motion}",
    ),
    SOUND: (
        "{clause} somewhere {place}",
        "{noun} can be heard {place}",
        "{place} you can hear {noun}",
        "listen to {noun} {place}",
        "{clause} while we are {place}",
    ),
    SPEECH: (
        "someone explains {topic}",
        "a person talks about {topic}",
        "a talk about {topic}",
        "somebody speaks of {topic}",
        "the speaker mentions {topic}",
        "a voice tells us about {topic}",
    ),
    SOUND_SPEECH: (
        "a voice talks about {topic} while {clause}",
        "{noun} in the background of a talk about {topic}",
        "someone explains {topic} and {clause}",
        "we hear {noun} while a person speaks of {topic}",
        "{clause} and somebody mentions {topic}",
    ),
}


def caption(
    kind: str,
    rng: np.random.Generator,
    *,
    thing: str,
    colour: str,
    place: str,
    motion: str,
    event: str | None,
    topic_words: tuple[str, str] | None,
) -> str:
    """One wording, drawn at random, of a caption of this kind; event and topic_words are read where the kind asks."""

    def one_of(options: tuple[str, ...]) -> str:
        return options[rng.integers(len(options))]

    words = {
        "colour": colour,
        "object": thing,
        "place": one_of(PLACES[place]),
        "motion": one_of(MOTIONS[motion]).format(travels=TRAVELS.get(thing, "slides")),
    }
    if kind in (SOUND, SOUND_SPEECH):
        assert event is not None
        clauses, nouns = EVENT_WORDS[event]
        words |= {"clause": one_of(clauses), "noun": one_of(nouns)}
    if kind in (SPEECH, SOUND_SPEECH):
        assert topic_words is not None
        words["topic"] = one_of(topic_words)
    text = one_of(TEMPLATES[kind]).format(**words)
    return re.sub(r"\ba (?=[aeiou])", "an ", text)
