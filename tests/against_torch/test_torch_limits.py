"""How far the engines let a loop run, and how they draw: weights that learnt nothing, and never end by themselves."""

import pytest
from helpers.voices import RATE, noise

from data_prep.speech import whisper

torch = pytest.importorskip("torch", reason="needs the torch extra")
transformers = pytest.importorskip("transformers")

from helpers.tiny_whisper import write_whisper  # noqa: E402

PROMPT = 3  # tokens: start, language, task


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """Engine → folder of the same model, which takes 24 tokens."""
    from ctranslate2.converters import TransformersConverter

    folder = tmp_path_factory.mktemp("models")
    original = write_whisper(folder / "original")
    converted = str(folder / "converted")
    TransformersConverter(original, copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(converted)
    return {"transformers": original, "faster-whisper": converted}


class Recording:
    """Stands before CTranslate2's model, and keeps how it is asked and what it answers."""

    def __init__(self, model):
        self._model, self.asked, self.answers = model, [], []

    def __getattr__(self, name):
        return getattr(self._model, name)

    def generate(self, *inputs, **how):
        self.asked.append(how)
        self.answers += (answer := self._model.generate(*inputs, **how))
        return answer


def hears(engine: whisper.FasterWhisper) -> Recording:
    engine._model.model = recording = Recording(engine._model.model)
    return recording


def test_a_loop_in_transformers_ends_with_the_sound(models, monkeypatch):
    """By the longest piece of the batch, at every temperature."""
    monkeypatch.setattr(whisper, "_TOKENS_A_SECOND", 2)
    monkeypatch.setattr(whisper, "_SPARE_TOKENS", 3)
    decode, written = transformers.GenerationMixin.generate, []

    def decoded(*inputs, **how):
        result = decode(*inputs, **how)
        written.append(result.sequences.shape[1] - PROMPT)
        return result

    monkeypatch.setattr(transformers.GenerationMixin, "generate", decoded)
    engine = whisper.load("transformers", models["transformers"], 2)
    engine.transcribe([noise(4), noise(2)], ["en"] * 2)
    assert written[:6] == [3 + 2 * 4] * 6
    written.clear()
    engine.transcribe([noise(1)], ["en"])
    assert written == [3 + 2 * 1] * 6


def test_no_more_tokens_than_the_decoder_has_places_for(models, monkeypatch):
    """The tiny one has 24, and 8 seconds would have 260."""
    monkeypatch.setattr(whisper, "_TEMPERATURES", (0.0,))
    engine = whisper.load("transformers", models["transformers"], 2)
    assert isinstance(engine, whisper.Transformers)
    generate, asked = engine._model.generate, []
    monkeypatch.setattr(engine._model, "generate", lambda **how: asked.append(how["max_new_tokens"]) or generate(**how))
    engine.transcribe([noise(8)], ["en"])
    assert asked == [24 - PROMPT - 1]


def test_a_loop_in_faster_whisper_ends_with_the_sound_and_draws_once(models, monkeypatch):
    monkeypatch.setattr(whisper, "_TOKENS_A_SECOND", 2)
    monkeypatch.setattr(whisper, "_SPARE_TOKENS", 3)
    engine = whisper.load("faster-whisper", models["faster-whisper"], 1)
    assert isinstance(engine, whisper.FasterWhisper)
    recording = hears(engine)
    engine.transcribe([noise(4)], ["en"])
    # CTranslate2 itself ends at half of the length, prompt included.
    assert [how["max_length"] - PROMPT for how in recording.asked] == [2 * (3 + 2 * 4)] * 6
    lengths = [[len(tokens) for tokens in answer.sequences_ids] for answer in recording.answers]
    assert lengths == [[11 + PROMPT // 2]] * 6
    assert [how.get("num_hypotheses", 1) for how in recording.asked] == [1] * 6


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 60), (4.0, 160), (30.0, 220)])
def test_tokens_of_a_piece(seconds, most):
    assert whisper._most_tokens(int(seconds * RATE)) == most


def test_faster_whisper_draws_the_same_when_it_is_loaded_again(models, monkeypatch):
    """In one thread. Each piece goes on in the series of draws."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(whisper, "_TEMPERATURES", (1.0,))
    monkeypatch.setattr(whisper, "_MOST_TOKENS", 6)  # the tiny one has no more places than 24
    drawn = []
    for _ in range(2):
        engine = whisper.FasterWhisper(models["faster-whisper"])
        recording = hears(engine)
        engine.transcribe([noise(1), noise(2)], ["en"] * 2)
        drawn.append([answer.sequences_ids for answer in recording.answers])
    assert drawn[0] == drawn[1] and drawn[0][0] != drawn[0][1]
