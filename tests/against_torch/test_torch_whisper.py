"""Both engines on a Whisper of the real architecture and file formats, but tiny and taught four sounds by heart.

The real weights were out of reach, so these tests show that sounds, prompts, languages, time stamps, measures and
formats are right; not how well Whisper recognises.
"""

import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers.media import write_csv, write_media
from helpers.recognising import sample
from helpers.voices import RATE, noise, silence, spoken

from data_prep import runners
from data_prep.commands import transcribe
from data_prep.speech import sounds, whisper
from data_prep.speech.cache import Cache, model_identity
from data_prep.speech.filters import Thresholds
from data_prep.speech.recognise import Recognise

torch = pytest.importorskip("torch", reason="needs the torch extra")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)
torch.set_flush_denormal(True)  # learning by heart ends in numbers that are slow to compute with

from helpers.tiny_whisper import Lesson, write_ast, write_whisper  # noqa: E402

# No spaces: the tiny tokenizer knows single letters, and faster-whisper suppresses a few of them, the space among them.
TRAIN = Lesson(spoken("The train leaves at nine."), "Train.at.nine")
WEATHER = Lesson(spoken("Das Wetter ist heute sehr schön.", "de"), "Schön.heute", "de")
HISS = Lesson(noise(3), "Thank.you", speech=False)
LESSONS = [TRAIN, WEATHER, HISS]
ENGINES = ("transformers", "faster-whisper")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """Engine → folder of the same model."""
    from ctranslate2.converters import TransformersConverter

    folder = tmp_path_factory.mktemp("models")
    original = write_whisper(folder / "whisper-tiny-taught", LESSONS)
    converted = str(folder / "converted")
    TransformersConverter(original, copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(converted)
    return {"transformers": original, "faster-whisper": converted}


@pytest.fixture(scope="module")
def engines(models) -> dict[str, whisper.Engine]:
    return {name: whisper.load(name, path, 8) for name, path in models.items()}


@pytest.fixture(scope="module")
def heard(engines) -> dict[str, list[whisper.Recognised]]:
    """Engine → what it makes of the lessons in one batch."""
    sounds = [one.sound for one in LESSONS]
    return {name: engine.transcribe(sounds, [""] * 3) for name, engine in engines.items()}


@pytest.mark.parametrize("engine", ENGINES)
def test_text_language_times_and_silence(heard, engine):
    for lesson, said in zip(LESSONS, heard[engine], strict=True):
        [segment] = said.segments
        assert segment.text == lesson.text
        assert said.language == lesson.language
        assert segment.start == 0 and abs(segment.end - len(lesson.sound) / RATE) < 0.03
        assert (segment.no_speech > 0.9) == (not lesson.speech)
        assert -0.1 < segment.logprob < 0


def test_both_engines_measure_the_same(heard, models):
    """In float32; and in int8, as on a CPU, with what its rounding moves."""
    exact = whisper.FasterWhisper(models["faster-whisper"], "float32").transcribe([o.sound for o in LESSONS], [""] * 3)
    for one, other, rounded in zip(heard["transformers"], exact, heard["faster-whisper"], strict=True):
        assert one.segments[0].no_speech == pytest.approx(other.segments[0].no_speech, rel=0.01, abs=1e-4)
        assert one.segments[0].logprob == pytest.approx(other.segments[0].logprob, abs=1e-3)
        assert one.segments[0].no_speech == pytest.approx(rounded.segments[0].no_speech, rel=0.05, abs=1e-3)
        assert one.segments[0].logprob == pytest.approx(rounded.segments[0].logprob, abs=0.02)


def test_measures_are_the_models_own(models, heard):
    """Against the model called token by token, without `generate`: what Whisper's rules forbid has no probability."""
    model = transformers.WhisperForConditionalGeneration.from_pretrained(models["transformers"]).eval()
    processor = transformers.AutoProcessor.from_pretrained(models["transformers"])
    ids = processor.tokenizer.convert_tokens_to_ids
    features = processor.feature_extractor(WEATHER.sound, sampling_rate=RATE, return_tensors="pt").input_features
    features[:, :, len(WEATHER.sound) // 160 :] = 0
    said = heard["transformers"][1].segments[0]
    line = [ids(token) for token in ("<|startoftranscript|>", "<|de|>", "<|transcribe|>")]
    end, time = ids("<|endoftext|>"), ids("<|0.00|>")
    words = processor.tokenizer.encode(WEATHER.text, add_special_tokens=False)
    last = ids(f"<|{round(len(WEATHER.sound) / 320) * 0.02:.2f}|>")
    # Beside a time stamp in front: times up to one second. Then text, then time, if times have more than any one word.
    allowed = [slice(time, time + 51), slice(0, end), *[slice(0, None)] * (len(words) - 1), slice(time, None)]
    with torch.no_grad():
        first = model(features, decoder_input_ids=torch.tensor([line[:1]])).logits[0, -1].softmax(-1)
        total = 0.0
        for token, places in zip([time, *words, last], allowed, strict=True):
            logits = model(features, decoder_input_ids=torch.tensor([line])).logits[0, -1]
            total += float(logits[token] - logits[places].logsumexp(-1))
            line.append(token)
        logits = model(features, decoder_input_ids=torch.tensor([line])).logits[0, -1]
        total += float(logits[end] - torch.cat([logits[end : end + 1], logits[last:]]).logsumexp(-1))
    assert said.no_speech == pytest.approx(float(first[ids("<|nospeech|>")]), rel=1e-3)
    assert said.logprob == pytest.approx(total / (len(words) + 3), rel=1e-2)


def test_a_batch_changes_nothing_and_a_given_language_is_kept(engines, heard):
    alone = [engines["transformers"].transcribe([one.sound], [""])[0] for one in LESSONS]
    for one, other in zip(alone, heard["transformers"], strict=True):
        assert (one.language, one.segments[0].text) == (other.language, other.segments[0].text)
        assert one.segments[0].logprob == pytest.approx(other.segments[0].logprob, abs=1e-4)
    for engine in engines.values():
        [said] = engine.transcribe([TRAIN.sound], ["de"])
        assert said.language == "de"


def test_an_english_model_is_asked_for_no_language(tmp_path):
    folder = write_whisper(tmp_path / "tiny.en", [TRAIN], multilingual=False)
    [said] = whisper.load("transformers", folder, 1).transcribe([TRAIN.sound], ["de"])
    assert said.language == "en" and said.segments[0].text == TRAIN.text


# ---------------------------------------------------------------- the stage


def task(engine: str, models: dict[str, str], folder: Path, **changes) -> Recognise:
    identity = model_identity(models[engine])
    return Recognise(engine, models[engine], identity, Cache(str(folder / "cache")), batch_size=2, **changes)


@pytest.mark.parametrize("engine", ENGINES)
def test_sounds_to_a_transcript_file(models, tmp_path, engine):
    sounds = {"train": TRAIN.sound, "weather": WEATHER.sound, "hiss": HISS.sound}
    for name, sound in sounds.items():
        write_media(tmp_path / f"{name}.wav", sound=sound)
    samples, out = [sample(tmp_path / f"{name}.wav") for name in sounds], tmp_path / "out.json"
    work = task(engine, models, tmp_path, detector="none")
    transcribe.transcribe(samples, str(out), work, runners.Here(), Thresholds())
    rows = {row["key"]: row for row in json.loads(out.read_text())}
    assert rows["train.wav"]["text"] == TRAIN.text and rows["train.wav"]["language"] == "en"
    assert rows["weather.wav"]["text"] == WEATHER.text and rows["weather.wav"]["language"] == "de"
    assert rows["weather.wav"]["source"].endswith(f"/{engine}")
    # What Whisper says of noise is not believed, and kept with the reason.
    assert rows["hiss.wav"]["text"] == "" and "often invents" in rows["hiss.wav"]["dropped"][0]["reason"]


def test_voice_activity_finds_the_words_in_a_long_track(models, tmp_path):
    gap = silence(20)
    write_media(tmp_path / "long.wav", sound=np.concatenate([gap, TRAIN.sound, gap, noise(20), TRAIN.sound, gap]))
    [result] = task("transformers", models, tmp_path)([str(tmp_path / "long.wav")])
    assert [round(start) for start, _ in result["voices"]] == [20, 61]
    assert all(segment["start"] > 19 for segment in result["segments"])


def test_music_scores_of_ast(models, tmp_path):
    weights = write_ast(tmp_path / "ast")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # transformers has one about AST's own features
        sounds.SoundClasses(weights)
    write_media(tmp_path / "train.wav", sound=TRAIN.sound)
    path = str(tmp_path / "train.wav")
    plain = task("transformers", models, tmp_path, detector="none")
    assert plain([path])[0]["sounds"] is None
    scored = task("transformers", models, tmp_path, detector="none", ast=weights, ast_identity="made")
    [result] = scored([path])
    assert result["cached"] and "engine" not in scored._loaded  # AST is added without transcribing again
    [scores] = result["sounds"]
    model = transformers.ASTForAudioClassification.from_pretrained(weights).eval()
    values = transformers.ASTFeatureExtractor.from_pretrained(weights)(
        TRAIN.sound[: int(result["segments"][0]["end"] * RATE)], sampling_rate=RATE, return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(**values).logits[0]
    assert scores["speech"] == pytest.approx(1 / (1 + math.exp(-logits[0])), abs=1e-3)
    assert scores["music"] == pytest.approx(1 / (1 + math.exp(-logits[2])), abs=1e-3)
    again = task("transformers", models, tmp_path, detector="none", ast=weights, ast_identity="made")
    assert again([path])[0] == result and not again._loaded
    other = write_ast(tmp_path / "other", labels=("Dog", "Cat", "Music"))
    with pytest.raises(ValueError, match=r"3 classes without \['Speech'\]"):
        transcribe.transcribe(
            [sample(tmp_path / "train.wav")],
            str(tmp_path / "o.json"),
            task("transformers", models, tmp_path, detector="none", ast=other, ast_identity="other"),
            runners.Here(),
            Thresholds(),
        )


def test_the_command(models, tmp_path, capsys):
    root = tmp_path / "made"
    (root / "VideoData").mkdir(parents=True)
    (root / "AudioData").mkdir()
    notes = root / "Annotations"
    notes.mkdir()
    write_csv(notes / "MSRVTT_train.9k.csv", ["video_id"], [["a"]])
    write_csv(notes / "MSRVTT_val.csv", ["video_id"], [])
    write_csv(notes / "MSRVTT_JSFUSION_test.csv", ["video_id", "sentence"], [["b", "somebody talks"]])
    data = {"videos": [{"video_id": "a", "split": "train"}, {"video_id": "b", "split": "test"}]}
    data["sentences"] = [{"video_id": "a", "caption": "a hiss"}, {"video_id": "b", "caption": "somebody talks"}]
    (notes / "MSRVTT_data.json").write_text(json.dumps(data))
    write_media(root / "AudioData" / "a.wav", sound=HISS.sound)
    write_media(root / "AudioData" / "b.wav", sound=WEATHER.sound)
    command = ["--corpus", "demo", "--root", str(root), "--model", models["transformers"], "--vad", "none"]
    assert transcribe.main(command) == 0
    assert "2 clips, 1 with speech, 0 without sound, 0 from the cache" in capsys.readouterr().out
    _, weather = json.loads((root / "transcripts.json").read_text())
    assert weather["text"] == WEATHER.text
    assert re.fullmatch(r"whisper-tiny-taught@[0-9a-f]{12}/transformers", weather["source"])
    assert transcribe.main([*command, "--limit-no-speech", "0.99"]) == 0
    assert "2 from the cache" in capsys.readouterr().out
    # The corpus reads the file as it is.
    from data_prep.corpora import CORPORA

    [test] = CORPORA["demo"].read(str(root))["test"]
    assert test.transcript == WEATHER.text and test.speech["language"] == "de" and len(test.speech["segments"]) == 1


def test_a_model_that_does_not_load_stops_at_once(tmp_path, models):
    write_media(tmp_path / "a.wav", sound=TRAIN.sound)
    (tmp_path / "empty").mkdir()
    for engine in ENGINES:
        broken = task(engine, {engine: str(tmp_path / "empty")}, tmp_path, detector="none")
        with pytest.raises(ValueError, match=f"empty cannot be loaded with {engine}"):
            transcribe.transcribe(
                [sample(tmp_path / "a.wav")], str(tmp_path / "o.json"), broken, runners.Here(), Thresholds()
            )
