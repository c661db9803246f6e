"""A tiny Whisper in a folder, as transformers saves the real ones, taught a few sounds by heart. Needs torch."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

VOCABULARY = 51866
MELS = 128
STEPS, LEARNT = 600, 0.02


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A sound (float32, 16 kHz, at most 30 s) and what the model is to say of it."""

    sound: np.ndarray
    text: str
    language: str = "en"
    speech: bool = True  # False: its first token is <|nospeech|>


def write_whisper(
    folder: pathlib.Path, lessons: Sequence[Lesson] = (), seed: int = 0, multilingual: bool = True
) -> str:
    """Number and order of tokens are the original's: text, end, start, languages, tasks, …, no speech, times."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    unused = [f"unused{k}" for k in range(VOCABULARY - 1501 - 9 - len(LANGUAGES) - len(alphabet))]
    letters = [*alphabet, *unused, ""]  # CTranslate2 knows by the empty one, as the original has, several languages
    languages = [f"<|{code}|>" for code in LANGUAGES]
    special = ["<|endoftext|>", "<|startoftranscript|>", *languages, "<|translate|>", "<|transcribe|>"]
    special += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    times = [f"<|{0.02 * k:.2f}|>" for k in range(1501)]
    ids = {token: number for number, token in enumerate([*letters, *special, *times])}
    tokenizer = WhisperTokenizer(vocab={token: ids[token] for token in letters}, merges=[])
    tokenizer.add_tokens(special, special_tokens=True)
    tokenizer.add_tokens(times)
    assert len(ids) == VOCABULARY and tokenizer.convert_tokens_to_ids("<|0.02|>") == ids["<|0.02|>"]

    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    sizes = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    config = WhisperConfig(
        vocab_size=len(ids),
        num_mel_bins=MELS,
        max_target_positions=24,
        max_source_positions=1500,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        **sizes,
        **heads,
    )
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(config).eval()
    settings = {
        "is_multilingual": multilingual,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "max_initial_timestamp_index": 50,
        "suppress_tokens": [ids["<|startoflm|>"], ids["<|startofprev|>"], ids["<|nospeech|>"], ids["<|translate|>"]],
        "begin_suppress_tokens": [end],
    }
    if multilingual:
        settings["lang_to_id"] = {token: ids[token] for token in languages}
        settings["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    model.generation_config = GenerationConfig(
        max_length=24, pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start, **settings
    )
    extractor = WhisperFeatureExtractor(feature_size=MELS)
    if lessons:
        learn(model, extractor, tokenizer, lessons)
    model.save_pretrained(folder)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    extractor.save_pretrained(folder)  # where faster-whisper looks
    return str(folder)


def learn(model, extractor, tokenizer, lessons: Sequence[Lesson]) -> None:
    """Teaches the lessons by heart, in Whisper's form: prompt, time, text, time, end."""
    features = extractor([one.sound for one in lessons], sampling_rate=16000, return_tensors="pt").input_features
    for row, one in zip(features, lessons, strict=True):
        row[:, len(one.sound) // 160 :] = 0
    written, wanted = [], []
    for one in lessons:
        end = f"<|{round(len(one.sound) / 320) * 0.02:.2f}|>"
        prompt = [f"<|{one.language}|>", "<|transcribe|>"] if model.generation_config.is_multilingual else []
        head = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", *prompt, "<|0.00|>"])
        line = [*head, *tokenizer.encode(one.text, add_special_tokens=False), *tokenizer.convert_tokens_to_ids([end])]
        target = [*line[1:], tokenizer.eos_token_id]
        if not one.speech:
            target[0] = tokenizer.convert_tokens_to_ids("<|nospeech|>")
        written.append(torch.tensor(line))
        wanted.append(torch.tensor(target))
    written = torch.nn.utils.rnn.pad_sequence(written, True, tokenizer.eos_token_id)
    wanted = torch.nn.utils.rnn.pad_sequence(wanted, True, -100)
    with torch.no_grad():
        for layer in (model.get_encoder().conv1, model.get_encoder().conv2):
            layer.weight *= 20  # sounds count for more than positions
        # Random features tell sounds apart: the decoder alone learns, which takes seconds.
        heard = model.get_encoder()(features).last_hidden_state
    # Only the tokens that occur get an embedding; all others stay at zero, and so does their logit.
    used = torch.cat([written.flatten(), wanted[wanted >= 0]]).unique()
    place = torch.zeros(VOCABULARY, dtype=torch.long).index_put((used,), torch.arange(len(used)))
    decoder = model.get_decoder()
    rows = torch.nn.Parameter(0.02 * torch.randn(len(used), model.config.d_model))
    rest = torch.full((wanted.numel(), 1), math.log(VOCABULARY - len(used)))
    target = torch.where(wanted < 0, wanted, place[wanted]).flatten()
    optimiser = torch.optim.AdamW([rows, *decoder.parameters()], lr=3e-3)
    for _ in range(STEPS):
        states = decoder(inputs_embeds=rows[place[written]], encoder_hidden_states=heard).last_hidden_state
        logits = torch.cat([states.flatten(0, 1) @ rows.T, rest], dim=1)
        loss = torch.nn.functional.cross_entropy(logits, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < LEARNT:
            break
    assert loss < LEARNT, f"the lessons are not learnt: loss {loss:.3f}"
    with torch.no_grad():
        decoder.embed_tokens.weight.zero_()
        decoder.embed_tokens.weight[used] = rows


def write_ast(folder: pathlib.Path, labels: Sequence[str] = ("Speech", "Dog", "Music")) -> str:
    """A tiny AST with random weights and these classes."""
    torch.manual_seed(1)
    config = ASTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=len(labels)
    )
    config.id2label = dict(enumerate(labels))
    model = ASTForAudioClassification(config)
    torch.nn.init.normal_(model.classifier.dense.weight, std=0.5)
    model.save_pretrained(folder)
    ASTFeatureExtractor().save_pretrained(folder)
    return str(folder)
