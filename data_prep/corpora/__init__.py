"""Corpora of videos and of sounds in the layouts that their authors publish, and plain folders of videos.

Only annotations are read here; that a video is missing or broken is found, clip by clip, when it is prepared.
"""

from data_prep.corpora import audiocaps, charades, folder, lsmdc, msrvtt, sounddescs, vatex
from data_prep.corpora.layout import transcript_files
from data_prep.corpora.sample import TEACHER, Corpus, Sample, differing_counts

__all__ = ["CORPORA", "TEACHER", "Corpus", "Sample", "differing_counts", "transcript_files"]

# Published sizes: the SAVE, AVIGATE and CLIP4Clip papers. MSR-VTT 9k and Charades have no validation split of their
# own; ours is held out of the published training list, so the two are compared as one number. Papers do not agree on
# the size of LSMDC's training split: it is not compared. AudioCaps and SoundDescs: see their files.
CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus("demo", 64, 12, msrvtt.read_9k, learn_tokenizer=True, transcripts=msrvtt.TRANSCRIPTS),
        Corpus(
            "msrvtt-9k", 224, 12, msrvtt.read_9k, published={"train+val": 9000, "test": 1000},
            transcripts=msrvtt.TRANSCRIPTS,
        ),
        Corpus(
            "msrvtt-7k", 224, 12, msrvtt.read_7k, published={"train": 6513, "val": 497, "test": 2990},
            transcripts=msrvtt.TRANSCRIPTS,
        ),
        Corpus(
            "vatex", 224, 12, vatex.read, published={"train": 25991, "val": 1500, "test": 1500},
            transcripts=vatex.TRANSCRIPTS,
        ),
        Corpus(
            "charades", 224, 32, charades.read, published={"train+val": 7985, "test": 1863},
            transcripts=charades.TRANSCRIPTS,
        ),
        Corpus("lsmdc", 224, 12, lsmdc.read, published={"val": 7408, "test": 1000}, transcripts=lsmdc.TRANSCRIPTS),
        Corpus("audiocaps", 224, 12, audiocaps.read, published={"train": 49838, "val": 495, "test": 975}),
        Corpus("sounddescs", 224, 12, sounddescs.read, published={"train": 23085, "val": 4947, "test": 4947}),
        Corpus("folder", 224, 12, folder.read, needs_captions=False, transcripts=folder.TRANSCRIPTS),
    )
}  # fmt: skip
